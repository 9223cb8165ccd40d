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


@pytest.mark.parametrize(
    "text", ["[U+9]", "[Fe-9]", "[Og]", "[C-9]", "C~C", "N->[Cu]", "*c1ccccc1", "[SiH4]", "[2H][2H]"]
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
