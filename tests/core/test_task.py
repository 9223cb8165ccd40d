from __future__ import annotations

import numpy as np
import pytest

from molmeta.core.task import Task, TaskKind


def test_a_task_has_a_label_for_every_row() -> None:
    with pytest.raises(ValueError, match="task t: 3 rows but 2 labels"):
        Task("t", np.arange(3), np.array([0, 1]), TaskKind.BINARY, 2)
    assert len(Task("t", np.arange(2), np.array([0, 1]), TaskKind.BINARY, 2)) == 2


def test_only_regression_has_values_in_place_of_classes() -> None:
    assert [kind for kind in TaskKind if not kind.is_classification] == [TaskKind.REGRESSION]
    assert TaskKind("binary") is TaskKind.BINARY
