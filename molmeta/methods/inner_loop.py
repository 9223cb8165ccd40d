"""The inner loop of gradient-based meta-learning: functional updates on a caller's ``loss(params) -> scalar``.

    theta_0 = theta,   theta_{s+1} = U(theta_s, g_s),   g_s = dL(theta_s) / dtheta_s

``U`` is any plain function of parameters and gradients, such as :func:`sgd`. The result is differentiable with respect
to ``theta``, through the gradients too unless ``first_order`` detaches them. Nothing here knows of labels or modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

Params = dict[str, torch.Tensor]
Loss = Callable[[Params], torch.Tensor]
Update = Callable[[Params, Params], Params]
Rates = float | torch.Tensor | Mapping[str, torch.Tensor]


def sgd(params: Params, grads: Params, lr: Rates) -> Params:
    """Gradient descent: ``theta - lr * g``.

    Args:
        params: by name, of any shape.
        grads: the same names and shapes.
        lr: one step size for all, or a tensor a parameter that broadcasts to its shape; may be learned.
    """
    rates = lr if isinstance(lr, Mapping) else dict.fromkeys(params, lr)
    return {name: value - rates[name] * grads[name] for name, value in params.items()}


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


def adapt(params: Params, loss: Loss, update: Update, *, steps: int, first_order: bool = False) -> Params:
    """``steps`` inner updates; 0 steps give ``params`` as they are. Arguments as for :func:`step`.

    An optimiser with a state (momentum, a rate for each step) is a closure made anew for each task.
    """
    for _ in range(steps):
        params = step(params, loss, update, first_order=first_order)
    return params
