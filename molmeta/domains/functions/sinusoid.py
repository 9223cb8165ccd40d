"""Sinusoids (Finn et al., 2017, arXiv:1703.03400, section 5.1).

    y = a sin(x - p),   a ~ U(0.1, 5),   p ~ U(0, pi),   x ~ U(-5, 5)

The paper's supports are of K = 5, 10 and 20 points; its score is the mean squared error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import torch

from molmeta.core.random import keyed_rng
from molmeta.core.task import FloatArray, IntArray, Split, Task, TaskKind
from molmeta.errors import ConfigError

AMPLITUDE, PHASE, X = (0.1, 5.0), (0.0, np.pi), (-5.0, 5.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SinusoidConfig:
    train_tasks: int = 10_000
    valid_tasks: int = 100
    test_tasks: int = 600
    points: int = 100  # a task has this many; support and query are drawn out of them
    seed: int = 0  # of the tasks

    def __post_init__(self) -> None:
        if min(self.train_tasks, self.valid_tasks, self.test_tasks) < 0 or self.points < 2:
            raise ConfigError("[source] has no negative number of tasks, and 2 points a task or more")


class Sinusoid:
    """Regression tasks; task ``i`` of a split is the same whatever the number of tasks."""

    Config = SinusoidConfig

    def __init__(self, config: SinusoidConfig | None = None) -> None:
        self.config = config = config or SinusoidConfig()
        sizes = {Split.TRAIN: config.train_tasks, Split.VALID: config.valid_tasks, Split.TEST: config.test_tasks}
        self._first = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        # [tasks, 2]: amplitude, phase; [tasks, points]: x
        drawn = [_draw(split, i, config) for split, n in sizes.items() for i in range(n)]
        self._sizes = sizes
        self._waves = np.array([wave for wave, _ in drawn]).reshape(-1, 2)
        self._x = np.array([x for _, x in drawn]).reshape(-1, config.points)
        self._cached_tasks = lru_cache(maxsize=None)(self._tasks)

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> Sequence[Task]:
        """The waves of one split; all are of regression."""
        return self._cached_tasks(split) if kind is TaskKind.REGRESSION else []

    def gather(self, rows: IntArray) -> torch.Tensor:
        """``[n, 1]`` x at ``rows``."""
        return torch.from_numpy(self._x.ravel()[rows, None]).to(torch.get_default_dtype())

    def _tasks(self, split: Split) -> list[Task]:
        return [self._task(split, i) for i in range(self._sizes.get(split, 0))]

    def _task(self, split: Split, i: int) -> Task:
        index, points = self._first[split] + i, self.config.points
        amplitude, phase = self._waves[index]
        return Task(
            name=f"sinusoid/{split}/{i}",
            rows=np.arange(index * points, (index + 1) * points),
            labels=wave(self._x[index], amplitude, phase),
            kind=TaskKind.REGRESSION,
            num_classes=0,
            description=MappingProxyType({"amplitude": f"{amplitude:.6g}", "phase": f"{phase:.6g}"}),
        )


def wave(x: FloatArray, amplitude: float, phase: float) -> FloatArray:
    """``a sin(x - p)``."""
    return amplitude * np.sin(x - phase)


def _draw(split: Split, i: int, config: SinusoidConfig) -> tuple[tuple[float, float], FloatArray]:
    rng = keyed_rng(config.seed, f"sinusoid {split}", i)
    return (rng.uniform(*AMPLITUDE), rng.uniform(*PHASE)), rng.uniform(*X, size=config.points)
