"""Finite differences of a whole meta-objective, in float64: what every gradient-based method is held to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Learner
from molmeta.methods import inner_loop
from molmeta.methods.inner_loop import Loss, Optimiser, Params, Update, adam


def smooth_adam() -> Optimiser:
    """Adam whose step is smooth enough in the gradient for finite differences."""
    return adam(eps=0.1)


def gradients(model: Learner, batch: EpisodeBatch) -> dict[str, torch.Tensor]:
    """What one ``meta_backward`` writes, 0 where it writes nothing."""
    model.zero_grad()
    model.meta_backward(batch)
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def slope(model: Learner, batch: EpisodeBatch, direction: dict[str, torch.Tensor], h: float = 1e-5) -> float:
    """The central difference of the whole meta-objective along ``direction``."""
    values = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, p in moved.named_parameters():
                p.add_(direction[name], alpha=sign * h)
        values.append(float(moved.meta_loss(batch)[0].detach()))
    return (values[0] - values[1]) / (2 * h)


def assert_gradient_is_the_slope(
    model: Learner, batch: EpisodeBatch, coordinates: int = 20, must_move: tuple[str, ...] = ()
) -> None:
    """Along one random direction and ``coordinates`` single numbers; each parameter of ``must_move`` has a gradient."""
    analytic = gradients(copy.deepcopy(model), batch)  # an update may move a schedule on
    names = list(analytic)
    rng = np.random.default_rng(1)
    directions = [{n: torch.from_numpy(np.asarray(rng.normal(size=tuple(g.shape)))) for n, g in analytic.items()}]
    for _ in range(coordinates):
        direction = {n: torch.zeros_like(g) for n, g in analytic.items()}
        chosen = direction[names[rng.integers(len(names))]].view(-1)
        chosen[rng.integers(len(chosen))] = 1.0
        directions.append(direction)
    along = np.array([float(sum((analytic[n] * d[n]).sum() for n in names)) for d in directions])
    numeric = np.array([slope(model, batch, d) for d in directions])
    assert np.abs(along).max() > 1e-3
    assert all(analytic[name].abs().max() > 1e-6 for name in must_move)
    np.testing.assert_allclose(along, numeric, rtol=1e-6, atol=1e-8)


@contextmanager
def constant_inner_gradients(model: Learner, batch: EpisodeBatch) -> Iterator[None]:
    """Inner steps take the gradients that they have at ``model`` now, whatever the weights: first order's definition.

    What a meta-loss is then differentiated through is the update rule alone, with its step sizes.
    """
    recorded: list[Params] = []
    step = inner_loop.step

    def recording(params: Params, loss: Loss, update: Update, *, first_order: bool = False) -> Params:
        def keep(values: Params, grads: Params) -> Params:
            recorded.append({name: g.detach().clone() for name, g in grads.items()})
            return update(values, grads)

        return step(params, loss, keep, first_order=first_order)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner_loop, "step", recording)
        copy.deepcopy(model).meta_loss(batch)
        again = cycle(recorded)
        patch.setattr(inner_loop, "step", lambda params, loss, update, *, first_order: update(params, next(again)))
        yield


def assert_first_order_gradient_is_its_slope(model: Learner, batch: EpisodeBatch, coordinates: int = 12) -> None:
    """As :func:`assert_gradient_is_the_slope`, the inner gradients being constants; and second order differs."""
    analytic = gradients(copy.deepcopy(model), batch)
    with constant_inner_gradients(model, batch):
        constant = gradients(copy.deepcopy(model), batch)
        assert_gradient_is_the_slope(model, batch, coordinates)
    torch.testing.assert_close(analytic, constant)
    whole = copy.deepcopy(model)
    whole.config = replace(whole.config, first_order=False)  # type: ignore[type-var,arg-type]
    second = gradients(whole, batch)
    assert any(not torch.allclose(second[name], g, rtol=1e-3, atol=1e-6) for name, g in analytic.items())
