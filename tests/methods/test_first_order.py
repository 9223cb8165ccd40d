"""First order by its own definition, and MAML where the whole of it has a closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from molmeta import as_backbone
from molmeta.core.episode import EpisodeBatch
from molmeta.core.task import TaskKind
from molmeta.methods.anil import ANIL
from molmeta.methods.maml import MAML, MAMLConfig
from molmeta.methods.meta_sgd import MetaSGD
from tests.oracle.slopes import assert_first_order_gradient_is_its_slope, gradients

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
Learners = Callable[..., Any]
Draw = Callable[..., EpisodeBatch]
SHAPES = {BINARY: [(4, 6, 2), (7, 3, 2)], MULTICLASS: [(3, 6, 3), (9, 4, 3)], REGRESSION: [(5, 6, 0), (8, 2, 0)]}
FIRST_ORDER: dict[str, dict[str, Any]] = {
    "maml": {},
    "momentum": {"optimiser": "momentum", "inner_steps": 3},
    "adam": {"optimiser": "tests.oracle.slopes:smooth_adam", "inner_steps": 3},
    "learned rates": {"learn_rates": True},
    "multi-step loss": {"multi_step": 10, "inner_steps": 3},
    "patterns": {"adapt": "head, *.bias"},
    "anil": {"method": ANIL},
    "meta-sgd": {"method": MetaSGD, "inner_steps": 2},
    "batch norm": {"norm": nn.BatchNorm1d},
    "batch norm, frozen": {"norm": nn.BatchNorm1d, "normalisation": "frozen"},
}


@pytest.mark.parametrize("kind", list(TaskKind))
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_first_order_is_the_slope_with_the_inner_gradients_held(
    name: str, kind: TaskKind, learner: Learners, draw: Draw
) -> None:
    settings = {"inner_lr": 0.1, **FIRST_ORDER[name]}
    assert_first_order_gradient_is_its_slope(learner(first_order=True, **settings), draw(kind, SHAPES[kind]))


def test_first_order_is_so_with_a_fixed_head(learner: Learners, draw: Draw) -> None:
    model = learner(first_order=True, head="fixed", ways=3)
    assert_first_order_gradient_is_its_slope(model, draw(MULTICLASS, SHAPES[MULTICLASS]))


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("first_order", [False, True])
def test_maml_of_a_linear_model_has_the_closed_form_of_a_quadratic(steps: int, first_order: bool, draw: Draw) -> None:
    # L_S(w) = |X w - y|^2 / n has Hessian H = 2 X'X / n:  w_s = w* + (I - lr H)^s (w - w*),  and likewise L_Q.
    lr, batch = 0.05, draw(REGRESSION, [(7, 5, 0), (9, 4, 0)])
    config = MAMLConfig(inner_lr=lr, inner_steps=steps, first_order=first_order, scale_labels=False)
    model = MAML(as_backbone(nn.Identity(), width=3), config).double()
    start = torch.cat([model.head.weight[0], model.head.bias]).detach().numpy()
    loss, gradient = 0.0, np.zeros(4)
    for support, query in batch.episodes():
        (x, y), (q, v) = (
            (np.column_stack([part.inputs.numpy(), np.ones(len(part))]), part.labels.numpy())  # type: ignore[attr-defined]
            for part in (support, query)
        )
        power = np.linalg.matrix_power(np.eye(4) - lr * 2 * x.T @ x / len(x), steps)
        best = np.linalg.lstsq(x, y, rcond=None)[0]
        adapted = best + power @ (start - best)
        outer = 2 * q.T @ (q @ adapted - v) / len(q)
        loss += np.square(q @ adapted - v).mean() / 2
        gradient += (outer if first_order else power.T @ outer) / 2
    assert float(model.meta_loss(batch)[0].detach()) == pytest.approx(loss, rel=1e-6)
    found = gradients(model, batch)
    np.testing.assert_allclose(np.append(found["head.weight"][0], found["head.bias"]), gradient, rtol=1e-6)
