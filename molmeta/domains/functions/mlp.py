"""A plain network over rows of numbers; its defaults are those of MAML's sinusoids (Finn et al., 2017, section 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import nn

from molmeta.core.backbone import Backbone
from molmeta.core.stacked import Linear
from molmeta.core.task import Inputs
from molmeta.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class MLPConfig:
    inputs: int = 1  # numbers a row
    hidden: tuple[int, ...] = (40, 40)  # widths of the layers that a ReLU follows
    width: int = 0  # d, of a last linear layer; 0: none, and the last hidden layer is the embedding

    def __post_init__(self) -> None:
        if min(self.inputs, *self.hidden, 1) < 1 or self.width < 0 or not (self.hidden or self.width):
            raise ConfigError("[backbone] has inputs, and hidden layers or a width, all of them positive")


class MLP(Backbone):
    """``[n, inputs]`` -> (linear, ReLU) a hidden layer -> linear, where there is a width -> ``[n, d]``."""

    Config = MLPConfig
    stacks = True

    def __init__(self, config: MLPConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MLPConfig()
        self.width = config.width or config.hidden[-1]
        self.views = (self.width,)
        sizes = (config.inputs, *config.hidden)
        layers = [layer for a, b in pairwise(sizes) for layer in (Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*layers, *([Linear(sizes[-1], config.width)] if config.width else []))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        embedding: torch.Tensor = self.net(cast(torch.Tensor, inputs))
        return embedding
