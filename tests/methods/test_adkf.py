from __future__ import annotations

import copy
import math
import warnings
from dataclasses import replace
from typing import Any

import gpytorch
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Kernel, Matern, WhiteKernel
from sklearn.metrics import pairwise_distances

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods import METHODS, adkf
from molmeta.methods.adkf import ADKF, DKT, SIMILARITIES, ADKFConfig, Posterior, Process, squared_distance
from molmeta.methods.padded import PaddedEpisodes, pad
from tests.checks import assert_ragged_is_one_at_a_time, fall_of_loss, numbers
from tests.oracle.slopes import assert_gradient_is_the_slope, gradients
from tests.toy import Net, NetConfig, Shapes, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
KINDS = {BINARY: 2, MULTICLASS: 3, REGRESSION: 0}
KERNELS = ("matern", "rbf")
JITTER = 1e-3


def made(name: str = "adkf", **settings: Any) -> DKT:
    """A learner whose every parameter has been moved from its start."""
    torch.manual_seed(0)
    method = METHODS[name]
    model: DKT = method(Net(NetConfig(width=4, dropout=0.0)), method.Config(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        model.regression[2] += 2.0  # of a noise of .01, rounding would show in finite differences
    return model.eval()


def ragged(kind: TaskKind) -> EpisodeBatch:
    k = KINDS[kind]
    return episodes(kind, [(9, 4, k), (16, 5, k), (max(k, 2), 3, k)])  # the last with one example a class


def padded(kind: TaskKind, shapes: Shapes, scale: float = 1.0) -> PaddedEpisodes:
    batch = episodes(kind, shapes, width=4)
    assert isinstance(batch.inputs, torch.Tensor)
    return pad(batch, scale * batch.inputs)[0]


def process(kind: TaskKind, kernel: str = "matern") -> Process:
    k = KINDS[kind]
    return Process(padded(kind, [(9, 4, k), (16, 5, k), (max(k, 2), 3, k)]), SIMILARITIES[kernel])


def thetas(tasks: int = 1, seed: int = 0) -> torch.Tensor:
    some = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(tasks, 3, generator=some) - torch.tensor([0.0, 0.0, 1.5])


class Exact(gpytorch.models.ExactGP):
    """An exact process at given hyperparameters."""

    def __init__(self, z: torch.Tensor, y: torch.Tensor, kernel: str, unit: torch.Tensor, theta: torch.Tensor) -> None:
        super().__init__(z, y, gpytorch.likelihoods.GaussianLikelihood())
        length, own, noise = theta.exp()
        self.likelihood.noise = noise + JITTER
        base = gpytorch.kernels.MaternKernel(nu=2.5) if kernel == "matern" else gpytorch.kernels.RBFKernel()
        base.lengthscale = length * unit.sqrt()
        self.kernel = gpytorch.kernels.ScaleKernel(base)
        self.kernel.outputscale = own

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(x.new_zeros(len(x)), self.kernel(x))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_posterior_and_the_evidence_are_gpytorch_s(kernel: str) -> None:
    one = padded(REGRESSION, [(12, 7, 0)])
    found, y = Process(one, SIMILARITIES[kernel]), one.targets[0, :, 0]
    values, evidence = [], []
    for seed in (0, 1):
        theta = thetas(seed=seed)
        oracle = Exact(one.support[0], y, kernel, found.unit[0, 0, 0], theta[0]).double()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evidence.append(oracle.likelihood(oracle.train()(one.support[0])).log_prob(y))
            expected = oracle.likelihood(oracle.eval()(one.query[0]))
        mean, variance = Posterior(found, theta)(one.across(squared_distance))
        torch.testing.assert_close(mean[0, :, 0], expected.mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(variance[0], expected.variance, rtol=1e-6, atol=1e-7)
        values.append(found.objective(theta[0], torch.zeros(1, 3)).value[0])
    torch.testing.assert_close(values[0] - values[1], evidence[1] - evidence[0], rtol=1e-6, atol=1e-7)


def test_the_prior_of_length_and_noise_is_gpytorch_s_log_normal_with_its_mode_at_the_start() -> None:
    start, steps, found = thetas()[0], torch.tensor([[0.0, 0.0, 0.0], [0.4, 0.0, -0.3]]), process(REGRESSION)
    with torch.no_grad():
        moved = [found.objective(start, step.expand(3, 3)).value[0] for step in steps]
        shifted = [found.objective(start + step, torch.zeros(3, 3)).value[0] for step in steps]
    prior = (moved[1] - moved[0]) - (shifted[1] - shifted[0])
    expected = torch.tensor(0.0)
    for j in (0, 2):
        density = gpytorch.priors.LogNormalPrior(float(start[j]) + 0.25**2, 0.25)
        expected -= density.log_prob((start + steps[1])[j].exp()) - density.log_prob(start[j].exp())
        mode = minimize(lambda x, d=density: -float(d.log_prob(torch.tensor(math.exp(x[0])))), start[j], tol=1e-10).x[0]
        assert mode == pytest.approx(float(start[j]), abs=1e-4)
    torch.testing.assert_close(prior, expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_and_hessian_of_the_objective_are_those_of_autograd(kind: TaskKind, kernel: str) -> None:
    found, start = process(kind, kernel), torch.tensor([0.1, -0.2, -2.0])
    moved = (0.3 * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    value, gradient, hessian = found.objective(start, moved)
    (expected,) = torch.autograd.grad(value.sum(), moved, create_graph=True)
    torch.testing.assert_close(gradient, expected)
    rows = [torch.autograd.grad(expected[:, j].sum(), moved, retain_graph=True)[0] for j in range(3)]
    torch.testing.assert_close(hessian, torch.stack(rows, 1))


def scikit(found: Process, one: PaddedEpisodes, kernel: str, start: np.ndarray) -> GaussianProcessRegressor:
    """Its theta is ours: the logarithms of a^2, l m and s^2, in this order."""
    own, length, noise = np.exp(start[[1, 0, 2]])
    length *= math.sqrt(float(found.unit))
    similar: Kernel = Matern(length, nu=2.5) if kernel == "matern" else RBF(length)
    model = GaussianProcessRegressor(ConstantKernel(own) * similar + WhiteKernel(noise), alpha=JITTER, optimizer=None)
    return model.fit(one.support[0].numpy(), found.targets[0, :, -1].numpy())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", [BINARY, REGRESSION])
def test_the_fit_is_where_scipy_finds_the_best_posterior_of_scikit_learn_s_process(kind: TaskKind, kernel: str) -> None:
    start, widths = np.array([0.2, 0.3, -1.5]), np.array(Process.widths)
    one = padded(kind, [(14, 5, KINDS[kind])])
    found = Process(one, SIMILARITIES[kernel])
    oracle = scikit(found, one, kernel, start)
    order = [1, 0, 2]

    def negative(moved: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = oracle.log_marginal_likelihood(oracle.kernel_.theta + moved[order], eval_gradient=True)
        return float((moved**2 / widths**2).sum() / 2 - value), moved / widths**2 - slope[order]

    expected = minimize(negative, np.zeros(3), jac=True, tol=1e-10).x
    at = torch.from_numpy(start)
    moved = found.fit(at, 30)
    assert found.objective(at, moved).gradient.abs().max() < 1e-5
    np.testing.assert_allclose(moved[0], expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1  # there was something to fit
    polished = adkf.newton(found, at, moved, steps=2)
    assert found.objective(at, polished).gradient.abs().max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_finds_the_same_fit(kind: TaskKind) -> None:
    shapes = [(n, 2, KINDS[kind]) for n in (3, 16, 64, 128)]
    start, one = torch.tensor([0.0, 0.0, -3.0]), padded(kind, shapes)
    fits = []
    for dtype in (torch.float32, torch.float64):
        cast = {name: part.to(dtype) for name, part in vars(one).items() if name in ("support", "targets", "query")}
        found = Process(replace(one, **cast), adkf.matern)
        at = start.to(dtype)
        fits.append(adkf.newton(found, at, found.fit(at, 30), steps=2).double())
    torch.testing.assert_close(*fits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_meta_gradient_is_the_slope_of_the_whole_objective_with_its_fits(kind: TaskKind, kernel: str) -> None:
    starts = "classification" if kind.is_classification else "regression"
    assert_gradient_is_the_slope(made(kernel=kernel), ragged(kind), must_move=(starts, "backbone.net.0.weight"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_meta_gradient_of_a_shared_kernel_is_the_slope_of_its_objective(kind: TaskKind) -> None:
    starts = "classification" if kind.is_classification else "regression"
    assert_gradient_is_the_slope(made("dkt"), ragged(kind), must_move=(starts, "backbone.net.0.weight"))


def test_without_the_implicit_term_the_fits_count_as_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, newton = made(implicit=False), ragged(BINARY), adkf.newton
    kept: list[torch.Tensor] = []

    def keeping(*args: Any, **more: Any) -> torch.Tensor:
        kept.append(newton(*args, **more))
        return kept[-1]

    with monkeypatch.context() as patch:
        patch.setattr(adkf, "newton", keeping)
        found = gradients(copy.deepcopy(model), batch)
    whole = gradients(made(), batch)
    assert any(not torch.allclose(whole[name], g, rtol=1e-2, atol=1e-4) for name, g in found.items())
    monkeypatch.setattr(adkf, "newton", lambda *_, **__: kept[0])
    assert_gradient_is_the_slope(model, batch)
    torch.testing.assert_close(gradients(model, batch), found)


@pytest.mark.parametrize("kernel", KERNELS)
def test_predictions_are_twice_differentiable_through_the_fit(kernel: str) -> None:
    model = made(kernel=kernel)
    batch = episodes(REGRESSION, [(5, 2, 0)], width=2)

    def predicted(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        said = model.head(pad(batch, rows)[0])
        assert said.mean is not None
        assert said.deviation is not None
        return said.mean, said.deviation

    rows = batch.inputs.clone().requires_grad_()  # type: ignore[union-attr]
    torch.autograd.gradcheck(predicted, rows, atol=1e-6)
    torch.autograd.gradgradcheck(predicted, rows, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adkf", "dkt"])
def test_a_ragged_batch_is_its_tasks_alone(name: str, kind: TaskKind) -> None:
    assert_ragged_is_one_at_a_time(made(name), ragged(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_that_lets_nothing_move_is_the_shared_kernel(kind: TaskKind, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, shared, batch = made(), made("dkt"), ragged(kind)
    pairs = [[numbers(p) for p in model.predict_episodes(batch)] for model in (fitted, shared)]
    assert any(not torch.allclose(*pair, rtol=1e-2) for pair in zip(*pairs, strict=True))
    monkeypatch.setattr(Process, "widths", (1e-6, 1e-6, 1e-6))
    torch.testing.assert_close([numbers(p) for p in fitted.predict_episodes(batch)], pairs[1], rtol=1e-6, atol=1e-8)


def test_the_unit_of_the_length_is_the_median_heuristic_of_the_support_without_repeated_rows() -> None:
    one = padded(REGRESSION, [(9, 3, 0), (6, 2, 0)])
    support = one.support.clone()
    support[0, 8] = support[0, 0]
    units = Process(replace(one, support=support), adkf.matern).unit.flatten()
    for rows, unit in zip((support[0], support[1, :6]), units, strict=True):
        squares = pairwise_distances(rows.numpy(), metric="sqeuclidean")[np.triu_indices(len(rows), 1)]
        # torch takes the lower of the two middle ones
        assert float(unit) == pytest.approx(np.percentile(squares[squares > 1e-9], 50, method="lower") / 2)


def test_the_scale_of_the_embedding_changes_nothing() -> None:
    model, batch = made(), episodes(BINARY, [(9, 4, 2)], width=4)
    found = [
        numbers(model.predict_episodes(batch.with_inputs(Encoding(scale * batch.inputs)))[0])  # type: ignore[operator]
        for scale in (1.0, 1000.0)
    ]
    torch.testing.assert_close(*found)


def test_labels_that_change_often_along_a_line_get_a_shorter_length_than_those_that_change_once() -> None:
    line = torch.linspace(0, 1, 16)[:, None]
    classes = torch.stack([torch.arange(16) // 3 % 2, torch.arange(16) // 8])
    rows, mask = line.expand(2, 16, 1), torch.ones(2, 16, dtype=torch.bool)
    targets = torch.nn.functional.one_hot(classes, 2).double()
    one = PaddedEpisodes(rows, mask, targets, rows, torch.tensor([2, 2]), BINARY)
    often, once = Process(one, adkf.matern).fit(torch.tensor([0.0, 0.0, math.log(0.1)]), 30)
    assert often[0] < once[0] - 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_equal_rows_and_equal_labels_have_finite_gradients_in_single_precision(kind: TaskKind) -> None:
    batch = episodes(kind, [(8, 4, KINDS[kind]), (8, 4, KINDS[kind])])
    inputs = batch.inputs.float()  # type: ignore[union-attr]
    inputs[batch.episode == 0] = inputs[0].clone()
    labels = batch.labels if kind.is_classification else torch.where(batch.episode == 1, 5.0, batch.labels)
    scale = torch.where(torch.arange(2) == 1, 1.0, batch.target_scale)
    loc = batch.target_loc if kind.is_classification else torch.tensor([batch.target_loc[0], 5.0])
    equal = EpisodeBatch(
        inputs, labels, batch.episode, batch.is_support, batch.num_classes, kind, loc.float(), scale.float()
    )
    model = made().float()
    assert np.isfinite(model.meta_backward(equal)["loss"])
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["adkf", "dkt"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_unseen_tasks_falls(kind: TaskKind, name: str) -> None:
    method = METHODS[name]
    torch.manual_seed(0)
    assert fall_of_loss(method(Net(NetConfig(width=4))), kind, steps=40) > 0.02


def test_a_fit_of_no_steps_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="steps is 0, but a fit takes 1 Newton step or more"):
        ADKFConfig(steps=0)
    assert isinstance(made(steps=1), ADKF)
