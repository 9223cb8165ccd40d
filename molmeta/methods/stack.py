"""Many tasks as one: their supports, or their queries, as equal groups of rows, each group under its own weights.

The sum of the tasks' losses has, for each task's weights, that task's own gradient. So one inner step on a stack is an
inner step on each task, and launches as many kernels as on one. See ``core/stacked.py`` for the layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch.nn import functional as F

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Laws
from molmeta.core.task import Inputs, TaskKind
from molmeta.methods.adapted import Unit
from molmeta.methods.inner_loop import Params


@runtime_checkable
class Groups(Inputs, Protocol):
    """Inputs that make groups of ``n`` rows equal at every level below a row, too, such as atoms."""

    def in_equal_groups(self, rows: torch.Tensor, mask: torch.Tensor) -> Inputs:
        """The rows ``[t, n]``, task by task; a task's last places, one at least, are empty: their ``mask`` is False."""
        ...


@dataclass(frozen=True, eq=False)
class Stack:
    """Labelled rows of ``t`` tasks, ``n`` places each; the empty ones have inputs and labels that count for nothing.

    Attributes:
        inputs: ``t * n`` rows, task by task.
        labels: ``[t, n]`` class indices, or values.
        mask: ``[t, n]`` True where there is a row.
        classes: ``[t]`` how many classes a task has; 0 for regression.
        kind: what the labels are.
        num_classes: the most classes.
    """

    inputs: Inputs
    labels: torch.Tensor
    mask: torch.Tensor
    classes: torch.Tensor
    kind: TaskKind
    num_classes: int

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """``[t]`` the mean of each task's own ``values [t, n]``."""
        return (values * self.mask).sum(1) / self.mask.sum(1)

    def outputs(self, flat: torch.Tensor) -> torch.Tensor:
        """``[t * n, k]`` as ``[t, n, k]``; logits of classes that a task lacks are as low as can be."""
        outputs = flat.reshape(*self.mask.shape, flat.shape[1])
        if not self.kind.is_classification:
            return outputs
        absent = torch.arange(outputs.shape[-1], device=outputs.device) >= self.classes[:, None]
        return outputs.masked_fill(absent[:, None], torch.finfo(outputs.dtype).min)

    def losses(self, flat: torch.Tensor) -> torch.Tensor:
        """``[t]`` the loss of each task: see :func:`~molmeta.methods.adapted.loss_of`."""
        outputs = self.outputs(flat)
        if self.kind.is_classification:
            return self.mean(F.cross_entropy(outputs.mT, self.labels, reduction="none"))
        return self.mean((outputs[..., 0] - self.labels.to(outputs.dtype)).square())

    def logs(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Numbers to log, means over the tasks."""
        outputs = self.outputs(flat.detach())
        if self.kind.is_classification:
            right = (outputs.argmax(-1) == self.labels).to(outputs.dtype)
            return {"query accuracy": self.mean(right).mean()}
        return {"query rmse": self.mean((outputs[..., 0] - self.labels).square()).sqrt().mean()}

    def spread(self, weights: Params) -> Params:
        """The same weights for each task to begin with, ``[t, ...]``."""
        return {name: value.expand(len(self.mask), *value.shape) for name, value in weights.items()}


def stacked_parts(batch: EpisodeBatch, *, scale_labels: bool) -> tuple[Stack, Stack]:
    """The supports and the queries of ``batch``; values in units of their support.

    The inputs are a tensor, an Encoding, or :class:`Groups`.
    """
    layout = batch.layout()
    support = _side(batch, layout.support, layout.support_mask)
    query = _side(batch, layout.query, layout.query_mask)
    if batch.kind.is_classification or not scale_labels:
        return support, query
    rows = layout.support_mask.sum(1).tolist()
    units = [Unit.of(labels[:n]) for labels, n in zip(support.labels, rows, strict=True)]
    loc, scale = (torch.stack([getattr(unit, name) for unit in units])[:, None] for name in ("loc", "scale"))
    support, query = (replace(side, labels=(side.labels - loc) / scale) for side in (support, query))
    return support, query


def _side(batch: EpisodeBatch, rows: torch.Tensor, mask: torch.Tensor) -> Stack:
    if isinstance(batch.inputs, Groups):  # a place for what makes the groups equal
        rows, mask = F.pad(rows, (0, 1)), F.pad(mask, (0, 1))
        inputs = batch.inputs.in_equal_groups(rows, mask)
    else:
        inputs = batch.inputs[rows.flatten()]
    labels = batch.labels[rows] * mask
    return Stack(inputs, labels, mask, batch.num_classes, batch.kind, int(batch.num_classes.max()))


def is_complete(batch: EpisodeBatch, laws: Laws) -> bool:
    """Whether every support is one that ``laws`` serve; what else is wrong with one, its own check says."""
    supports = torch.bincount(batch.episode[batch.is_support], minlength=len(batch))
    if batch.kind not in laws.kinds or not bool(supports.all()):
        return False
    if not batch.kind.is_classification:
        return True
    episode, labels = batch.episode[batch.is_support], batch.labels[batch.is_support]
    if int(labels.amin()) < 0 or bool((batch.labels >= batch.num_classes[batch.episode]).any()):
        return False
    classes = torch.arange(int(batch.num_classes.max()), device=labels.device)
    shown = torch.zeros(len(batch), len(classes), dtype=torch.bool, device=labels.device)
    shown[episode, labels] = True
    return bool((shown | (classes >= batch.num_classes[:, None])).all())
