"""TextBatch: texts as tensors. Each encoder splits them into tokens of its own kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class TextBatch:
    """``n`` texts as model inputs, one after another. A token is a byte of UTF-8, so that no vocabulary is needed.

    Attributes:
        ids: ``[bytes]`` uint8.
        offsets: ``[n + 1]`` int64; text ``i`` is ``ids[offsets[i]:offsets[i + 1]]``.
    """

    ids: torch.Tensor
    offsets: torch.Tensor

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """The texts, as they are written."""
        encoded = [text.encode() for text in texts]
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in encoded], dtype=np.int64)])
        ids = np.frombuffer(b"".join(encoded), np.uint8).copy()
        return cls(torch.from_numpy(ids), torch.from_numpy(offsets.astype(np.int64)))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The texts of several batches, one batch after another."""
        lengths = torch.cat([part.offsets.diff() for part in parts])
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return cls(torch.cat([part.ids for part in parts]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: torch.Tensor) -> Self:
        if rows.dtype == torch.bool:
            rows = torch.nonzero(rows).flatten()
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = torch.repeat_interleave(starts - offsets[:-1], lengths)
        return type(self)(self.ids[shift + torch.arange(len(shift), device=shift.device)], offsets)

    def to(self, device: torch.device | str) -> Self:
        return type(self)(self.ids.to(device, non_blocking=True), self.offsets.to(device, non_blocking=True))

    def texts(self) -> list[str]:
        """The texts, as they were given."""
        joined, ends = self.ids.cpu().numpy().tobytes(), self.offsets.tolist()
        return [joined[a:b].decode() for a, b in pairwise(ends)]
