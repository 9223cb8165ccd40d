from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from molmeta.core.episode import Episode, collate, collate_labels, descriptions
from molmeta.core.sampling import ways_and_shots
from molmeta.core.task import IntArray, Split, Task, TaskKind

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION


class Rows:
    """A source whose input of row r is the vector (r, -r)."""

    def tasks(self, split: Split, kind: TaskKind = BINARY) -> list[Task]:
        return []

    def gather(self, rows: IntArray) -> torch.Tensor:
        return torch.from_numpy(np.stack([rows, -rows], axis=1).astype(np.float32))


def ragged(kind: TaskKind, seed: int = 0) -> list[Episode]:
    """Five episodes of differing sizes, over tasks whose rows stand anywhere in the source."""
    rng = np.random.default_rng(seed)
    episodes = []
    for i in range(5):
        n, m = int(rng.integers(2, 9)), int(rng.integers(1, 9))
        k = 2 if kind is BINARY else i + 2
        labels = rng.integers(k, size=n + m + 3) if kind.is_classification else rng.normal(3, 50, n + m + 3)
        rows = rng.permutation(500)[: n + m + 3]
        task = Task(f"t{i}", rows, labels, kind, k if kind.is_classification else 0)
        order = rng.permutation(n + m + 3)
        episodes.append(Episode(task, order[:n], order[n : n + m]))
    return episodes


@pytest.mark.parametrize("kind", list(TaskKind))
def test_collating_equals_a_loop_over_ragged_episodes(kind: TaskKind) -> None:
    episodes = ragged(kind)
    batch = collate(Rows(), episodes)
    expected = [
        (episode.task.rows[p], episode.task.labels[p], i, part)
        for i, episode in enumerate(episodes)
        for part, positions in ((True, episode.support), (False, episode.query))
        for p in positions
    ]
    rows, labels, owner, support = (list(column) for column in zip(*expected, strict=True))
    assert batch.inputs[:, 0].tolist() == rows  # type: ignore[index]
    torch.testing.assert_close(batch.labels.double(), torch.tensor(np.array(labels, np.float64)), rtol=1e-6, atol=0)
    assert batch.episode.tolist() == owner
    assert batch.is_support.tolist() == support
    assert batch.num_classes.tolist() == [e.num_classes for e in episodes]
    assert len(batch) == 5


@pytest.mark.parametrize("kind", list(TaskKind))
def test_a_layout_equals_a_loop_over_ragged_episodes(kind: TaskKind) -> None:
    batch = collate(Rows(), ragged(kind))
    layout = batch.layout()
    for table, mask, wanted in (
        (layout.support, layout.support_mask, batch.is_support),
        (layout.query, layout.query_mask, ~batch.is_support),
    ):
        for i in range(len(batch)):
            rows = [r for r in range(len(batch.labels)) if wanted[r] and batch.episode[r] == i]
            assert table[i][mask[i]].tolist() == rows
            assert mask[i].tolist() == [True] * len(rows) + [False] * (table.shape[1] - len(rows))
            assert (table[i][~mask[i]] == 0).all()


@pytest.mark.parametrize("kind", list(TaskKind))
def test_episodes_hand_each_support_and_query_back(kind: TaskKind) -> None:
    episodes = ragged(kind)
    for episode, (support, query) in zip(episodes, collate(Rows(), episodes).episodes(), strict=True):
        for part, positions in ((support, episode.support), (query, episode.query)):
            assert part.inputs[:, 0].tolist() == episode.task.rows[positions].tolist()  # type: ignore[index]
            assert part.labels.double().tolist() == pytest.approx(episode.task.labels[positions].tolist(), rel=1e-6)
            assert (part.kind, part.num_classes) == (kind, episode.num_classes)


def test_regression_is_scaled_by_the_support_alone() -> None:
    episodes = ragged(REGRESSION)
    batch = collate(Rows(), episodes)
    for i, episode in enumerate(episodes):
        values = episode.task.labels[episode.support]
        assert batch.target_loc[i].item() == pytest.approx(np.mean(values), rel=1e-5)
        assert batch.target_scale[i].item() == pytest.approx(np.std(values), rel=1e-5)
        every = episode.task.labels[np.concatenate([episode.support, episode.query])]
        scaled = batch.scaled_labels()[batch.episode == i].numpy()
        np.testing.assert_allclose(scaled, (every - np.mean(values)) / np.std(values), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9, -3.3])
def test_a_constant_regression_support_has_scale_one(value: float) -> None:
    task = Task("t", np.arange(9), np.array([value] * 7 + [5.0, 6.0]), REGRESSION, 0)
    batch = collate(Rows(), [Episode(task, np.arange(7), np.array([7, 8]))])
    assert batch.target_scale.tolist() == [1.0]
    assert torch.isfinite(batch.scaled_labels()).all()


def test_classification_is_not_scaled() -> None:
    batch = collate(Rows(), ragged(MULTICLASS))
    assert batch.target_loc.tolist() == [0.0] * 5
    assert batch.target_scale.tolist() == [1.0] * 5


