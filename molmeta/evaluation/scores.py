"""From predictions to scores: every metric of every draw, over all of its query and over honest parts of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Self

import numpy as np

from molmeta.core.episode import Episode, numbered
from molmeta.core.learner import Prediction
from molmeta.core.task import FloatArray, IntArray, Task, TaskKind, TaskSource
from molmeta.evaluation.metrics import (
    BoolArray,
    are_probabilities,
    binary_metrics,
    multiclass_metrics,
    regression_metrics,
)

ALL = "all"
# The parts of a query that are scored apart, and what each leaves out.
SUBSETS = {
    ALL: "every query row",
    "unrepeated": "without molecules that also stand in the support",
    "consistent": "without molecules that the task labels both ways",
    "unseen": "without molecules that the model was trained on",
    "exact": "without values that are only a bound (> or <)",
    "clean": "without any of these",
}


@dataclass(frozen=True)
class Score:
    """One draw's scores.

    Attributes:
        task: its name.
        support_size: labelled rows.
        seed: of the draw.
        values: metric name to value; NaN where it is not defined.
        subset: which part of the query was scored (see ``SUBSETS``).
    """

    task: str
    support_size: int
    seed: int
    values: dict[str, float]
    subset: str = ALL


@dataclass(frozen=True, eq=False)
class TaskRecord:
    """What scoring needs to know of a task of ``n`` rows, without its source.

    Attributes:
        name, kind, num_classes: the task's.
        labels: ``[n]`` class indices or values.
        smiles: ``n`` strings, or empty where the source has none.
        structure: ``[n]`` uint64, equal for the same molecule; or empty.
        trained: ``[n]`` whether the model was trained on the molecule; None where nobody knows.
        exact: ``[n]`` False where a value is only a bound; None where the source does not say.
        trained_task: whether the model was trained on this very task.
        similarity: ``[n]`` Tanimoto similarity to the nearest training molecule; empty where not known.
        description: what is known of the assay in words.
    """

    name: str
    kind: TaskKind
    num_classes: int
    labels: np.ndarray[tuple[int], np.dtype[np.generic]]
    smiles: list[str] = field(default_factory=list)
    structure: np.ndarray[tuple[int], np.dtype[np.uint64]] = field(default_factory=lambda: np.zeros(0, np.uint64))
    trained: BoolArray | None = None
    exact: BoolArray | None = None
    similarity: np.ndarray[tuple[int], np.dtype[np.float32]] = field(default_factory=lambda: np.zeros(0, np.float32))
    description: Mapping[str, str] = field(default_factory=dict)
    trained_task: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, task: Task, source: TaskSource) -> Self:
        """What the task and its source tell; ``trained`` and ``similarity`` are others' to add."""
        relation = task.columns.get("relation")
        smiles, structures = getattr(source, "smiles", None), getattr(source, "structures", None)
        return cls(
            name=task.name,
            kind=task.kind,
            num_classes=task.num_classes,
            labels=task.labels,
            smiles=smiles(task.rows) if smiles else [],
            structure=structures(task.rows) if structures else np.zeros(0, np.uint64),
            exact=None if relation is None or task.kind.is_classification else _is_exact(relation),
            description=dict(task.description),
        )

    @cached_property
    def molecule(self) -> IntArray:
        """``[n]`` a small number for each structure."""
        return np.unique(self.structure, return_inverse=True)[1]

    @cached_property
    def conflicting(self) -> BoolArray:
        """``[n]`` rows whose molecule stands in the task with another label, too."""
        _, first = np.unique(self.molecule, return_index=True)
        differs = self.labels != self.labels[first][self.molecule]
        return np.isin(self.molecule, self.molecule[differs])

    def parts(self, draw: DrawResult) -> Iterator[tuple[str, BoolArray]]:
        """The subsets that this task has, each with the ``[m]`` query rows that it keeps."""
        kept = {}
        if len(self.structure):
            shown = np.zeros(len(self), bool)
            shown[self.molecule[draw.support]] = True
            kept["unrepeated"] = ~shown[self.molecule[draw.query]]
            if self.kind.is_classification:
                kept["consistent"] = ~self.conflicting[draw.query]
        if self.trained is not None:
            kept["unseen"] = ~self.trained[draw.query]
        if self.exact is not None:
            kept["exact"] = self.exact[draw.query]
        yield ALL, np.ones(len(draw.query), bool)
        yield from kept.items()
        if kept:
            yield "clean", np.logical_and.reduce(list(kept.values()))


