"""Finite differences of a whole meta-objective, in float64: what every gradient-based method is held to."""

from __future__ import annotations

import copy

import numpy as np
import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Learner
from molmeta.methods.inner_loop import Optimiser, adam


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
