"""The sum over a node's neighbours of relu(h_u + e_uv), differentiable to any order in few kernels.

A ReLU is a fixed mask to its derivatives: with it fixed, the sum is a linear map of nodes and bonds, whose gradient is
the transposed map, whose gradient is the map again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from molmeta.core import stacked
from molmeta.domains.molecules.sparse import SparseRows, product

_Both = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Hop:
    """From the states of ``n`` nodes to those of ``m``, by ``p`` messages; every matrix is of ones.

    Attributes:
        centre: ``[m, n]`` the node that each new one continues; None: they are the same.
        sender: ``[p, n]`` whose state a message carries.
        bond: ``[p, bonds]`` along which bond.
        received: ``[m, p]`` the messages that each new node adds up.
    """

    centre: SparseRows | None
    sender: SparseRows
    bond: SparseRows
    received: SparseRows

    @classmethod
    def along(cls, edges: torch.Tensor, nodes: int) -> Hop:
        """A message along each of ``edges [2, 2 * bonds]``: every bond forward, then every bond backward."""
        bond = torch.arange(edges.shape[1] // 2, device=edges.device).repeat(2)
        return cls(
            None,
            SparseRows(None, edges[0], None, nodes),
            SparseRows(None, bond, None, edges.shape[1] // 2),
            SparseRows(None, edges[1], None, nodes).transposed,
        )

    def edges(self) -> torch.Tensor:
        """``[2, p]`` sender and receiver of each message, where each has one receiver."""
        return torch.stack([self.sender.columns, self.received.transposed.columns])

    def centred(self, nodes: torch.Tensor) -> torch.Tensor:
        """``[m, h]`` the states ``[n, h]`` that the new ones continue."""
        return nodes if self.centre is None else product(self.centre, nodes)


class GINE(nn.Module):
    """``(1 + eps) h_v + sum_u relu(h_u + e_uv)``, over the neighbours u of v; eps is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))

    def forward(self, nodes: torch.Tensor, hop: Hop, bonds: torch.Tensor) -> torch.Tensor:
        """``[m, h]``.

        Args:
            nodes: ``[n, h]``.
            hop: who receives what.
            bonds: ``[bonds, h]``, the same in both directions.
        """
        received: torch.Tensor = _Sum.apply(nodes, bonds, hop, None)  # type: ignore[no-untyped-call]
        return received + stacked.scale(hop.centred(nodes), 1 + self.eps)


class _Sum(torch.autograd.Function):
    """Nodes and bonds to what each new node receives."""

    @staticmethod
    def forward(
        ctx: Any, nodes: torch.Tensor, bonds: torch.Tensor, hop: Hop, mask: torch.Tensor | None
    ) -> torch.Tensor:
        sent = hop.sender.times(nodes).add_(hop.bond.times(bonds))
        sent = sent.clamp_(min=0) if mask is None else _masked(sent, mask)
        ctx.hop, ctx.mask = hop, sent if mask is None else mask
        return hop.received.times(sent)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        nodes, bonds = _Transposed.apply(gradients[0], ctx.hop, ctx.mask)  # type: ignore[no-untyped-call]
        return nodes, bonds, None, None


class _Transposed(torch.autograd.Function):
    """What each new node received to nodes and bonds."""

    @staticmethod
    def forward(ctx: Any, received: torch.Tensor, hop: Hop, mask: torch.Tensor) -> _Both:
        ctx.hop, ctx.mask = hop, mask
        sent = _masked(hop.received.transposed.times(received), mask)
        return hop.sender.transposed.times(sent), hop.bond.transposed.times(sent)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _Sum.apply(*gradients, ctx.hop, ctx.mask), None, None  # type: ignore[no-untyped-call]


def _masked(sent: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``sent`` where ``mask`` is positive, else 0; one kernel, where a product with a bool tensor takes two."""
    masked: torch.Tensor = torch.ops.aten.threshold_backward(sent, mask, 0.0)
    return masked
