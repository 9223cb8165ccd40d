"""A backbone turns inputs into embeddings; it knows nothing of tasks or labels."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from molmeta.core.task import Inputs


class Backbone(nn.Module, ABC):
    """Inputs for ``n`` rows to embeddings ``[n, d]``, row by row: no row's embedding depends on another's.

    Attributes:
        width: ``d``.
        views: widths, summing to ``d``, of the parts of an embedding that stand for different views of the input. The
            first is learned, the others are constants of the input: no gradient is taken through them. A kernel may
            weigh them apart; most methods see one vector.
    """

    width: int
    views: tuple[int, ...]

    @abstractmethod
    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Embeddings ``[n, d]``."""

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        embedding: torch.Tensor = super().__call__(inputs)
        return embedding
