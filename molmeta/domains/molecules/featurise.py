"""Molecules to arrays: atom and bond features, and the count-Morgan fingerprint.

Every feature is a small integer (an index into a table that a backbone learns). Stereo is kept as CIP labels, which do
not depend on the order of the atoms: R and S at atoms, E and Z at double bonds. This module needs RDKit and numpy
alone, so that workers start fast.

Atom features, in order: atomic number; CIP label (none, R, S); degree; formal charge + 5; hydrogens; hybridisation;
aromatic; in a ring. Bond features: type (single, double, triple, aromatic, other); stereo; conjugated; in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

from molmeta.domains.molecules.parse import parse

# Raise it when a feature changes: a store written under another version is never read.
FEATURISER_VERSION = 1

ATOM_SIZES = (119, 3, 11, 12, 10, 9, 2, 2)  # how many values each atom feature takes
BOND_SIZES = (5, 6, 2, 2)
FINGERPRINT_BINS = 2048
FINGERPRINT_RADIUS = 2

_BOND_TYPES = {
    Chem.BondType.SINGLE: 0,
    Chem.BondType.DOUBLE: 1,
    Chem.BondType.TRIPLE: 2,
    Chem.BondType.AROMATIC: 3,
}
_CIP = {"R": 1, "S": 2}
_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=FINGERPRINT_RADIUS, fpSize=FINGERPRINT_BINS)

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MoleculeArrays:
    """``n`` molecules, flat: row ``i`` owns the atoms ``atom_offsets[i]:atom_offsets[i + 1]``, and so on.

    Attributes:
        atoms: ``[atoms, 8]`` atom features.
        atom_offsets: ``[n + 1]``.
        bonds: ``[bonds, 2]`` the atoms that each bond joins, counted within the molecule; one row a bond.
        bond_features: ``[bonds, 4]``.
        bond_offsets: ``[n + 1]``.
        bins: ``[entries]`` fingerprint bins that are not 0.
        counts: ``[entries]`` their counts, 255 at the most.
        bin_offsets: ``[n + 1]``.
    """

    atoms: U8
    atom_offsets: I64
    bonds: U16
    bond_features: U8
    bond_offsets: I64
    bins: U16
    counts: U8
    bin_offsets: I64

    def __len__(self) -> int:
        return len(self.atom_offsets) - 1

    def take(self, rows: I64) -> Self:
        """The molecules at ``rows``, in that order: one vectorised gather an array."""
        atom, atom_offsets = ragged_rows(self.atom_offsets, rows)
        bond, bond_offsets = ragged_rows(self.bond_offsets, rows)
        entry, bin_offsets = ragged_rows(self.bin_offsets, rows)
        return type(self)(
            atoms=self.atoms[atom],
            atom_offsets=atom_offsets,
            bonds=self.bonds[bond],
            bond_features=self.bond_features[bond],
            bond_offsets=bond_offsets,
            bins=self.bins[entry],
            counts=self.counts[entry],
            bin_offsets=bin_offsets,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[MoleculeArrays]) -> Self:
        """Many blocks of molecules as one."""
        columns = {}
        for column in fields(cls):
            arrays = [getattr(part, column.name) for part in parts]
            if column.name.endswith("_offsets"):
                sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(a) for a in arrays)])
                columns[column.name] = np.cumsum(sizes)
            else:
                columns[column.name] = np.concatenate(arrays)
        return cls(**columns)


def ragged_rows(offsets: I64, rows: I64) -> tuple[I64, I64]:
    """Where the entries of ragged ``rows`` stand, and the offsets that they get: ``([entries], [len(rows) + 1])``."""
    starts = offsets[rows]
    counts = offsets[rows + 1] - starts
    new_offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=new_offsets[1:])
    index = np.repeat(starts - new_offsets[:-1], counts) + np.arange(new_offsets[-1])
    return index, new_offsets


@dataclass(frozen=True, eq=False)
class Featurised:
    """The outcome for ``n`` SMILES.

    Attributes:
        arrays: the molecules that could be featurised, in order.
        valid: ``[n]`` bool.
        reasons: ``[n]`` why a molecule was refused; empty for valid ones.
        flags: ``[n]`` what to know of a molecule, joined with "; ".
        canonical: ``[n]`` the canonical isomeric SMILES; empty for refused ones.
    """

    arrays: MoleculeArrays
    valid: NDArray[np.bool_]
    reasons: list[str]
    flags: list[str]
    canonical: list[str]


def featurise(smiles: Sequence[str]) -> Featurised:
    """Featurise ``n`` SMILES on this core; refused ones are reported, never raised."""
    blocks: list[_Molecule] = []
    reasons, flags, canonical = [], [], []
    for text in smiles:
        parsed = parse(text)
        if parsed.molecule is not None:
            blocks.append(_features(parsed.molecule))
            canonical.append(Chem.MolToSmiles(parsed.molecule))
        else:
            canonical.append("")
        reasons.append(parsed.reason)
        flags.append("; ".join(parsed.flags))
    valid = np.array([not reason for reason in reasons], dtype=bool)
    return Featurised(_stack(blocks), valid, reasons, flags, canonical)


@dataclass(frozen=True, eq=False, slots=True)
class _Molecule:
    atoms: Sequence[tuple[int, ...]]
    bonds: Sequence[tuple[int, ...]]  # begin, end, then the bond features
    bins: list[int]
    counts: list[int]


def _features(molecule: Chem.Mol) -> _Molecule:
    atoms = [
        (
            min(a.GetAtomicNum(), 118),
            _CIP.get(a.GetProp("_CIPCode"), 0) if a.HasProp("_CIPCode") else 0,
            min(a.GetDegree(), 10),
            min(max(a.GetFormalCharge() + 5, 0), 11),
            min(a.GetTotalNumHs(), 9),
            min(int(a.GetHybridization()), 8),
            int(a.GetIsAromatic()),
            int(a.IsInRing()),
        )
        for a in molecule.GetAtoms()
    ]
    bonds = [
        (
            b.GetBeginAtomIdx(),
            b.GetEndAtomIdx(),
            _BOND_TYPES.get(b.GetBondType(), 4),
            min(int(b.GetStereo()), 5),
            int(b.GetIsConjugated()),
            int(b.IsInRing()),
        )
        for b in molecule.GetBonds()
    ]
    entries = _MORGAN.GetCountFingerprint(molecule).GetNonzeroElements()
    return _Molecule(atoms, bonds, list(entries), list(entries.values()))


def _stack(blocks: Sequence[_Molecule]) -> MoleculeArrays:
    def offsets(sizes: list[int]) -> I64:
        return np.cumsum([0, *sizes], dtype=np.int64)

    atoms = [row for b in blocks for row in b.atoms]
    bonds = np.array([row for b in blocks for row in b.bonds], dtype=np.int64).reshape(-1, 2 + len(BOND_SIZES))
    counts = np.array([c for b in blocks for c in b.counts], dtype=np.int64)
    return MoleculeArrays(
        atoms=np.array(atoms, dtype=np.uint8).reshape(-1, len(ATOM_SIZES)),
        atom_offsets=offsets([len(b.atoms) for b in blocks]),
        bonds=bonds[:, :2].astype(np.uint16),
        bond_features=bonds[:, 2:].astype(np.uint8),
        bond_offsets=offsets([len(b.bonds) for b in blocks]),
        bins=np.array([x for b in blocks for x in b.bins], dtype=np.uint16),
        counts=np.minimum(counts, 255).astype(np.uint8),
        bin_offsets=offsets([len(b.bins) for b in blocks]),
    )
