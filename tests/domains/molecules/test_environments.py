from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from molmeta.domains.molecules import gnn
from molmeta.domains.molecules.environments import Environments
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from tests.bundles import DRUGS

pytestmark = pytest.mark.usefixtures("float64")
# Twice the same, one atom, salts without a bond between the parts, and cousins that part at a distance.
SMILES = [*DRUGS, DRUGS[0], "C", "[Na+].[Cl-]", "CCCCCCO", "CCCCCCN", "CCCCCC", "C" * 60]


@pytest.fixture
def molecules() -> MoleculeBatch:
    return MoleculeBatch.of(featurise(SMILES).arrays)


def network() -> gnn.GNN:
    torch.manual_seed(0)
    net = gnn.GNN(gnn.GNNConfig(width=5, hidden=8, layers=3, dropout=0.0))
    for conv in net.convs:
        nn.init.constant_(conv.eps, 0.3)
    return net


def test_they_are_those_that_nested_multisets_tell_apart(molecules: MoleculeBatch) -> None:
    seen = [tuple(atom) for atom in molecules.atoms.tolist()]
    neighbours: list[list[tuple[int, tuple[int, ...]]]] = [[] for _ in seen]
    bonds = [tuple(bond) for bond in molecules.bond_features.tolist()] * 2
    for (sender, receiver), bond in zip(molecules.edge_index().T.tolist(), bonds, strict=True):
        neighbours[receiver].append((sender, bond))
    for radius in range(4):
        found = molecules.environments.of_atoms(radius).tolist()
        assert len(set(found)) == len(set(seen)) == len(set(zip(found, seen, strict=True)))
        assert sorted(set(found)) == list(range(max(found) + 1))
        around = [frozenset(Counter((seen[u], bond) for u, bond in near).items()) for near in neighbours]
        names = {name: i for i, name in enumerate(dict.fromkeys(zip(seen, around, strict=True)))}
        seen = [(names[name],) for name in zip(seen, around, strict=True)]


def test_sharing_states_changes_neither_embeddings_nor_gradients(molecules: MoleculeBatch) -> None:
    net, weights = network(), torch.randn(len(SMILES), 5)
    shared, apart = net._embed(molecules, shared=True), net._embed(molecules, shared=False)
    assert len(molecules.environments.of_atoms(1).unique()) < len(molecules.atoms) / 2
    torch.testing.assert_close(shared, apart)
    torch.testing.assert_close(_slopes(net, (shared * weights).sum()), _slopes(net, (apart * weights).sum()))


def test_nor_second_derivatives(molecules: MoleculeBatch) -> None:
    net = network()
    found = []
    for shared in (True, False):
        first = _slopes(net, net._embed(molecules, shared).square().mean(), create_graph=True)
        found.append(_slopes(net, sum(slope.square().sum() for slope in first)))
    torch.testing.assert_close(*found)
    assert max(float(slope.abs().max()) for slope in found[0]) > 1e-3


def test_dropout_sets_atoms_apart(molecules: MoleculeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(gnn.GNN, "_embed", lambda self, graphs, shared: asked.append(shared) or torch.zeros(1))
    for dropout in (0.0, 0.5):
        for training in (True, False):
            gnn.GNN(gnn.GNNConfig(dropout=dropout)).train(training)(molecules)
    assert asked == [True, True, False, True]


def test_what_was_found_in_inference_mode_serves_training(molecules: MoleculeBatch) -> None:
    net = network()
    with torch.inference_mode():
        expected = net(molecules)
    found = net(molecules)
    torch.testing.assert_close(found, expected.clone())
    _slopes(net, found.sum())


def test_an_atom_with_a_neighbour_is_not_like_one_without_whatever_their_features_say() -> None:
    alike = Environments(torch.zeros(5, 8).byte(), torch.zeros(2, 4).byte(), torch.tensor([[0, 1, 1, 2], [1, 2, 0, 1]]))
    assert alike.of_atoms(1).tolist() == [0, 1, 0, 2, 2]  # ends and middle of a chain of three, and two lone atoms


def test_two_that_ask_at_once_find_the_same(molecules: MoleculeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, shared = Environments(*parts(molecules)), Environments(*parts(molecules))
    grow, inside = Environments._grow, threading.Barrier(2)

    def together(self: Environments, radius: int) -> None:
        inside.wait(timeout=10)
        grow(self, radius)

    alone.hops(3)
    monkeypatch.setattr(Environments, "_grow", together)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: shared.hops(3), range(2)))
    for hops in found:
        for hop, expected in zip(hops, alone.hops(3), strict=True):
            torch.testing.assert_close(hop.sender.columns, expected.sender.columns)
    torch.testing.assert_close(shared.of_atoms(3), alone.of_atoms(3))


def parts(molecules: MoleculeBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return molecules.atoms, molecules.bond_features, molecules.edge_index()


def test_no_molecules_have_no_environments() -> None:
    none = MoleculeBatch.of(featurise(["CC"]).arrays)[torch.zeros(0, dtype=torch.int64)]
    assert network()(none).shape == (0, 5)


def _slopes(net: nn.Module, value: torch.Tensor, create_graph: bool = False) -> list[torch.Tensor]:
    return list(torch.autograd.grad(value, list(net.parameters()), create_graph=create_graph, retain_graph=True))
