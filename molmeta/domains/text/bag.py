"""A text encoder learnt from scratch: hashed words and character n-grams, their embeddings' means, a small network.

Words and n-grams as in fastText (Bojanowski et al., 2017, arXiv:1607.04606).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.backbone import Backbone
from molmeta.core.task import Inputs
from molmeta.domains.text.hashing import gram_ids, word_ids
from molmeta.domains.text.inputs import TextBatch
from molmeta.domains.text.pooling import pooled
from molmeta.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class TextBagConfig:
    width: int = 128  # d, the embedding's width
    hidden: int = 256  # of the one hidden layer
    buckets: int = 2**15  # rows of the table that words and n-grams are hashed to
    embedding: int = 64  # a token's width
    grams: tuple[int, ...] = (3, 4)  # lengths of the character n-grams, in bytes
    token_dropout: float = 0.2  # share of the tokens left out in training
    dropout: float = 0.2  # after the hidden layer

    def __post_init__(self) -> None:
        if min(self.width, self.hidden, self.buckets, self.embedding, *self.grams) < 1:
            raise ConfigError("[backbone].width, hidden, buckets, embedding and grams are positive numbers")


class TextBag(Backbone):
    """Texts -> mean embedding of words, and of each length of n-gram -> hidden -> ``[n, width]``."""

    Config = TextBagConfig

    def __init__(self, config: TextBagConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TextBagConfig()
        self.width, self.views = config.width, (config.width,)
        self.table = nn.Parameter(torch.randn(config.buckets, config.embedding))
        self.net = nn.Sequential(
            nn.Linear((1 + len(config.grams)) * config.embedding, config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, config.width),
        )

    def forward(self, inputs: Inputs) -> torch.Tensor:
        texts = cast(TextBatch, inputs)
        kinds = [word_ids(texts, self.config.buckets)]
        kinds += [gram_ids(texts, n, self.config.buckets) for n in self.config.grams]
        means = [self._mean(ids, text, len(texts)) for ids, text in kinds]
        embedding: torch.Tensor = self.net(torch.cat(means, dim=1))
        return embedding

    def _mean(self, ids: torch.Tensor, text: torch.Tensor, n: int) -> torch.Tensor:
        if self.training and self.config.token_dropout > 0:
            kept = torch.rand(len(ids), device=ids.device) >= self.config.token_dropout
            ids, text = ids[kept], text[kept]
        return pooled(F.embedding(ids, self.table), text, n)
