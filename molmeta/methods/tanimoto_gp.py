"""A Gaussian process with a Tanimoto kernel on count fingerprints: the strongest of the plain baselines.

    k(x, x') = a^2 sum_j min(x_j, x'_j) / sum_j max(x_j, x'_j)

The kernel is Ralaivola et al. (2005, doi:10.1016/j.neunet.2005.07.009). Labels are centred on the support's mean
(classes are -1 and 1); amplitude and noise maximise the support's marginal likelihood times weak log-normal priors:
without them, three supports of 16 out of four are explained as noise alone, and every compound gets the base rate. The
probability of a class is the tail of the predictive normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import ndtr

from molmeta.core.learner import Laws
from molmeta.core.task import FloatArray, TaskKind
from molmeta.methods.classical import Classical, Fitted, Labels, with_deviation
from molmeta.methods.tanimoto import Fingerprints, tanimoto

PRIOR = np.log([1.0, 0.3])  # of amplitude and noise
PRIOR_WIDTH = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TanimotoGPConfig:
    min_noise: float = 1e-3  # variance of the noise at the least, in units of the centred labels


class TanimotoGP(Classical):
    """Exact GP regression on fingerprints; serves binary tasks and regression."""

    Config = TanimotoGPConfig
    config: TanimotoGPConfig
    laws = Laws(kinds=frozenset({TaskKind.BINARY, TaskKind.REGRESSION}))

    def fit(self, x: Fingerprints, y: Labels, kind: TaskKind) -> Fitted:
        values = np.asarray(2 * y - 1 if kind.is_classification else y, np.float64)
        posterior = Posterior.of(x, values, self.config.min_noise)
        return posterior.probabilities if kind.is_classification else posterior.values


@dataclass(frozen=True, eq=False)
class Posterior:
    """A GP that has seen its support ``x [n, d]``, in the eigenbasis of the support's similarities.

    Attributes:
        x: the support.
        base: the labels' mean.
        basis: ``[n, n]`` eigenvectors, a column each.
        variances: ``[n]`` eigenvalues of the labels' covariance.
        weights: ``[n]`` what an eigenvector adds to the mean.
        amplitude, noise: variances.
    """

    x: Fingerprints
    base: float
    basis: FloatArray
    variances: FloatArray
    weights: FloatArray
    amplitude: float
    noise: float

    @classmethod
    def of(cls, x: Fingerprints, values: FloatArray, min_noise: float) -> Posterior:
        base = float(values.mean())
        eigenvalues, basis = eigh(tanimoto(x, x))
        eigenvalues, projected = np.maximum(eigenvalues, 0), basis.T @ (values - base)
        amplitude, noise = fit_scales(eigenvalues, projected, min_noise)
        variances = amplitude * eigenvalues + noise
        return cls(x, base, basis, variances, projected / variances, amplitude, noise)

    def values(self, query: Fingerprints) -> FloatArray:
        """``[m, 2]`` predictive means and deviations, noise included."""
        covariance = self.amplitude * (tanimoto(query, self.x) @ self.basis)
        explained = (covariance**2 / self.variances).sum(1)
        deviation = np.sqrt(np.maximum(self.amplitude - explained, 0) + self.noise)
        return with_deviation(self.base + covariance @ self.weights, deviation)

    def probabilities(self, query: Fingerprints) -> FloatArray:
        """``[m, 2]`` of the classes -1 and 1."""
        mean, deviation = self.values(query).T
        z = mean / deviation
        return np.stack([ndtr(-z), ndtr(z)], axis=1)


def fit_scales(eigenvalues: FloatArray, projected: FloatArray, min_noise: float) -> tuple[float, float]:
    """The amplitude a^2 and noise variance that are likeliest a posteriori.

    The priors are log-normal, a factor of e wide, around an amplitude of 1 and a noise of 0.3: centred labels of two
    classes have a variance of 1 or less, those of a regression of 1.

    Args:
        eigenvalues: ``[n]`` of the kernel of amplitude 1.
        projected: ``[n]`` centred labels in its eigenbasis.
        min_noise: the noise at the least.
    """
    power = projected**2

    def loss(log_scales: FloatArray) -> tuple[float, FloatArray]:
        amplitude, noise = np.exp(log_scales)
        variances = amplitude * eigenvalues + noise + min_noise
        slope = 1 / variances - power / variances**2
        gradient = np.array([amplitude * (slope @ eigenvalues), noise * slope.sum()])
        off = (log_scales - PRIOR) / PRIOR_WIDTH
        return float((power / variances + np.log(variances)).sum() + off @ off), gradient + 2 * off / PRIOR_WIDTH

    spread = max(float(power.mean()), 1e-6)
    starts = [PRIOR, *(np.log([spread, share * spread]) for share in (0.05, 0.5))]
    runs = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-12, 6)] * 2) for start in starts]
    amplitude, noise = np.exp(min(runs, key=lambda run: float(run.fun)).x)
    return float(amplitude), float(noise) + min_noise
