"""From scores to means over tasks and their errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from molmeta.evaluation.scores import ALL, Score


@dataclass(frozen=True)
class Summary:
    """A mean over tasks.

    Attributes:
        mean: mean over tasks of the per-task means.
        error: standard error over tasks, sd(ddof=1) / sqrt(tasks); where the scores are of one task alone, as N-way
            episodes are: over its draws.
        tasks: how many tasks have a value.
        undefined: draws whose value is NaN (a query with one class).
    """

    mean: float
    error: float
    tasks: int
    undefined: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"


def per_task(scores: Sequence[Score], metric: str, support_size: int, subset: str = ALL) -> dict[str, float]:
    """Each task's mean over its draws of one size; tasks without a defined value are left out."""
    values = defaultdict(list)
    for s in scores:
        value = s.values.get(metric, float("nan"))
        if s.support_size == support_size and s.subset == subset and np.isfinite(value):
            values[s.task].append(value)
    return {task: float(np.mean(v)) for task, v in values.items()}


def summarise(scores: Sequence[Score], metric: str, support_size: int, subset: str = ALL) -> Summary:
    """Mean and standard error over tasks of one metric at one support size, over one part of the queries."""
    values = np.array(list(per_task(scores, metric, support_size, subset).values()))
    asked = [s.values.get(metric, float("nan")) for s in scores if (s.support_size, s.subset) == (support_size, subset)]
    undefined = sum(not np.isfinite(value) for value in asked)
    if len(values) == 0:
        return Summary(float("nan"), float("nan"), 0, undefined)
    units = values if len({s.task for s in scores}) > 1 else np.array([value for value in asked if np.isfinite(value)])
    error = float(units.std(ddof=1) / np.sqrt(len(units))) if len(units) > 1 else float("nan")
    return Summary(float(values.mean()), error, len(values), undefined)
