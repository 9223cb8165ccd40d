"""Means over the tokens of each text."""

from __future__ import annotations

import torch


def pooled(values: torch.Tensor, text: torch.Tensor, n: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """The (weighted) mean of each text's tokens, 0 for a text without tokens; twice differentiable.

    Args:
        values: ``[tokens, d]``.
        text: ``[tokens]`` which text each token belongs to.
        n: the number of texts.
        weights: ``[tokens]``, positive; None counts each token once.

    Returns:
        ``[n, d]``.
    """
    weights = values.new_ones(len(values)) if weights is None else weights
    total = values.new_zeros(n, values.shape[1]).index_add(0, text, values * weights[:, None])
    weight = values.new_zeros(n).index_add(0, text, weights)
    return total / torch.where(weight > 0, weight, 1.0)[:, None]
