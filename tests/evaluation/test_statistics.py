from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import sem

from molmeta.evaluation.scores import Score
from molmeta.evaluation.statistics import per_task, summarise

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


def test_one_task_has_the_error_of_its_draws_and_no_task_no_mean() -> None:
    assert np.isnan(summarise(scores({"a": [0.5]}), "auc", 16).error)
    assert summarise(scores({"a": [0.5, 0.7, NAN, 0.6]}), "auc", 16).error == pytest.approx(sem([0.5, 0.7, 0.6]))
    found = summarise([], "auc", 16)
    assert np.isnan(found.mean)
    assert found.tasks == 0


def test_parts_of_the_query_are_kept_apart() -> None:
    made = [Score("a", 16, 0, {"auc": 0.5}), Score("a", 16, 0, {"auc": 0.9}, "clean")]
    assert per_task(made, "auc", 16) == {"a": 0.5}
    assert per_task(made, "auc", 16, "clean") == {"a": 0.9}
    assert summarise(made, "no such metric", 16).tasks == 0
