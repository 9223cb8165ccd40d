"""Tanimoto similarity of count fingerprints.

T(x, x') = sum_j min(x_j, x'_j) / sum_j max(x_j, x'_j)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from molmeta.core.task import FloatArray
from molmeta.errors import ConfigError

Fingerprints = NDArray[np.floating]  # [n, d], whole counts


def tanimoto(left: Fingerprints, right: Fingerprints) -> FloatArray:
    """``[i, j]`` similarity of count vectors ``[i, d]`` and ``[j, d]``; 0 between two empty ones.

    A count c reads as c ones, so that a product sums the minima; only bins and levels that ``right`` reaches take
    part. Let ``right`` be the smaller side.

    Raises:
        ConfigError: ``right`` is not of counts.
    """
    if (right < 0).any() or (right != np.floor(right)).any():
        raise ConfigError("Tanimoto similarity compares counts, and this backbone gives others. Use backbone counts")
    tallest = right.max(axis=0, initial=0).astype(np.int64)
    bins = np.repeat(np.arange(len(tallest)), tallest)
    first = np.cumsum(tallest) - tallest
    level = (1 + np.arange(len(bins)) - first[bins]).astype(right.dtype)
    ones = [(side[:, bins] >= level).astype(np.float32) for side in (left, right)]
    overlap = (ones[0] @ ones[1].T).astype(np.float64)  # whole numbers: exact in single precision
    sizes = [side.sum(axis=1, dtype=np.float64) for side in (left, right)]
    similarity: FloatArray = overlap / np.maximum(sizes[0][:, None] + sizes[1] - overlap, 1e-12)
    return similarity
