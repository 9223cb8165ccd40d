from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.padded import pad
from molmeta.methods.r2d2 import R2D2, R2D2Config
from tests.checks import assert_gradients_are_finite_differences, assert_ragged_is_one_at_a_time, fall_of_loss
from tests.toy import Net, NetConfig, Shapes, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
SOLVED = [
    ("ridge", BINARY),
    ("ridge", MULTICLASS),
    ("ridge", REGRESSION),
    ("logistic", BINARY),
    ("logistic", MULTICLASS),
]


def made(**settings: object) -> R2D2:
    torch.manual_seed(0)
    return R2D2(Net(NetConfig(width=4)), R2D2Config(**settings)).eval()  # type: ignore[arg-type]


def encoded(kind: TaskKind, shapes: Shapes, scale: float = 1.0) -> EpisodeBatch:
    batch = episodes(kind, shapes, width=4)
    return batch.with_inputs(Encoding(scale * batch.inputs))  # type: ignore[operator]


def arrays(part: LabelledSet) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with a column of ones, and labels."""
    assert isinstance(part.inputs, Encoding)
    z = part.inputs.values.numpy()
    return np.hstack([z, np.ones((len(z), 1))]), part.labels.numpy()


def logits(model: R2D2, batch: EpisodeBatch) -> np.ndarray:
    """``[m, k]`` of a single episode."""
    assert isinstance(batch.inputs, Encoding)
    found = model.head(pad(batch, batch.inputs.values)[0]).logits
    assert found is not None
    return found[0].detach().numpy()


@pytest.mark.parametrize("n", [3, 30])  # fewer rows than columns, and more
@pytest.mark.parametrize("ridge", [0.1, 3.0])
def test_ridge_logits_are_scikit_learn_s_ridge_on_one_hot_labels(n: int, ridge: float) -> None:
    batch = encoded(MULTICLASS, [(n, 5, 3)])
    ((support, query),) = batch.episodes()
    (x, y), (q, _) = arrays(support), arrays(query)
    oracle = Ridge(alpha=ridge, fit_intercept=False).fit(x, np.eye(3)[y])
    np.testing.assert_allclose(logits(made(ridge=ridge, scale=2.0), batch), 2 * oracle.predict(q), rtol=1e-7)


@pytest.mark.parametrize("n", [3, 30])
@pytest.mark.parametrize("ridge", [0.1, 3.0])
def test_logistic_logits_are_scikit_learn_s_logistic_regressions_at_convergence(n: int, ridge: float) -> None:
    batch = encoded(MULTICLASS, [(n, 5, 3)])
    ((support, query),) = batch.episodes()
    (x, y), (q, _) = arrays(support), arrays(query)
    found = logits(made(solver="logistic", ridge=ridge, scale=1.0, steps=30), batch)
    for k in range(3):
        oracle = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(x, y == k)
        np.testing.assert_allclose(found[:, k], oracle.decision_function(q), rtol=1e-4, atol=1e-5)


def test_a_few_newton_steps_are_near_convergence() -> None:
    batch = encoded(MULTICLASS, [(30, 5, 3)])
    few, many = (logits(made(solver="logistic", steps=steps), batch) for steps in (5, 50))
    np.testing.assert_allclose(few, many, atol=1e-3)


@pytest.mark.parametrize("n", [3, 30])
def test_regression_is_ridge_with_the_posterior_s_deviation(n: int) -> None:
    batch = encoded(REGRESSION, [(n, 5, 0)])
    ((support, query),) = batch.episodes()
    (x, y), (q, _) = arrays(support), arrays(query)
    loc, scale = y.mean(), y.std()
    found = made(ridge=0.5).predict_episodes(batch)[0]
    assert found.mean is not None
    assert found.deviation is not None
    oracle = Ridge(alpha=0.5, fit_intercept=False).fit(x, (y - loc) / scale)
    np.testing.assert_allclose(found.mean.detach().numpy(), loc + scale * oracle.predict(q), rtol=1e-5)
    inverse = np.linalg.inv(x.T @ x + 0.5 * np.eye(5))
    variance = np.exp(-1.4) * (1 + np.einsum("md,de,me->m", q, inverse, q))
    np.testing.assert_allclose(found.deviation.detach().numpy(), scale * np.sqrt(variance), rtol=1e-5)


@pytest.mark.parametrize(("solver", "kind"), SOLVED)
def test_gradients_equal_finite_differences(solver: str, kind: TaskKind) -> None:
    k = {BINARY: 2, MULTICLASS: 3, REGRESSION: 0}[kind]
    assert_gradients_are_finite_differences(made(solver=solver), episodes(kind, [(5, 4, k), (3, 2, k)]))


@pytest.mark.parametrize("solver", ["ridge", "logistic"])
def test_ragged_episodes_give_what_each_gives_alone(solver: str) -> None:
    assert_ragged_is_one_at_a_time(made(solver=solver), episodes(MULTICLASS, [(9, 5, 3), (4, 7, 4), (2, 1, 2)]))
    if solver == "ridge":
        assert_ragged_is_one_at_a_time(made(), episodes(REGRESSION, [(9, 5, 0), (4, 7, 0), (1, 1, 0)]))


@pytest.mark.parametrize("solver", ["ridge", "logistic"])
@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_huge_and_tiny_embeddings_and_a_tiny_ridge_leave_everything_finite(solver: str, scale: float) -> None:
    model = made(solver=solver, ridge=1e-4, steps=10).float()
    batch = episodes(MULTICLASS, [(20, 9, 2), (3, 9, 3)])
    batch = batch.with_inputs(scale * batch.inputs.float())  # type: ignore[attr-defined]
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.mul_(10)
    assert np.isfinite(list(model.meta_backward(batch).values())).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("solver", "kind"), SOLVED)
def test_the_loss_of_unseen_episodes_falls(solver: str, kind: TaskKind) -> None:
    assert fall_of_loss(made(solver=solver), kind) > 0.05


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"ridge": 0.0}, {"scale": -1.0}])
def test_settings_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="ridge and scale are positive"):
        R2D2Config(**wrong)  # type: ignore[arg-type]
