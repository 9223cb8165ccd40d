"""Layers that serve many tasks at once, each with weights of its own: one call, whatever their number.

Weights may have one more axis in front, ``[t, ...]``. The rows then are ``t`` equal groups, one after another, and
group i is computed with the weights ``[i]``. Without that axis the layers are torch's own, under the same names.

A backbone whose layers with weights are these, and which keeps the groups equal and in order at every layer, says
``stacks = True``: gradient-based methods then adapt to many tasks in the time that one task's kernels take to launch.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """As torch's, ``[n, inputs]`` to ``[n, outputs]``."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return linear(rows, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """As torch's, over the last axis of ``[n, d]``, with a weight and a bias."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.weight.ndim == self.bias.ndim == 1:
            return super().forward(rows)
        tasks = len(self.weight if self.weight.ndim == 2 else self.bias)
        groups = _groups(F.layer_norm(rows, self.normalized_shape, eps=self.eps), tasks)
        return torch.addcmul(_row(self.bias), groups, _row(self.weight)).flatten(0, 1)


def linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``rows @ weight' + bias``, ``[n, outputs]``: each of ``[outputs, inputs]`` and ``[outputs]``, or ``[t, ...]``."""
    if weight.ndim == 2 and (bias is None or bias.ndim == 1):
        return F.linear(rows, weight, bias)
    if weight.ndim == 3 and bias is not None and bias.ndim == 2:
        return torch.baddbmm(bias[:, None], _groups(rows, len(weight)), weight.mT).flatten(0, 1)
    product = matmul(rows, weight.mT)
    if bias is None or bias.ndim == 1:
        return product if bias is None else product + bias
    return (_groups(product, len(bias)) + bias[:, None]).flatten(0, 1)


def matmul(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``rows @ weight``: ``[n, a]`` by ``[a, b]``, or by ``[t, a, b]``."""
    if weight.ndim == 2:
        return rows @ weight
    return torch.bmm(_groups(rows, len(weight)), weight).flatten(0, 1)


def scale(rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """``rows [n, d]`` times one number ``[1]``, or one for each group ``[t, 1]``."""
    if factor.ndim == 1:
        return rows * factor
    return (_groups(rows, len(factor)) * factor[:, None]).flatten(0, 1)


def _groups(rows: torch.Tensor, tasks: int) -> torch.Tensor:
    """``[n, d]`` as ``[tasks, n / tasks, d]``."""
    return rows.reshape(tasks, len(rows) // tasks, rows.shape[1])


def _row(vector: torch.Tensor) -> torch.Tensor:
    """``[d]`` as it is; ``[t, d]`` so that it broadcasts over ``[t, n, d]``."""
    return vector[:, None] if vector.ndim == 2 else vector
