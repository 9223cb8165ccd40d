"""Nearest molecules by the Tanimoto similarity of count-Morgan fingerprints.

    T(a, b) = sum_i min(a_i, b_i) / (sum_i a_i + sum_i b_i - sum_i min(a_i, b_i))

A count of c in bin i is written as c features (i, 1) ... (i, c), so that the sum of minima is a count of shared
features: a sparse-dense product, about 0.02 ms a molecule against 1,000 others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from molmeta.domains.molecules.featurise import FINGERPRINT_BINS, I64, U8, U16, MoleculeArrays

_FEATURES = FINGERPRINT_BINS * 256
_CELLS = 1 << 24  # similarities that are held at once

F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Counts:
    """``n`` count fingerprints, ragged: row ``i`` owns the entries ``offsets[i]:offsets[i + 1]``.

    Attributes:
        bins: ``[entries]``.
        counts: ``[entries]``.
        offsets: ``[n + 1]``.
    """

    bins: U16
    counts: U8
    offsets: I64

    @classmethod
    def of(cls, arrays: MoleculeArrays) -> Counts:
        """The fingerprints of featurised molecules."""
        return cls(np.asarray(arrays.bins), np.asarray(arrays.counts), np.asarray(arrays.bin_offsets))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def features(self) -> tuple[I64, I64]:
        """The features (bin, level) of all rows as numbers, and the ``[n + 1]`` offsets of each row's own."""
        counts = self.counts.astype(np.int64)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        level = np.arange(ends[-1]) - np.repeat(ends[:-1], counts)
        return np.repeat(self.bins.astype(np.int64), counts) + FINGERPRINT_BINS * level, ends[self.offsets]


class NearestTable:
    """``n`` molecules to compare others with."""

    def __init__(self, molecules: Counts) -> None:
        features, offsets = molecules.features()
        used, column = np.unique(features, return_inverse=True)
        self._place = np.full(_FEATURES, -1, np.int32)
        self._place[used] = np.arange(len(used))
        # 16 bits hold any sum of counts that is met (a molecule of 20,000 atoms), at half the memory traffic of 32.
        self._table = np.zeros((len(used), len(molecules)), np.uint16)
        self._table[column, np.repeat(np.arange(len(molecules)), np.diff(offsets))] = 1
        self._totals = np.diff(offsets).astype(np.float32)

    def __len__(self) -> int:
        return len(self._totals)

    def similarities(self, queries: Counts) -> F32:
        """``[m, n]`` Tanimoto similarities."""
        features, offsets = queries.features()
        place = self._place[features]
        known = place >= 0
        kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])[offsets]
        rows = csr_array((np.ones(kept[-1], np.uint16), place[known], kept), shape=(len(queries), len(self._table)))
        shared = (rows @ self._table).astype(np.float32)
        union = np.diff(offsets).astype(np.float32)[:, None] + self._totals - shared
        similarity: F32 = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        return similarity

    def nearest(self, queries: Counts) -> tuple[I64, F32]:
        """The row of each query's most similar molecule, and that similarity: ``[m]`` and ``[m]``."""
        step = max(1, _CELLS // max(1, len(self)))
        index, similarity = np.zeros(len(queries), np.int64), np.zeros(len(queries), np.float32)
        for start in range(0, len(queries), step):
            block = _rows(queries, start, start + step)
            found = self.similarities(block)
            best = found.argmax(1)
            index[start : start + step] = best
            similarity[start : start + step] = found[np.arange(len(found)), best]
        return index, similarity


def _rows(fingerprints: Counts, start: int, stop: int) -> Counts:
    offsets = fingerprints.offsets[start : stop + 1]
    entries = slice(int(offsets[0]), int(offsets[-1]))
    return Counts(fingerprints.bins[entries], fingerprints.counts[entries], offsets - offsets[0])
