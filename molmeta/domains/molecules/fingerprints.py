"""A network over count-Morgan fingerprints: ``MLP(log(1 + counts))``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from molmeta.core.backbone import Backbone
from molmeta.core.task import Inputs
from molmeta.domains.molecules.featurise import FINGERPRINT_BINS
from molmeta.domains.molecules.inputs import MoleculeBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class FingerprintConfig:
    width: int = 512  # d, the embedding's width
    hidden: int = 1024  # of the one hidden layer
    input_dropout: float = 0.1  # share of fingerprint bins set to 0
    dropout: float = 0.3  # after the hidden layer


class FingerprintNet(Backbone):
    """``[n, 2048]`` counts -> log(1 + count) -> hidden -> ``[n, width]``."""

    Config = FingerprintConfig

    def __init__(self, config: FingerprintConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.net = nn.Sequential(
            nn.Dropout(config.input_dropout),
            nn.Linear(FINGERPRINT_BINS, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.width),
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        counts = cast(MoleculeBatch, inputs).fingerprints(self.net[1].weight.dtype)  # type: ignore[arg-type]
        embedding: torch.Tensor = self.net(counts.log1p_())
        return embedding
