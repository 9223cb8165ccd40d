from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from molmeta.core.sampling import Draw, balanced, stratified, uniform, ways_and_shots
from molmeta.errors import SupportError

Sampler = Callable[..., Draw]
SAMPLERS = (uniform, stratified, balanced)


def random_labels(seed: int) -> tuple[np.ndarray, int, int, np.random.Generator]:
    """Labels of two to six classes, some of them tiny, with sizes to draw."""
    rng = np.random.default_rng(seed)
    counts = rng.choice([2, 2, 3, 5, 9, 30, 120], size=rng.integers(2, 7))
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return labels, int(rng.integers(1, len(labels))), int(rng.integers(1, 40)), rng


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_draw_has_its_sizes_is_disjoint_and_never_leaves_the_query_empty(sampler: Sampler) -> None:
    drawn = 0
    for seed in range(300):
        labels, n, m, rng = random_labels(seed)
        try:
            support, query = sampler(labels, n, m, rng)
        except SupportError:
            continue
        drawn += 1
        together = np.concatenate([support, query])
        assert len(np.unique(together)) == len(together)
        assert set(together) <= set(range(len(labels)))
        assert (len(support), len(query)) == (n, min(m, len(labels) - n))
        assert len(query) > 0
    assert drawn > 200


def exact_stratification(counts: np.ndarray, n: int) -> np.ndarray:
    """Of all ways to split ``n`` over the classes, each given 1 to ``count - 1``, the nearest to the shares."""
    shares = counts * n / counts.sum()
    splits = [s for s in product(*(range(1, c) for c in counts)) if sum(s) == n]
    return np.min([np.square(np.array(s) - shares).sum() for s in splits])


def test_a_stratified_support_is_the_nearest_whole_split_to_the_task_s_own_shares() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.integers(2, 12, size=rng.integers(2, 4))
        labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        n = int(rng.integers(len(counts), (counts - 1).sum() + 1))
        support, _ = stratified(labels, n, 8, rng)
        sizes = np.bincount(labels[support], minlength=len(counts))
        assert sizes.min() >= 1
        distance = np.square(sizes - counts * n / counts.sum()).sum()
        assert distance == pytest.approx(exact_stratification(counts, n))


def test_a_stratified_support_differs_from_the_shares_by_less_than_a_row_where_every_class_has_room() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        counts = rng.integers(40, 400, size=3)
        labels = np.repeat(np.arange(3), counts)
        sizes = np.bincount(labels[stratified(labels, 64, 8, rng)[0]])
        assert (np.abs(sizes - 64 * counts / counts.sum()) < 1).all()


def test_a_balanced_support_has_every_class_equally_often_until_a_class_runs_out() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        counts = rng.integers(2, 40, size=rng.integers(2, 5))
        labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        n = int(rng.integers(len(counts), (counts - 1).sum() + 1))
        sizes = np.bincount(labels[balanced(labels, n, 8, rng)[0]])
        assert sizes.min() >= 1
        assert ((sizes >= sizes.max() - 1) | (sizes == counts - 1)).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_key_draws_the_same_and_another_key_draws_otherwise(sampler: Sampler) -> None:
    labels = np.arange(60) % 3
    first = sampler(labels, 12, 20, np.random.default_rng(1))
    again = sampler(labels, 12, 20, np.random.default_rng(1))
    other = sampler(labels, 12, 20, np.random.default_rng(2))
    assert [p.tolist() for p in first] == [p.tolist() for p in again]
    assert first[0].tolist() != other[0].tolist()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_row_comes_into_the_support_equally_often(sampler: Sampler) -> None:
    labels = np.repeat([0, 1], [8, 8])
    rng = np.random.default_rng(0)
    seen = sum(np.bincount(sampler(labels, 4, 4, rng)[0], minlength=16) for _ in range(2000))
    expected = 2000 * 4 / 16
    assert (np.abs(np.asarray(seen) - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(("n", "m", "message"), [(6, 4, "leaves no query; ask for 1 to 5"), (0, 4, "leaves no query")])
def test_a_support_of_everything_or_nothing_is_refused(sampler: Sampler, n: int, m: int, message: str) -> None:
    with pytest.raises(SupportError, match=message):
        sampler(np.arange(6) % 2, n, m, np.random.default_rng(0))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_empty_query_and_an_empty_task_are_refused(sampler: Sampler) -> None:
    with pytest.raises(SupportError, match="query of 0 rows is empty"):
        sampler(np.arange(6) % 2, 2, 0, np.random.default_rng(0))
    with pytest.raises(SupportError, match="task of 0 rows has no room"):
        sampler(np.array([], np.int64), 2, 4, np.random.default_rng(0))


@pytest.mark.parametrize("sampler", [stratified, balanced])
def test_a_class_of_one_row_is_refused_with_the_counts(sampler: Sampler) -> None:
    with pytest.raises(SupportError, match=r"two rows of each class; the classes have \[5, 1\] rows"):
        sampler(np.array([0, 0, 0, 0, 0, 1]), 2, 4, np.random.default_rng(0))


@pytest.mark.parametrize("sampler", [stratified, balanced])
def test_a_support_smaller_than_the_classes_or_larger_than_their_room_is_refused(sampler: Sampler) -> None:
    labels = np.arange(9) % 3
    with pytest.raises(SupportError, match="needs two rows of each class"):
        sampler(labels, 2, 4, np.random.default_rng(0))
    with pytest.raises(SupportError, match=r"of 7 does not fit classes of \[3, 3, 3\] rows"):
        sampler(labels, 7, 4, np.random.default_rng(0))


def test_ways_and_shots_draws_as_many_rows_of_each_class_and_skips_classes_that_are_too_small() -> None:
    labels = np.repeat(np.arange(8), [20, 3, 20, 20, 4, 20, 20, 2])
    for seed in range(50):
        support, query, classes = ways_and_shots(labels, 3, 2, 5, np.random.default_rng(seed))
        assert labels[support].tolist() == np.repeat(classes, 2).tolist()
        assert labels[query].tolist() == np.repeat(classes, 5).tolist()
        assert len(set(classes)) == 3
        assert not set(classes) & {1, 4, 7}
        assert not set(support) & set(query)


def test_ways_and_shots_refuses_too_many_ways_and_sizes_below_one() -> None:
    labels = np.repeat([0, 1, 2], [6, 6, 2])
    with pytest.raises(SupportError, match="3 ways asked for, but 2 classes have 4 rows or more"):
        ways_and_shots(labels, 3, 1, 3, np.random.default_rng(0))
    with pytest.raises(SupportError, match="shots 0 or more, not 2, 0 and 1"):
        ways_and_shots(labels, 2, 1, 0, np.random.default_rng(0))
    support, query, classes = ways_and_shots(labels, 2, 0, 3, np.random.default_rng(0))
    assert (len(support), len(query), len(classes)) == (0, 6, 2)
