"""Learner, Predictor, Prediction: what every method is, and what it hands back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from molmeta.core.backbone import Backbone, as_backbone
from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.task import Inputs, TaskKind
from molmeta.errors import ConfigError, SupportError


@dataclass(frozen=True, eq=False)
class Encoding:
    """Embeddings that stand for inputs: ``values [n, d]``. Every learner takes it in place of raw inputs."""

    values: torch.Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: torch.Tensor) -> Encoding:
        return Encoding(self.values[rows])

    def to(self, device: torch.device | str) -> Encoding:
        return Encoding(self.values.to(device))

    def split(self, widths: Sequence[int]) -> list[Encoding]:
        """The columns of the embeddings, in parts."""
        return [Encoding(part) for part in torch.split(self.values, list(widths), dim=1)]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of ``m`` query rows.

    Attributes:
        probabilities: ``[m, k]`` for classification, else None.
        mean: ``[m]`` for regression, in the labels' unit, else None.
        deviation: ``[m]`` predictive standard deviation for regression, else None.
        tails: degrees of freedom, above 2, of the Student law that has this mean and deviation; infinite: a normal law.
    """

    probabilities: torch.Tensor | None = None
    mean: torch.Tensor | None = None
    deviation: torch.Tensor | None = None
    tails: float = math.inf

    def scores(self) -> torch.Tensor:
        """``[m]`` one number a row to rank by: the probability of class 1, or the mean."""
        if self.mean is not None:
            return self.mean
        assert self.probabilities is not None
        return self.probabilities[:, 1]


@dataclass(frozen=True, eq=False)
class Beforehand:
    """What is said of ``m`` rows before they are compared with any support row: where a learned prior shows.

    Attributes:
        informed: with what the model learned of such rows in meta-training.
        uninformed: without it: the same for every row.
    """

    informed: Prediction
    uninformed: Prediction


class Predictor(Protocol):
    """A model specialised to one task; it keeps what adapting gave it, whatever becomes of the learner.

    A method whose encoder is task-free may share the learner's encoder for raw inputs: many assays then score one
    library while each molecule is encoded once. A predictor that was given encodings needs no encoder.
    """

    def predict(self, inputs: Inputs) -> Prediction:
        """Predict ``m`` rows of raw inputs or an :class:`Encoding`."""
        ...


@runtime_checkable
class PriorPredictor(Predictor, Protocol):
    """A predictor that can tell what it knew of a row from what the support says of it."""

    def beforehand(self, inputs: Inputs) -> Beforehand | None:
        """As :class:`Beforehand`; None where the model has no prior for this kind of task."""
        ...


@runtime_checkable
class Knowing(Protocol):
    """A learner that keeps what other tasks said of single rows."""

    def knows(self, inputs: Inputs) -> torch.Tensor:
        """``[n]`` bool: whether it knows each row of ``inputs`` (raw, or encoded) from other tasks."""
        ...


@dataclass(frozen=True, kw_only=True)
class Laws:
    """What a method promises; the contract tests hold it to each.

    Attributes:
        kinds: the task kinds that it serves.
        support_order_invariant: shuffling the support changes nothing.
        class_equivariant: renumbering the classes renumbers the predictions and changes nothing else.
        any_way: one learner serves any number of classes.
        transductive: a query's prediction depends on the other queries.
        encodes: embeddings are task-free, so that a molecule is encoded once for all tasks.
        described: it reads descriptions of the classes (``task_inputs``), and a class may lack examples.
        empty_support: a binary task's support may be empty: what is known of a row beforehand is then the answer.
        shares_rows: episodes of the same rows may share them (:class:`~molmeta.core.shared.SharedEncoding`): what the
            head asks of wide rows, ``PaddedEpisodes`` answers (``map``, ``compare``, ``across``, ``within``).
        meta_trained: it has something to learn from many tasks; else ``meta_backward`` refuses, in words.
    """

    kinds: frozenset[TaskKind]
    support_order_invariant: bool = True
    class_equivariant: bool = True
    any_way: bool = True
    transductive: bool = False
    encodes: bool = True
    described: bool = False
    empty_support: bool = False
    shares_rows: bool = False
    meta_trained: bool = True


