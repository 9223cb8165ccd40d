"""Episodes, and many of them collated into one flat batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from molmeta.core.task import Inputs, IntArray, Task, TaskKind, TaskSource
from molmeta.errors import InputError


@dataclass(frozen=True, eq=False)
class Episode:
    """One draw from a task.

    Attributes:
        task: where it was drawn from.
        support: ``[n]`` positions in the task.
        query: ``[m]`` positions in the task.
        classes: the task's classes that the episode numbers 0..k-1; None keeps the task's own numbers.
    """

    task: Task
    support: IntArray
    query: IntArray
    classes: IntArray | None = None

    @property
    def num_classes(self) -> int:
        return self.task.num_classes if self.classes is None else len(self.classes)

    def labels(self, positions: IntArray) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
        """The labels at ``positions``, as this episode numbers the classes."""
        return numbered(self.task.labels[positions], self.classes)


def numbered(
    labels: np.ndarray[tuple[int], np.dtype[np.generic]], classes: IntArray | None
) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """Labels ``[n]`` as places in ``classes``; None keeps them."""
    if classes is None:
        return labels
    order = np.argsort(classes)
    return order[np.searchsorted(classes, labels, sorter=order)]


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """``n`` labelled examples of one task.

    Attributes:
        inputs: ``n`` raw inputs, or their :class:`~molmeta.core.learner.Encoding`.
        labels: ``[n]`` class indices 0..k-1, or values for regression; kept as int64, or as floats.
        kind: what the labels are.
        num_classes: k; 0 for regression.
        task_inputs: inputs that describe the classes, one row a class; None where nothing does.

    Raises:
        InputError: the labels are not one number a row of the inputs, or class indices are not whole numbers.
    """

    inputs: Inputs
    labels: torch.Tensor
    kind: TaskKind = TaskKind.BINARY
    num_classes: int = 2
    task_inputs: Inputs | None = None

    def __post_init__(self) -> None:
        kind, labels = TaskKind(self.kind), torch.as_tensor(self.labels)
        if labels.shape != (len(self.inputs),):
            raise InputError(f"{len(self.inputs)} inputs need labels [{len(self.inputs)}], not {list(labels.shape)}")
        if kind.is_classification and labels.is_floating_point():
            raise InputError(f"class indices are whole numbers, not {labels.dtype}; for values say TaskKind.REGRESSION")
        wanted = torch.int64 if kind.is_classification else torch.get_default_dtype()
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "labels", labels if labels.is_floating_point() else labels.to(wanted))

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """``t`` episodes of one kind, flat: their rows stand one after another, support and query alike.

    Attributes:
        inputs: ``n`` rows of inputs (or their Encoding).
        labels: ``[n]`` class indices, or raw values for regression.
        episode: ``[n]`` which episode each row belongs to, ascending.
        is_support: ``[n]`` bool.
        num_classes: ``[t]``; 0 for regression.
        kind: what the labels are.
        target_loc: ``[t]`` mean of the support's values (0 for classification).
        target_scale: ``[t]`` their deviation; 1 where it is 0, and for classification.
        task_inputs: inputs that describe the classes, or None: a row a class of each episode, in the episode's own
            order, episodes one after another.
        class_ids: which class of which task each is: equal numbers are the same class, whatever an episode calls it.
            ``[sum of num_classes]``, as ``task_inputs``; ``[t]`` for regression, a task each. None: not known.
    """

    inputs: Inputs
    labels: torch.Tensor
    episode: torch.Tensor
    is_support: torch.Tensor
    num_classes: torch.Tensor
    kind: TaskKind
    target_loc: torch.Tensor
    target_scale: torch.Tensor
    task_inputs: Inputs | None = None
    class_ids: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.num_classes)

    def to(self, device: torch.device | str) -> EpisodeBatch:
        moved = {
            name: getattr(self, name).to(device)
            for name in ("inputs", "labels", "episode", "is_support", "num_classes", "target_loc", "target_scale")
        }
        task_inputs = None if self.task_inputs is None else self.task_inputs.to(device)
        class_ids = None if self.class_ids is None else self.class_ids.to(device)
        return replace(self, **moved, task_inputs=task_inputs, class_ids=class_ids)

    def with_inputs(self, inputs: Inputs) -> EpisodeBatch:
        """The same episodes over other inputs for the same rows, such as their encodings."""
        return replace(self, inputs=inputs)

    def scaled_labels(self) -> torch.Tensor:
        """``[n]`` regression values in units of their support: ``(label - loc) / scale``."""
        return (self.labels - self.target_loc[self.episode]) / self.target_scale[self.episode]

    def episodes(self) -> Iterator[tuple[LabelledSet, LabelledSet]]:
        """Each episode as ``(support, query)``, for methods that work task by task; descriptions go to the support."""
        described = 0
        for i, num_classes in enumerate(self.num_classes.tolist()):
            rows = torch.nonzero(self.episode == i).flatten()
            mask = self.is_support[rows]
            support, query = self._subset(rows[mask], num_classes), self._subset(rows[~mask], num_classes)
            if self.task_inputs is not None:
                classes = torch.arange(described, described + num_classes, device=rows.device)
                support = replace(support, task_inputs=self.task_inputs[classes])
                described += num_classes
            yield support, query

    def _subset(self, rows: torch.Tensor, num_classes: int) -> LabelledSet:
        return LabelledSet(self.inputs[rows], self.labels[rows], self.kind, num_classes)

    def layout(self) -> Layout:
        """Where each row stands when the episodes are padded to a rectangle."""
        return Layout.of(self)


@dataclass(frozen=True, eq=False)
class Layout:
    """Padding of ``t`` ragged episodes to rectangles: supports ``[t, n]`` and queries ``[t, m]``.

    Attributes:
        support: ``[t, n]`` row of the flat batch that stands there (0 in the padding).
        support_mask: ``[t, n]`` True where there is a row.
        query, query_mask: likewise ``[t, m]``.
    """

    support: torch.Tensor
    support_mask: torch.Tensor
    query: torch.Tensor
    query_mask: torch.Tensor

    @classmethod
    def of(cls, batch: EpisodeBatch) -> Layout:
        return cls(*_rectangle(batch, batch.is_support), *_rectangle(batch, ~batch.is_support))


def _rectangle(batch: EpisodeBatch, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.nonzero(wanted).flatten()
    episode = batch.episode[rows]
    counts = torch.bincount(episode, minlength=len(batch))
    starts = torch.cumsum(counts, 0) - counts
    slot = torch.arange(len(rows), device=rows.device) - starts[episode]
    width = int(counts.max()) if len(counts) else 0
    table = rows.new_zeros(len(batch), width)
    table[episode, slot] = rows
    mask = torch.arange(width, device=rows.device) < counts[:, None]
    return table, mask


def collate(source: TaskSource | torch.Tensor, episodes: Sequence[Episode]) -> EpisodeBatch:
    """Gather the inputs, labels and descriptions of ``episodes`` (all of one kind) into one flat batch.

    Args:
        source: what the tasks' rows point to; a plain tensor of all the rows will do.
        episodes: one or more.
    """
    rows = np.concatenate([e.task.rows[p] for e in episodes for p in (e.support, e.query)])
    if isinstance(source, torch.Tensor):
        return collate_labels(episodes, source[torch.from_numpy(rows)])
    return collate_labels(episodes, source.gather(rows), descriptions(source, episodes))


def descriptions(source: TaskSource, episodes: Sequence[Episode]) -> Inputs | None:
    """What describes the classes of ``episodes``, a row a class as in ``EpisodeBatch.task_inputs``; None: nothing does.

    A source whose classes have descriptions (names, attributes) has ``describe(task, classes) -> Inputs``: a row for
    each of ``classes [k]``, the task's own numbers. To describe several tasks in one batch, inputs other than tensors
    have a class method ``concatenate(parts)``.
    """
    describe = getattr(source, "describe", None)
    if describe is None or not episodes[0].task.kind.is_classification:
        return None
    classes = [np.arange(e.num_classes) if e.classes is None else e.classes for e in episodes]
    first = episodes[0].task
    if all(e.task is first for e in episodes):
        described: Inputs = describe(first, np.concatenate(classes))
        return described
    return _concatenated([describe(e.task, c) for e, c in zip(episodes, classes, strict=True)])


def _concatenated(parts: Sequence[Any]) -> Inputs:
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(list(parts))
    joined: Inputs = type(parts[0]).concatenate(parts)
    return joined


def collate_labels(episodes: Sequence[Episode], inputs: Inputs, task_inputs: Inputs | None = None) -> EpisodeBatch:
    """As :func:`collate`, over inputs that already stand in the episodes' order (support, query, support, ...)."""
    kinds = {e.task.kind for e in episodes}
    if len(kinds) != 1:
        raise ValueError(f"an EpisodeBatch holds tasks of one kind, not {sorted(kinds)}")
    kind = kinds.pop()
    labels = [e.labels(p) for e in episodes for p in (e.support, e.query)]
    sizes = np.array([[len(e.support), len(e.query)] for e in episodes])
    part = np.repeat(np.arange(2 * len(episodes)), sizes.ravel())
    loc, scale = np.zeros(len(episodes)), np.ones(len(episodes))
    label_type = np.int64 if kind.is_classification else np.float32
    if kind is TaskKind.REGRESSION:
        # Of the labels as they will be stored, so that one episode alone has the very same scale.
        supports = [values.astype(label_type).astype(np.float64) for values in labels[::2]]
        loc = np.array([values.mean() for values in supports])
        deviation = np.array([values.std() for values in supports])
        # Rounding gives a constant support a tiny deviation: the range tells it for certain.
        varies = np.array([np.ptp(values) > 0 for values in supports])
        scale = np.where(varies, deviation, 1.0)
    return EpisodeBatch(
        inputs=inputs,
        labels=torch.from_numpy(np.concatenate(labels).astype(label_type)),
        episode=torch.from_numpy(part // 2),
        is_support=torch.from_numpy(part % 2 == 0),
        num_classes=torch.tensor([e.num_classes for e in episodes]),
        kind=kind,
        target_loc=torch.from_numpy(loc.astype(np.float32)),
        target_scale=torch.from_numpy(scale.astype(np.float32)),
        task_inputs=task_inputs,
        class_ids=torch.from_numpy(np.concatenate([_class_ids(e) for e in episodes])),
    )


def _class_ids(episode: Episode) -> IntArray:
    """A task's name as 47 bits, then the task's own number of each class as 16."""
    name = hashlib.blake2b(episode.task.name.encode(), digest_size=6).digest()
    classes = np.arange(max(1, episode.num_classes)) if episode.classes is None else episode.classes
    return ((int.from_bytes(name, "big") >> 1) << 16) + classes.astype(np.int64)