def _is_exact(relation: np.ndarray[tuple[int], np.dtype[np.generic]]) -> BoolArray:
    """``[n]`` False for bounds such as ``>``, ``<=`` and ``>>``."""
    return np.array([not ({"<", ">"} & set(str(sign))) for sign in relation], bool)


@dataclass(frozen=True, eq=False)
class DrawResult:
    """One draw and what was predicted of its query.

    Attributes:
        support_size, seed: what was asked for.
        support, query: ``[n]`` and ``[m]`` positions in the task.
        predicted: ``[m]`` probability of class 1 or mean; ``[m, k]`` for several classes.
        deviation: ``[m]`` predictive deviation, for regression, or None.
        tails: degrees of freedom of the values' predicted law (see ``metrics.central_levels``).
        seconds: what adapting and predicting took, without embedding.
        classes: ``[k]`` the task's classes that the draw numbers 0..k-1; None: all, by their own numbers.
    """

    support_size: int
    seed: int
    support: IntArray
    query: IntArray
    predicted: FloatArray
    deviation: FloatArray | None = None
    seconds: float = 0.0
    classes: IntArray | None = None
    tails: float = math.inf

    @classmethod
    def of(cls, episode: Episode, prediction: Prediction, size: int, seed: int, seconds: float) -> Self:
        """A prediction of an episode, as arrays."""
        several = episode.task.kind is TaskKind.MULTICLASS
        predicted = prediction.probabilities if several else prediction.scores()
        assert predicted is not None
        deviation = prediction.deviation
        return cls(
            size,
            seed,
            episode.support,
            episode.query,
            predicted.double().cpu().numpy(),
            None if deviation is None else deviation.double().cpu().numpy(),
            seconds,
            episode.classes,
            prediction.tails,
        )


def probable(draws: Iterable[DrawResult]) -> bool:
    """Whether what a method said of two classes can be read as probabilities, in every draw alike."""
    return all(are_probabilities(draw.predicted) for draw in draws)


def score_draws(task: TaskRecord, draws: Sequence[DrawResult], probabilities: bool | None = None) -> list[Score]:
    """Score the draws of one task: every subset's metrics for each.

    Args:
        task: what was asked.
        draws: what was predicted.
        probabilities: see :func:`probable`; None: decided over these draws.
    """
    scores = []
    probabilities = probable(draws) if probabilities is None else probabilities
    for _, group in groupby(draws, key=lambda d: (d.predicted.shape, d.deviation is None)):
        same = list(group)
        parts = [dict(task.parts(draw)) for draw in same]
        masks = {subset: np.stack([part[subset] for part in parts]) for subset in parts[0]}
        keys = {subset: mask.tobytes() for subset, mask in masks.items()}
        distinct = {keys[subset]: mask for subset, mask in masks.items()}  # many leave the same rows out: none
        found = _metrics(task, same * len(distinct), np.concatenate(list(distinct.values())), probabilities)
        table = np.stack(list(found.values()), axis=1).reshape(len(distinct), len(same), -1)
        values = dict(zip(distinct, table.tolist(), strict=True))
        scores += [
            Score(task.name, draw.support_size, draw.seed, dict(zip(found, each, strict=True)), subset)
            for subset, key in keys.items()
            for draw, each in zip(same, values[key], strict=True)
        ]
    return scores


def _metrics(
    task: TaskRecord, draws: Sequence[DrawResult], mask: BoolArray, probabilities: bool
) -> dict[str, FloatArray]:
    """Every metric that the task's kind has, ``[d]`` each; the draws have queries of one length."""
    labels = np.stack([numbered(task.labels[d.query], d.classes) for d in draws])
    predicted = np.stack([d.predicted for d in draws])
    supports = [task.labels[d.support].astype(np.float64) for d in draws]
    if task.kind is TaskKind.REGRESSION:
        deviations = [d.deviation for d in draws if d.deviation is not None]
        deviation = np.stack(deviations) if deviations else None
        centre = np.array([s.mean() for s in supports])
        tails = np.array([d.tails for d in draws])
        found = regression_metrics(labels.astype(np.float64), predicted, centre, deviation, mask, tails)
    elif task.kind is TaskKind.MULTICLASS:
        found = multiclass_metrics(labels.astype(np.int64), predicted, mask)
    else:
        found = binary_metrics(labels.astype(np.int64), predicted, mask, probabilities)
        share = np.array([s.mean() if len(s) else np.nan for s in supports])
        # The literature's other definition: above the support's share of actives, not the query's.
        found["delta_auprc_support"] = found["average_precision"] - share
        found["support_share"] = share
    same = np.ones(len(draws))
    return {**found, "seconds": np.array([d.seconds for d in draws]), "trained_task": same * task.trained_task}
