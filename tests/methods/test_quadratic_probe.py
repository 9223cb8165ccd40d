from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.covariance import EmpiricalCovariance
from torch.nn import functional as F

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding, Learner
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.padded import pad, unit_length
from molmeta.methods.protonet import ProtoNet
from molmeta.methods.quadratic_probe import QuadraticProbe, QuadraticProbeConfig
from tests.checks import assert_gradients_are_finite_differences, assert_ragged_is_one_at_a_time, fall_of_loss
from tests.toy import Net, NetConfig, Shapes, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS = TaskKind.BINARY, TaskKind.MULTICLASS


def made(**settings: object) -> QuadraticProbe:
    torch.manual_seed(0)
    return QuadraticProbe(Net(NetConfig(width=4)), QuadraticProbeConfig(**settings)).eval()  # type: ignore[arg-type]


def encoded(kind: TaskKind, shapes: Shapes) -> EpisodeBatch:
    batch = episodes(kind, shapes, width=4)
    return batch.with_inputs(Encoding(unit_length(batch.inputs)))  # type: ignore[arg-type]


def tensors(batch: EpisodeBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Support rows, their labels and the queries of a single episode."""
    assert isinstance(batch.inputs, Encoding)
    values, is_support = batch.inputs.values, batch.is_support
    return values[is_support], batch.labels[is_support], values[~is_support]


def logits(model: QuadraticProbe, batch: EpisodeBatch) -> torch.Tensor:
    """``[m, k]`` of a single episode."""
    assert isinstance(batch.inputs, Encoding)
    found = model.head(pad(batch, batch.inputs.values)[0]).logits
    assert found is not None
    return found[0].detach()


def distances(rows: torch.Tensor, centres: torch.Tensor, metrics: torch.Tensor) -> torch.Tensor:
    """``[m, k]`` (z - w_k)' M_k (z - w_k), as it is written."""
    offsets = rows[:, None] - centres
    return torch.einsum("mkd,kde,mke->mk", offsets, metrics, offsets)


def metrics_at(z: torch.Tensor, y: torch.Tensor, centres: torch.Tensor, shrinkage: float) -> torch.Tensor:
    found = []
    for k, centre in enumerate(centres):
        offsets = z[y == k] - centre
        scatter = offsets.T @ offsets / len(offsets)
        found.append(torch.linalg.inv((1 - shrinkage) * scatter + shrinkage * torch.eye(4)))
    return torch.stack(found)


def fitted_by_descent(
    z: torch.Tensor, y: torch.Tensor, steps: int, step_size: float, shrinkage: float, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres and metrics by automatic differentiation of the support's loss, with the metrics held."""
    centres = torch.stack([z[y == k].mean(0) for k in range(int(y.max()) + 1)])
    metrics = metrics_at(z, y, centres, shrinkage)
    for _ in range(steps):
        centres = centres.detach().requires_grad_()
        F.cross_entropy(-temperature * distances(z, centres, metrics), y).backward()  # type: ignore[no-untyped-call]
        assert centres.grad is not None
        downhill = torch.linalg.solve(metrics, centres.grad) / (2 * temperature)
        centres = (centres - step_size * downhill).detach()
        metrics = metrics_at(z, y, centres, shrinkage)
    return centres, metrics


@pytest.mark.parametrize("shape", [(3, 5, 3), (5, 6, 2), (40, 6, 3)])  # one row a class; fewer rows than columns; more
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_probe_is_what_descent_on_the_support_with_metrics_in_closed_form_gives(
    steps: int, shape: tuple[int, int, int]
) -> None:
    batch = encoded(MULTICLASS, [shape])
    z, y, query = tensors(batch)
    settings = {"steps": steps, "step_size": 0.7, "shrinkage": 0.3, "temperature": 0.6}
    expected = -0.6 * distances(query, *fitted_by_descent(z, y, **settings))  # type: ignore[arg-type]
    torch.testing.assert_close(logits(made(**settings), batch).log_softmax(1), expected.log_softmax(1))


@pytest.mark.parametrize("shrinkage", [0.01, 0.5])
def test_with_log_determinants_it_is_the_posterior_of_a_normal_distribution_for_each_class(shrinkage: float) -> None:
    batch = encoded(MULTICLASS, [(60, 8, 3)])
    z, y, query = (part.numpy() for part in tensors(batch))
    log_density = np.stack([normal(z[y == k], shrinkage).logpdf(query) for k in range(3)], axis=1)
    model = made(steps=0, shrinkage=shrinkage, temperature=0.5, log_determinant=True)
    np.testing.assert_allclose(logits(model, batch).softmax(1).numpy(), softmax(log_density, axis=1), rtol=1e-7)


def normal(rows: np.ndarray, shrinkage: float):  # type: ignore[no-untyped-def]
    """By scikit-learn's covariance and SciPy's density."""
    covariance = (1 - shrinkage) * EmpiricalCovariance().fit(rows).covariance_ + shrinkage * np.eye(rows.shape[1])
    return multivariate_normal(rows.mean(0), covariance)


def accuracy(model: Learner, batch: EpisodeBatch) -> float:
    prediction = model.predict_episodes(batch)[0].probabilities
    assert prediction is not None
    return float((prediction.argmax(1) == batch.labels[~batch.is_support]).double().mean())


def test_it_tells_classes_of_one_centre_by_their_spread_where_prototypes_cannot() -> None:
    batch = episodes(BINARY, [(40, 200, 2)], width=4)
    assert isinstance(batch.inputs, torch.Tensor)
    along = torch.tensor([[3.0, 3.0, 0.3, 0.3], [0.3, 0.3, 3.0, 3.0]])
    batch = batch.with_inputs(Encoding(batch.inputs * along[batch.labels]))
    assert accuracy(made(), batch) > 0.9
    assert accuracy(ProtoNet(Net(NetConfig(width=4))), batch) < 0.7


@pytest.mark.parametrize("log_determinant", [False, True])
@pytest.mark.parametrize("kind", [BINARY, MULTICLASS])
def test_gradients_equal_finite_differences(kind: TaskKind, log_determinant: bool) -> None:
    k = 2 if kind is BINARY else 3
    batch = episodes(kind, [(7, 4, k), (k, 3, k)])  # the second with one example a class
    assert_gradients_are_finite_differences(made(log_determinant=log_determinant), batch)


@pytest.mark.parametrize("log_determinant", [False, True])
def test_ragged_episodes_give_what_each_gives_alone(log_determinant: bool) -> None:
    shapes = [(9, 5, 3), (4, 7, 4), (2, 1, 2)]
    assert_ragged_is_one_at_a_time(made(log_determinant=log_determinant), episodes(MULTICLASS, shapes))


@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_huge_and_tiny_embeddings_long_steps_and_no_shrinkage_leave_everything_finite(scale: float) -> None:
    model = made(steps=20, step_size=1.0, shrinkage=1e-6, temperature=10.0).float()
    batch = episodes(MULTICLASS, [(20, 9, 2), (3, 9, 3)])
    batch = batch.with_inputs(scale * batch.inputs.float())  # type: ignore[attr-defined]
    assert np.isfinite(list(model.meta_backward(batch).values())).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", [BINARY, MULTICLASS])
def test_the_loss_of_unseen_episodes_falls(kind: TaskKind) -> None:
    assert fall_of_loss(made(), kind) > 0.05


def test_frozen_it_learns_three_numbers_and_runs_the_backbone_without_dropout() -> None:
    model = made(frozen=True)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    assert fall_of_loss(model, BINARY) > 0
    torch.testing.assert_close(model.backbone.state_dict(), before, rtol=0, atol=0)
    model.train()
    assert model.training
    assert not any(part.training for part in model.backbone.modules())
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert names == {"log_step", "logit_shrinkage", "log_temperature"}


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"step_size": 0.0}, {"shrinkage": 1.0}, {"temperature": -1.0}])
def test_settings_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="shrinkage is between 0 and 1"):
        QuadraticProbeConfig(**wrong)  # type: ignore[arg-type]
