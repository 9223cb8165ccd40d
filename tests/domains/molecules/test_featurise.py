from __future__ import annotations

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdCIPLabeler, rdFingerprintGenerator

from molmeta.domains.molecules.featurise import (
    ATOM_SIZES,
    BOND_SIZES,
    MoleculeArrays,
    featurise,
    ragged_rows,
)
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.parse import parse
from tests.bundles import DRUGS

SMILES = [
    *DRUGS,
    "C",
    "[Na+].[Cl-]",
    "C/C=C/C",
    "C/C=C\\C",
    "N[C@@H](C)C(=O)O",
    "N[C@H](C)C(=O)O",
    "[O-][N+](=O)c1ccc(C#N)cc1",
    "O=S(=O)(O)c1ccccc1",
    "[Pt](Cl)(Cl)(N)N",
    "B(O)(O)c1ccccc1",
    "[13CH4]",
    "FS(F)(F)(F)(F)F",
    "C" * 200,
    "O=[PH](=O)O",
]


def molecule(arrays: MoleculeArrays, row: int) -> MoleculeArrays:
    return arrays.take(np.array([row]))


def rdkit_fingerprint(text: str) -> np.ndarray:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    return generator.GetCountFingerprintAsNumPy(Chem.MolFromSmiles(text)).astype(np.int64)


def test_the_fingerprint_is_rdkit_s_count_morgan_of_radius_2_and_2048_bins() -> None:
    readable = [text for text in SMILES if Chem.MolFromSmiles(text) is not None]
    found = MoleculeBatch.of(featurise(readable).arrays).fingerprints().numpy()
    for text, row in zip(readable, found, strict=True):
        np.testing.assert_array_equal(row, np.minimum(rdkit_fingerprint(text), 255), err_msg=text)


def test_a_count_above_255_is_cut_there_and_not_wrapped() -> None:
    text = "C" * 400
    assert rdkit_fingerprint(text).max() > 255
    assert featurise([text]).arrays.counts.max() == 255


# What RDKit says, in the order in which the module's description lists it.
HYBRIDISATION = ["UNSPECIFIED", "S", "SP", "SP2", "SP3", "SP2D", "SP3D", "SP3D2", "OTHER"]
CIP = ["", "R", "S"]
BONDS = ["SINGLE", "DOUBLE", "TRIPLE", "AROMATIC"]
STEREO = ["STEREONONE", "STEREOANY", "STEREOZ", "STEREOE", "STEREOCIS", "STEREOTRANS"]


def test_graph_features_are_rdkit_s_facts_atom_by_atom_and_bond_by_bond() -> None:
    readable = [text for text in SMILES if Chem.MolFromSmiles(text) is not None]
    done = featurise(readable)
    for i, text in enumerate(readable):
        known, row = Chem.MolFromSmiles(text), molecule(done.arrays, i)
        exact = Chem.Mol(known)
        rdCIPLabeler.AssignCIPLabels(exact)  # RDKit's newer labels; the featuriser takes those of parsing
        assert (len(row.atoms), len(row.bonds)) == (known.GetNumAtoms(), known.GetNumBonds())
        for atom, found in zip(known.GetAtoms(), row.atoms.tolist(), strict=True):
            assert found == [
                atom.GetAtomicNum(),
                CIP.index(exact.GetAtomWithIdx(atom.GetIdx()).GetPropsAsDict().get("_CIPCode", "")),
                len(atom.GetNeighbors()),
                atom.GetFormalCharge() + 5,
                atom.GetTotalNumHs(),
                HYBRIDISATION.index(atom.GetHybridization().name),
                atom.GetIsAromatic(),
                known.GetRingInfo().NumAtomRings(atom.GetIdx()) > 0,
            ], text
        for bond, ends, found in zip(known.GetBonds(), row.bonds.tolist(), row.bond_features.tolist(), strict=True):
            assert ends == [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]
            assert found == [
                BONDS.index(bond.GetBondType().name),
                STEREO.index(bond.GetStereo().name),
                bond.GetIsConjugated(),
                known.GetRingInfo().NumBondRings(bond.GetIdx()) > 0,
            ], text


