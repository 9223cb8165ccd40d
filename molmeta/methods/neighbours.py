"""What the most similar labelled molecules say: k nearest neighbours, and similarity search."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import softmax

from molmeta.core.task import FloatArray, TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.classical import Classical, Fitted, Labels, with_deviation
from molmeta.methods.tanimoto import Fingerprints, tanimoto


@dataclass(frozen=True, kw_only=True, slots=True)
class KNNConfig:
    neighbours: int = 0  # how many vote; 0: the square root of the support's size
    power: float = 3.0  # of the similarity, in a neighbour's weight
    prior: float = 0.1  # weight of the support's class shares, or of its mean

    def __post_init__(self) -> None:
        if self.neighbours < 0 or not (self.power > 0 and self.prior > 0):
            raise ConfigError(f"knn: power and prior are positive, neighbours at least 0; not {self}")


class KNN(Classical):
    """The nearest neighbours by Tanimoto similarity T vote; all that tie with the last one do.

    p(k | x) = (prior share_k + sum_{i: y_i = k} T_i^power) / (prior + sum_i T_i^power); a value likewise.
    """

    Config = KNNConfig
    config: KNNConfig

    def fit(self, x: Fingerprints, y: Labels, kind: TaskKind) -> Fitted:
        targets = _one_hot(y) if kind.is_classification else y[:, None].astype(np.float64)
        return partial(self._vote, x, targets, kind)

    def _vote(self, x: Fingerprints, targets: FloatArray, kind: TaskKind, query: Fingerprints) -> FloatArray:
        similarity = tanimoto(query, x)
        k = min(len(x), self.config.neighbours or round(len(x) ** 0.5))
        last = np.partition(similarity, -k, axis=1)[:, [-k]]
        weights = np.where(similarity >= last, similarity, 0.0) ** self.config.power
        prior = self.config.prior
        votes = (weights @ targets + prior * targets.mean(0)) / (weights.sum(1, keepdims=True) + prior)
        return votes if kind.is_classification else with_deviation(votes[:, 0])


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarityConfig:
    sharpness: float = 4.0  # of the softmax; it changes no binary ranking


class SimilaritySearch(Classical):
    """The most similar row of each class decides; a value is the nearest row's (the mean of those that tie).

    p(k | x) = softmax_k( sharpness max_{i: y_i = k} T(x, x_i) )
    """

    Config = SimilarityConfig
    config: SimilarityConfig

    def fit(self, x: Fingerprints, y: Labels, kind: TaskKind) -> Fitted:
        return partial(self._classes if kind.is_classification else self._value, x, y)

    def _classes(self, x: Fingerprints, y: Labels, query: Fingerprints) -> FloatArray:
        similarity = tanimoto(query, x)
        nearest = np.stack([similarity[:, y == k].max(1) for k in range(int(y.max()) + 1)], axis=1)
        probabilities: FloatArray = softmax(self.config.sharpness * nearest, axis=1)
        return probabilities

    def _value(self, x: Fingerprints, y: Labels, query: Fingerprints) -> FloatArray:
        similarity = tanimoto(query, x)
        nearest = similarity == similarity.max(1, keepdims=True)
        return with_deviation(nearest @ y / nearest.sum(1))


def _one_hot(y: Labels) -> FloatArray:
    return np.eye(int(y.max()) + 1)[y.astype(np.int64)]
