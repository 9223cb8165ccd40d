"""A labelled set takes what a person has at hand, and says what is wrong with the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molmeta.core.episode import Episode, LabelledSet, collate
from molmeta.core.learner import Laws, check_support
from molmeta.core.task import Task, TaskKind
from molmeta.errors import InputError, SupportError

LAWS = Laws(kinds=frozenset(TaskKind))
X = torch.zeros(3, 2)


@pytest.mark.parametrize("labels", [[0, 1, 0], np.array([0, 1, 0], np.int32), torch.tensor([False, True, False])])
def test_class_indices_of_any_whole_type_are_kept_as_int64(labels: object) -> None:
    found = LabelledSet(X, labels)  # type: ignore[arg-type]
    assert found.labels.dtype is torch.int64
    assert found.labels.tolist() == [0, 1, 0]


def test_values_are_floats_and_a_kind_may_be_its_word() -> None:
    found = LabelledSet(X, torch.tensor([1, 2, 4]), "regression", 0)  # type: ignore[arg-type]
    assert found.kind is TaskKind.REGRESSION
    assert found.labels.is_floating_point()
    assert LabelledSet(X, torch.ones(3).double(), TaskKind.REGRESSION, 0).labels.dtype is torch.float64


def test_labels_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(InputError, match=r"3 inputs need labels \[3\], not \[2\]"):
        LabelledSet(X, torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"3 inputs need labels \[3\], not \[3, 1\]"):
        LabelledSet(X, torch.zeros(3, 1), TaskKind.REGRESSION, 0)
    with pytest.raises(InputError, match="class indices are whole numbers"):
        LabelledSet(X, torch.zeros(3))


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, -1, 1], [7, 8, 7]])
def test_labels_that_are_not_numbered_from_0_to_k_are_refused_by_range(labels: list[int]) -> None:
    with pytest.raises(SupportError, match=rf"run from {min(labels)} to {max(labels)}, but the set says 2 classes"):
        check_support(LabelledSet(X, torch.tensor(labels)), LAWS)


def test_a_tensor_of_all_rows_serves_as_the_source_of_a_batch() -> None:
    rows = torch.randn(9, 2)
    task = Task("t", np.arange(8, 2, -1), np.array([0, 1, 0, 1, 0, 1]), TaskKind.BINARY, 2)
    batch = collate(rows, [Episode(task, np.array([0, 1]), np.array([2]))])
    torch.testing.assert_close(batch.inputs, rows[[8, 7, 6]])
