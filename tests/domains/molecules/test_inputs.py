from __future__ import annotations

import pytest
import torch
from rdkit import Chem

from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from tests.bundles import DRUGS


@pytest.fixture
def batch() -> MoleculeBatch:
    return MoleculeBatch.of(featurise([*DRUGS, "C", "[Na+].[Cl-]"]).arrays)


def test_the_edges_of_a_batch_are_both_directions_of_every_bond_of_every_molecule(batch: MoleculeBatch) -> None:
    expected, start = set(), 0
    for text in [*DRUGS, "C", "[Na+].[Cl-]"]:
        known = Chem.MolFromSmiles(text)
        for bond in known.GetBonds():
            a, b = start + bond.GetBeginAtomIdx(), start + bond.GetEndAtomIdx()
            expected |= {(a, b), (b, a)}
        start += known.GetNumAtoms()
    edges = batch.edge_index()
    assert edges.shape[1] == len(expected)
    assert set(map(tuple, edges.T.tolist())) == expected
    half = edges.shape[1] // 2
    assert torch.equal(edges[:, :half], edges[:, half:].flip(0))


def test_every_atom_knows_its_molecule(batch: MoleculeBatch) -> None:
    sizes = [Chem.MolFromSmiles(text).GetNumAtoms() for text in [*DRUGS, "C", "[Na+].[Cl-]"]]
    assert batch.molecule_of_atom().tolist() == [i for i, n in enumerate(sizes) for _ in range(n)]


def test_a_mask_selects_as_its_positions_do(batch: MoleculeBatch) -> None:
    mask = torch.arange(len(batch)) % 3 == 1
    by_mask, by_position = batch[mask], batch[torch.nonzero(mask).flatten()]
    assert len(by_mask) == int(mask.sum())
    assert torch.equal(by_mask.atoms, by_position.atoms)
    assert torch.equal(by_mask.fingerprints(), batch.fingerprints()[mask])


def test_an_empty_batch_has_no_edges_and_no_rows(batch: MoleculeBatch) -> None:
    empty = batch[torch.zeros(0, dtype=torch.int64)]
    assert (len(empty), empty.edge_index().shape, empty.fingerprints().shape) == (0, (2, 0), (0, 2048))


def test_a_batch_does_not_share_memory_with_the_store() -> None:
    arrays = featurise(DRUGS).arrays
    before = arrays.counts.copy()
    MoleculeBatch.of(arrays).counts.zero_()
    assert (arrays.counts == before).all()