def test_an_episode_numbers_its_own_classes_in_the_order_in_which_they_were_drawn() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 8))
    task = Task("t", np.arange(80), labels, MULTICLASS, 10)
    for seed in range(30):
        episode = Episode(task, *ways_and_shots(labels, 4, 2, 3, np.random.default_rng(seed)))
        assert episode.classes is not None
        naive = {int(c): i for i, c in enumerate(episode.classes)}
        assert episode.labels(episode.query).tolist() == [naive[int(labels[p])] for p in episode.query]
        assert episode.labels(episode.support).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        assert collate(Rows(), [episode]).num_classes.tolist() == [4]


def test_episodes_of_different_kinds_do_not_collate() -> None:
    with pytest.raises(ValueError, match="one kind, not"):
        collate_labels([ragged(BINARY)[0], ragged(REGRESSION)[0]], torch.zeros(1))


def test_moving_a_batch_moves_every_tensor_and_keeps_the_rest() -> None:
    batch = replace(collate(Rows(), ragged(BINARY)), task_inputs=torch.zeros(5, 2))
    moved = batch.to("meta")
    assert {t.device.type for t in (moved.inputs, moved.labels, moved.episode, moved.task_inputs)} == {"meta"}  # type: ignore[union-attr]
    assert moved.kind is BINARY


def test_class_ids_name_the_same_class_the_same_in_every_episode() -> None:
    labels = np.arange(12) % 4
    first, second = (Task(name, np.arange(12), labels, TaskKind.MULTICLASS, 4) for name in ("first", "second"))
    draws = [(first, [2, 0]), (first, [0, 1, 2]), (second, [2, 0])]
    made = []
    for task, classes in draws:
        rows = np.flatnonzero(np.isin(labels, classes))
        made.append(Episode(task, rows[:-1], rows[-1:], np.array(classes)))
    ids = collate_labels(made, torch.zeros(sum(len(e.support) + 1 for e in made), 1)).class_ids
    assert ids is not None
    names = [(task.name, c) for task, classes in draws for c in classes]
    assert [[a == b for b in names] for a in names] == (ids[:, None] == ids).tolist()
    assert (ids >= 0).all()


class Names(Rows):
    """A source that describes class c of task t by the vector (t, c)."""

    def describe(self, task: Task, classes: IntArray) -> torch.Tensor:
        return torch.tensor([[int(task.name[1:]), int(c)] for c in classes])


def described_episodes(same_task: bool) -> list[Episode]:
    """Episodes of 2, 3 and 4 of ten classes, in the order in which they were drawn."""
    labels = np.repeat(np.arange(10), 4)
    tasks = [Task(f"t{i}", np.arange(40), labels, MULTICLASS, 10) for i in range(3)]
    draws = [ways_and_shots(labels, 2 + i, 1, 2, np.random.default_rng(i)) for i in range(3)]
    return [Episode(tasks[0 if same_task else i], *draw) for i, draw in enumerate(draws)]


@pytest.mark.parametrize("same_task", [False, True])
def test_classes_are_described_in_the_order_in_which_each_episode_numbers_them(same_task: bool) -> None:
    drawn = described_episodes(same_task)
    batch = collate(Names(), drawn)
    expected = [[int(e.task.name[1:]), c] for e in drawn for c in e.classes.tolist()]  # type: ignore[union-attr]
    assert batch.task_inputs.tolist() == expected  # type: ignore[union-attr]
    for episode, (support, query) in zip(drawn, batch.episodes(), strict=True):
        assert episode.classes is not None
        assert support.task_inputs[:, 1].tolist() == episode.classes.tolist()  # type: ignore[index]
        assert query.task_inputs is None


def test_an_episode_that_keeps_its_task_s_numbers_has_a_description_of_every_class() -> None:
    batch = collate(Names(), ragged(MULTICLASS))
    assert batch.task_inputs.tolist() == [[i, c] for i in range(5) for c in range(i + 2)]  # type: ignore[union-attr]


def test_a_source_without_descriptions_and_regression_have_none() -> None:
    assert collate(Rows(), ragged(MULTICLASS)).task_inputs is None
    assert collate(Names(), ragged(REGRESSION)).task_inputs is None
    assert all(support.task_inputs is None for support, _ in collate(Rows(), ragged(BINARY)).episodes())


def test_descriptions_of_a_type_of_its_own_are_joined_by_that_type() -> None:
    class Words(list[str]):
        @classmethod
        def concatenate(cls, parts: list[Words]) -> Words:
            return cls(word for part in parts for word in part)

    class Worded(Rows):
        def describe(self, task: Task, classes: IntArray) -> Words:
            return Words(f"{task.name} {c}" for c in classes)

    drawn = described_episodes(same_task=False)
    expected = [f"{e.task.name} {c}" for e in drawn for c in e.classes.tolist()]  # type: ignore[union-attr]
    assert descriptions(Worded(), drawn) == expected


def test_an_episode_may_lack_a_support() -> None:
    episode = described_episodes(same_task=True)[0]
    batch = collate(Names(), [replace(episode, support=episode.support[:0]), episode])
    assert batch.layout().support_mask.sum(1).tolist() == [0, 2]
    ((empty, query), _) = batch.episodes()
    assert (len(empty), len(query)) == (0, 4)
