"""A learnable toy domain without chemistry: tasks, a network, and episodes of any shape. Usable from another process.

A task is a random direction in the plane of two inputs; the label is the side, the sector or the value along it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from molmeta.core.backbone import Backbone
from molmeta.core.episode import Episode, EpisodeBatch, collate_labels
from molmeta.core.task import Inputs, IntArray, Split, Task, TaskKind

Shapes = Sequence[tuple[int, int, int]]  # (support rows, query rows, classes) an episode


@dataclass(frozen=True, kw_only=True, slots=True)
class NetConfig:
    inputs: int = 2
    width: int = 6
    dropout: float = 0.1
    batch_norm: bool = False


class Net(Backbone):
    """A small smooth network with dropout, so that a run's randomness shows."""

    Config = NetConfig

    def __init__(self, config: NetConfig | None = None) -> None:
        super().__init__()
        config = config or NetConfig()
        self.width, self.views = config.width, (config.width,)
        norm = [nn.BatchNorm1d(16)] if config.batch_norm else []
        hidden = nn.Sequential(nn.Linear(config.inputs, 16), *norm, nn.Tanh(), nn.Dropout(config.dropout))
        self.net = nn.Sequential(*hidden, nn.Linear(16, config.width))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        out: torch.Tensor = self.net(inputs)
        return out


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    tasks: int = 6
    rows: int = 40
    pause: float = 0.0  # seconds that a gather takes


class Source:
    """Planar tasks of every kind in every split."""

    Config = SourceConfig

    def __init__(self, config: SourceConfig | None = None) -> None:
        self.config = config or SourceConfig()
        self.points = np.random.default_rng(0).normal(size=(200, 2))
        self.gathered = 0

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> list[Task]:
        made = []
        for i in range(self.config.tasks):
            rng = np.random.default_rng([list(Split).index(split), i])
            rows = rng.permutation(200)[: self.config.rows]
            angle = rng.uniform(0, 2 * np.pi)
            value = self.points[rows] @ np.array([np.cos(angle), np.sin(angle)])
            labels = {
                TaskKind.BINARY: (value > 0).astype(np.int64),
                TaskKind.MULTICLASS: np.digitize(value, [-0.5, 0.5]).astype(np.int64),
                TaskKind.REGRESSION: 10 + 3 * value,
            }[kind]
            classes = {TaskKind.BINARY: 2, TaskKind.MULTICLASS: 3, TaskKind.REGRESSION: 0}[kind]
            made.append(Task(f"{split}{i}", rows, labels, kind, classes))
        return made

    def gather(self, rows: IntArray) -> torch.Tensor:
        time.sleep(self.config.pause)
        self.gathered += len(rows)
        return torch.from_numpy(self.points[rows]).to(torch.get_default_dtype())


def episodes(kind: TaskKind, shapes: Shapes, width: int = 2, seed: int = 0) -> EpisodeBatch:
    """Episodes of given shapes over random inputs ``[n, width]``; classes take turns."""
    rng = np.random.default_rng(seed)
    made = []
    for i, (n, m, k) in enumerate(shapes):
        labels = np.arange(n + m) % k if kind.is_classification else rng.normal(5.0, 3.0, n + m)
        task = Task(str(i), np.arange(n + m), labels, kind, k)
        made.append(Episode(task, np.arange(n), np.arange(n, n + m)))
    rows = sum(n + m for n, m, _ in shapes)
    inputs = torch.from_numpy(rng.normal(size=(rows, width))).to(torch.get_default_dtype())
    return collate_labels(made, inputs)


def sinusoids(tasks: int, seed: int, shots: int = 10) -> EpisodeBatch:
    """Finn et al., section 5.1: amplitude 0.1 to 5, phase 0 to pi, x in -5 to 5."""
    rng = np.random.default_rng(seed)
    size = 2 * shots
    x = rng.uniform(-5, 5, (tasks, size))
    y = rng.uniform(0.1, 5, (tasks, 1)) * np.sin(x - rng.uniform(0, np.pi, (tasks, 1)))
    rows = np.arange(size)
    made = [Task(f"{seed}-{i}", rows, y[i], TaskKind.REGRESSION, 0) for i in range(tasks)]
    episodes = [Episode(task, rows[:shots], rows[shots:]) for task in made]
    return collate_labels(episodes, torch.from_numpy(x.reshape(-1, 1)))
