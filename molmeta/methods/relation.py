"""Relation networks (Sung et al., 2018, arXiv:1711.06025).

    r_k(x) = g_phi( [c_k, f(x)] ),   c_k = the support of class k, pooled          eq. 1
    loss   = sum over k of (r_k(x) - 1[y = k])^2,   0 <= r_k <= 1                  eq. 2

``g_phi``, which judges how alike the two are, is learned. On vectors it is two linear layers. On feature maps (a
backbone whose embedding is a flattened map, with ``map`` = its shape) it is the paper's: two blocks of convolution,
normalisation, ReLU and pooling, then two linear layers. Prediction is by the largest relation: p(y = k) ~ r_k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, HeadOutput, PaddedEpisodes
from molmeta.methods.padded import prototypes


@dataclass(frozen=True, kw_only=True, slots=True)
class RelationConfig:
    hidden: int = 64  # units between the linear layers; the paper: 8, on maps
    loss: Literal["mse", "cross_entropy"] = "mse"
    pool: Literal["mean", "sum"] = "mean"  # sum: as in the paper; depends on how many examples a class has
    map: tuple[int, ...] = ()  # (channels, height, width) of the embedding; empty: a vector
    # maps: no pair depends on another; or batch statistics, as in the paper, in training (padding counts: episodes of
    # one size) and their running average afterwards
    normalisation: Literal["layer", "batch"] = "layer"

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ConfigError(f"hidden is 1 or more, not {self.hidden}")
        if self.map and (len(self.map) != 3 or self.map[0] < 1 or min(self.map[1:]) < 4):
            raise ConfigError(
                f"map is empty or [channels, height, width], 4 x 4 or larger to be halved twice, not {list(self.map)}"
            )


class RelationNetwork(EmbeddingLearner):
    """A learned comparison of a query with each class.

    Raises:
        ConfigError: ``config.map`` is not of the backbone's width.
    """

    Config = RelationConfig
    laws = Laws(kinds=frozenset({TaskKind.BINARY, TaskKind.MULTICLASS}))

    def __init__(self, backbone: nn.Module, config: RelationConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or RelationConfig()
        shape, hidden = self.config.map, self.config.hidden
        if shape and math.prod(shape) != self.backbone.width:
            raise ConfigError(f"map is {list(shape)}, but the backbone's embedding has {self.backbone.width} numbers")
        if not shape:
            self.first: nn.Linear | nn.Conv2d = nn.Linear(2 * self.backbone.width, hidden)
            self.rest = nn.Sequential(nn.ReLU(), nn.Linear(hidden, 1))
            return
        channels = shape[0]
        self.first = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.rest = nn.Sequential(
            *_after(channels, self.config.normalisation),
            nn.Conv2d(channels, channels, 3, padding=1),
            *_after(channels, self.config.normalisation),
            nn.Flatten(),
            nn.Linear(channels * math.prod(side // 2 // 2 for side in shape[1:]), hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        centres = prototypes(episodes.support, episodes.targets)
        if self.config.pool == "sum":
            centres = centres * episodes.class_counts()[..., None]
        relation = self.relation(centres, episodes.query)
        # exp(logsigmoid) is the relation itself, and a softmax over logsigmoids divides relations by their sum.
        return HeadOutput(logits=F.logsigmoid(relation) if self.config.loss == "mse" else relation)

    def relation(self, classes: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """``[t, m, k]`` of every query ``[t, m, d]`` with every class ``[t, k, d]``, before the sigmoid."""
        # The first layer is linear: of a pair's two halves, each is computed once and not once a pair.
        left, right = self.first.weight.chunk(2, dim=1)
        pairs = self._half(classes, left, None)[:, None] + self._half(query, right, self.first.bias)[:, :, None]
        scores: torch.Tensor = self.rest(pairs.flatten(0, 2))
        return scores.view(pairs.shape[:3])

    def _half(self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if not self.config.map:
            return F.linear(rows, weight, bias)
        maps = F.conv2d(rows.reshape(-1, *self.config.map), weight, bias, padding=1)
        return maps.view(*rows.shape[:2], *maps.shape[1:])

    def class_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.config.loss == "cross_entropy":
            return super().class_loss(logits, labels)
        wanted = F.one_hot(labels, logits.shape[-1])
        return (logits.exp() - wanted).square().sum(-1)  # an absent class has relation exp(-inf) = 0


def _after(channels: int, normalisation: str) -> tuple[nn.Module, ...]:
    """What follows a convolution: a 5 x 5 map becomes 2 x 2, then 1 x 1."""
    normalise = nn.BatchNorm2d(channels) if normalisation == "batch" else nn.GroupNorm(1, channels)
    return normalise, nn.ReLU(), nn.MaxPool2d(2)
