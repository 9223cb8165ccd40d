"""The molecules of a task that tell most: got right, and got wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from molmeta.core.task import FloatArray, TaskKind
from molmeta.evaluation.results import Result
from molmeta.evaluation.scores import TaskRecord


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
