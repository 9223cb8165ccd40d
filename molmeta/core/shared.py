"""Rows that many episodes share: the draws of one task, each of which takes most of its rows.

An episode of such a batch is positions in one table of embeddings, so that a method may compute what concerns rows
alone, or pairs of rows, once for all draws. To everybody else a SharedEncoding is an Encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any

import torch

from molmeta.core.learner import Encoding

RowWise = Callable[[torch.Tensor], torch.Tensor]  # [..., i, d] -> [..., i, e]: no row depends on another
Pairwise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # [t, i, d], [t, j, d] -> [..., t, i, j]: nor a pair
_PAIRS = 2**21  # of a table's rows that are kept: 8 MiB a function, or a few times that


class Table:
    """``p`` rows that episodes are drawn from. What is asked of it is computed once: it lives for one evaluation.

    Args:
        values: ``[p, d]`` embeddings.
        supports: ``[u]`` the rows that stand in some support, each once.
    """

    def __init__(self, values: torch.Tensor, supports: torch.Tensor) -> None:
        self.values, self.supports = values, supports
        self._known: dict[Hashable, Any] = {}

    @cached_property
    def column(self) -> torch.Tensor:
        """``[p]`` where each row stands in ``supports``; 0 for rows that do not."""
        column = torch.zeros(len(self.values), dtype=torch.int64, device=self.values.device)
        column[self.supports] = torch.arange(len(self.supports), device=self.values.device)
        return column

    def map(self, function: RowWise) -> Table:
        """The table of every row through ``function``."""
        if function not in self._known:
            self._known[function] = Table(function(self.values), self.supports)
        known: Table = self._known[function]
        return known

    def pairs(self, function: Pairwise) -> torch.Tensor | None:
        """``[..., p, u]`` of every row with every one of ``supports``; None where that would be too large to keep."""
        if len(self.values) * len(self.supports) > _PAIRS:
            return None
        if function not in self._known:
            self._known[function] = function(self.values[None], self.values[None, self.supports])[..., 0, :, :]
        known: torch.Tensor = self._known[function]
        return known

    def split(self, widths: Sequence[int]) -> list[Table]:
        """The columns of the table, in parts."""
        if tuple(widths) not in self._known:
            parts = torch.split(self.values, list(widths), dim=1)
            self._known[tuple(widths)] = [Table(part, self.supports) for part in parts]
        known: list[Table] = self._known[tuple(widths)]
        return known


class SharedEncoding(Encoding):
    """An Encoding of ``n`` rows of a table; they are gathered where ``values`` is asked for.

    Args:
        table: the rows, on the device of the positions.
        rows: ``[n]`` positions in it.
    """

    def __init__(self, table: Table, rows: torch.Tensor) -> None:
        vars(self).update(table=table, rows=rows)

    table: Table
    rows: torch.Tensor

    @cached_property
    def values(self) -> torch.Tensor:
        return self.table.values[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: torch.Tensor) -> SharedEncoding:
        return SharedEncoding(self.table, self.rows[rows])

    def to(self, device: torch.device | str) -> Encoding:
        return self if self.rows.device == torch.device(device) else Encoding(self.values.to(device))

    def split(self, widths: Sequence[int]) -> list[Encoding]:
        return [SharedEncoding(part, self.rows) for part in self.table.split(widths)]
