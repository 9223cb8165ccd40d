from __future__ import annotations

import warnings
from dataclasses import replace

import gpytorch
import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.learner import Encoding, Prediction
from molmeta.core.task import Inputs, TaskKind
from molmeta.methods.gp import GaussianProcess, GPConfig, Posterior
from molmeta.methods.padded import PaddedEpisodes, pad
from tests.toy import Net, NetConfig, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION


class TwoViews(Net):
    """A learned view of three numbers, and the two inputs themselves as the second."""

    def __init__(self) -> None:
        super().__init__(NetConfig(width=3, dropout=0.0))
        self.width, self.views = 5, (3, 2)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        assert isinstance(inputs, torch.Tensor)
        return torch.cat([super().forward(inputs), inputs], dim=1)


def process(prior: bool = False, views: tuple[int, ...] = (4,), seed: int = 0) -> GaussianProcess:
    """A process whose every parameter has been moved from its start."""
    torch.manual_seed(seed)
    net = TwoViews() if views == (3, 2) else Net(NetConfig(width=sum(views), dropout=0.0))
    net.views = views
    model = GaussianProcess(net, GPConfig(prior=prior)).double()
    with torch.no_grad():
        for parameter in (*model.classification.parameters(), *model.regression.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
        if prior:
            model.prior.weight.normal_()
            model.prior.bias.fill_(0.4)
    return model


def encoded(kind: TaskKind, n: int, m: int, k: int, views: tuple[int, ...] = (4,)) -> EpisodeBatch:
    """One episode over embeddings whose views have unit length."""
    batch = episodes(kind, [(n, m, k)], width=sum(views))
    unit = [F.normalize(part, dim=1) for part in torch.split(batch.inputs, list(views), dim=1)]  # type: ignore[arg-type]
    return batch.with_inputs(Encoding(torch.cat(unit, dim=1)))


def parts(batch: EpisodeBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Support embeddings, support labels, query embeddings."""
    ((support, query),) = batch.episodes()
    assert isinstance(support.inputs, Encoding)
    assert isinstance(query.inputs, Encoding)
    return support.inputs.values, support.labels, query.inputs.values


def given(model: GaussianProcess, padded: PaddedEpisodes, prior: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of the signs of a binary episode."""
    g = [model._prior(rows) if prior else 0.0 for rows in (padded.support, padded.query)]
    posterior = Posterior(model.classification, padded, 2 * padded.targets - 1, g[0])
    return posterior(padded.across(model.classification), g[1])


def only(model: GaussianProcess, batch: EpisodeBatch) -> Prediction:
    with torch.no_grad():
        (found,) = model.predict_episodes(batch)
    return found


def scikit(model: nn.Module, z: np.ndarray, y: np.ndarray) -> GaussianProcessRegressor:
    """Of unit vectors, exp((cos - 1) / l^2) is the RBF kernel of length l."""
    kernel = ConstantKernel(float(model.own)) * RBF(float(model.log_length.exp()))  # type: ignore[operator,arg-type]
    fitted = GaussianProcessRegressor(kernel, alpha=float(model.noise), optimizer=None)  # type: ignore[arg-type]
    return fitted.fit(z, y)


def test_regression_equals_scikit_learn_s_process_on_unit_embeddings_in_the_labels_unit() -> None:
    model, batch = process(), encoded(REGRESSION, 12, 7, 0)
    z, y, q = (t.double().numpy() for t in map(torch.Tensor.detach, parts(batch)))
    z, q = z / np.linalg.norm(z, axis=1, keepdims=True), q / np.linalg.norm(q, axis=1, keepdims=True)
    oracle = scikit(model.regression, z, (y - y.mean()) / y.std())
    mean, deviation = oracle.predict(q, return_std=True)
    found = only(model, batch)
    noise = float(model.regression.noise)
    assert found.mean is not None
    assert found.deviation is not None
    np.testing.assert_allclose(found.mean.numpy(), mean * y.std() + y.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.deviation.numpy(), np.sqrt(deviation**2 + noise) * y.std(), rtol=1e-5)


def test_classes_are_regressed_one_against_the_rest_and_shrunk_where_the_variance_is_large() -> None:
    model, batch = process(), encoded(MULTICLASS, 12, 7, 3)
    z, labels, q = (F.normalize(t, dim=1).numpy() if t.ndim > 1 else t.numpy() for t in parts(batch))
    signs = 2.0 * np.eye(3)[labels] - 1
    oracle = scikit(model.classification, z, signs - signs.mean(0))
    mean, deviation = oracle.predict(q, return_std=True)
    variance = deviation[:, :1] ** 2 + float(model.classification.noise)
    scale, shrinkage = float(model.log_scale.exp()), float(model.log_shrinkage.exp())
    logits = scale * (mean + signs.mean(0)) / np.sqrt(1 + shrinkage * variance)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = only(model, batch).probabilities
    assert found is not None
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7)


class Exact(gpytorch.models.ExactGP):
    """Two RBF kernels on two slices of the input, and a mean that is a function of the input."""

    def __init__(
        self, model: GaussianProcess, z: torch.Tensor, y: torch.Tensor, base: float, shares: torch.Tensor
    ) -> None:
        super().__init__(z, y, gpytorch.likelihoods.GaussianLikelihood())
        kernel, (left, right) = model.classification, model.backbone.views
        self.base, self.prior, self.left = base, model.prior, left
        self.likelihood.noise = kernel.noise
        dims = (tuple(range(left)), tuple(range(left, left + right)))
        made = [gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(active_dims=d)) for d in dims]
        for v, part in enumerate(made):
            part.outputscale = kernel.own * shares[v]
            part.base_kernel.lengthscale = kernel.log_length[v].exp()
        self.kernel = made[0] + made[1]

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        mean = self.base + self.prior(x[:, : self.left])[:, 0]
        return gpytorch.distributions.MultivariateNormal(mean, self.kernel(x))


