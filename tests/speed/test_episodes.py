"""What an episode of images costs before the network: drawn and gathered here, beside torch's DataLoader.

    MOLMETA_DATA=... pytest tests/speed/test_episodes.py --benchmark-columns=median,ops

A round is fifty episodes of 5 ways, 1 shot and 15 queries a class from Omniglot's 4,112 training classes: 50 x OPS is
episodes a second. Both read the same decoded array. The DataLoader has a data set of single images and a batch sampler
that knows where each class's images stand, so that it reads no labels. Nothing here is asserted about time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from molmeta.core.episode import Episode, collate
from molmeta.core.random import keyed_rng
from molmeta.core.sampling import ways_and_shots
from molmeta.core.task import Split, Task, TaskKind
from molmeta.domains.images.omniglot import Omniglot
from molmeta.training.batches import EpisodeConfig, MetaBatches

WAYS, SHOTS, QUERIES, EPISODES = 5, 1, 15, 50
Benchmark = Callable[..., Any]
pytestmark = [pytest.mark.data, pytest.mark.benchmark(min_rounds=5, warmup=True, warmup_iterations=1)]


class OneByOne(Dataset[tuple[torch.Tensor, int]]):
    """An image and its class."""

    def __init__(self, source: Omniglot, task: Task) -> None:
        self.images, self.task = torch.from_numpy(source.images.copy()), task

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.images[self.task.rows[i]], int(self.task.labels[i])


class EpisodeSampler(Sampler[list[int]]):
    """Positions of the episodes' images."""

    def __init__(self, task: Task) -> None:
        order = np.argsort(task.labels, kind="stable")
        self.of_class = np.split(order, np.cumsum(np.bincount(task.labels))[:-1])

    def __iter__(self) -> Iterator[list[int]]:
        for i in range(EPISODES):
            rng = np.random.default_rng(i)
            classes = rng.choice(len(self.of_class), WAYS, replace=False)
            drawn = [rng.permutation(self.of_class[c])[: SHOTS + QUERIES] for c in classes]
            yield np.concatenate(drawn).tolist()


@pytest.fixture(scope="module")
def source() -> Omniglot:
    return Omniglot()


@pytest.fixture(scope="module")
def task(source: Omniglot) -> Task:
    (task,) = source.tasks(Split.TRAIN, TaskKind.MULTICLASS)
    return task


@pytest.fixture(scope="module")
def drawn(task: Task) -> list[Episode]:
    rngs = [keyed_rng(0, "episode", i) for i in range(EPISODES)]
    return [Episode(task, *ways_and_shots(task.class_rows, WAYS, SHOTS, QUERIES, rng)) for rng in rngs]


@pytest.mark.parametrize("episodes_a_step", [1, 25])
def test_1_drawn_and_gathered(benchmark: Benchmark, source: Omniglot, episodes_a_step: int) -> None:
    config = EpisodeConfig(sampler="ways_and_shots", ways=WAYS, support_sizes=(SHOTS,), query_size=QUERIES)
    batches = MetaBatches(source, config, tasks_per_step=episodes_a_step)
    benchmark(lambda: [batches(step) for step in range(EPISODES // episodes_a_step)])


def test_2_drawing_alone(benchmark: Benchmark, task: Task) -> None:
    rngs = [keyed_rng(0, "episode", i) for i in range(EPISODES)]
    benchmark(lambda: [ways_and_shots(task.class_rows, WAYS, SHOTS, QUERIES, rng) for rng in rngs])


def test_3_collating_alone(benchmark: Benchmark, source: Omniglot, drawn: list[Episode]) -> None:
    benchmark(lambda: [collate(source, [episode]) for episode in drawn])


def test_4_gathering_alone(benchmark: Benchmark, source: Omniglot, drawn: list[Episode]) -> None:
    rows = [episode.task.rows[np.concatenate([episode.support, episode.query])] for episode in drawn]
    benchmark(lambda: [source.gather(each) for each in rows])


def test_5_dataloader(benchmark: Benchmark, source: Omniglot, task: Task) -> None:
    loader = DataLoader(OneByOne(source, task), batch_sampler=EpisodeSampler(task))
    benchmark(lambda: list(loader))


def test_6_dataloader_with_two_workers(benchmark: Benchmark, source: Omniglot, task: Task) -> None:
    loader = DataLoader(
        OneByOne(source, task), batch_sampler=EpisodeSampler(task), num_workers=2, persistent_workers=True
    )
    benchmark(lambda: list(loader))
