"""A task is one assay: which rows of a source, which labels, what kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class TaskKind(StrEnum):
    """What a label is."""

    BINARY = "binary"  # two classes; index 1 is the active one
    MULTICLASS = "multiclass"  # classes 0..k-1
    REGRESSION = "regression"  # a real number

    @property
    def is_classification(self) -> bool:
        return self is not TaskKind.REGRESSION


class Split(StrEnum):
    """The folds of a meta-learning benchmark. ``HELDOUT`` tasks are taken out of ``TRAIN`` to choose models."""

    TRAIN = "train"
    HELDOUT = "heldout"
    VALID = "valid"
    TEST = "test"


class Inputs(Protocol):
    """Model inputs for ``n`` rows. A plain ``torch.Tensor`` whose first axis is the row is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: torch.Tensor, /) -> Self: ...

    def to(self, device: torch.device | str, /) -> Self: ...


class ClassRows:
    """Where each class stands among ``labels [n]``: found once, so that a draw need not read every label.

    Attributes:
        counts: ``[k]`` rows of each class 0..k-1.
    """

    def __init__(self, labels: NDArray[np.generic]) -> None:
        classes = np.asarray(labels).astype(np.int64, copy=False)
        self.counts = np.bincount(classes)
        self._order = np.argsort(classes, kind="stable")
        self._ends = np.cumsum(self.counts)

    def __getitem__(self, c: int) -> IntArray:
        """Positions of class ``c``, ascending."""
        return self._order[self._ends[c] - self.counts[c] : self._ends[c]]


@dataclass(frozen=True, eq=False)
class Task:
    """One assay.

    Attributes:
        name: unique within its source.
        rows: ``[n]`` row of each example in the source's inputs.
        labels: ``[n]`` class indices (int64), or values (float64) for regression.
        kind: what the labels are.
        num_classes: 2 for binary, k for multiclass, 0 for regression.
        description: what is known of the assay in words (target, organism, ...).
        columns: further columns ``[n]`` kept as read (raw value, relation, ...).
    """

    name: str
    rows: IntArray
    labels: NDArray[np.int64] | NDArray[np.float64]
    kind: TaskKind
    num_classes: int
    description: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    columns: Mapping[str, NDArray[np.generic]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name, value in (("rows", np.asarray(self.rows)), ("labels", np.asarray(self.labels))):
            object.__setattr__(self, name, value)  # tensors and lists will do
        if len(self.rows) != len(self.labels):
            raise ValueError(f"task {self.name}: {len(self.rows)} rows but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def class_rows(self) -> ClassRows:
        """Positions of each class; for classification."""
        return ClassRows(self.labels)


class TaskSource(Protocol):
    """Tasks by split, and the inputs that their rows point to."""

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> Sequence[Task]:
        """The tasks of one split, seen as one kind; empty where the source has none."""
        ...

    def gather(self, rows: IntArray) -> Inputs:
        """The inputs of ``rows`` (int64 ``[n]``), collated."""
        ...
