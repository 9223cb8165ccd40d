from __future__ import annotations

import numpy as np
import pytest
import torch

from molmeta.core.sampling import ways_and_shots
from molmeta.core.task import Task, TaskKind


def test_a_task_has_a_label_for_every_row() -> None:
    with pytest.raises(ValueError, match="task t: 3 rows but 2 labels"):
        Task("t", np.arange(3), np.array([0, 1]), TaskKind.BINARY, 2)
    assert len(Task("t", np.arange(2), np.array([0, 1]), TaskKind.BINARY, 2)) == 2


def test_only_regression_has_values_in_place_of_classes() -> None:
    assert [kind for kind in TaskKind if not kind.is_classification] == [TaskKind.REGRESSION]
    assert TaskKind("binary") is TaskKind.BINARY


def test_tensors_and_lists_of_labels_will_do() -> None:
    for labels in (torch.tensor([0, 1, 1]), [0, 1, 1]):
        task = Task("t", torch.arange(3), labels, TaskKind.BINARY, 2)  # type: ignore[arg-type]
        assert task.class_rows.counts.tolist() == [1, 2]
        assert ways_and_shots(labels, 2, 0, 1, np.random.default_rng(0))[2].tolist() in ([0, 1], [1, 0])  # type: ignore[arg-type]
