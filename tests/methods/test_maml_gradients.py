from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.episode import EpisodeBatch
from molmeta.core.task import TaskKind
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.gnn import GNN, GNNConfig
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.methods.maml import MAML
from tests.oracle.slopes import assert_gradient_is_the_slope, gradients

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
Learners = Callable[..., MAML]
Draw = Callable[..., EpisodeBatch]


@pytest.mark.parametrize(
    ("kind", "shapes", "settings"),
    [
        (BINARY, [(4, 6, 2), (7, 3, 2)], {"inner_steps": 3}),
        (MULTICLASS, [(3, 6, 3), (9, 4, 4)], {}),
        (MULTICLASS, [(6, 6, 3), (3, 5, 3)], {"head": "fixed", "ways": 3}),
        (MULTICLASS, [(6, 6, 3)], {"adapt": "head", "inner_steps": 3}),
        (REGRESSION, [(5, 6, 0), (8, 2, 0)], {"inner_lr": 0.1}),
    ],
)
def test_the_meta_gradient_is_the_finite_difference_of_the_meta_objective(
    kind: TaskKind, shapes: Sequence[tuple[int, int, int]], settings: dict[str, Any], learner: Learners, draw: Draw
) -> None:
    assert_gradient_is_the_slope(learner(**settings), draw(kind, shapes))


@pytest.mark.parametrize("normalisation", ["batch", "frozen"])
def test_the_meta_gradient_is_right_through_batch_norm(normalisation: str, learner: Learners, draw: Draw) -> None:
    model = learner(norm=nn.BatchNorm1d, normalisation=normalisation)
    assert_gradient_is_the_slope(model, draw(BINARY, [(6, 6, 2), (4, 5, 2)]))


@pytest.mark.parametrize("kind", [BINARY, REGRESSION])
def test_the_meta_gradient_is_right_through_a_message_passing_network(
    kind: TaskKind, learner: Learners, draw: Draw
) -> None:
    smiles = ["CCO", "c1ccccc1O", "CC(=O)N", "C[NH3+]", "N#CC", "OCC(F)Cl", "C1CC1", "O", "CC(C)=O", "CSC", "c1ccncc1"]
    molecules = MoleculeBatch.of(featurise(smiles).arrays)
    config = GNNConfig(width=8, hidden=8, layers=2, conv="gine", dropout=0.0)
    model = learner(GNN(config), inner_lr=0.05)
    assert_gradient_is_the_slope(model, draw(kind, [(4, 2, 2), (3, 2, 2)], molecules), coordinates=25)


@pytest.mark.parametrize("settings", [{"inner_steps": 0}, {"inner_lr": 0.0}])
@pytest.mark.parametrize("first_order", [False, True])
def test_without_adaptation_the_meta_gradient_is_the_plain_gradient(
    settings: dict[str, Any], first_order: bool, learner: Learners, draw: Draw
) -> None:
    model = learner(head="fixed", ways=3, first_order=first_order, **settings)
    batch = draw(MULTICLASS, [(6, 9, 3)])
    query = ~batch.is_support
    plain = torch.autograd.grad(
        F.cross_entropy(model(batch.inputs[query]), batch.labels[query]), list(model.parameters())
    )
    torch.testing.assert_close(list(gradients(model, batch).values()), list(plain))


def test_first_order_is_the_gradient_at_the_adapted_weights(learner: Learners, draw: Draw) -> None:
    batch = draw(MULTICLASS, [(6, 9, 3)])
    model = learner(head="fixed", ways=3, first_order=True)
    support, query = next(batch.episodes())
    there = copy.deepcopy(model)
    optimiser = torch.optim.SGD(there.parameters(), lr=model.config.inner_lr)
    for _ in range(model.config.inner_steps):
        optimiser.zero_grad()
        F.cross_entropy(there(support.inputs), support.labels).backward()
        optimiser.step()
    expected = torch.autograd.grad(F.cross_entropy(there(query.inputs), query.labels), list(there.parameters()))
    torch.testing.assert_close(list(gradients(model, batch).values()), list(expected))
    second_order = gradients(learner(head="fixed", ways=3), batch)
    assert not torch.allclose(second_order["head.weight"], expected[-2], rtol=1e-3)


def test_one_episode_alone_equals_the_same_episode_in_a_ragged_batch(learner: Learners, draw: Draw) -> None:
    model = learner()
    together = draw(MULTICLASS, [(3, 6, 3), (9, 1, 4), (2, 5, 2)])
    losses, grads = [], []
    for i in range(3):
        rows = torch.nonzero(together.episode == i).flatten()
        alone = replace(
            together,
            **{n: getattr(together, n)[rows] for n in ("inputs", "labels", "is_support")},
            **{n: getattr(together, n)[i : i + 1] for n in ("num_classes", "target_loc", "target_scale")},
            episode=torch.zeros(len(rows), dtype=torch.int64),
        )
        losses.append(model.meta_backward(alone)["loss"])
        grads.append(gradients(model, alone))
        (prediction,) = model.predict_episodes(alone)
        torch.testing.assert_close(prediction.probabilities, model.predict_episodes(together)[i].probabilities)
    assert model.meta_backward(together)["loss"] == pytest.approx(np.mean(losses))
    mean = {name: sum(g[name] for g in grads) / 3 for name in grads[0]}
    torch.testing.assert_close(gradients(model, together), mean)


@pytest.mark.parametrize("first_order", [False, True])
def test_each_task_frees_its_graph_before_the_next_and_nothing_outlives_an_update(
    first_order: bool, learner: Learners, draw: Draw
) -> None:
    live: WeakSet[Saved] = WeakSet()
    peak = 0

    class Saved:
        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal peak
            self.tensor = tensor
            live.add(self)
            peak = max(peak, len(live))

    model = learner(first_order=first_order)
    peaks = []
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        for tasks in (1, 5) * 10:
            peak = 0
            model.meta_backward(draw(BINARY, [(6, 4, 2)] * tasks))
            assert len(live) == 0
            peaks.append(peak)
    assert 0 < peaks[0] == max(peaks)
