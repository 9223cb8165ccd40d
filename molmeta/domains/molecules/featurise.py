"""Molecules to arrays: atom and bond features, and the count-Morgan fingerprint.

Every feature is a small integer (an index into a table that a backbone learns). Stereo is kept as CIP labels, which do
not depend on the order of the atoms: R and S at atoms, E and Z at double bonds. This module needs RDKit and numpy
alone, so that workers start fast.

Atom features, in order: atomic number; CIP label (none, R, S); degree; formal charge + 5; hydrogens; hybridisation;
aromatic; in a ring. Bond features: type (single, double, triple, aromatic, other); stereo; conjugated; in a ring.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import repeat
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator

from molmeta.domains.molecules.parse import parse_quietly

# Raise it when a feature changes: a store written under another version is never read.
FEATURISER_VERSION = 1

ATOM_SIZES = (119, 3, 11, 12, 10, 9, 2, 2)  # how many values each atom feature takes
BOND_SIZES = (5, 6, 2, 2)
FINGERPRINT_BINS = 2048
FINGERPRINT_RADIUS = 2

_ATOM_FACTS: tuple[Callable[[Chem.Atom], int], ...] = (
    Chem.Atom.GetAtomicNum,
    Chem.Atom.GetTotalNumHs,
    Chem.Atom.GetHybridization,
    Chem.Atom.GetIsAromatic,
)
_BOND_FACTS: tuple[Callable[[Chem.Bond], int], ...] = (
    Chem.Bond.GetIsConjugated,
    Chem.Bond.IsInRing,
)
_BOND_TYPES = {
    Chem.BondType.SINGLE: 0,
    Chem.BondType.DOUBLE: 1,
    Chem.BondType.TRIPLE: 2,
    Chem.BondType.AROMATIC: 3,
}
_OTHER_BOND = 4
_BOND_TYPE_OF_ORDER = {1.0: 0, 2.0: 1, 3.0: 2, 1.5: 3}  # 1 is a dative bond's, too
# What may have other bonds: their own signs, and metals, of whose bonds some become dative.
_ODD_BONDS = re.compile(r"~|<|>|\$|\[\d*+(?!(?:[HBCNOFPSI]|Cl|Br|[cnops])(?![a-z]))")
_CIP = {"R": 1, "S": 2}
_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=FINGERPRINT_RADIUS, fpSize=FINGERPRINT_BINS)

U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]
I64 = NDArray[np.int64]
N = TypeVar("N", bound=np.generic)


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
            atoms=_rows(self.atoms, atom),
            atom_offsets=atom_offsets,
            bonds=_rows(self.bonds, bond),
            bond_features=_rows(self.bond_features, bond),
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


def _rows(table: NDArray[N], index: I64) -> NDArray[N]:
    """``table[index]`` for rows of 4 or 8 bytes: each moves as one number, which is ten times as fast."""
    width = table.shape[1]
    numbers = table.view(f"u{width * table.itemsize}")[:, 0]
    return numbers[index].view(table.dtype).reshape(-1, width)


def ragged_rows(offsets: I64, rows: I64) -> tuple[I64, I64]:
    """Where the entries of ragged ``rows`` stand, and the offsets that they get: ``([entries], [len(rows) + 1])``."""
    starts = offsets[rows]
    counts = offsets[rows + 1] - starts
    new_offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=new_offsets[1:])
    index = np.repeat(starts - new_offsets[:-1], counts)
    index += np.arange(new_offsets[-1])
    return index, new_offsets


@dataclass(frozen=True, eq=False)
class Featurised:
    """The outcome for ``n`` SMILES.

    Attributes:
        arrays: the molecules that could be featurised, in order.
        valid: ``[n]`` bool.
        reasons: ``[n]`` why a molecule was refused; empty for valid ones.
        flags: ``[n]`` what to know of a molecule, joined with "; ".
        canonical: ``[n]`` the canonical isomeric SMILES; empty for refused ones, and where it was not asked for.
    """

    arrays: MoleculeArrays
    valid: NDArray[np.bool_]
    reasons: list[str]
    flags: list[str]
    canonical: list[str]


def featurise(smiles: Sequence[str], canonical: bool = True, graphs: bool = True) -> Featurised:
    """Featurise ``n`` SMILES on this core; refused ones are reported, never raised.

    Args:
        smiles: the texts.
        canonical: write the canonical SMILES, too: about a fifth of the time.
        graphs: read atoms and bonds, too: nearly half of the time. Without, molecules have fingerprints alone.
    """
    columns = _Columns(graphs)
    reasons, flags, written = [], [], []
    with rdBase.BlockLogs():
        for text in smiles:
            parsed = parse_quietly(text, stereo=graphs or canonical)
            if parsed.molecule is not None:
                columns.add(parsed.molecule, text)
            written.append(Chem.MolToSmiles(parsed.molecule) if canonical and parsed.molecule is not None else "")
            reasons.append(parsed.reason)
            flags.append("; ".join(parsed.flags))
    valid = np.array([not reason for reason in reasons], dtype=bool)
    return Featurised(columns.arrays(), valid, reasons, flags, written)


class _Columns:
    """Molecules read so far, a column a fact, as RDKit says it; numpy makes features of whole columns.

    To call into RDKit is what costs: 0.15 us a number, 0.6 an enum, 0.7 to reach an atom or bond. So each fact is asked
    for once, by ``map``; neither what follows from another fact (degree, atoms in rings) nor what cannot be there
    (stereo in a text without a mark of it); and a bond's type, an enum, only where its order, a number, may not tell.
    Facts of a byte go into bytes, which numpy need not go through one by one.
    """

    def __init__(self, graphs: bool = True) -> None:
        self.graphs = graphs
        self.atoms = [bytearray() for _ in _ATOM_FACTS]
        self.charges: list[int] = []
        self.cip = bytearray()
        self.bonds = [bytearray() for _ in _BOND_FACTS]
        self.types = bytearray()
        self.stereo = bytearray()
        self.begins: list[int] = []
        self.ends: list[int] = []
        self.bins: list[int] = []
        self.counts: list[int] = []
        self.sizes: list[tuple[int, int, int]] = [(0, 0, 0)]  # atoms, bonds and entries of each molecule

    def add(self, molecule: Chem.Mol, text: str) -> None:
        """Read one molecule; ``text`` is the SMILES that it was parsed from."""
        atoms, bonds = self._add_graph(molecule, text) if self.graphs else (0, 0)
        entries = _MORGAN.GetCountFingerprint(molecule).GetNonzeroElements()
        self.bins.extend(entries)
        self.counts.extend(entries.values())
        self.sizes.append((atoms, bonds, len(entries)))

    def _add_graph(self, molecule: Chem.Mol, text: str) -> tuple[int, int]:
        """Read its atoms and bonds; returns how many there are."""
        atoms = list(map(molecule.GetAtomWithIdx, range(molecule.GetNumAtoms())))
        bonds = list(map(molecule.GetBondWithIdx, range(molecule.GetNumBonds())))
        for column, fact in zip(self.atoms, _ATOM_FACTS, strict=True):
            column.extend(map(fact, atoms))
        for column, fact in zip(self.bonds, _BOND_FACTS, strict=True):
            column.extend(map(fact, bonds))
        self.charges.extend(map(Chem.Atom.GetFormalCharge, atoms))
        self.cip.extend(map(_cip, atoms) if "@" in text else bytes(len(atoms)))
        self.types.extend(_types(bonds, text))
        self.stereo.extend(map(Chem.Bond.GetStereo, bonds) if "/" in text or "\\" in text else bytes(len(bonds)))
        self.begins.extend(map(Chem.Bond.GetBeginAtomIdx, bonds))
        self.ends.extend(map(Chem.Bond.GetEndAtomIdx, bonds))
        return len(atoms), len(bonds)

    def arrays(self) -> MoleculeArrays:
        """All molecules, flat."""
        atom_offsets, bond_offsets, bin_offsets = np.cumsum(np.array(self.sizes, np.int64), axis=0).T
        number, hydrogens, hybridisation, aromatic, cip = map(_bytes, (*self.atoms, self.cip))
        conjugated, in_ring, types, stereo = map(_bytes, (*self.bonds, self.types, self.stereo))
        ends = np.stack([np.array(self.begins, np.int64), np.array(self.ends, np.int64)], axis=1)
        placed = ends + np.repeat(atom_offsets[:-1], np.diff(bond_offsets))[:, None]
        ring_atoms = np.zeros(len(number), bool)
        ring_atoms[placed[in_ring > 0]] = True  # an atom is in a ring where one of its bonds is
        degree = np.bincount(placed.ravel(), minlength=len(number))
        charge = np.array(self.charges, np.int64) + 5
        atoms = (number, cip, degree, charge, hydrogens, hybridisation, aromatic, ring_atoms)
        bonds = (types, stereo, conjugated, in_ring)
        return MoleculeArrays(
            atoms=_features(atoms, ATOM_SIZES),
            atom_offsets=atom_offsets,
            bonds=ends.astype(np.uint16),
            bond_features=_features(bonds, BOND_SIZES),
            bond_offsets=bond_offsets,
            bins=np.array(self.bins, np.uint16),
            counts=np.minimum(np.array(self.counts, np.int64), 255).astype(np.uint8),
            bin_offsets=bin_offsets,
        )


def _types(bonds: Sequence[Chem.Bond], text: str) -> Iterable[int]:
    """Our number of each bond's type."""
    if _ODD_BONDS.search(text):
        return map(_BOND_TYPES.get, map(Chem.Bond.GetBondType, bonds), repeat(_OTHER_BOND))
    return map(_BOND_TYPE_OF_ORDER.get, map(Chem.Bond.GetBondTypeAsDouble, bonds), repeat(_OTHER_BOND))


def _cip(atom: Chem.Atom) -> int:
    return _CIP.get(atom.GetProp("_CIPCode"), 0) if atom.HasProp("_CIPCode") else 0


def _bytes(column: bytearray) -> U8:
    return np.frombuffer(column, np.uint8)


def _features(columns: Sequence[NDArray[np.integer]], sizes: Sequence[int]) -> U8:
    """``[n, k]``: each column cut to its table."""
    table = np.empty((len(columns[0]), len(columns)), np.uint8)
    for i, (column, size) in enumerate(zip(columns, sizes, strict=True)):
        table[:, i] = np.clip(column, 0, size - 1)
    return table