class Learner(nn.Module, ABC):
    """A meta-trained model: a backbone and a method. ``adapt`` specialises it to a task.

    The learner owns its backward pass: a trainer calls :meth:`meta_backward` and never ``backward`` itself.

    Args:
        backbone: a Backbone, or any network of which :func:`~molmeta.core.backbone.as_backbone` can make one.
    """

    laws: Laws
    backbone: Backbone

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = as_backbone(backbone)

    @property
    def device(self) -> torch.device:
        parameter = next(self.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    def encode(self, inputs: Inputs) -> Encoding:
        """Embed ``n`` rows, independent of any task; an Encoding passes through."""
        return inputs if isinstance(inputs, Encoding) else Encoding(self.backbone(inputs))

    @abstractmethod
    def adapt(self, support: LabelledSet) -> Predictor:
        """Specialise the meta-trained model to one task; the learner itself is unchanged.

        Args:
            support: ``n`` labelled examples; inputs may be an Encoding where ``laws.encodes``.

        Raises:
            SupportError: the method cannot serve this kind, or a class is missing.
        """

    @abstractmethod
    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """The meta-objective of a batch, a scalar to differentiate, and numbers to log."""

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        """Accumulate the batch's meta-gradient into ``.grad``; returns numbers to log, ``loss`` among them.

        Raises:
            ConfigError: nothing is meta-trained.
        """
        loss, logs = self.meta_loss(batch)
        if not loss.requires_grad:
            raise ConfigError("there is nothing to meta-train: no parameter of the learner requires a gradient")
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach()), **logs}

    def predict_episodes(self, batch: EpisodeBatch) -> list[Prediction]:
        """Predict the query rows of every episode: equal to ``adapt(support).predict(query)`` one at a time."""
        return [self.adapt(support).predict(query.inputs) for support, query in batch.episodes()]


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """The module in evaluation mode for a while: no dropout, no gradient, no statistics taken.

    Each part is left as it was found.
    """
    was_training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in was_training:
            part.training = training


def check_support(support: LabelledSet, laws: Laws) -> None:
    """Refuse a support set that no method can learn from.

    Raises:
        SupportError: the kind is not served, a class has no example, or what is needed of descriptions is missing.
    """
    _check_kind(support.kind, laws)
    if laws.described:
        require_descriptions(support.task_inputs, support.num_classes)
    elif laws.empty_support and support.kind is TaskKind.BINARY and not len(support):
        return
    elif support.kind.is_classification:
        if len(support) and not 0 <= int(support.labels.min()) <= int(support.labels.max()) < support.num_classes:
            raise SupportError(
                f"the labels run from {int(support.labels.min())} to {int(support.labels.max())}, but the set says "
                f"{support.num_classes} classes, 0 to {support.num_classes - 1}: give its kind and num_classes, and "
                "number its classes from 0"
            )
        counts = torch.bincount(support.labels, minlength=support.num_classes).tolist()
        if min(counts) == 0:
            raise SupportError(f"every class needs an example in the support set; counts by class index: {counts}")
    elif len(support) == 0:
        raise SupportError("the support set is empty")


def check_batch(batch: EpisodeBatch, laws: Laws) -> None:
    """As :func:`check_support`, of every episode at once.

    Raises:
        SupportError: the kind is not served, or an episode's support lacks a class.
    """
    _check_kind(batch.kind, laws)
    if laws.described or not batch.kind.is_classification:
        return  # where descriptions are read, whoever reads them checks them
    classes = torch.arange(int(batch.num_classes.max()), device=batch.labels.device)
    shown = torch.zeros(len(batch), len(classes), dtype=torch.bool, device=batch.labels.device)
    shown[batch.episode[batch.is_support], batch.labels[batch.is_support]] = True
    lacks = ~shown & (classes < batch.num_classes[:, None])
    if laws.empty_support and batch.kind is TaskKind.BINARY:
        lacks &= shown.any(1, keepdim=True)
    lacking = torch.nonzero(lacks).tolist()
    if lacking:
        named = "; ".join(f"episode {i} has none of class {k}" for i, k in lacking[:5])
        raise SupportError(f"every class needs an example in the support set: {named}")


def _check_kind(kind: TaskKind, laws: Laws) -> None:
    if kind not in laws.kinds:
        raise SupportError(f"this method serves {', '.join(sorted(laws.kinds))} tasks, not {kind}")


def require_descriptions(task_inputs: Inputs | None, classes: int) -> Inputs:
    """``task_inputs``, which describe ``classes`` classes, a row each.

    Raises:
        SupportError: they are missing, or of another number.
    """
    if task_inputs is None or len(task_inputs) != classes:
        given = "none" if task_inputs is None else len(task_inputs)
        raise SupportError(
            f"this method reads a description of each class, task_inputs: {classes} rows are needed, {given} given; "
            "a task source gives them by describe(task, classes)"
        )
    return task_inputs
