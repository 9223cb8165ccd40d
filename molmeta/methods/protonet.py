"""Prototypical networks (Snell et al., 2017, arXiv:1703.05175), with three distances.

    p(y = k | x) = softmax_k( -d(f(x), c_k) ),   c_k = mean of f over the support of class k

    euclidean     d = ||z - c_k||^2                                        Snell et al., eq. 2
    mahalanobis   d = (z - c_k)' S_k^-1 (z - c_k),                         Stanley et al., 2021 (FS-Mol)
                  S_k = l S_class + (1 - l) S_task + 0.1 I,  l = min(n_k / (n_k + 1), 0.1)
    cosine        d = -T cos(z, c_k), T learned                            Gidaris & Komodakis, 2018, arXiv:1804.09458

With ``attention``, half of the cosine is taken to a prototype of the query's own, the class's support rows weighted
by a softmax of their cosine to the query.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.methods.episodic import EmbeddingLearner, HeadOutput, PaddedEpisodes
from molmeta.methods.padded import inner, prototypes, squared_distance, unit_length


@dataclass(frozen=True, kw_only=True, slots=True)
class ProtoNetConfig:
    distance: Literal["euclidean", "mahalanobis", "cosine"] = "euclidean"
    attention: bool = False  # cosine only: add a prototype that the query itself weights
    temperature: float = 10.0  # cosine only: T at the start


class ProtoNet(EmbeddingLearner):
    """Nearest class prototype in a learned space."""

    Config = ProtoNetConfig
    laws = Laws(kinds=frozenset({TaskKind.BINARY, TaskKind.MULTICLASS}), shares_rows=True)

    def __init__(self, backbone: nn.Module, config: ProtoNetConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or ProtoNetConfig()
        if self.config.distance == "mahalanobis":
            self.laws = replace(self.laws, shares_rows=False)
        if self.config.distance == "cosine":
            self.log_temperature = nn.Parameter(torch.tensor(self.config.temperature).log())

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        if self.config.distance == "euclidean":
            logits = -episodes.compare(squared_distance, episodes.class_means())
        elif self.config.distance == "mahalanobis":
            logits = -mahalanobis(episodes)
        else:
            logits = self._cosine(episodes)
        return HeadOutput(logits=logits)

    def _cosine(self, episodes: PaddedEpisodes) -> torch.Tensor:
        unit, temperature = episodes.map(unit_length), self.log_temperature.exp()
        cosine = unit.compare(inner, unit_length(unit.class_means()))
        if self.config.attention:
            attended = attended_cosine(unit.across(inner), unit.within(inner), episodes.targets, temperature)
            cosine = (cosine + attended) / 2
        return temperature * cosine


def attended_cosine(
    cosine: torch.Tensor, within: torch.Tensor, targets: torch.Tensor, temperature: torch.Tensor
) -> torch.Tensor:
    """Cosine ``[t, m, k]`` of each query to the mean of each class's support, weighted by softmax(T cos).

    The mean is never formed: with weights w, its product with the query is the weighted sum of cosines, and its squared
    length is w' S S' w.

    Args:
        cosine: ``[t, m, n]`` of each query to each support row.
        within: ``[t, n, n]`` of the support rows to each other, S S'.
        targets: ``[t, n, k]`` one-hot.
        temperature: T.
    """
    outside = targets.mT[:, None] == 0  # [t, 1, k, n]: a softmax over the last dimension is the fast one
    attention = (temperature * cosine)[:, :, None].masked_fill(outside, -1e4).softmax(-1)
    weights = attention.masked_fill(outside, 0).sum(2)  # a row has weight in its own class alone
    same_class = within * (targets @ targets.mT)
    squared_length = ((weights @ same_class) * weights) @ targets
    return ((weights * cosine) @ targets) / squared_length.clamp(min=1e-12).sqrt()


def mahalanobis(episodes: PaddedEpisodes) -> torch.Tensor:
    """Squared Mahalanobis distances ``[t, m, k]`` under each class's regularised covariance."""
    counts = episodes.class_counts()
    centres = prototypes(episodes.support, episodes.targets)
    weight = (counts / (counts + 1)).clamp(max=0.1)[..., None, None]
    of_task = covariance(episodes.support, episodes.support_mask.to(episodes.support.dtype))
    distances = []
    for k in range(episodes.targets.shape[-1]):
        of_class = covariance(episodes.support, episodes.targets[..., k])
        identity = torch.eye(of_class.shape[-1], dtype=of_class.dtype, device=of_class.device)
        mixed = weight[:, k] * of_class + (1 - weight[:, k]) * of_task + 0.1 * identity
        offset = episodes.query - centres[:, k, None]
        whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(mixed), offset.mT, upper=False)
        distances.append(whitened.square().sum(1))
    return torch.stack(distances, dim=-1)


def covariance(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Unbiased covariance ``[t, d, d]`` of the rows ``[t, n, d]`` whose weight ``[t, n]`` is 1; 0 for a single row."""
    count = weights.sum(1)[:, None, None]
    mean = (weights[..., None] * rows).sum(1, keepdim=True) / count.clamp(min=1)
    centred = (rows - mean) * weights[..., None]
    return centred.mT @ centred / (count - 1).clamp(min=1)
