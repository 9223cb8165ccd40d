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
    """

    width: int

    @abstractmethod
    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Embeddings ``[n, d]``."""

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        embedding: torch.Tensor = super().__call__(inputs)
        return embedding
