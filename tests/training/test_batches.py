from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.task import IntArray, Split, Task, TaskKind
from molmeta.errors import ConfigError, DataError
from molmeta.training.batches import EpisodeConfig, MetaBatches
from tests.toy import Source

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION


class Given:
    """A source of one training task a label vector; the input of a row is its number."""

    def __init__(self, kind: TaskKind, *labels: list[int], classes: int = 2) -> None:
        self.kind = kind
        self.made = [Task(f"t{i}", np.arange(len(v)), np.array(v), kind, classes) for i, v in enumerate(labels)]

    def tasks(self, split: Split, kind: TaskKind = BINARY) -> list[Task]:
        return self.made if split is Split.TRAIN and kind is self.kind else []

    def gather(self, rows: IntArray) -> torch.Tensor:
        return torch.from_numpy(rows)


def batches(
    source: Any, tasks_per_step: int = 4, regression: float = 0.0, seed: int = 0, **episodes: Any
) -> MetaBatches:
    config = EpisodeConfig(**episodes)
    return MetaBatches(source, config, tasks_per_step=tasks_per_step, regression=regression, seed=seed)


def same(left: EpisodeBatch, right: EpisodeBatch) -> bool:
    return torch.equal(left.inputs, right.inputs) and torch.equal(left.labels, right.labels)  # type: ignore[arg-type]


def test_a_step_draws_the_same_whoever_asks_and_in_whatever_order() -> None:
    first, second = batches(Source()), batches(Source())
    expected = {step: first(step) for step in range(5)}
    assert all(same(second(step), expected[step]) for step in (4, 0, 2, 2, 3, 1))
    assert not same(expected[0], expected[1])
    assert not same(batches(Source(), seed=1)(0), expected[0])


def test_a_step_s_batch_holds_the_episodes_that_are_drawn_for_it() -> None:
    made = batches(Source(), tasks_per_step=3)
    drawn = made.episodes(7)
    expected = [e.task.labels[p] for e in drawn for p in (e.support, e.query)]
    assert made(7).labels.tolist() == np.concatenate(expected).tolist()


@pytest.mark.parametrize("sampler", ["stratified", "balanced"])
def test_a_step_has_one_support_size_and_queries_up_to_the_limit(sampler: str) -> None:
    made = batches(Source(), sampler=sampler, support_sizes=(4, 8), query_size=10)
    seen = set()
    for step in range(20):
        layout = made(step).layout()
        (size,) = set(layout.support_mask.sum(1).tolist())
        seen.add(size)
        assert set(layout.query_mask.sum(1).tolist()) == {10}
    assert seen == {4, 8}


def test_a_small_task_s_support_shrinks_to_leave_the_queries_asked_for() -> None:
    made = batches(Given(BINARY, [0, 1] * 6), tasks_per_step=1, support_sizes=(64,), min_query=5, query_size=32)
    layout = made(0).layout()
    assert (layout.support_mask.sum(), layout.query_mask.sum()) == (7, 5)


@pytest.mark.parametrize("sampler", ["stratified", "balanced"])
def test_every_task_that_is_kept_can_be_drawn_from_however_small_or_lopsided(sampler: str) -> None:
    rng = np.random.default_rng(0)
    for kind, k in ((BINARY, 2), (MULTICLASS, 5)):
        for _ in range(60):
            labels = np.repeat(np.arange(k), rng.choice([2, 3, 4, 30], size=k)).tolist()
            made = batches(
                Given(kind, labels, classes=k),
                tasks_per_step=1,
                sampler=sampler,
                support_sizes=(1, 4, 64),
                min_query=int(rng.choice([1, 8])),
            )
            for step in range(4):
                batch = made(step)
                ((support, query),) = batch.episodes()
                assert support.labels.bincount(minlength=k).min() >= 1
                assert len(query) >= 1


def test_a_balanced_support_stays_balanced_where_the_smaller_class_is_small() -> None:
    made = batches(Given(BINARY, [0] * 30 + [1] * 4), tasks_per_step=1, sampler="balanced", support_sizes=(16,))
    ((support, _),) = made(0).episodes()
    assert support.labels.bincount().tolist() == [3, 3]


def test_tasks_with_a_class_of_one_row_or_none_are_left_out() -> None:
    made = batches(Given(BINARY, [0, 1] * 9, [0] * 9 + [1], [0] * 9))
    assert [task.name for task in made.class_tasks] == ["t0"]
    with pytest.raises(DataError, match="is large enough"):
        batches(Given(BINARY, [0] * 9 + [1]))


def test_ways_that_no_task_has_are_refused_with_what_there_is() -> None:
    given = Given(MULTICLASS, [0] * 9 + [1] * 9 + [2] * 3, classes=3)
    with pytest.raises(DataError, match=r"3 ways of 6 rows .* the most that a task has is 2"):
        batches(given, sampler="ways_and_shots", ways=3, support_sizes=(2,), query_size=4)


def test_ways_and_shots_numbers_the_drawn_classes_from_nought() -> None:
    labels = (np.arange(80) % 8).tolist()
    made = batches(
        Given(MULTICLASS, labels, classes=8), sampler="ways_and_shots", ways=3, support_sizes=(2,), query_size=4
    )
    batch = made(0)
    assert batch.num_classes.tolist() == [3] * 4
    for support, query in batch.episodes():
        assert (support.labels.bincount().tolist(), query.labels.bincount().tolist()) == ([2] * 3, [4] * 3)
    with pytest.raises(DataError, match="9 ways of 34 rows"):
        batches(Given(MULTICLASS, labels, classes=8), sampler="ways_and_shots", ways=9, support_sizes=(2,))


def test_the_stated_share_of_the_steps_draws_regression_tasks() -> None:
    made = batches(Source(), regression=0.25)
    kinds = [made(step).kind for step in range(200)]
    assert 0.15 < kinds.count(REGRESSION) / 200 < 0.35
    assert {batches(Source(), regression=1.0)(step).kind for step in range(20)} == {REGRESSION}


def test_a_regression_task_whose_values_are_all_equal_is_left_out() -> None:
    made = batches(Given(REGRESSION, [1] * 20, list(range(20)), classes=0), regression=1.0)
    assert [task.name for task in made.value_tasks] == ["t1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"support_sizes": ()}, "support_sizes are positive numbers"),
        ({"support_sizes": (16, 0)}, "support_sizes are positive numbers"),
        ({"query_size": 0}, "query_size is at least 1, not 0"),
        ({"min_query": 0}, "min_query is at least 1, not 0"),
    ],
)
def test_sizes_that_leave_nothing_to_draw_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EpisodeConfig(**settings)
