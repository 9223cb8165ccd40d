"""The Tanimoto Gaussian process against scikit-learn's and RDKit's own results."""

import numpy as np
import pytest
import torch
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from molmeta.core.episode import LabelledSet
from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.tanimoto import tanimoto
from molmeta.methods.tanimoto_gp import Posterior, fit_scales
from molmeta.recipe import make_learner
from tests.assays import MOLECULES


def counts(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.3, (n, 60)).astype(float)


def test_similarity_equals_rdkits_on_count_fingerprints() -> None:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    molecules = [Chem.MolFromSmiles(text) for text in MOLECULES[:8]]
    dense = np.array([generator.GetCountFingerprintAsNumPy(m) for m in molecules], float)
    sparse = [generator.GetCountFingerprint(m) for m in molecules]
    expected = [[DataStructs.TanimotoSimilarity(a, b) for b in sparse] for a in sparse]
    np.testing.assert_allclose(tanimoto(dense, dense), expected)


def scales(kernel: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    eigenvalues, basis = np.linalg.eigh(kernel)
    return fit_scales(eigenvalues, basis.T @ values, 1e-3)


class _Tanimoto(Kernel):
    """The same kernel with fixed scales, as scikit-learn wants it."""

    def __init__(self, amplitude: float = 1.0) -> None:
        self.amplitude = amplitude

    def __call__(self, X, Y=None, eval_gradient=False):  # type: ignore[no-untyped-def]
        return self.amplitude * tanimoto(X, X if Y is None else Y)

    def diag(self, X):  # type: ignore[no-untyped-def]
        return np.full(len(X), self.amplitude)

    def is_stationary(self) -> bool:
        return False


def test_a_query_without_bins_and_large_counts_are_compared_as_the_formula_says() -> None:
    left = np.array([[0, 0, 0], [300, 1, 0], [0, 0, 7]], np.float32)
    right = np.array([[100, 2, 0], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(tanimoto(left, right), [[0, 0], [101 / 302, 0], [0, 0]])


def test_similarity_of_anything_but_counts_is_refused() -> None:
    for wrong in (-1.0, 0.5):
        with pytest.raises(ConfigError, match="backbone counts"):
            tanimoto(np.ones((1, 2)), np.array([[1.0, wrong]]))


def test_the_posterior_equals_scikit_learns_at_the_same_scales() -> None:
    support, query = counts(20), counts(7, seed=1)
    values = support[:, :10].sum(1) + np.random.default_rng(2).normal(0, 0.1, 20)
    learner = make_learner({"name": "tanimoto_gp"}, {"name": "counts"})
    learner.encode = lambda inputs: inputs  # type: ignore[method-assign,assignment,return-value]
    labelled = LabelledSet(
        Encoding(torch.from_numpy(support)), torch.from_numpy(values).float(), TaskKind.REGRESSION, 0
    )
    found = learner.adapt(labelled).predict(Encoding(torch.from_numpy(query)))
    scaled = (values - values.mean()) / values.std()
    amplitude, noise = scales(tanimoto(support, support), scaled)
    peer = GaussianProcessRegressor(_Tanimoto(amplitude), alpha=noise, optimizer=None).fit(support, scaled)
    mean, deviation = peer.predict(query, return_std=True)
    assert found.mean is not None
    assert found.deviation is not None
    np.testing.assert_allclose(found.mean.numpy(), mean * values.std() + values.mean(), rtol=1e-4)
    np.testing.assert_allclose(found.deviation.numpy(), np.sqrt(deviation**2 + noise) * values.std(), rtol=1e-4)


def test_probabilities_are_the_tails_of_the_textbook_posterior() -> None:
    support, query = counts(20), counts(7, seed=1)
    values = np.where(support[:, :10].sum(1) > 3, 1.0, -1.0)
    model = Posterior.of(support, values, 1e-3)
    within, across = tanimoto(support, support), model.amplitude * tanimoto(query, support)
    inverse = np.linalg.inv(model.amplitude * within + model.noise * np.eye(20))
    mean = values.mean() + across @ inverse @ (values - values.mean())
    variance = model.amplitude + model.noise - np.einsum("mi,ij,mj->m", across, inverse, across)
    expected = norm.cdf(mean / np.sqrt(variance))
    np.testing.assert_allclose(model.probabilities(query), np.stack([1 - expected, expected], 1))


def test_the_fitted_scales_are_no_worse_than_any_on_a_grid() -> None:
    support = counts(15)
    values = support[:, 0] - support[:, 0].mean()
    kernel = tanimoto(support, support)

    def likelihood(amplitude: float, noise: float) -> float:
        covariance = amplitude * kernel + noise * np.eye(15)
        priors = np.log(amplitude) ** 2 + np.log((noise - 1e-3) / 0.3) ** 2
        return float(values @ np.linalg.solve(covariance, values) + np.linalg.slogdet(covariance)[1] + priors)

    best = likelihood(*scales(kernel, values))
    grid = [likelihood(a, s) for a in np.logspace(-3, 1, 15) for s in np.logspace(-2.9, 1, 15)]
    assert best <= min(grid) + 1e-3
