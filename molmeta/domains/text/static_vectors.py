"""A frozen encoder that comes as a package: wordllama's static token vectors, and a learnt projection of their mean.

The vectors are 256 numbers for each of Llama 2's 32,000 tokens (https://github.com/dleemiller/WordLlama, MIT). They
and the tokenizer stand in the package's wheel: nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from molmeta.core.backbone import Backbone
from molmeta.core.task import Inputs
from molmeta.domains.text.inputs import TextBatch
from molmeta.domains.text.pooling import pooled
from molmeta.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class WordLlamaConfig:
    projection: bool = True  # False: the mean vectors as they are, of length 1; nothing is learned
    width: int = 256  # d, with a projection
    weights: bool = True  # with a projection: learn, from its vector, how much a token counts
    dropout: float = 0.1  # with a projection: share of the tokens left out in training


class WordLlama(Backbone):
    """Texts -> weighted mean of static vectors, of length 1 -> linear -> ``[n, width]``.

    With a projection, training starts from the plain mean of the vectors: the identity (or, to another width, a random
    orthogonal map) of equally weighted tokens. The vectors are no part of a saved model.

    Raises:
        ConfigError: the package is not installed.
    """

    Config = WordLlamaConfig

    def __init__(self, config: WordLlamaConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or WordLlamaConfig()
        _, vectors = packaged()
        self.width = config.width if config.projection else vectors.shape[1]
        self.views = (self.width,)
        if config.projection:
            self.project = nn.Linear(vectors.shape[1], self.width)
            (nn.init.eye_ if self.width == vectors.shape[1] else nn.init.orthogonal_)(self.project.weight)
            nn.init.zeros_(self.project.bias)
        if config.projection and config.weights:
            self.weigh = nn.Linear(vectors.shape[1], 1, bias=False)
            nn.init.zeros_(self.weigh.weight)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        texts = cast(TextBatch, inputs)
        values, text = self._tokens(texts)
        if not self.config.projection:
            return F.normalize(pooled(values, text, len(texts)), dim=1)
        if self.training and self.config.dropout > 0:
            kept = torch.rand(len(text), device=text.device) >= self.config.dropout
            values, text = values[kept], text[kept]
        weights = self.weigh(values)[:, 0].exp() if self.config.weights else None
        projected: torch.Tensor = self.project(F.normalize(pooled(values, text, len(texts), weights), dim=1))
        return projected

    def _tokens(self, texts: TextBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """``[tokens, 256]`` vectors, and the text that each belongs to."""
        tokenizer, vectors = packaged()
        found = [e.ids for e in tokenizer.encode_batch(texts.texts(), add_special_tokens=False)]
        counts = torch.tensor([len(ids) for ids in found])
        text = torch.repeat_interleave(torch.arange(len(found)), counts)
        values = vectors[torch.tensor([i for ids in found for i in ids], dtype=torch.int64)]
        dtype = next((p.dtype for p in self.parameters()), torch.get_default_dtype())
        return values.to(texts.offsets.device, dtype), text.to(texts.offsets.device)


@lru_cache(maxsize=1)
def packaged() -> tuple[Tokenizer, torch.Tensor]:
    """The tokenizer, and its vectors ``[32000, 256]`` float32, from the installed package's own files.

    Read without importing it: importing it sets the logging of the whole process.

    Raises:
        ConfigError: the package is not installed, or lacks the files.
    """
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None or find_spec("tokenizers") is None:
        raise ConfigError('the backbone "wordllama" needs the extra "text": pip install "molmeta[text]"')
    from tokenizers import Tokenizer

    folder = Path(spec.origin).parent
    absent = [name for name in (_WEIGHTS, _TOKENIZER) if not (folder / name).is_file()]
    if absent:
        raise ConfigError(
            f"the installed wordllama has no {' and no '.join(absent)}. Install the version that was tested: "
            'pip install "molmeta[text]" -c constraints.txt'
        )
    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, load_file(folder / _WEIGHTS)["embedding.weight"].float()
