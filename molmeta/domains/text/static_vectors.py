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
from molmeta.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_RATE = 30.0  # a weight moves as many times faster than the projection, under an optimiser such as Adam


@dataclass(frozen=True, kw_only=True, slots=True)
class WordLlamaConfig:
    projection: bool = True  # False: the mean vectors as they are; nothing is learned
    hidden: int = 0  # of the projection's one hidden layer; 0: a linear map
    weights: bool = True  # with a projection: learn how much each token counts
    token_dropout: float = 0.3  # with a projection: share of the tokens left out in training
    dropout: float = 0.1  # with a projection: of the numbers that it is given

    def __post_init__(self) -> None:
        if self.hidden < 0:
            raise ConfigError(f"[backbone].hidden is 0 or more, not {self.hidden}")


class WordLlama(Backbone):
    """Texts -> mean static vector ``v`` of length 1, tokens weighted -> ``v + f(v)``, ``[n, 256]``.

    Training starts from f = 0 and equal weights: the frozen vectors. Weight decay pulls back there. The vectors are no
    part of a saved model.

    Raises:
        ConfigError: the package is not installed.
    """

    Config = WordLlamaConfig

    def __init__(self, config: WordLlamaConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or WordLlamaConfig()
        self.width = packaged()[1].shape[1]
        self.views = (self.width,)
        if config.projection:
            sizes = (self.width, config.hidden) if config.hidden else (self.width,)
            last = nn.Linear(sizes[-1], self.width)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            first = [nn.Linear(*sizes), nn.ReLU()] if config.hidden else []
            self.project = nn.Sequential(nn.Dropout(config.dropout), *first, last)
        if config.projection and config.weights:
            self.log_weights = nn.Parameter(torch.zeros(len(packaged()[1])))  # in units of 1 / _RATE

    def forward(self, inputs: Inputs) -> torch.Tensor:
        texts = cast(TextBatch, inputs)
        ids, text = self._tokens(texts)
        if self.config.projection and self.training:
            kept = torch.rand(len(text), device=text.device) >= self.config.token_dropout
            # A short text would lose every token, and the slope of its length is none at 0.
            kept |= torch.bincount(text[kept], minlength=len(texts))[text] == 0
            ids, text = ids[kept], text[kept]
        values = self._vectors(ids)
        total = values.new_zeros(len(texts), self.width).index_add(0, text, values)
        mean = F.normalize(total, dim=1)  # of length 1, a mean is a sum
        return mean + self.project(mean) if self.config.projection else mean

    def _tokens(self, texts: TextBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """``[tokens]`` ids, and the text that each belongs to."""
        found = [e.ids for e in packaged()[0].encode_batch(texts.texts(), add_special_tokens=False)]
        text = torch.repeat_interleave(torch.arange(len(found)), torch.tensor([len(ids) for ids in found]))
        ids = torch.tensor([i for ids in found for i in ids], dtype=torch.int64)
        return ids.to(texts.offsets.device), text.to(texts.offsets.device)

    def _vectors(self, ids: torch.Tensor) -> torch.Tensor:
        """``[tokens, 256]`` weighted vectors."""
        dtype = next((p.dtype for p in self.parameters()), torch.get_default_dtype())
        values = packaged()[1][ids.cpu()].to(ids.device, dtype)
        if not (self.config.projection and self.config.weights):
            return values
        return values * (_RATE * self.log_weights[ids]).exp()[:, None]


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
