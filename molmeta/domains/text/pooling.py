"""Means over the tokens of each text."""

from __future__ import annotations

import torch


def pooled(values: torch.Tensor, text: torch.Tensor, n: int) -> torch.Tensor:
    """The mean of each text's tokens, 0 for a text without tokens; twice differentiable, unlike torch's EmbeddingBag.

    Args:
        values: ``[tokens, d]``.
        text: ``[tokens]`` which text each token belongs to.
        n: the number of texts.

    Returns:
        ``[n, d]``.
    """
    total = values.new_zeros(n, values.shape[1]).index_add(0, text, values)
    return total / torch.bincount(text, minlength=n).clamp(min=1)[:, None]
