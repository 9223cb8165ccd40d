"""Nearest class mean on a frozen encoder (SimpleShot: Wang et al., 2019, arXiv:1911.04623). Nothing is learned.

    p(y = k | x) = softmax_k( -T ||n(f(x)) - c_k||^2 ),   c_k = mean of n(f) over the support of class k

``n`` is what SimpleShot does to an embedding: subtract a mean (``centre``; theirs is that of the base classes, this is
that of the support, which needs no other data) and scale to unit length (``unit_length``). It is the reference that
meta-learning on the same encoder has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, HeadOutput, PaddedEpisodes
from molmeta.methods.padded import prototypes, squared_distance, unit_length


@dataclass(frozen=True, kw_only=True, slots=True)
class CentroidConfig:
    centre: bool = False  # subtract the support's mean
    unit_length: bool = True
    temperature: float = 10.0  # T: how sure a prediction is; the nearest class is the same


class Centroid(EmbeddingLearner):
    """Nearest mean; the backbone stays as it is."""

    Config = CentroidConfig
    laws = Laws(kinds=frozenset({TaskKind.BINARY, TaskKind.MULTICLASS}), meta_trained=False)

    def __init__(self, backbone: nn.Module, config: CentroidConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or CentroidConfig()
        # A row centred on one support is no row of another's.
        self.laws = replace(self.laws, shares_rows=not self.config.centre)

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        if self.config.centre:
            support, query = episodes.support, episodes.query
            mean = prototypes(support, episodes.support_mask[..., None].to(support.dtype))
            episodes = replace(episodes, support=support - mean, query=query - mean)
        if self.config.unit_length:
            episodes = episodes.map(unit_length)
        distance = episodes.compare(squared_distance, episodes.class_means())
        return HeadOutput(logits=-self.config.temperature * distance)

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        """Refused: there is nothing to meta-train.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "the centroid method keeps its encoder frozen: there is nothing to meta-train. Score it as it is, or "
            "train protonet, which is the same method with a learned encoder"
        )
