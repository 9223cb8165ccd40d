"""Scores of one draw. A query with one class has no ranking: NaN, never 0."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from molmeta.core.task import FloatArray, IntArray


def delta_auprc(labels: IntArray, scores: FloatArray) -> float:
    """Average precision minus the query's positive share (Stanley et al., 2021); labels ``[m]`` of 0 and 1."""
    share = float(np.mean(labels))
    if not 0 < share < 1 or not np.isfinite(scores).all():  # a model that diverged has no ranking either
        return float("nan")
    return float(average_precision_score(labels, scores)) - share


def roc_auc(labels: IntArray, scores: FloatArray) -> float:
    """Area under the ROC curve; labels ``[m]`` of 0 and 1."""
    if not 0 < np.mean(labels) < 1 or not np.isfinite(scores).all():
        return float("nan")
    return float(roc_auc_score(labels, scores))


def nll(labels: IntArray, probabilities: FloatArray) -> float:
    """Mean negative log-likelihood in nats; ``probabilities [m, k]``."""
    taken = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(taken, 1e-7, 1)).mean())


def brier(labels: IntArray, probabilities: FloatArray) -> float:
    """Mean squared error of the active class's probability; ``probabilities [m, 2]``."""
    return float(np.mean((probabilities[:, 1] - labels) ** 2))


def accuracy(labels: IntArray, probabilities: FloatArray) -> float:
    """Share of rows whose likeliest class is the right one; ``probabilities [m, k]``."""
    return float(np.mean(probabilities.argmax(1) == labels))


def r2_os(values: FloatArray, mean: FloatArray, support_mean: float) -> float:
    """Out-of-sample R^2: 1 - squared error over the squared error of the support's mean."""
    around = float(np.sum((values - support_mean) ** 2))
    return 1 - float(np.sum((values - mean) ** 2)) / around if around > 0 else float("nan")


def rmse(values: FloatArray, mean: FloatArray) -> float:
    """Root mean squared error, in the values' unit."""
    return float(np.sqrt(np.mean((values - mean) ** 2)))


def spearman(values: FloatArray, mean: FloatArray) -> float:
    """Rank correlation; NaN where either side is constant."""
    if np.ptp(values) == 0 or np.ptp(mean) == 0:
        return float("nan")
    return float(spearmanr(values, mean).statistic)