def test_two_views_and_a_learned_mean_equal_gpytorch_s_processes_mixed_by_their_evidence() -> None:
    model, batch = process(prior=True, views=(4, 3)), encoded(BINARY, 12, 7, 2, views=(4, 3))
    z, labels, q = parts(batch)
    signs = 2.0 * labels - 1
    evidence, means, variances = [], [], []
    for shares in model.classification.shares:
        oracle = Exact(model, z, signs, float(signs.mean()), shares).double()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evidence.append(oracle.likelihood(oracle.train()(z)).log_prob(signs.double()))
            found = oracle.likelihood(oracle.eval()(q))
        means.append(found.mean)
        variances.append(found.variance)
    weights = torch.stack(evidence).softmax(0)[:, None]
    expected = (weights * torch.stack(means)).sum(0)
    spread = (weights * (torch.stack(variances) + torch.stack(means).square())).sum(0) - expected.square()
    padded, _ = pad(batch, batch.inputs.values)  # type: ignore[attr-defined]
    with torch.no_grad():
        mean, variance = given(model, padded, prior=True)
    torch.testing.assert_close(mean[0, :, 1], expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(mean[0, :, 0], -expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(variance[0], spread, rtol=1e-6, atol=1e-7)


def test_either_view_alone_can_explain_an_assay() -> None:
    model = process(views=(4, 4))
    with torch.no_grad():
        model.regression.log_noise.fill_(-2.0)
        model.regression.log_length.fill_(0.0)
    rows, _, queries = parts(encoded(REGRESSION, 60, 30, 0, views=(4, 4)))
    for column in (0, 4):  # the label is a function of the first view, then of the second
        support = LabelledSet(Encoding(rows), rows[:, column].float(), REGRESSION, 0)
        mean = model.adapt(support).predict(Encoding(queries)).mean
        assert mean is not None
        assert (mean - queries[:, column]).square().mean() < 0.1 * queries[:, column].var()


def test_repeated_rows_in_the_support_do_not_break_the_factorisation_in_single_precision() -> None:
    torch.set_default_dtype(torch.float32)
    model = GaussianProcess(Net(NetConfig(width=4, dropout=0.0)))
    with torch.no_grad():
        model.classification.log_noise.fill_(-20.0)  # noise at its floor
    rows = torch.randn(2, 2).repeat_interleave(100, 0)
    support = LabelledSet(rows, torch.arange(200) % 2, BINARY, 2)  # conflicting labels, too
    found = model.adapt(support).predict(rows[:3]).probabilities
    torch.testing.assert_close(found, torch.full((3, 2), 0.5), atol=0.01, rtol=0)


class Loss(nn.Module):
    def __init__(self, learner: GaussianProcess) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, batch: EpisodeBatch) -> torch.Tensor:
        return self.learner.meta_loss(batch)[0]


@pytest.mark.parametrize("views", [(5,), (3, 2)])
@pytest.mark.parametrize("kind", list(TaskKind))
def test_the_meta_gradient_of_every_parameter_equals_finite_differences(kind: TaskKind, views: tuple[int, ...]) -> None:
    model = process(prior=True, views=views)
    k = 3 if kind is MULTICLASS else 2 if kind is BINARY else 0
    batch = episodes(kind, [(6, 4, k), (4, 3, k)])
    loss = Loss(model)
    unused = "regression" if kind.is_classification else "classification"
    named = {name: p.detach().clone().requires_grad_() for name, p in loss.named_parameters() if unused not in name}

    def run(*values: torch.Tensor) -> torch.Tensor:
        return functional_call(loss, dict(zip(named, values, strict=True)), (batch,))

    assert torch.autograd.gradcheck(run, tuple(named.values()), atol=1e-6)
    logs = model.meta_backward(batch)
    assert logs["loss"] == pytest.approx(float(run(*named.values())))


def test_the_regression_loss_is_student_s_negative_log_likelihood_in_units_of_the_support() -> None:
    model = process()
    batch = episodes(REGRESSION, [(6, 4, 0), (5, 3, 0)])
    losses = []
    with torch.no_grad():
        total, _ = model.meta_loss(batch)
        for i, ((_, query), found) in enumerate(zip(batch.episodes(), model.predict_episodes(batch), strict=True)):
            assert found.mean is not None
            assert found.deviation is not None
            nu = found.tails
            law = torch.distributions.StudentT(nu, found.mean, found.deviation * np.sqrt((nu - 2) / nu))
            constant = batch.target_scale[i].log() + 0.5 * np.log(np.pi)
            losses.append((-law.log_prob(query.labels) - constant).mean())
    torch.testing.assert_close(total, torch.stack(losses).mean(), check_dtype=False)


def test_the_prior_s_weight_falls_as_the_support_grows() -> None:
    model = process(prior=True)
    with torch.no_grad():
        model.prior.weight.zero_()  # the same push towards active everywhere
    weights = []
    for n in (4, 16, 64, 256):
        padded, _ = pad(batch := encoded(BINARY, n, 50, 2), batch.inputs.values)  # type: ignore[attr-defined]
        with torch.no_grad():
            pushed, _ = given(model, padded, prior=True)
            plain, _ = given(model, padded, prior=False)
        weights.append(float((pushed - plain)[..., 1].mean() / model.prior.bias))
    assert 1 > weights[0] > weights[1] > weights[2] > weights[3] > 0
    assert weights[3] < 0.2 * weights[0]


def test_the_prior_is_blind_to_multiclass_and_regression() -> None:
    for kind, k in ((MULTICLASS, 3), (REGRESSION, 0)):
        batch = encoded(kind, 9, 5, k)
        model = process(prior=True)
        with_prior = only(model, batch)
        with torch.no_grad():
            model.prior.weight.mul_(-3)
            model.prior.bias.mul_(-3)
        torch.testing.assert_close(only(model, batch).scores(), with_prior.scores())


def test_regression_follows_the_unit_of_the_labels() -> None:
    model, batch = process(), encoded(REGRESSION, 12, 7, 0)
    ((support, query),) = batch.episodes()
    plain = model.adapt(support).predict(query.inputs)
    other = model.adapt(replace(support, labels=support.labels * 1000 - 7)).predict(query.inputs)
    assert plain.mean is not None
    assert plain.deviation is not None
    torch.testing.assert_close(other.mean, plain.mean * 1000 - 7, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(other.deviation, plain.deviation * 1000, rtol=1e-5, atol=0)


def test_a_constant_support_predicts_its_constant_with_a_deviation_of_the_order_of_one() -> None:
    ((support, query),) = encoded(REGRESSION, 6, 4, 0).episodes()
    found = process().adapt(replace(support, labels=torch.full((6,), 0.1))).predict(query.inputs)
    assert found.deviation is not None
    torch.testing.assert_close(found.mean, torch.full((4,), 0.1), check_dtype=False)
    assert ((found.deviation > 0.1) & (found.deviation < 3)).all()


def test_the_deviation_grows_with_the_distance_from_the_support() -> None:
    ((support, _),) = encoded(REGRESSION, 6, 4, 0).episodes()
    assert isinstance(support.inputs, Encoding)
    near, far = support.inputs.values[:1], F.normalize(-support.inputs.values.mean(0, keepdim=True), dim=1)
    found = process().adapt(support).predict(Encoding(torch.cat([near, far])))
    assert found.deviation is not None
    assert found.deviation[1] > found.deviation[0]
