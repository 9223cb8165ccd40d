"""Toy learners and episodes that the tests of gradient-based methods share: fixtures that are functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from molmeta.core.backbone import Backbone
from molmeta.core.episode import Episode, EpisodeBatch, collate_labels
from molmeta.core.task import Inputs, Task, TaskKind
from molmeta.methods.gradient import GradientLearner
from molmeta.methods.maml import MAML

Shapes = Sequence[tuple[int, int, int]]  # (support rows, query rows, classes) an episode


class Net(Backbone):
    """Two smooth layers, a normalisation and dropout."""

    def __init__(self, inputs: int, width: int, norm: Callable[[int], nn.Module], dropout: float) -> None:
        super().__init__()
        self.width = width
        first = (nn.Linear(inputs, width), norm(width), nn.Tanh(), nn.Dropout(dropout))
        self.layers = nn.Sequential(*first, nn.Linear(width, width), nn.Tanh())

    def forward(self, inputs: Inputs) -> torch.Tensor:
        out: torch.Tensor = self.layers(inputs)
        return out


@pytest.fixture
def learner() -> Callable[..., Any]:
    """MAML or another ``method`` in float64 over a small network, or over ``backbone``."""

    def make(
        backbone: Backbone | None = None,
        inputs: int = 3,
        width: int = 5,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        dropout: float = 0.0,
        method: type[GradientLearner] = MAML,
        **settings: Any,
    ) -> GradientLearner:
        torch.manual_seed(0)
        config = method.Config(**{"inner_lr": 0.3, "inner_steps": 2, **settings})
        return method(backbone or Net(inputs, width, norm, dropout), config).double()

    return make


@pytest.fixture
def draw() -> Callable[..., EpisodeBatch]:
    """Episodes of given shapes over random inputs ``[n, 3]``, or over ``inputs``."""

    def make(kind: TaskKind, shapes: Shapes, inputs: Inputs | None = None, seed: int = 0) -> EpisodeBatch:
        rng = np.random.default_rng(seed)
        episodes = []
        for i, (n, m, k) in enumerate(shapes):
            labels = np.arange(n + m) % k if kind.is_classification else rng.normal(5.0, 3.0, n + m)
            task = Task(str(i), np.arange(n + m), labels, kind, k)
            episodes.append(Episode(task, np.arange(n), np.arange(n, n + m)))
        rows = sum(n + m for n, m, _ in shapes)
        return collate_labels(episodes, torch.from_numpy(rng.normal(size=(rows, 3))) if inputs is None else inputs)

    return make
