"""A Gaussian process with a Tanimoto kernel on count fingerprints: the baseline that learns from the support alone.

    k(x, x') = a^2 sum_j min(x_j, x'_j) / sum_j max(x_j, x'_j)

The kernel is Ralaivola et al. (2005, doi:10.1016/j.neunet.2005.07.009). Labels are centred on the support's mean
(classes are -1 and 1); amplitude and noise maximise the support's marginal likelihood. Nothing is meta-trained. Meant
for the ``counts`` backbone; the probability of a class is the tail of the predictive normal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import ndtr

from molmeta.core.backbone import Backbone
from molmeta.core.learner import Laws
from molmeta.core.task import FloatArray, TaskKind
from molmeta.methods.episodic import EmbeddingLearner, HeadOutput, PaddedEpisodes


@dataclass(frozen=True, kw_only=True, slots=True)
class TanimotoGPConfig:
    min_noise: float = 1e-3  # variance of the noise at the least, in units of the centred labels


class TanimotoGP(EmbeddingLearner):
    """Exact GP regression on fingerprints; serves binary tasks and regression."""

    Config = TanimotoGPConfig
    laws = Laws(kinds=frozenset({TaskKind.BINARY, TaskKind.REGRESSION}))

    def __init__(self, backbone: Backbone, config: TanimotoGPConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or TanimotoGPConfig()

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        regression = episodes.kind is TaskKind.REGRESSION
        means, deviations = [], []
        for support, mask, targets, query in zip(
            episodes.support, episodes.support_mask, episodes.targets, episodes.query, strict=True
        ):
            values = targets[mask][:, -1].double().cpu().numpy()
            values = values if regression else 2 * values - 1
            found = self._posterior(_counts(support[mask]), values, _counts(query))
            means.append(torch.from_numpy(found[0]))
            deviations.append(torch.from_numpy(found[1]))
        mean, deviation = torch.stack(means), torch.stack(deviations)
        if regression:
            return HeadOutput(mean=mean.to(episodes.query), deviation=deviation.to(episodes.query))
        active = torch.from_numpy(ndtr((mean / deviation).numpy())).clamp(1e-6, 1 - 1e-6)
        return HeadOutput(logits=torch.stack([(1 - active).log(), active.log()], dim=-1).to(episodes.query))

    def _posterior(self, support: FloatArray, values: FloatArray, query: FloatArray) -> tuple[FloatArray, FloatArray]:
        base = values.mean()
        within, across = tanimoto(support, support), tanimoto(query, support)
        amplitude, noise = fit_scales(within, values - base, self.config.min_noise)
        inverse = np.linalg.inv(amplitude * within + noise * np.eye(len(within)))
        mean = base + amplitude * across @ inverse @ (values - base)
        explained = np.einsum("mi,ij,mj->m", amplitude * across, inverse, amplitude * across)
        return mean, np.sqrt(np.maximum(amplitude - explained, 0) + noise)


def fit_scales(kernel: FloatArray, values: FloatArray, min_noise: float) -> tuple[float, float]:
    """The amplitude a^2 and noise variance that maximise the marginal likelihood of ``values [n]``."""
    eigenvalues, vectors = eigh(kernel)
    eigenvalues, projected = np.maximum(eigenvalues, 0), (vectors.T @ values) ** 2

    def loss(log_scales: FloatArray) -> float:
        variances = np.exp(log_scales[0]) * eigenvalues + np.exp(log_scales[1]) + min_noise
        return float((projected / variances + np.log(variances)).sum())

    spread = max(float(values.var()), 1e-6)
    starts = [np.log([spread, share * spread]) for share in (0.05, 0.5)]
    best = min(
        (minimize(loss, start, method="L-BFGS-B", bounds=[(-12, 6)] * 2) for start in starts), key=lambda r: r.fun
    )
    return float(np.exp(best.x[0])), float(np.exp(best.x[1])) + min_noise


def tanimoto(left: FloatArray, right: FloatArray) -> FloatArray:
    """Min-max Tanimoto similarity ``[i, j]`` of count vectors ``[i, d]`` and ``[j, d]``."""
    shared = _unary(left, right) @ _unary(right, left).T
    overlap: FloatArray = np.asarray(shared.todense(), dtype=np.float64)
    union = left.sum(1)[:, None] + right.sum(1)[None] - overlap
    similarity: FloatArray = overlap / np.maximum(union, 1e-12)
    return similarity


def _unary(counts: FloatArray, other: FloatArray) -> csr_matrix:
    """Counts as ones: c at bin j becomes 1 at (j, 1) ... (j, c), so that a product of two sums their minima."""
    levels = int(max(counts.max(initial=1), other.max(initial=1)))
    rows, bins = np.nonzero(counts)
    repeats = counts[rows, bins].astype(np.int64)
    starts = np.cumsum(repeats) - repeats
    level = np.arange(repeats.sum()) - np.repeat(starts, repeats)
    columns = np.repeat(bins, repeats) * levels + level
    shape = (len(counts), counts.shape[1] * levels)
    return csr_matrix((np.ones(len(columns)), (np.repeat(rows, repeats), columns)), shape=shape)


def _counts(values: torch.Tensor) -> FloatArray:
    counts: FloatArray = values.double().cpu().numpy()
    return counts
