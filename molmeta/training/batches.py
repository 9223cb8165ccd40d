"""Meta-batches of a training run: step s always draws the same episodes, whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from molmeta.core.episode import Episode, EpisodeBatch, collate
from molmeta.core.random import keyed_rng
from molmeta.core.sampling import balanced, stratified, uniform, ways_and_shots
from molmeta.core.task import Split, Task, TaskKind, TaskSource
from molmeta.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeConfig:
    sampler: Literal["stratified", "balanced", "ways_and_shots"] = "stratified"
    support_sizes: tuple[int, ...] = (16, 32, 64)  # one is drawn for each step; ways_and_shots: shots a class
    query_size: int = 32  # query rows at the most; ways_and_shots: a class
    min_query: int = 8  # a small task's support shrinks to leave these
    ways: int = 5  # ways_and_shots only

    def __post_init__(self) -> None:
        if not self.support_sizes or min(self.support_sizes) < 1:
            raise ConfigError(f"[episodes].support_sizes are positive numbers, not {list(self.support_sizes)}")
        for name in ("query_size", "min_query", "ways"):
            if getattr(self, name) < 1:
                raise ConfigError(f"[episodes].{name} is at least 1, not {getattr(self, name)}")


class MetaBatches:
    """``batches(step)`` draws the episodes of one step.

    Args:
        source: where the tasks and inputs come from.
        config: how episodes are drawn.
        tasks_per_step: episodes a step.
        regression: share of the steps that draw regression tasks.
        seed: of the run.

    Raises:
        DataError: the source has no training task that an episode can be drawn from.
    """

    def __init__(
        self, source: TaskSource, config: EpisodeConfig, *, tasks_per_step: int, regression: float = 0.0, seed: int = 0
    ) -> None:
        self.source = source
        self.config = config
        self.tasks_per_step = tasks_per_step
        self.regression = regression
        self.seed = seed
        classes = source.tasks(Split.TRAIN, TaskKind.BINARY) or source.tasks(Split.TRAIN, TaskKind.MULTICLASS)
        self.class_tasks = [task for task in classes if self._is_usable(task)]
        self.value_tasks: Sequence[Task] = []
        if regression > 0:
            values = source.tasks(Split.TRAIN, TaskKind.REGRESSION)
            self.value_tasks = [t for t in values if len(t) > config.min_query and np.ptp(t.labels) > 0]
        if (regression < 1 and not self.class_tasks) or (regression > 0 and not self.value_tasks):
            raise DataError(self._why_none(classes))

    def _why_none(self, tasks: Sequence[Task]) -> str:
        message = f"none of the source's {len(tasks)} training tasks is large enough to draw an episode from"
        if self.config.sampler == "ways_and_shots" and tasks:
            most = max(int((task.class_rows.counts >= self._rows_a_class).sum()) for task in tasks)
            message += (
                f": [episodes] asks for {self.config.ways} ways of {self._rows_a_class} rows (shots and queries); the "
                f"most that a task has is {most}. Lower ways, support_sizes or query_size"
            )
        return message

    @property
    def _rows_a_class(self) -> int:
        return max(self.config.support_sizes) + self.config.query_size

    def __call__(self, step: int) -> EpisodeBatch:
        """The meta-batch of one step."""
        return collate(self.source, self.episodes(step))

    def episodes(self, step: int) -> list[Episode]:
        """What is drawn for one step."""
        rng = keyed_rng(self.seed, "step", step)
        tasks = self.value_tasks if rng.random() < self.regression else self.class_tasks
        size = int(rng.choice(self.config.support_sizes))
        chosen = rng.choice(len(tasks), size=self.tasks_per_step, replace=len(tasks) < self.tasks_per_step)
        return [self._draw(tasks[t], size, step, i) for i, t in enumerate(chosen)]

    def _is_usable(self, task: Task) -> bool:
        counts = np.bincount(task.labels.astype(np.int64), minlength=task.num_classes)
        if self.config.sampler == "ways_and_shots":
            return int((counts >= self._rows_a_class).sum()) >= self.config.ways
        return len(counts) >= 2 and int(counts.min()) >= 2  # one row of each class for the support, one for the query

    def _draw(self, task: Task, size: int, step: int, i: int) -> Episode:
        rng = keyed_rng(self.seed, "episode", step, i)
        if self.config.sampler == "ways_and_shots":
            return Episode(task, *ways_and_shots(task.class_rows, self.config.ways, size, self.config.query_size, rng))
        if not task.kind.is_classification:
            room = max(1, len(task) - self.config.min_query)
            return Episode(task, *uniform(task.labels, min(size, room), self.config.query_size, rng))
        room = len(task) - max(self.config.min_query, task.num_classes)
        if self.config.sampler == "balanced":
            room = min(room, task.num_classes * (int(np.bincount(task.labels).min()) - 1))
        sampler = {"stratified": stratified, "balanced": balanced}[self.config.sampler]
        # A support has a row of each class, however small the task or the size that was drawn.
        return Episode(task, *sampler(task.labels, max(task.num_classes, min(size, room)), self.config.query_size, rng))
