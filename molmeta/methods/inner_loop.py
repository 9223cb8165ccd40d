"""The inner loop of gradient-based meta-learning: functional updates on a caller's ``loss(params) -> scalar``.

    theta_0 = theta,   theta_{s+1} = U(theta_s, g_s),   g_s = dL(theta_s) / dtheta_s

``U`` is any plain function of parameters and gradients, such as :func:`sgd`. The result is differentiable with respect
to ``theta``, through the gradients too unless ``first_order`` detaches them. Nothing here knows of labels or modules.

An inner optimiser is a function ``(params, grads, lr) -> params``: :func:`sgd` is one, :func:`momentum` and
:func:`adam` make one. Those two remember earlier gradients, so each task needs one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import torch

Params = dict[str, torch.Tensor]
Loss = Callable[[Params], torch.Tensor]
Update = Callable[[Params, Params], Params]
Rates = float | torch.Tensor | Mapping[str, torch.Tensor]
Optimiser = Callable[[Params, Params, Rates], Params]


def sgd(params: Params, grads: Params, lr: Rates) -> Params:
    """Gradient descent: ``theta - lr * g``.

    Args:
        params: by name, of any shape.
        grads: the same names and shapes.
        lr: one step size for all, or a tensor a parameter that broadcasts to its shape; may be learned.
    """
    if isinstance(lr, float | int):
        return {name: value.sub(grads[name], alpha=lr) for name, value in params.items()}
    rates = lr if isinstance(lr, Mapping) else dict.fromkeys(params, lr)
    return {name: value.addcmul(rates[name], grads[name], value=-1) for name, value in params.items()}


def momentum(decay: float = 0.9) -> Optimiser:
    """Heavy-ball descent: ``v <- decay * v + g``, then ``theta - lr * v``."""
    velocity: Params = {}

    def update(params: Params, grads: Params, lr: Rates) -> Params:
        velocity.update({name: decay * velocity[name] + g if velocity else g for name, g in grads.items()})
        return sgd(params, velocity, lr)

    return update


def adam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-5) -> Optimiser:
    """Adam (Kingma & Ba, 2015, arXiv:1412.6980): ``theta - lr * m / (sqrt(v) + eps)``, both means bias-corrected.

    ``eps`` is larger than is usual: a gradient that is 0 but for rounding, as a backbone's under a head that says
    nothing yet, would else make a full step. Where ``v`` is 0 the square root's derivative is taken as 0.
    """
    mean: Params = {}
    square: Params = {}
    steps = count(1)

    def update(params: Params, grads: Params, lr: Rates) -> Params:
        s = next(steps)
        direction = {}
        for name, g in grads.items():
            mean[name] = beta1 * mean.get(name, 0.0) + (1 - beta1) * g
            square[name] = beta2 * square.get(name, 0.0) + (1 - beta2) * g.square()
            v = square[name] / (1 - beta2**s)
            root = torch.where(v > 0, torch.where(v > 0, v, 1.0).sqrt(), 0.0)
            direction[name] = mean[name] / (1 - beta1**s) / (root + eps)
        return sgd(params, direction, lr)

    return update


def scheduled(optimiser: Optimiser, rates: Callable[[int], Rates]) -> Update:
    """The update rule whose step ``s`` (0, 1, ...) has the step sizes ``rates(s)``; for one task."""
    steps = count()
    return lambda params, grads: optimiser(params, grads, rates(next(steps)))


def step(params: Params, loss: Loss, update: Update, *, first_order: bool = False) -> Params:
    """One inner update of ``params``; parameters that ``loss`` doesn't use have gradient zero.

    Works under ``torch.no_grad()``; ``torch.inference_mode()`` is the caller's to leave.

    Args:
        params: what is updated.
        loss: called once, with tensors that require a gradient.
        update: ``(params, grads) -> params``.
        first_order: treat the gradients as constants, and free the loss's graph at once.
    """
    with torch.enable_grad():
        params = {name: p if p.requires_grad else p.detach().requires_grad_() for name, p in params.items()}
        grads = torch.autograd.grad(
            loss(params), list(params.values()), create_graph=not first_order, materialize_grads=True
        )
        return update(params, dict(zip(params, grads, strict=True)))


class _Again(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: torch.Tensor, params: list[torch.Tensor], retain: bool, *_: torch.Tensor
    ) -> torch.Tensor:
        ctx.value, ctx.params, ctx.retain = value, params, retain
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grads = torch.autograd.grad(
            ctx.value,
            ctx.params,
            gradients,
            create_graph=torch.is_grad_enabled(),
            retain_graph=ctx.retain,
            materialize_grads=True,
        )
        return None, None, None, *grads


def again(value: torch.Tensor, params: Params, aliases: Params, *, retain: bool) -> torch.Tensor:
    """``value``, which was computed from ``params``, as if it were computed a second time, from their ``aliases``.

    Its gradient goes to the aliases alone: not to what else has come to depend on ``params`` or ``value`` since.
    ``retain``: whether ``value`` itself is to be differentiated, too.
    """
    names = [name for name, p in params.items() if p.requires_grad]
    result: torch.Tensor = _Again.apply(  # type: ignore[no-untyped-call]
        value, [params[name] for name in names], retain, *(aliases[name] for name in names)
    )
    return result


def adapt(params: Params, loss: Loss, update: Update, *, steps: int, first_order: bool = False) -> Params:
    """``steps`` inner updates; 0 steps give ``params`` as they are. Arguments as for :func:`step`.

    An update with a state (momentum, a rate for each step) is made anew for each task.
    """
    for _ in range(steps):
        params = step(params, loss, update, first_order=first_order)
    return params
