"""From scores to statements: means over tasks, their errors, paired comparisons."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from molmeta.core.random import keyed_rng
from molmeta.core.task import FloatArray
from molmeta.evaluation.fewshot import Score


@dataclass(frozen=True)
class Summary:
    """A mean over tasks.

    Attributes:
        mean: mean over tasks of the per-task means.
        error: standard error over tasks, sd(ddof=1) / sqrt(tasks).
        tasks: how many tasks have a value.
        undefined: draws whose value is NaN (a query with one class).
    """

    mean: float
    error: float
    tasks: int
    undefined: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"


def per_task(scores: Sequence[Score], metric: str, support_size: int) -> dict[str, float]:
    """Each task's mean over its draws of one size; tasks without a defined value are left out."""
    values = defaultdict(list)
    for s in scores:
        if s.support_size == support_size and np.isfinite(s.values[metric]):
            values[s.task].append(s.values[metric])
    return {task: float(np.mean(v)) for task, v in values.items()}


def summarise(scores: Sequence[Score], metric: str, support_size: int) -> Summary:
    """Mean and standard error over tasks of one metric at one support size."""
    values = np.array(list(per_task(scores, metric, support_size).values()))
    undefined = sum(s.support_size == support_size and not np.isfinite(s.values[metric]) for s in scores)
    if len(values) == 0:
        return Summary(float("nan"), float("nan"), 0, undefined)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Summary(float(values.mean()), error, len(values), undefined)


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two methods over the tasks that both have.

    Attributes:
        difference: mean over tasks of (left - right).
        low, high: its bootstrap 95 % interval over tasks.
        tasks: how many.
        wins: tasks where left is higher.
    """

    difference: float
    low: float
    high: float
    tasks: int
    wins: int

    def __str__(self) -> str:
        return f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}], {self.wins}/{self.tasks} tasks higher"


def compare(left: Mapping[str, float], right: Mapping[str, float], *, resamples: int = 10_000) -> Comparison:
    """Compare two methods task by task (from :func:`per_task`): percentile bootstrap over tasks, seed 0.

    Without a task that both have, every number is NaN.
    """
    shared = sorted(set(left) & set(right))
    if not shared:
        return Comparison(float("nan"), float("nan"), float("nan"), 0, 0)
    gaps: FloatArray = np.array([left[t] - right[t] for t in shared])
    draws = keyed_rng(0, "bootstrap").integers(len(gaps), size=(resamples, len(gaps)))
    low, high = np.percentile(gaps[draws].mean(1), [2.5, 97.5])
    return Comparison(float(gaps.mean()), float(low), float(high), len(gaps), int((gaps > 0).sum()))
