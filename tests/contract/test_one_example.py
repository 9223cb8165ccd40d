"""One example a class, in single precision and in training mode, as a model is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molmeta.core.task import TaskKind
from tests.contract.case import CLASSES, Case


def test_one_example_a_class_gives_a_finite_loss_and_finite_gradients(case: Case) -> None:
    if not case.laws.meta_trained:
        pytest.skip("nothing is meta-trained")
    case.learner.train()
    for kind in case.laws.kinds:
        n = CLASSES[kind] or 2  # one value alone has no spread, and one row no batch statistics
        case.learner.zero_grad()
        torch.manual_seed(0)
        logs = case.learner.meta_backward(case.batch(kind, [(n, 5), (n, 2)]))
        assert np.isfinite(list(logs.values())).all()
        assert all(torch.isfinite(p.grad).all() for p in case.learner.parameters() if p.grad is not None)


def test_one_value_alone_gives_a_finite_loss_and_finite_gradients(case: Case) -> None:
    if TaskKind.REGRESSION not in case.laws.kinds or not case.laws.meta_trained or case.laws.transductive:
        pytest.skip("serves no regression, or needs two rows")
    logs = case.learner.meta_backward(case.batch(TaskKind.REGRESSION, [(1, 5), (1, 2)]))
    assert np.isfinite(list(logs.values())).all()
    assert all(torch.isfinite(p.grad).all() for p in case.learner.parameters() if p.grad is not None)
