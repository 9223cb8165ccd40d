"""Tasks computed together are tasks computed one by one, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.task import TaskKind
from molmeta.domains.functions.mlp import MLP, MLPConfig
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.gnn import GNN, GNNConfig
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.methods.anil import ANIL
from molmeta.methods.gradient import GradientLearner
from molmeta.methods.meta_sgd import MetaSGD
from tests.oracle.slopes import gradients

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
Learners, Draw = Callable[..., Any], Callable[..., EpisodeBatch]
SMILES = ["CCO", "c1ccccc1O", "CC(=O)N", "C[NH3+]", "N#CC", "OCC(F)Cl", "C1CC1", "O", "CC(C)=O", "CSC", "c1ccncc1"]
SHAPES = {BINARY: [(4, 2, 2), (3, 2, 2)], MULTICLASS: [(3, 2, 3), (4, 2, 2)], REGRESSION: [(4, 1, 0), (2, 4, 0)]}
SETTINGS: dict[str, dict[str, Any]] = {
    "second order": {"inner_steps": 3},
    "first order": {"first_order": True},
    "no step": {"inner_steps": 0},
    "biases": {"adapt": "head, *.bias"},
    "weights": {"adapt": "*.weight, *.table"},
    "learned rates": {"learn_rates": True},
    "multi-step loss": {"multi_step": 10, "inner_steps": 3},
    "momentum": {"optimiser": "momentum", "inner_steps": 3},
    "adam": {"optimiser": "adam", "inner_lr": 0.05},
    "anil": {"method": ANIL, "inner_steps": 3},
    "meta-sgd": {"method": MetaSGD, "inner_steps": 2},
    "labels as given": {"scale_labels": False, "inner_lr": 0.01},
}


def assert_equal_to_one_by_one(model: GradientLearner, batch: EpisodeBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[float, dict[str, float], dict[str, torch.Tensor]]] = []
    for together in (True, False):
        monkeypatch.setattr(type(model), "_at_once", lambda *_, together=together: together)
        loss, logs = model.meta_loss(batch)
        found.append((float(loss.detach()), logs, gradients(model, batch)))
        if "updates" in dict(model.named_buffers()):
            model.updates.zero_()  # type: ignore[operator,union-attr]
    torch.testing.assert_close(found[0], found[1], rtol=1e-9, atol=1e-10)
    assert model.config.inner_steps == 0 or max(g.abs().max() for g in found[0][2].values()) > 1e-4


@pytest.mark.parametrize("kind", list(TaskKind))
@pytest.mark.parametrize("name", SETTINGS)
def test_of_molecules(
    name: str, kind: TaskKind, learner: Learners, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    molecules = MoleculeBatch.of(featurise(SMILES).arrays)
    backbone = GNN(GNNConfig(width=8, hidden=8, layers=2, conv="gine", dropout=0.0))
    model = learner(backbone, **{"inner_lr": 0.05, **SETTINGS[name]})
    assert_equal_to_one_by_one(model, draw(kind, SHAPES[kind], molecules), monkeypatch)


@pytest.mark.parametrize("kind", list(TaskKind))
@pytest.mark.parametrize("name", SETTINGS)
def test_of_rows_of_numbers(
    name: str, kind: TaskKind, learner: Learners, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"inner_lr": 0.1, **SETTINGS[name]}
    settings["adapt"] = settings.get("adapt", "head" if name == "anil" else "all").replace(", *.table", "")
    model = learner(MLP(MLPConfig(inputs=3, hidden=(6, 5))), **settings)
    assert_equal_to_one_by_one(model, draw(kind, [(7, 3, k) for *_, k in SHAPES[kind]] + SHAPES[kind]), monkeypatch)


def test_of_a_fixed_head(learner: Learners, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    model = learner(MLP(MLPConfig(inputs=3, hidden=(6,))), head="fixed", ways=3)
    assert_equal_to_one_by_one(model, draw(MULTICLASS, [(6, 3, 3), (4, 5, 3)]), monkeypatch)


def test_what_stacks_is_computed_at_once(learner: Learners, draw: Draw) -> None:
    def at_once(model: GradientLearner, shapes: Sequence[tuple[int, int, int]] = ((4, 2, 2), (3, 2, 2))) -> list[int]:
        return [tasks for tasks, *_ in model.losses(draw(BINARY, shapes))]

    own = MLP(MLPConfig(inputs=3))
    assert at_once(learner(own)) == [2]
    assert at_once(learner()) == [1, 1]  # a network that does not say so
    assert at_once(learner(own, optimiser="tests.oracle.slopes:smooth_adam")) == [1, 1]


def test_groups_have_as_many_atoms_and_bonds_each_and_their_own_molecules() -> None:
    molecules = MoleculeBatch.of(featurise(SMILES).arrays)
    rows = torch.tensor([[5, 1, 0], [7, 0, 0]])
    groups = molecules.in_equal_groups(rows, torch.tensor([[True, True, False], [True, False, False]]))
    atoms, bonds = (offsets[::3].diff() for offsets in (groups.atom_offsets, groups.bond_offsets))
    assert atoms.tolist() == [13, 13]  # 5 and 7, and one to spare
    assert bonds.tolist() == [11, 11]
    for place, row in ((0, 5), (1, 1), (3, 7)):
        for name in ("atoms", "bonds", "bond_features", "bins", "counts"):
            torch.testing.assert_close(
                getattr(groups[torch.tensor([place])], name), getattr(molecules[torch.tensor([row])], name)
            )