def simply(molecule: Chem.Mol) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Atom features, bonds with their features, and the fingerprint, asked for one by one."""
    types = {Chem.BondType.SINGLE: 0, Chem.BondType.DOUBLE: 1, Chem.BondType.TRIPLE: 2, Chem.BondType.AROMATIC: 3}
    atoms = [
        [
            min(a.GetAtomicNum(), 118),
            {"R": 1, "S": 2}.get(a.GetProp("_CIPCode"), 0) if a.HasProp("_CIPCode") else 0,
            min(a.GetDegree(), 10),
            min(max(a.GetFormalCharge() + 5, 0), 11),
            min(a.GetTotalNumHs(), 9),
            min(int(a.GetHybridization()), 8),
            int(a.GetIsAromatic()),
            int(a.IsInRing()),
        ]
        for a in molecule.GetAtoms()
    ]
    bonds = [
        [
            b.GetBeginAtomIdx(),
            b.GetEndAtomIdx(),
            types.get(b.GetBondType(), 4),
            min(int(b.GetStereo()), 5),
            int(b.GetIsConjugated()),
            int(b.IsInRing()),
        ]
        for b in molecule.GetBonds()
    ]
    counts = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048).GetCountFingerprint(molecule)
    return atoms, bonds, [[i, min(n, 255)] for i, n in counts.GetNonzeroElements().items()]


CUBANE = "C12C3C4C1C5C2C3C45"
BUCKYBALL = (
    "c12c3c4c5c1c1c6c7c2c2c8c3c3c9c4c4c%10c5c5c1c1c6c6c%11c7c2c2c7c8c3c3c8c9c4c4c9c%10c5c5c1c1c6c6c%11c2c2c7c3c3c8c4"
    "c4c9c5c1c1c6c2c3c41"
)
ODD = [
    *("[U+9]", "[Fe-9]", "[Og]", "[C-9]", "C~C", "N->[Cu]", "[NH3][Pt](Cl)(Cl)[NH3]", "C$C", "*c1ccccc1", "[SiH4]"),
    *(
        "[2H][2H]",
        "[H+]",
        "[He]",
        "O=[PH](=O)O",
        "CN(=O)=O",
        "C[N+](C)(C)CC([O-])=O",
        "[NH4+].[Cl-].C1CC1",
        "CP(C)(C)(C)C",
    ),
    *(
        "C/C=C/C",
        "C/C=C\\C",
        "F/C=C/C=C\\Cl",
        "CC=C=CC",
        "C[C@H]1CC[C@@H](C)CC1",
        "C[S@](=O)c1ccccc1",
        "N[C@@H](C)O ala",
    ),
    *(
        "[Fe](C)(C)(C)(C)(C)(C)(C)(C)(C)(C)(C)C",
        "[CH4:1]",
        "[C@@H](F)(Cl)Br",
        "OC1=CC=CC=C1",
        "c1ccc2cccc2cc1",
        "c1ccc2[nH]ccc2c1",
    ),
    *(CUBANE, BUCKYBALL, "C1CC2CCC1CC2", "C1CC12CC2", "C1.C1", "C" * 200, f"{'C(F)' * 100}.[Na+]", "c1ccccc1" * 30),
    f"{'N[C@@H](C)C(=O)' * 40}O",
]


@pytest.mark.parametrize("text", [*SMILES, *ODD])
def test_what_is_read_fact_by_fact_equals_the_simple_path(text: str) -> None:
    parsed = parse(text)
    assert parsed.molecule is not None, parsed.reason
    atoms, bonds, entries = simply(Chem.MolFromSmiles(text) or parsed.molecule)
    found = featurise(["CCO", text]).arrays.take(np.array([1]))
    assert found.atoms.tolist() == atoms
    assert np.concatenate([found.bonds, found.bond_features], axis=1).tolist() == bonds
    assert np.stack([found.bins, found.counts], axis=1).tolist() == entries


METALS = [
    "CC[Hg]C",
    "[Li]CCC",
    "N[Co](N)(N)(N)(N)N",
    "[C-]#[O+][Ni]",
    "[C-]#[O+]->[Ni]",
    "O=[Os](=O)(=O)=O",
    "[Al]1NCCO1",
]


@pytest.mark.parametrize("text", [*METALS, "c1cc[se]c1", "[nH]1cccc1", "C[Si](C)(C)C", "[13CH3][Sn](C)(C)C", "C-C:C"])
def test_a_bond_s_type_is_rdkit_s_where_its_order_alone_would_not_tell(text: str) -> None:
    parsed = parse(text)
    assert parsed.molecule is not None, parsed.reason
    assert featurise([text]).arrays.bond_features[:, 0].tolist() == [bond[2] for bond in simply(parsed.molecule)[1]]


def test_without_canonical_smiles_everything_else_is_the_same() -> None:
    texts = ["CCO", "C1CC", *ODD]
    full, short = featurise(texts), featurise(texts, canonical=False)
    assert_same(short.arrays, full.arrays)
    assert (short.reasons, short.flags, short.valid.tolist()) == (full.reasons, full.flags, full.valid.tolist())
    assert set(short.canonical) == {""}
    assert full.canonical[0] == "CCO"


@pytest.mark.parametrize(
    "text", ["[U+9]", "[Fe-9]", "[Og]", "[C-9]", "C~C", "N->[Cu]", "*c1ccccc1", "[SiH4]", "[2H][2H]", "[CH300]"]
)
def test_every_feature_stays_in_its_table_for_odd_chemistry(text: str) -> None:
    done = featurise([text])
    assert done.valid.all(), done.reasons
    assert (done.arrays.atoms < np.array(ATOM_SIZES)).all()
    assert (done.arrays.bond_features < np.array(BOND_SIZES)).all()


@pytest.mark.parametrize(
    ("left", "right"), [("N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O"), ("C/C=C/C", "C/C=C\\C"), ("CC=CC", "C/C=C/C")]
)
def test_stereoisomers_differ_in_the_graph_and_not_in_the_fingerprint(left: str, right: str) -> None:
    one, other = featurise([left]), featurise([right])
    same_atoms = np.array_equal(one.arrays.atoms, other.arrays.atoms)
    same_bonds = np.array_equal(one.arrays.bond_features, other.arrays.bond_features)
    assert not (same_atoms and same_bonds)
    assert one.canonical != other.canonical
    assert sorted(zip(one.arrays.bins, one.arrays.counts, strict=True)) == sorted(
        zip(other.arrays.bins, other.arrays.counts, strict=True)
    )


def test_one_atom_has_no_bonds_and_long_molecules_keep_every_atom() -> None:
    done = featurise(["C", "C" * 200])
    assert np.diff(done.arrays.atom_offsets).tolist() == [1, 200]
    assert np.diff(done.arrays.bond_offsets).tolist() == [0, 199]
    assert molecule(done.arrays, 1).bonds.max() == 199


def test_refused_molecules_keep_their_place_with_a_reason_and_the_others_their_features() -> None:
    done = featurise(["CCO", "C1CC", "", "c1ccncc1"])
    assert done.valid.tolist() == [True, False, False, True]
    assert [bool(reason) for reason in done.reasons] == [False, True, True, False]
    assert "ring" in done.reasons[1]
    assert done.canonical == ["CCO", "", "", "c1ccncc1"]
    alone = featurise(["c1ccncc1"]).arrays
    assert_same(molecule(done.arrays, 1), alone)


def test_what_only_the_valence_check_refuses_is_featurised_and_flagged() -> None:
    assert Chem.MolFromSmiles("O=[PH](=O)O") is None
    done = featurise(["O=[PH](=O)O", "CCO"])
    assert done.valid.all()
    assert done.flags == ["valence not checked", ""]


def assert_same(left: object, right: object) -> None:
    for name in MoleculeArrays.__dataclass_fields__:
        np.testing.assert_array_equal(np.asarray(getattr(left, name)), np.asarray(getattr(right, name)), err_msg=name)


@pytest.mark.parametrize("rows", [[3], [5, 0, 5, 12], [], list(range(len(DRUGS) + 14))[::-1]])
def test_taking_rows_equals_featurising_those_molecules_alone(rows: list[int]) -> None:
    assert featurise(SMILES).valid.all()
    alone = featurise([SMILES[r] for r in rows]).arrays
    arrays = featurise(SMILES).arrays
    assert_same(arrays.take(np.array(rows, np.int64)), alone)
    assert_same(MoleculeBatch.of(arrays)[torch.tensor(rows, dtype=torch.int64)], MoleculeBatch.of(alone))
    assert_same(MoleculeArrays.concatenate([arrays.take(np.array([r])) for r in rows] or [alone]), alone)


def test_ragged_rows_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = rng.integers(0, 5, size=12)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        rows = rng.integers(12, size=rng.integers(0, 9))
        index, new_offsets = ragged_rows(offsets, rows)
        assert index.tolist() == [i for r in rows for i in range(offsets[r], offsets[r + 1])]
        assert new_offsets.tolist() == np.concatenate([[0], np.cumsum(sizes[rows])]).tolist()


def test_without_graphs_molecules_have_the_same_fingerprints_and_no_atoms() -> None:
    smiles = ["CCO", "c1ccccc1C(=O)O", "nonsense", "[Na+].[Cl-]"]
    whole, short = featurise(smiles), featurise(smiles, canonical=False, graphs=False)
    assert (short.reasons, short.flags) == (whole.reasons, whole.flags)
    for name in ("bins", "counts", "bin_offsets"):
        np.testing.assert_array_equal(getattr(short.arrays, name), getattr(whole.arrays, name))
    assert len(short.arrays) == len(whole.arrays) == 3
    assert len(short.arrays.atoms) == len(short.arrays.bonds) == 0
    assert not short.arrays.atom_offsets.any()
