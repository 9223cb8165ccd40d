"""Gaussian blobs: classes that no predictor can tell apart better than Bayes' rule, which is known here.

    m_c ~ N(0, spread^2 I_2),   x | c ~ N(B m_c, I_d)

B, a fixed ``[d, 2]`` with orthonormal columns, is what all tasks share: where in d dimensions the classes differ. Given
the means, Bayes' rule is the nearest mean within the plane of B. Given K shots of each class instead, it is the nearest
sample mean in that plane, shrunk towards 0: the posterior of a mean is Gaussian. So prototypes in the learned plane
are all but optimal, and nearest centroids in all d dimensions are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from molmeta.core.random import keyed_rng
from molmeta.core.sampling import ways_and_shots
from molmeta.core.task import FloatArray, IntArray, Split, Task, TaskKind
from molmeta.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobsConfig:
    dimensions: int = 10  # d, numbers a row
    spread: float = 3.0  # standard deviation of the means, in units of the deviation within a class
    train_classes: int = 500
    valid_classes: int = 100
    test_classes: int = 200
    rows: int = 50  # a class
    ways: int = 5  # classes an episode, in draw()
    queries: int = 15  # query rows a class, in draw()
    seed: int = 0  # of the classes

    def __post_init__(self) -> None:
        if self.dimensions < 2 or not self.spread > 0:
            raise ConfigError(f"[source] has 2 dimensions or more and a positive spread, not {self}")
        if min(self.rows, self.queries) < 1 or self.ways < 2:
            raise ConfigError(f"[source] has rows and queries, and 2 ways or more, not {self}")


class Blobs:
    """One task of many classes a split, from which N-way episodes are drawn.

    Attributes:
        plane: ``[d, 2]`` B.
        means: ``[classes, 2]`` m, all splits' one after another.
    """

    Config = BlobsConfig

    def __init__(self, config: BlobsConfig | None = None) -> None:
        self.config = config = config or BlobsConfig()
        sizes = {Split.TRAIN: config.train_classes, Split.VALID: config.valid_classes, Split.TEST: config.test_classes}
        rng = keyed_rng(config.seed, "blobs")
        self.plane: FloatArray = np.linalg.qr(rng.normal(size=(config.dimensions, 2)))[0]
        self.means: FloatArray = config.spread * rng.normal(size=(sum(sizes.values()), 2))
        centres = np.repeat(self.means @ self.plane.T, config.rows, axis=0)
        self._x: FloatArray = centres + rng.normal(size=centres.shape)
        self._first = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        self._sizes = sizes
        self._cached_tasks = lru_cache(maxsize=None)(self._tasks)

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> Sequence[Task]:
        """The one task of a split; it is of several classes."""
        return self._cached_tasks(split) if kind is TaskKind.MULTICLASS else []

    def gather(self, rows: IntArray) -> torch.Tensor:
        """``[n, d]`` x at ``rows``."""
        return torch.from_numpy(self._x[rows]).to(torch.get_default_dtype())

    def draw(self, task: Task, n_support: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
        """An episode of ``ways`` classes, ``n_support`` shots and ``queries`` query rows of each.

        Raises:
            SupportError: there are too few classes or rows.
        """
        rng = keyed_rng(seed, f"draw {task.name}", n_support, self.config.ways)
        return ways_and_shots(task.labels, self.config.ways, n_support, self.config.queries, rng)

    def class_means(self, task: Task, classes: IntArray) -> FloatArray:
        """``[k, 2]`` the true means of a task's classes."""
        first: int = self._first[Split(task.name.rpartition("/")[2])]
        found: FloatArray = self.means[first + classes]
        return found

    def posterior(self, support: IntArray, labels: IntArray, query: IntArray) -> FloatArray:
        """Bayes' rule given a support: no predictor is more often right.

        Args:
            support, query: ``[n]``, ``[m]`` rows.
            labels: ``[n]`` classes 0..k-1 of the support.

        Returns:
            ``[m, k]`` the probability of each class, all as frequent as each other.
        """
        points, asked = self._x[support] @ self.plane, self._x[query] @ self.plane
        counts = np.bincount(labels)[:, None]
        variance = 1 / (self.config.spread**-2 + counts)  # [k, 1] of the mean, given the support
        means = variance * np.stack([points[labels == c].sum(0) for c in range(len(counts))])
        return densities(asked, means, 1 + variance[:, 0])

    def _tasks(self, split: Split) -> list[Task]:
        k, rows = self._sizes.get(split, 0), self.config.rows
        first = self._first.get(split, 0) * rows
        labels = np.repeat(np.arange(k), rows)
        return [Task(f"blobs/{split}", first + np.arange(k * rows), labels, TaskKind.MULTICLASS, k)] if k else []


def densities(x: FloatArray, means: FloatArray, variances: FloatArray) -> FloatArray:
    """``[m, k]`` the share of each isotropic Gaussian in the density at ``x [m, q]``; ``means [k, q]``."""
    squares = ((x[:, None] - means) ** 2).sum(2)
    logs = -squares / (2 * variances) - x.shape[1] / 2 * np.log(variances)
    weights = np.exp(logs - logs.max(1, keepdims=True))
    shares: FloatArray = weights / weights.sum(1, keepdims=True)
    return shares


def bayes_error(means: FloatArray, *, step: float = 0.05) -> float:
    """How often Bayes' rule is wrong that knows the means of equally frequent classes of unit variance.

        error = 1 - 1/k integral of max_c N(x; m_c, I) dx

    By the midpoint rule over the plane; for two classes it is Phi(-|m_1 - m_2| / 2).

    Args:
        means: ``[k, 2]``.
        step: of the grid; at the default the error of the integral is below 1e-4.
    """
    axes = [np.arange(low - 6, high + 6, step) for low, high in zip(means.min(0), means.max(0), strict=True)]
    # A Gaussian is a product: only the two axes are exponentiated.
    along = [np.exp(-((axis - means[:, [i]]) ** 2) / 2) for i, axis in enumerate(axes)]
    highest = np.zeros((len(axes[0]), len(axes[1])))
    for first, second in zip(*along, strict=True):
        np.maximum(highest, np.outer(first, second), out=highest)
    return float(1 - highest.sum() * step**2 / (2 * np.pi * len(means)))
