"""Episodes of embeddings as rectangles, and what heads ask of their rows.

Where episodes share their rows, as the draws of one task do, the answers are the same and are computed once.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch.nn import functional as F

from molmeta.core.episode import EpisodeBatch, Layout
from molmeta.core.shared import Pairwise, RowWise, SharedEncoding, Table
from molmeta.core.task import TaskKind


@dataclass(frozen=True, eq=False)
class PaddedEpisodes:
    """``t`` episodes as rectangles; padding rows are 0 and masked.

    Attributes:
        support: ``[t, n, d]`` embeddings.
        support_mask: ``[t, n]`` True where there is a row.
        targets: ``[t, n, k]`` one-hot classes, or ``[t, n, 1]`` values in units of the support; 0 in the padding.
        query: ``[t, m, d]`` embeddings.
        num_classes: ``[t]``; 0 for regression.
        kind: what the labels are.
        described: ``[t, k, d]`` embeddings of the classes' descriptions, for methods that read them; ``[t, 1, d]``
            where what is described is the task.
    """

    support: torch.Tensor
    support_mask: torch.Tensor
    targets: torch.Tensor
    query: torch.Tensor
    num_classes: torch.Tensor
    kind: TaskKind
    described: torch.Tensor | None = None

    def class_counts(self) -> torch.Tensor:
        """``[t, k]`` support rows of each class."""
        return self.targets.sum(1)

    def class_means(self) -> torch.Tensor:
        """``[t, k, d]`` means of the support's rows by class."""
        return prototypes(self.support, self.targets)

    def map(self, function: RowWise) -> PaddedEpisodes:
        """The episodes with every row of support and query through ``function``."""
        return replace(self, support=function(self.support), query=function(self.query))

    def told(self, described: torch.Tensor) -> PaddedEpisodes:
        """The same episodes, ``described``."""
        return replace(self, described=described)

    def compare(self, function: Pairwise, others: torch.Tensor) -> torch.Tensor:
        """``[..., t, m, k]`` ``function`` of each query with each of its episode's ``others [t, k, d]``."""
        return function(self.query, others)

    def across(self, function: Pairwise) -> torch.Tensor:
        """``[..., t, m, n]`` ``function`` of each query with each support row; anything in the padding."""
        return function(self.query, self.support)

    def within(self, function: Pairwise) -> torch.Tensor:
        """``[..., t, n, n]`` ``function`` of each support row with each; anything in the padding."""
        return function(self.support, self.support)


