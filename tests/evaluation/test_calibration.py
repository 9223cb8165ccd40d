"""Calibration and certainty against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from molmeta.core.task import TaskKind
from molmeta.evaluation.calibration import Calibration, Coverage, _rows, calibrations, pooled
from molmeta.evaluation.results import Result
from molmeta.evaluation.scores import DrawResult, TaskRecord
from tests.made_results import made_result


def test_the_pooled_error_is_the_mean_gap_of_15_equal_bins() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(1500)
    labels = (rng.random(1500) < probabilities**2).astype(np.int64)
    found = Calibration.of(labels, probabilities)
    bins = np.array_split(np.argsort(probabilities), 15)
    gaps = [abs(probabilities[b].mean() - labels[b].mean()) for b in bins]
    assert found.ece == pytest.approx(np.mean(gaps))
    assert found.predicted == pytest.approx([probabilities[b].mean() for b in bins])
    assert found.observed == pytest.approx([labels[b].mean() for b in bins])
    assert found.histogram.sum() == pytest.approx(1)


def test_the_risk_curve_is_the_error_rate_among_the_most_certain() -> None:
    probabilities = np.array([0.95, 0.9, 0.2, 0.55, 0.45])
    labels = np.array([1, 0, 0, 1, 1])
    found = Calibration.of(labels, probabilities)
    assert found.kept == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found.error == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4, 2 / 5])


def test_of_several_classes_the_likeliest_is_the_more_certain_the_likelier_it_is() -> None:
    found = Calibration.of(np.array([1, 0, 1, 0]), np.array([0.9, 0.3, 0.4, 0.6]), likeliest=True)
    assert found.error == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_all_tasks_and_draws_are_pooled_by_size(tmp_path: Path) -> None:
    result = Result.read(made_result(tmp_path / "a"))
    rows = [
        (result.tasks[name].labels[draw.query], draw.predicted)
        for name in result.tasks
        for draw in result.draws(name)
        if draw.support_size == 16
    ]
    labels, probabilities = (np.concatenate(part) for part in zip(*rows, strict=True))
    found = calibrations(TaskKind.BINARY, result)
    assert sorted(found) == [8, 16]
    assert isinstance(found[16], Calibration)
    assert found[16].ece == pytest.approx(Calibration.of(labels, probabilities).ece)


def test_right_deviations_lie_on_the_diagonal(tmp_path: Path) -> None:
    tasks = [f"t{i}" for i in range(20)]
    result = Result.read(made_result(tmp_path / "a", kind=TaskKind.REGRESSION, tasks=tasks, sizes=[8], seeds=3))
    found = calibrations(TaskKind.REGRESSION, result)[8]
    assert isinstance(found, Coverage)
    assert found.observed == pytest.approx(found.levels, abs=0.04)


def test_scores_that_are_no_probabilities_have_no_calibration(tmp_path: Path) -> None:
    result = Result.read(made_result(tmp_path / "a", probable=False))
    assert calibrations(TaskKind.BINARY, result) == {}


def test_several_classes_are_judged_by_the_likeliest(tmp_path: Path) -> None:
    result = Result.read(made_result(tmp_path / "a", kind=TaskKind.MULTICLASS, noise=0.0, sizes=[9]))
    found = calibrations(TaskKind.MULTICLASS, result)[9]
    assert isinstance(found, Calibration)
    assert found.predicted == pytest.approx(1)
    assert found.observed == pytest.approx(1)


def test_the_classes_of_an_n_way_draw_are_its_own() -> None:
    task = TaskRecord("t", TaskKind.MULTICLASS, 9, np.array([7, 4, 4, 7]))
    said = np.array([[0.9, 0.1], [0.8, 0.2]])  # of classes 4 and 7
    draw = DrawResult(1, 0, np.array([0, 1]), np.array([2, 3]), said, classes=np.array([4, 7]))
    assert _rows(task, draw).tolist() == [[1.0, 0.0], [0.9, 0.8]]


def test_predictions_that_are_as_sure_are_set_aside_together() -> None:
    found = Calibration.of(np.repeat([1, 0], [30, 70]), np.full(100, 0.3))
    assert found.error == pytest.approx(0.3)


def test_the_header_tells_accuracy_and_coverage_by_size(tmp_path: Path) -> None:
    binary = calibrations(TaskKind.BINARY, Result.read(made_result(tmp_path / "a", sizes=[8])))
    found = binary[8]
    assert isinstance(found, Calibration)
    said = pooled(binary)
    assert said["pooled_accuracy"]["8"]["1"] == pytest.approx(1 - found.error[-1], abs=1e-5)
    assert said["pooled_accuracy"]["8"]["0.25"] > said["pooled_accuracy"]["8"]["1"]
    values = Result.read(made_result(tmp_path / "b", kind=TaskKind.REGRESSION, sizes=[8]))
    covered = pooled(calibrations(TaskKind.REGRESSION, values))["pooled_coverage"]["8"]
    draws = [(values.tasks[t].labels, d) for t in values.tasks for d in values.draws(t)]
    errors = np.concatenate([(labels[d.query] - d.predicted) / d.deviation for labels, d in draws])
    for level, share in covered.items():
        half = norm.ppf((1 + float(level)) / 2)
        assert share == pytest.approx(np.mean(np.abs(errors) <= half), abs=1e-5)
