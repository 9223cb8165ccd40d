"""How far predictions can be believed: calibration pooled over tasks, certainty, and intervals that hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molmeta.core.episode import numbered
from molmeta.core.task import FloatArray, TaskKind
from molmeta.evaluation.metrics import Ranked, central_levels, hits_within, reliability
from molmeta.evaluation.results import Result
from molmeta.evaluation.scores import DrawResult, TaskRecord

HISTOGRAM_BINS = 20
CURVE_POINTS = 60
LEVELS = np.arange(0.05, 1.0, 0.05)
INTERVALS = (0.5, 0.8, 0.9, 0.95)  # that are told in words
KEPT = (1, 0.75, 0.5, 0.25)  # shares of the predictions, likewise


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far probabilities can be believed, over all query rows of all tasks and draws of one size.

    Attributes:
        predicted, observed: ``[15]`` mean probability and share of actives of bins of equal mass.
        histogram: ``[20]`` share of rows by probability.
        ece: the bins' mean distance from the diagonal.
        kept, error: ``[60]`` share of rows kept, the most certain first, and the error rate among them.
    """

    predicted: FloatArray
    observed: FloatArray
    histogram: FloatArray
    ece: float
    kept: FloatArray
    error: FloatArray

    @classmethod
    def of(cls, labels: NDArray[np.int64], probabilities: FloatArray, *, likeliest: bool = False) -> Calibration:
        """From rows: labels ``[n]`` of 0 and 1, and the probability of 1.

        With ``likeliest``, 1 is that the likeliest of several classes was right, and a low probability is no certainty.
        """
        ranked = Ranked.of(labels[None], probabilities[None], np.ones((1, len(labels)), bool))
        weight, predicted, observed = (part[0] for part in reliability(ranked))
        used = weight > 0
        certainty = probabilities if likeliest else np.abs(probabilities - 0.5)
        is_wrong = labels == 0 if likeliest else (probabilities >= 0.5) != labels
        kept = np.unique(np.ceil(np.linspace(0.05, 1, CURVE_POINTS) * len(labels)).astype(np.int64))
        by_certainty = Ranked.of(is_wrong[None], certainty[None], np.ones((1, len(labels)), bool))
        return cls(
            predicted[used] / weight[used],
            observed[used] / weight[used],
            np.histogram(probabilities, HISTOGRAM_BINS, (0, 1))[0] / len(labels),
            float(np.abs(predicted - observed).sum() / len(labels)),
            kept / len(labels),
            np.array([hits_within(by_certainty, np.array([n]))[0] for n in kept]) / kept,
        )

    def accuracy(self, kept: float) -> float:
        """Share of right predictions among this share of them, the most certain."""
        return 1 - float(np.interp(kept, self.kept, self.error))


@dataclass(frozen=True, eq=False)
class Coverage:
    """How far a predicted deviation can be believed: the share of values ``observed`` in each central interval."""

    levels: FloatArray
    observed: FloatArray

    def at(self, level: float) -> float:
        """Share of values in the central interval of this level."""
        return float(np.interp(level, self.levels, self.observed))


def calibrations(kind: TaskKind, result: Result) -> dict[int, Calibration | Coverage]:
    """As :func:`calibrate`, of every draw of a result."""
    return calibrate(kind, ((task, draw) for name, task in result.tasks.items() for draw in result.draws(name)))


def calibrate(kind: TaskKind, draws: Iterable[tuple[TaskRecord, DrawResult]]) -> dict[int, Calibration | Coverage]:
    """Support size to calibration; empty where there are no predictions, or where they are no probabilities."""
    rows: dict[int, list[FloatArray]] = defaultdict(list)
    for task, draw in draws:
        rows[draw.support_size].append(_rows(task, draw))
    found: dict[int, Calibration | Coverage] = {}
    for size, parts in sorted(rows.items()):
        told = np.concatenate(parts, axis=1)
        if not told.size or not ((told[-1] >= 0) & (told[-1] <= 1)).all():
            continue
        if kind is TaskKind.REGRESSION:
            found[size] = Coverage(LEVELS, np.searchsorted(np.sort(told[0]), LEVELS, side="right") / told.size)
        else:
            found[size] = Calibration.of(told[0].astype(np.int64), told[1], likeliest=kind is TaskKind.MULTICLASS)
    return found


def pooled(found: Mapping[int, Calibration | Coverage]) -> dict[str, dict[str, Any]]:
    """What a result's header says of :func:`calibrations`, by support size."""
    binned = {str(size): c for size, c in found.items() if isinstance(c, Calibration)}
    covering = {str(size): c for size, c in found.items() if isinstance(c, Coverage)}
    return {
        "pooled_ece": {size: round(c.ece, 5) for size, c in binned.items()},
        "pooled_accuracy": {size: {str(k): round(c.accuracy(k), 5) for k in KEPT} for size, c in binned.items()},
        "pooled_coverage": {size: {str(k): round(c.at(k), 5) for k in INTERVALS} for size, c in covering.items()},
    }


def _rows(task: TaskRecord, draw: DrawResult) -> FloatArray:
    """``[2, m]``: label and probability of the active (or, of several, the likeliest) class; of values ``[1, m]`` the
    level of the interval that holds each."""
    labels = numbered(task.labels[draw.query], draw.classes).astype(np.float64)
    if task.kind is TaskKind.REGRESSION:
        deviation = np.nan if draw.deviation is None else np.where(draw.deviation > 0, draw.deviation, np.nan)
        return central_levels((labels - draw.predicted) / deviation, draw.tails)[None]
    if task.kind is TaskKind.MULTICLASS:
        return np.stack([draw.predicted.argmax(1) == labels, draw.predicted.max(1)])
    return np.stack([labels, draw.predicted])
