"""What every method on embeddings is held to: gradients, a loss that falls on unseen tasks, and no memory kept."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from molmeta.core.learner import Learner
from molmeta.core.task import TaskKind
from molmeta.methods import METHODS
from tests.checks import assert_gradients_are_finite_differences, fall_of_loss
from tests.toy import Net, NetConfig, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS = TaskKind.BINARY, TaskKind.MULTICLASS
PROTONETS: dict[str, dict[str, Any]] = {
    "euclidean": {},
    "mahalanobis": {"distance": "mahalanobis"},
    "cosine": {"distance": "cosine"},
    "attention": {"distance": "cosine", "attention": True},
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "matching": ("matching", {}),
    "matching, full context": ("matching", {"full_context": True}),
    "relation": ("relation", {}),
    "r2d2": ("r2d2", {}),
    "r2d2, logistic": ("r2d2", {"solver": "logistic"}),
    "gp": ("gp", {}),
    "quadratic_probe": ("quadratic_probe", {}),
    "in_context": ("in_context", {"width": 8}),
    "adkf": ("adkf", {}),
    "dkt": ("dkt", {}),
    "finetune": ("finetune", {"heads": 8, "inner_steps": 3}),
}
ALL = {**{name: ("protonet", settings) for name, settings in PROTONETS.items()}, **OTHERS}


def made(name: str, settings: dict[str, Any]) -> Learner:
    torch.manual_seed(0)
    method = METHODS[name]
    learner: Learner = method(Net(NetConfig(width=4)), method.Config(**settings))
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return learner


@pytest.mark.parametrize("kind", [BINARY, MULTICLASS])
@pytest.mark.parametrize("distance", PROTONETS)
def test_prototypes_have_the_gradient_that_finite_differences_say(distance: str, kind: TaskKind) -> None:
    k = 2 if kind is BINARY else 3
    batch = episodes(kind, [(7, 4, k), (k, 3, k)])  # the second with one example a class
    assert_gradients_are_finite_differences(made("protonet", PROTONETS[distance]), batch)


@pytest.mark.parametrize("distance", PROTONETS)
def test_the_loss_of_unseen_tasks_falls_with_prototypes(distance: str) -> None:
    assert fall_of_loss(made("protonet", PROTONETS[distance]), BINARY) > 0.05


@pytest.mark.parametrize("kind", list(TaskKind))
def test_the_loss_of_unseen_tasks_falls_with_a_gaussian_process(kind: TaskKind) -> None:
    assert fall_of_loss(made("gp", {}), kind) > 0.02


def kept(update: Callable[[], object]) -> tuple[int, int]:
    """Tensors alive after 5 and after 50 updates; what only the collector would free counts as kept."""
    live = []
    gc.collect()
    gc.disable()
    try:
        for step in range(50):
            update()
            if step in (4, 49):
                live.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
    finally:
        gc.enable()
    return live[0], live[1]


@pytest.mark.parametrize("name", ALL)
def test_memory_is_flat_over_fifty_updates_and_fifty_tasks(name: str) -> None:
    model = made(*ALL[name])
    optimizer, batch = torch.optim.SGD(model.parameters(), lr=1e-3), episodes(BINARY, [(6, 4, 2), (4, 4, 2)])
    ((support, query), _) = batch.episodes()

    def update() -> None:
        optimizer.zero_grad()
        model.meta_backward(batch)
        optimizer.step()

    before, after = kept(update)
    assert before == after
    before, after = kept(lambda: model.adapt(support).predict(query.inputs))
    assert before == after


def test_a_prototype_is_a_linear_classifier_with_its_gradient() -> None:
    """Snell et al., eq. 8: w_k = 2 c_k, b_k = -|c_k|^2; the same loss has the same gradient through both."""
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh())
    model, batch = METHODS["protonet"](net), episodes(MULTICLASS, [(9, 6, 3)])
    ((support, query),) = batch.episodes()
    z, q = net(support.inputs), net(query.inputs)
    c = torch.stack([z[support.labels == k].mean(0) for k in range(3)])
    loss = nn.functional.cross_entropy(2 * q @ c.T - c.square().sum(1), query.labels)
    expected = torch.autograd.grad(loss, list(net.parameters()))
    assert model.meta_backward(batch)["loss"] == pytest.approx(float(loss.detach()))
    torch.testing.assert_close([p.grad for p in net.parameters()], list(expected))
