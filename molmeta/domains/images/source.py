"""What the sources of images share: a gather from one array, and the N-way draw of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from molmeta.core.random import keyed_rng
from molmeta.core.sampling import ways_and_shots
from molmeta.core.task import IntArray, Split, Task, TaskKind
from molmeta.domains.images.decode import Images


class ImageSource:
    """Multiclass tasks over one array of images.

    Args:
        images: ``[n, channels, size, size]`` uint8.
        tasks: the tasks of each split.
        ways: classes of an evaluation episode.
        queries: its query images a class.
    """

    def __init__(self, images: Images, tasks: Mapping[Split, Sequence[Task]], ways: int, queries: int) -> None:
        self.images = images
        self.ways, self.queries = ways, queries
        self._tasks = tasks

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> Sequence[Task]:
        """The tasks of one split; there are multiclass tasks alone."""
        return self._tasks.get(split, []) if kind is TaskKind.MULTICLASS else []

    def gather(self, rows: IntArray) -> torch.Tensor:
        """The images at ``rows``: uint8 ``[n, channels, size, size]``, which a backbone widens on its own device."""
        return torch.from_numpy(np.take(self.images, rows, axis=0))

    def draw(self, task: Task, n_support: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
        """``ways`` classes at random, with ``n_support`` shots and ``queries`` query images of each.

        Returns:
            ``(support, query, classes)``, as :func:`~molmeta.core.sampling.ways_and_shots`.

        Raises:
            SupportError: too few classes have that many images.
        """
        rng = keyed_rng(seed, f"draw {task.name}", n_support, self.ways)
        return ways_and_shots(task.class_rows, self.ways, n_support, self.queries, rng)


def class_task(name: str, rows: Sequence[IntArray], **description: str) -> Task:
    """A task whose class ``c`` has the images ``rows[c]``."""
    labels = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    return Task(name, np.concatenate(rows), labels, TaskKind.MULTICLASS, len(rows), description)
