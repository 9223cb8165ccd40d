"""A text encoder learnt from scratch: sums of the embeddings of hashed words and character n-grams.

    z = [u_words, u_3-grams, u_4-grams],   u = s / |s|,   s = sum over tokens t of exp(w_t) e_t

Words and n-grams as in fastText (Bojanowski et al., 2017, arXiv:1607.04606). Random e_t make z a random projection of
the counted tokens, so that even untrained, and for words that were in no training text, near texts are those that share
words. w_t learns which words tell nothing. A network after z would learn the training classes by heart: with one,
accuracy on new classes of CLINC150 fell by more than ten points.
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
from molmeta.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class TextBagConfig:
    buckets: int = 2**15  # rows of the table that words and n-grams are hashed to
    embedding: int = 256  # a token's width
    grams: tuple[int, ...] = (3, 4)  # lengths of the character n-grams, in bytes
    token_dropout: float = 0.3  # share of the tokens left out in training

    def __post_init__(self) -> None:
        if min(self.buckets, self.embedding, *self.grams) < 1:
            raise ConfigError("[backbone].buckets, embedding and grams are positive numbers")


class TextBag(Backbone):
    """Texts -> a unit vector of the words, and of each length of n-gram -> all of them, ``[n, d]``."""

    Config = TextBagConfig

    def __init__(self, config: TextBagConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TextBagConfig()
        self.width = (1 + len(config.grams)) * config.embedding
        self.views = (self.width,)
        self.table = nn.Parameter(torch.randn(config.buckets, config.embedding))
        self.log_weights = nn.Parameter(torch.zeros(config.buckets))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        texts = cast(TextBatch, inputs)
        kinds = [word_ids(texts, self.config.buckets)]
        kinds += [gram_ids(texts, n, self.config.buckets) for n in self.config.grams]
        return torch.cat([self._unit_sums(ids, text, len(texts)) for ids, text in kinds], dim=1)

    def _unit_sums(self, ids: torch.Tensor, text: torch.Tensor, n: int) -> torch.Tensor:
        """``[n, embedding]`` of length 1, or 0 for a text without tokens."""
        if self.training and self.config.token_dropout > 0:
            kept = torch.rand(len(ids), device=ids.device) >= self.config.token_dropout
            ids, text = ids[kept], text[kept]
        # index_add is twice differentiable, torch's EmbeddingBag is not.
        values = F.embedding(ids, self.table) * self.log_weights[ids].exp()[:, None]
        return F.normalize(values.new_zeros(n, values.shape[1]).index_add(0, text, values), dim=1)