class SharedEpisodes(PaddedEpisodes):
    """Episodes of one table's rows: equal to those with the rows gathered, which happens where a head asks for them.

    Args:
        table: the rows.
        support_rows: ``[t, n]`` positions in it; any in the padding.
        query_rows: ``[t, m]`` likewise.
        support_mask, targets, num_classes, kind, described: as for :class:`PaddedEpisodes`.
    """

    def __init__(
        self,
        table: Table,
        support_rows: torch.Tensor,
        query_rows: torch.Tensor,
        support_mask: torch.Tensor,
        targets: torch.Tensor,
        num_classes: torch.Tensor,
        kind: TaskKind,
        described: torch.Tensor | None = None,
    ) -> None:
        vars(self).update(table=table, support_rows=support_rows, query_rows=query_rows, described=described)
        vars(self).update(support_mask=support_mask, targets=targets, num_classes=num_classes, kind=kind)

    table: Table
    support_rows: torch.Tensor
    query_rows: torch.Tensor

    @cached_property
    def support(self) -> torch.Tensor:
        return self.table.values[self.support_rows] * self.support_mask[..., None]

    @cached_property
    def query(self) -> torch.Tensor:
        return self.table.values[self.query_rows]

    def told(self, described: torch.Tensor) -> PaddedEpisodes:
        told = copy(self)
        vars(told).update(described=described)
        return told

    def class_means(self) -> torch.Tensor:
        """One product with the table: what a row counts in a class's mean, ``[t, k, p]``, is 0 for most rows."""
        share = self.targets.mT / self.class_counts().clamp(min=1)[..., None]
        weights = share.new_zeros(*share.shape[:2], len(self.table.values))
        weights.scatter_add_(2, self.support_rows[:, None].expand_as(share), share)
        return weights @ self.table.values

    def map(self, function: RowWise) -> PaddedEpisodes:
        return SharedEpisodes(
            self.table.map(function),
            self.support_rows,
            self.query_rows,
            self.support_mask,
            self.targets,
            self.num_classes,
            self.kind,
            self.described,
        )

    def compare(self, function: Pairwise, others: torch.Tensor) -> torch.Tensor:
        t, k = others.shape[:2]
        of_all = function(self.table.values[None], others.flatten(0, 1)[None])[..., 0, :, :]
        columns = torch.arange(t * k, device=others.device).view(t, k)
        return _blocks(of_all, self.query_rows, columns)

    def across(self, function: Pairwise) -> torch.Tensor:
        pairs = self.table.pairs(function)
        return self.compare(function, self.support) if pairs is None else self._of(pairs, self.query_rows)

    def within(self, function: Pairwise) -> torch.Tensor:
        pairs = self.table.pairs(function)
        return super().within(function) if pairs is None else self._of(pairs, self.support_rows)

    def _of(self, pairs: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return _blocks(pairs, rows, self.table.column[self.support_rows])


def _blocks(pairs: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """``[..., t, i, j]``: of ``pairs [..., p, u]``, the block of each ``rows [t, i]`` and ``columns [t, j]``."""
    places = rows[..., None] * pairs.shape[-1] + columns[:, None]
    # A flat look-up takes a quarter of the time of pairs[..., rows, columns].
    return pairs.flatten(-2).index_select(-1, places.flatten()).view(*pairs.shape[:-2], *places.shape)


def prototypes(support: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Class means ``[t, k, d]`` of ``support [t, n, d]``; ``targets [t, n, k]`` one-hot."""
    return targets.mT @ support / targets.sum(1).clamp(min=1)[..., None]


def inner(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``[t, i, j]`` inner products of rows ``[t, i, d]`` and ``[t, j, d]``."""
    return left @ right.mT


def squared_distance(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``[t, i, j]`` squared Euclidean distances of rows ``[t, i, d]`` and ``[t, j, d]``."""
    return torch.cdist(left, right).square()


def unit_length(rows: torch.Tensor) -> torch.Tensor:
    """Rows ``[..., d]`` scaled to length 1; rows of 0 stay."""
    return F.normalize(rows, dim=-1)


def pad(batch: EpisodeBatch, encoded: torch.Tensor) -> tuple[PaddedEpisodes, Layout]:
    """The episodes of a batch, whose rows are encoded ``[n, d]``, as rectangles."""
    layout = batch.layout()
    padded = PaddedEpisodes(
        support=encoded[layout.support] * layout.support_mask[..., None],
        support_mask=layout.support_mask,
        targets=_targets(batch, layout, encoded.dtype),
        query=encoded[layout.query],
        num_classes=batch.num_classes,
        kind=batch.kind,
    )
    return padded, layout


def share(batch: EpisodeBatch, encoded: SharedEncoding) -> tuple[SharedEpisodes, Layout]:
    """As :func:`pad`, of rows that the episodes share."""
    layout = batch.layout()
    padded = SharedEpisodes(
        encoded.table,
        encoded.rows[layout.support],
        encoded.rows[layout.query],
        layout.support_mask,
        _targets(batch, layout, encoded.table.values.dtype),
        batch.num_classes,
        batch.kind,
    )
    return padded, layout


def _targets(batch: EpisodeBatch, layout: Layout, dtype: torch.dtype) -> torch.Tensor:
    if batch.kind.is_classification:
        targets = F.one_hot(batch.labels[layout.support], int(batch.num_classes.max()))
    else:
        targets = batch.scaled_labels()[layout.support][..., None]
    return targets.to(dtype) * layout.support_mask[..., None]
