"""The baselines: what a practitioner has without meta-learning. Each is fitted to the support alone.

Meant for the ``counts`` backbone (count-Morgan fingerprints). Nothing is meta-trained. A method is its ``fit``: from
``x [n, d]`` and ``y [n]`` to a function of queries that gives probabilities, or means and deviations. The defaults
were chosen on FS-Mol's valid tasks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Laws
from molmeta.core.task import FloatArray, TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, Head, HeadOutput, PaddedEpisodes
from molmeta.methods.tanimoto import Fingerprints

Labels = NDArray[np.int64] | FloatArray
Fitted = Callable[[Fingerprints], FloatArray]
_DOUBT = 1e-6  # share of every probability that is spread over all classes: none is 0, and no ranking changes


class Classical(EmbeddingLearner):
    """A learner that fits each support from nothing, and is done with it once it predicts."""

    Config: type[Any]
    config: Any
    laws = Laws(kinds=frozenset(TaskKind))

    def __init__(self, backbone: nn.Module, config: Any = None) -> None:
        super().__init__(backbone)
        self.laws = replace(self.laws, meta_trained=False)
        self.config = config or self.Config()

    @abstractmethod
    def fit(self, x: Fingerprints, y: Labels, kind: TaskKind) -> Fitted:
        """Learn from one support.

        Args:
            x: ``[n, d]`` embeddings.
            y: ``[n]`` class indices (each class has a row), or values in units of the support: mean 0, deviation 1.
            kind: what ``y`` is.

        Returns:
            A function from ``[m, d]`` to ``[m, k]`` probabilities, or to ``[m, 2]`` means and deviations.
        """

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        return self.conditioned(episodes)(episodes.query)

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        parts = zip(episodes.support, episodes.support_mask, episodes.targets, strict=True)
        fitted = [
            self.fit(_array(rows[mask]), _labels(targets[mask], episodes.kind), episodes.kind)
            for rows, mask, targets in parts
        ]
        return partial(_said, fitted, episodes.targets.shape[-1], episodes.kind)

    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """Refused: there is nothing to differentiate.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{type(self).__name__} learns from each support alone: there is nothing to meta-train. Score it as it is, "
            "or train gp, protonet or maml"
        )


def _array(values: torch.Tensor) -> Fingerprints:
    array: Fingerprints = values.detach().cpu().numpy()
    return array


def _labels(targets: torch.Tensor, kind: TaskKind) -> Labels:
    """``[n]`` class indices of one-hot rows, or the values."""
    if not kind.is_classification:
        values: FloatArray = targets[:, 0].double().cpu().numpy()
        return values
    classes: NDArray[np.int64] = targets.argmax(-1).cpu().numpy()
    return classes


def _said(fitted: Sequence[Fitted], classes: int, kind: TaskKind, query: torch.Tensor) -> HeadOutput:
    """What each episode's model says of its queries ``[t, m, d]``."""
    answers = [answer(_array(rows)) for answer, rows in zip(fitted, query, strict=True)]
    if kind.is_classification:
        return HeadOutput(logits=torch.stack([_logits(each, classes) for each in answers]).to(query.device))
    mean, deviation = torch.from_numpy(np.stack(answers)).to(query).unbind(-1)
    return HeadOutput(mean=mean, deviation=deviation if bool(torch.isfinite(deviation).all()) else None)


def _logits(probabilities: FloatArray, classes: int) -> torch.Tensor:
    """Finite log-probabilities ``[m, classes]`` in double precision; classes that the episode lacks get 0.

    What differs by rounding alone becomes a tie; what differs by more keeps its order, however near to 0 or 1.
    """
    k = probabilities.shape[1]
    doubted = (1 - _DOUBT) * np.round(probabilities, 13) + _DOUBT / k
    return torch.from_numpy(np.pad(np.log(doubted), ((0, 0), (0, classes - k))))


def with_deviation(mean: FloatArray, deviation: float | FloatArray = np.nan) -> FloatArray:
    """``[m, 2]`` means and deviations; NaN says that an estimator has none."""
    return np.stack([mean, np.broadcast_to(deviation, mean.shape)], axis=1)
