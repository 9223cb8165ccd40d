"""Properties of a whole molecule, beside RDKit's own, and how well the fingerprint tells them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.properties import NUMBER, Properties, properties
from tests.assays import MOLECULES

ODD = [
    "C",
    "[Na+].[Cl-]",
    "CC(C)(C)C",
    "c1ccc2ccccc2c1",
    "OS(=O)(=O)c1ccc(F)cc1Br",
    "C[N+](C)(C)CC([O-])=O",
    "C#N",
    "I",
]
SMILES = [*ODD, *MOLECULES]
MOLS = [Chem.MolFromSmiles(smiles) for smiles in SMILES]


@pytest.fixture(scope="module")
def batch() -> MoleculeBatch:
    return MoleculeBatch.of(featurise(SMILES).arrays)


def column(batch: MoleculeBatch, place: int) -> list[float]:
    return properties(batch)[:, place].tolist()


@pytest.mark.parametrize(
    ("place", "pattern"),
    [(0, "*"), (1, "[#7]"), (2, "[#8]"), (3, "[#16]"), (4, "F"), (5, "[F,Cl,Br,I]"), (6, "a"), (7, "[R]"),
     (8, "[#7,#8;!H0]"), (10, "[+,+2]"), (11, "[-,-2]"), (12, "[CX4]"), (13, "[D1]"), (14, "[D3,D4]"),
     (15, "[CX4;!H0;!R]")],
)  # fmt: skip
def test_atoms_are_counted_as_their_pattern_matches(batch: MoleculeBatch, place: int, pattern: str) -> None:
    query = Chem.MolFromSmarts(pattern)
    assert column(batch, place) == [len(mol.GetSubstructMatches(query, maxMatches=10_000)) for mol in MOLS]


def test_connectivity_and_shape_are_rdkit_s(batch: MoleculeBatch) -> None:
    whole = [i for i, mol in enumerate(MOLS) if mol.GetNumBonds() and "." not in SMILES[i]]
    found = properties(batch)[whole].double().numpy()
    some = [MOLS[i] for i in whole]
    np.testing.assert_allclose(found[:, 17], [rdMolDescriptors.CalcChi0n(mol) for mol in some], rtol=1e-5)
    np.testing.assert_allclose(found[:, 19], [rdMolDescriptors.CalcChi1n(mol) for mol in some], rtol=1e-5)
    np.testing.assert_allclose(found[:, 25], [rdMolDescriptors.CalcNumRings(mol) for mol in some])
    paths = [[len(Chem.FindAllPathsOfLengthN(mol, k, useBonds=True)) for k in (1, 2, 3)] for mol in some]
    for row, (_, twos, threes), mol in zip(found, paths, some, strict=True):
        a = mol.GetNumAtoms()
        assert row[23] ** 2 == pytest.approx(twos)
        assert row[24] ** 2 == pytest.approx(threes)
        assert row[20] == pytest.approx(a * (a - 1) ** 2 / mol.GetNumBonds() ** 2)
        assert row[21] == pytest.approx((a - 1) * (a - 2) ** 2 / max(1, twos) ** 2, rel=1e-5)
        assert row[22] == pytest.approx((a - 1) * (a - 3) ** 2 / max(1, threes) ** 2, rel=1e-5)


def test_the_fingerprint_tells_them_and_needs_no_graph(batch: MoleculeBatch) -> None:
    view = Properties()
    view.fit(batch)
    y = properties(batch).double()
    z = (y - y.mean(0)) / y.std(0, correction=0).clamp(min=1e-6)
    rows = view(batch)
    assert rows.norm(dim=1).tolist() == pytest.approx([1.0] * len(SMILES))
    told = rows[:, :NUMBER] / rows[:, NUMBER:] * 0.75 * NUMBER**0.5
    usual = z.abs().amax(1) < 3
    assert usual.sum() > 20
    assert (told - z)[usual].abs().mean() < 0.1 * z[usual].abs().mean()
    blind = MoleculeBatch.of(featurise(SMILES).arrays)
    for name in ("atoms", "bonds", "bond_features"):
        object.__setattr__(blind, name, getattr(blind, name)[:0])
    torch.testing.assert_close(view(blind), rows)
