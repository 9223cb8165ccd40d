"""What predictions tell beyond scores: calibration pooled over tasks, certainty, and molecules got right or wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from molmeta.core.task import FloatArray, TaskKind
from molmeta.evaluation.metrics import NORMAL_90, Ranked, reliability
from molmeta.evaluation.results import Result
from molmeta.evaluation.scores import DrawResult, TaskRecord

HISTOGRAM_BINS = 20
CURVE_POINTS = 60
LEVELS = np.arange(0.05, 1.0, 0.05)


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
    def of(cls, labels: NDArray[np.int64], probabilities: FloatArray) -> Calibration:
        """From rows: labels ``[n]`` of 0 and 1, and the probability of 1."""
        ranked = Ranked.of(labels[None], probabilities[None], np.ones((1, len(labels)), bool))
        weight, predicted, observed = (part[0] for part in reliability(ranked))
        used = weight > 0
        certain = np.argsort(-np.abs(probabilities - 0.5), kind="stable")
        wrong = np.cumsum(((probabilities >= 0.5) != labels)[certain])
        kept = np.unique(np.ceil(np.linspace(0.05, 1, CURVE_POINTS) * len(labels)).astype(np.int64))
        return cls(
            predicted[used] / weight[used],
            observed[used] / weight[used],
            np.histogram(probabilities, HISTOGRAM_BINS, (0, 1))[0] / len(labels),
            float(np.abs(predicted - observed).sum() / len(labels)),
            kept / len(labels),
            wrong[kept - 1] / kept,
        )


@dataclass(frozen=True, eq=False)
class Coverage:
    """How far a predicted deviation can be believed: the share of values ``observed`` in each central interval."""

    levels: FloatArray
    observed: FloatArray


def calibrations(kind: TaskKind, result: Result) -> dict[int, Calibration | Coverage]:
    """Support size to calibration; empty where there are no predictions, or where they are no probabilities."""
    rows: dict[int, list[FloatArray]] = defaultdict(list)
    for name, task in result.tasks.items():
        for draw in result.draws(name):
            rows[draw.support_size].append(_rows(task, draw))
    found: dict[int, Calibration | Coverage] = {}
    for size, parts in sorted(rows.items()):
        first, second = np.concatenate(parts, axis=1)
        if kind is TaskKind.REGRESSION:
            if len(first) and np.isfinite(second).all() and (second > 0).all():
                found[size] = _coverage(np.abs(first) / second)
        elif len(first) and ((second >= 0) & (second <= 1)).all():
            found[size] = Calibration.of(first.astype(np.int64), second)
    return found


def _rows(task: TaskRecord, draw: DrawResult) -> FloatArray:
    """``[2, m]``: label and probability of the active (or, of several, the likeliest) class; or error and deviation."""
    labels = task.labels[draw.query].astype(np.float64)
    if task.kind is TaskKind.REGRESSION:
        deviation = np.full(len(labels), np.nan) if draw.deviation is None else draw.deviation
        return np.stack([labels - draw.predicted, deviation])
    if task.kind is TaskKind.MULTICLASS:
        return np.stack([draw.predicted.argmax(1) == labels, draw.predicted.max(1)])
    return np.stack([labels, draw.predicted])


def _coverage(distance: FloatArray) -> Coverage:
    """From errors in predicted deviations; intervals of a normal law, as ``coverage_90`` has them."""
    from scipy.stats import norm

    half = norm.ppf((1 + LEVELS) / 2)
    assert abs(norm.ppf(0.95) - NORMAL_90) < 1e-9
    return Coverage(LEVELS, np.searchsorted(np.sort(distance), half, side="right") / len(distance))


@dataclass(frozen=True)
class Molecule:
    """A molecule of a task and what was made of it.

    Attributes:
        smiles: as written in the source.
        label: what was measured, in words.
        predicted: the mean prediction over the draws that asked for it.
        verdict: why it is shown.
    """

    smiles: str
    label: str
    predicted: float
    verdict: str


def molecules(result: Result, task: TaskRecord, size: int) -> list[Molecule]:
    """Up to four telling molecules of a task: of actives and of inactives, the ranked highest and the lowest."""
    if not task.smiles or task.kind is TaskKind.MULTICLASS:
        return []
    mean = _mean_predictions(result, task, size)
    asked = np.isfinite(mean)
    if not asked.any():
        return []
    if task.kind is TaskKind.REGRESSION:
        return _extreme_errors(task, mean)
    chosen = []
    for label, word in ((1, "active"), (0, "inactive")):
        rows = np.flatnonzero(asked & (task.labels == label))
        rows = rows[np.argsort(-mean[rows], kind="stable")]
        ends = dict.fromkeys([*rows[:1], *rows[-1:]])
        for row, verdict in zip(ends, ("ranked highest", "ranked lowest"), strict=False):
            chosen.append(Molecule(task.smiles[row], word, float(mean[row]), verdict))
    return chosen


def _extreme_errors(task: TaskRecord, mean: FloatArray) -> list[Molecule]:
    labels = task.labels.astype(np.float64)
    error = np.where(np.isfinite(mean), mean - labels, np.nan)
    picks: Mapping[str, int] = {
        "most overrated": int(np.nanargmax(error)),
        "most underrated": int(np.nanargmin(error)),
        "closest": int(np.nanargmin(np.abs(error))),
    }
    return [
        Molecule(task.smiles[row], f"measured {labels[row]:.2f}", float(mean[row]), verdict)
        for verdict, row in picks.items()
    ]


def _mean_predictions(result: Result, task: TaskRecord, size: int) -> FloatArray:
    """``[n]`` mean prediction of each row over the draws of a size; NaN for a row that was never asked for."""
    total, times = np.zeros(len(task)), np.zeros(len(task))
    for draw in result.draws(task.name):
        if draw.support_size == size:
            total[draw.query] += draw.predicted
            times[draw.query] += 1
    mean: FloatArray = np.divide(total, times, out=np.full(len(task), np.nan), where=times > 0)
    return mean
