"""A network over count-Morgan fingerprints: ``MLP(log(1 + counts))``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.backbone import Backbone
from molmeta.core.task import Inputs
from molmeta.domains.molecules.featurise import FINGERPRINT_BINS
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.sparse import SparseRows, product


@dataclass(frozen=True, kw_only=True, slots=True)
class FingerprintConfig:
    width: int = 512  # d, the embedding's width
    hidden: int = 1024  # of the one hidden layer
    input_dropout: float = 0.1  # share of fingerprint bins set to 0
    dropout: float = 0.3  # after the hidden layer
    keep_counts: bool = False  # append the unit log-count fingerprint itself, as a second view


class FingerprintNet(Backbone):
    """``[n, 2048]`` counts -> log(1 + count) -> hidden -> ``[n, width]``."""

    Config = FingerprintConfig
    reads_graphs = False

    def __init__(self, config: FingerprintConfig) -> None:
        super().__init__()
        self.config = config
        self.views = views_of(config.width, config.keep_counts)
        self.width = sum(self.views)
        self.input_dropout = nn.Dropout(config.input_dropout)
        # A row a bin, as the sparse product reads it; initialised as torch's own linear layers are.
        bound = FINGERPRINT_BINS**-0.5
        self.bins = nn.Parameter(torch.empty(FINGERPRINT_BINS, config.hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(config.hidden).uniform_(-bound, bound))
        self.net = nn.Sequential(nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(config.hidden, config.width))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        molecules = cast(MoleculeBatch, inputs)
        values = self.input_dropout(molecules.counts.to(self.bins.dtype).log1p())
        matrix = SparseRows(values, molecules.bins, molecules.bin_offsets, FINGERPRINT_BINS)
        embedding: torch.Tensor = self.net(product(matrix, self.bins) + self.bias)
        return append_counts(embedding, inputs) if self.config.keep_counts else embedding


def views_of(width: int, keep_counts: bool) -> tuple[int, ...]:
    """The views of an embedding of ``width``, with or without the fingerprint itself."""
    return (width, FINGERPRINT_BINS) if keep_counts else (width,)


def append_counts(embedding: torch.Tensor, inputs: Inputs) -> torch.Tensor:
    """``[n, d]`` to ``[n, d + 2048]``: the unit log-count fingerprint as a second view."""
    return torch.cat([embedding, F.normalize(log_counts(inputs), dim=1)], dim=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class CountsConfig:
    pass


class Counts(Backbone):
    """The count fingerprint itself, ``[n, 2048]``: nothing is learned."""

    Config = CountsConfig
    reads_graphs = False

    def __init__(self, config: CountsConfig) -> None:
        super().__init__()
        self.config = config
        self.width = FINGERPRINT_BINS
        self.views = (FINGERPRINT_BINS,)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return cast(MoleculeBatch, inputs).fingerprints(torch.get_default_dtype())


def log_counts(inputs: Inputs) -> torch.Tensor:
    """``[n, 2048]`` log(1 + count) of the fingerprints, in torch's default floating type."""
    return cast(MoleculeBatch, inputs).fingerprints(torch.get_default_dtype()).log1p_()
