"""Telling molecules against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molmeta.core.task import TaskKind
from molmeta.evaluation.results import Result
from molmeta.reporting.predictions import molecules
from tests.made_results import made_result


def test_telling_molecules_are_the_ends_of_each_class(tmp_path: Path) -> None:
    result = Result.read(made_result(tmp_path / "a", tasks=["x"], seeds=6, smiles=[f"C{i}" for i in range(40)]))
    task = result.tasks["x"]
    asked: dict[int, list[float]] = {}
    for draw in result.draws("x"):
        if draw.support_size == 8:
            for row, p in zip(draw.query, draw.predicted, strict=True):
                asked.setdefault(int(row), []).append(float(p))
    actives = {row: float(np.mean(p)) for row, p in asked.items() if task.labels[row] == 1}
    best = max(actives, key=lambda row: actives[row])
    found = molecules(result, task, 8)
    assert len(found) == 4
    assert (found[0].smiles, found[0].label, found[0].verdict) == (f"C{best}", "active", "ranked highest")
    assert found[0].predicted == pytest.approx(actives[best])


def test_telling_values_are_the_largest_errors(tmp_path: Path) -> None:
    result = Result.read(made_result(tmp_path / "a", tasks=["x"], kind=TaskKind.REGRESSION))
    over, under, closest = molecules(result, result.tasks["x"], 8)
    errors = [m.predicted - float(m.label.removeprefix("measured ")) for m in (over, under, closest)]
    assert errors[0] > 0.3 > abs(errors[2])
    assert errors[1] < -0.3
