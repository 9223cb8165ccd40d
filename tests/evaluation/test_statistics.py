from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, sem

from molmeta.evaluation.fewshot import Score
from molmeta.evaluation.statistics import compare, per_task, summarise

NAN = float("nan")


def scores(table: dict[str, list[float]], size: int = 16) -> list[Score]:
    return [Score(task, size, seed, {"auc": v}) for task, values in table.items() for seed, v in enumerate(values)]


def test_a_task_counts_once_however_many_draws_it_has() -> None:
    made = scores({"a": [0.5], "b": [0.6, 0.8, 1.0], "c": [0.0, 0.2]})
    means = [0.5, 0.8, 0.1]
    found = summarise(made, "auc", 16)
    assert found.mean == pytest.approx(np.mean(means))
    assert found.error == pytest.approx(sem(means))
    assert (found.tasks, found.undefined) == (3, 0)
    assert str(found) == f"{np.mean(means):.3f} ± {sem(means):.3f}"


def test_undefined_draws_are_left_out_of_means_and_counted() -> None:
    made = scores({"a": [0.5, NAN], "b": [NAN, NAN], "c": [0.7]})
    assert per_task(made, "auc", 16) == {"a": 0.5, "c": 0.7}
    found = summarise(made, "auc", 16)
    assert (found.mean, found.tasks, found.undefined) == (pytest.approx(0.6), 2, 3)


def test_support_sizes_are_kept_apart() -> None:
    made = scores({"a": [0.5]}) + scores({"a": [0.9, NAN]}, size=64)
    assert per_task(made, "auc", 16) == {"a": 0.5}
    assert summarise(made, "auc", 64).undefined == 1


def test_one_task_has_no_error_and_no_task_no_mean() -> None:
    assert np.isnan(summarise(scores({"a": [0.5]}), "auc", 16).error)
    found = summarise([], "auc", 16)
    assert np.isnan(found.mean)
    assert found.tasks == 0


def test_the_interval_of_a_comparison_is_scipy_s_percentile_bootstrap() -> None:
    rng = np.random.default_rng(0)
    left = {f"t{i}": v for i, v in enumerate(rng.normal(0.3, 0.1, 30))}
    right = {f"t{i}": v for i, v in enumerate(rng.normal(0.25, 0.1, 40))}  # ten more, which are not compared
    gaps = np.array([left[t] - right[t] for t in left])
    oracle = bootstrap((gaps,), np.mean, method="percentile", n_resamples=10_000, rng=rng).confidence_interval
    found = compare(left, right)
    assert found.difference == pytest.approx(gaps.mean())
    assert (found.low, found.high) == (pytest.approx(oracle.low, abs=2e-3), pytest.approx(oracle.high, abs=2e-3))
    assert (found.tasks, found.wins) == (30, int((gaps > 0).sum()))


def test_the_interval_covers_no_difference_for_equal_methods_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        left = dict(enumerate(rng.normal(size=30)))
        right = dict(enumerate(rng.normal(size=30)))
        found = compare({str(k): v for k, v in left.items()}, {str(k): v for k, v in right.items()}, resamples=500)
        covered += found.low <= 0 <= found.high
    assert 0.88 < covered / 200 < 0.99


def test_a_method_compared_with_itself_differs_by_nothing() -> None:
    same = {"a": 0.5, "b": 0.7}
    found = compare(same, same)
    assert (found.difference, found.low, found.high, found.wins) == (0, 0, 0, 0)


def test_turning_a_comparison_round_turns_its_numbers_round() -> None:
    rng = np.random.default_rng(1)
    left = {str(i): v for i, v in enumerate(rng.normal(size=20))}
    right = {str(i): v for i, v in enumerate(rng.normal(size=20))}
    there, back = compare(left, right), compare(right, left)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    assert there.wins + back.wins == 20


def test_methods_without_a_common_task_have_no_difference() -> None:
    found = compare({"a": 1.0}, {"b": 1.0})
    assert np.isnan([found.difference, found.low, found.high]).all()
    assert found.tasks == 0
