"""The sum over a node's neighbours of relu(h_u + e_uv), differentiable to any order in few kernels.

A ReLU is a fixed mask to its derivatives: with it fixed, the sum is a linear map of nodes and bonds, whose gradient is
the transposed map, whose gradient is the map again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from molmeta.core import stacked

_Both = tuple[torch.Tensor, torch.Tensor]


class GINE(nn.Module):
    """``(1 + eps) h_v + sum_u relu(h_u + e_uv)``, over the neighbours u of v; eps is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor, bonds: torch.Tensor) -> torch.Tensor:
        """``[nodes, h]``.

        Args:
            nodes: ``[nodes, h]``.
            edges: ``[2, 2 * bonds]`` sender and receiver: every bond forward, then every bond backward.
            bonds: ``[bonds, h]``, the same in both directions.
        """
        received: torch.Tensor = _Sum.apply(nodes, bonds, edges, None)  # type: ignore[no-untyped-call]
        return nodes + received + stacked.scale(nodes, self.eps)


class _Sum(torch.autograd.Function):
    """Nodes and bonds to what each node receives."""

    @staticmethod
    def forward(
        ctx: Any, nodes: torch.Tensor, bonds: torch.Tensor, edges: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        sent = nodes.index_select(0, edges[0])
        sent.view(2, *bonds.shape).add_(bonds)
        sent = sent.clamp_(min=0) if mask is None else _masked(sent, mask)
        ctx.edges, ctx.mask = edges, sent if mask is None else mask
        return torch.zeros_like(nodes).index_add_(0, edges[1], sent)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        nodes, bonds = _Transposed.apply(gradients[0], ctx.edges, ctx.mask)  # type: ignore[no-untyped-call]
        return nodes, bonds, None, None


class _Transposed(torch.autograd.Function):
    """What each node received to nodes and bonds."""

    @staticmethod
    def forward(ctx: Any, received: torch.Tensor, edges: torch.Tensor, mask: torch.Tensor) -> _Both:
        ctx.edges, ctx.mask = edges, mask
        sent = _masked(received.index_select(0, edges[1]), mask)
        nodes = torch.zeros_like(received).index_add_(0, edges[0], sent)
        return nodes, sent.view(2, -1, received.shape[1]).sum(0)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _Sum.apply(*gradients, ctx.edges, ctx.mask), None, None  # type: ignore[no-untyped-call]


def _masked(sent: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``sent`` where ``mask`` is positive, else 0; one kernel, where a product with a bool tensor takes two."""
    masked: torch.Tensor = torch.ops.aten.threshold_backward(sent, mask, 0.0)
    return masked
