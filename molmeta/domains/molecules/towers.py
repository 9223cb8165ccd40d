"""How likely a molecule is active in an assay of which only a description is known: two towers that meet in a product.

    logit p(y_it = 1) = logit s_t + u_0(x_i) + <u(x_i), v(d_t)> / sqrt(k)
    u(x) = U f(x) + a,    v(d) = V n(d) + c

f is the log-count fingerprint of unit length; n(d) the description's hashed words, rare ones counting more, of unit
length, and 0 where nothing is known: v is then c, what holds of any assay. s_t is the assay's own share of actives, so
that the towers learn what lies beyond it. Fitted to the training assays' labels by logistic regression, a tenth of the
rows without their description; what it says of a new target it has from related ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.random import keyed_rng
from molmeta.core.task import Task, TaskSource
from molmeta.domains.molecules.descriptions import BUCKETS, known_words, stacked
from molmeta.domains.molecules.featurise import FINGERPRINT_BINS
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.sparse import SparseRows

_BLOCK = 8192  # molecules read at once
_STEPS, _ROWS, _RATE, _DECAY = 1500, 2048, 3e-3, 1e-2  # of AdamW, its rate falling to 0 in a straight line
_WITHOUT = 0.1  # share of the rows that are fitted without their description
_START = 0.3  # deviation of the weights at the start


class Towers(nn.Module):
    """Both towers; their weights are buffers, since they are fitted once and then left as they are.

    Args:
        width: k.

    Attributes:
        structure: ``[1 + k, 2048]`` U, u_0 first; ``structure_bias`` [1 + k] a.
        words: ``[k, BUCKETS]`` V; ``words_bias`` [k] c.
        rarity: ``[BUCKETS]`` what a word counts: log of assays over assays with it.
    """

    structure: torch.Tensor
    structure_bias: torch.Tensor
    words: torch.Tensor
    words_bias: torch.Tensor
    rarity: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("structure", torch.zeros(1 + width, FINGERPRINT_BINS))
        self.register_buffer("structure_bias", torch.zeros(1 + width))
        self.register_buffer("words", torch.zeros(width, BUCKETS))
        self.register_buffer("words_bias", torch.zeros(width))
        self.register_buffer("rarity", torch.zeros(BUCKETS))

    def molecules(self, molecules: MoleculeBatch) -> torch.Tensor:
        """``[n, 1 + k]`` (u_0, u)."""
        return _unit_logs(molecules, self.structure.dtype).times(self.structure.T.contiguous()) + self.structure_bias

    def assays(self, descriptions: torch.Tensor) -> torch.Tensor:
        """``[t, 1 + k]`` (1, v / sqrt(k)) of hashed descriptions ``[t, BUCKETS]``; the logit is the inner product."""
        v = F.linear(F.normalize(descriptions * self.rarity, dim=-1), self.words, self.words_bias)
        return torch.cat([torch.ones_like(v[:, :1]), v / v.shape[1] ** 0.5], dim=1)

    @torch.enable_grad()
    def fit(self, source: TaskSource, tasks: Sequence[Task]) -> None:
        """Fit both towers to binary ``tasks`` of ``source``; the same numbers at each call, a minute or two."""
        rows = np.unique(np.concatenate([task.rows for task in tasks]))
        molecule = torch.from_numpy(np.concatenate([np.searchsorted(rows, task.rows) for task in tasks]))
        assay = torch.repeat_interleave(torch.tensor([len(task) for task in tasks]))
        label = torch.from_numpy(np.concatenate([task.labels for task in tasks])).float()
        share = torch.tensor([(task.labels.sum() + 1) / (len(task) + 2) for task in tasks]).logit().float()
        described = stacked([task.description for task in tasks])
        rarity = known_words(described)
        fingerprints = _Fingerprints(source, rows)
        some, rng = torch.Generator().manual_seed(0), keyed_rng(0, "towers")
        names = ("structure", "structure_bias", "words", "words_bias")
        weights = {name: getattr(self, name).clone().cpu() for name in names}
        for name in ("structure", "words"):
            weights[name].normal_(std=_START, generator=some)
        weights["structure"] = weights["structure"].T.contiguous()  # a bin a row, to look up
        for tensor in weights.values():
            tensor.requires_grad_()
        optimizer = torch.optim.AdamW(weights.values(), lr=_RATE, weight_decay=_DECAY)
        words = F.normalize(described * rarity, dim=1)
        for step in range(_STEPS):
            optimizer.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
            drawn = torch.from_numpy(rng.integers(0, len(label), _ROWS))
            told = words[assay[drawn]] * torch.from_numpy(rng.random((_ROWS, 1)) > _WITHOUT)
            u = fingerprints.times(weights["structure"], molecule[drawn]) + weights["structure_bias"]
            v = F.linear(told, weights["words"], weights["words_bias"])
            logit = share[assay[drawn]] + u[:, 0] + (u[:, 1:] * v).sum(1) / v.shape[1] ** 0.5
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logit, label[drawn]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        weights |= {"structure": weights["structure"].T.contiguous(), "rarity": rarity}
        for name, tensor in weights.items():
            setattr(self, name, tensor.detach().to(self.words))


def _unit_logs(molecules: MoleculeBatch, dtype: torch.dtype = torch.float32) -> SparseRows:
    """``[n, 2048]`` log-count fingerprints of unit length."""
    row = torch.repeat_interleave(molecules.bin_offsets.diff())
    logs = molecules.counts.to(dtype).log1p()
    length = logs.new_zeros(len(molecules)).index_add_(0, row, logs.square()).sqrt()
    return SparseRows(logs / length[row], molecules.bins, molecules.bin_offsets, FINGERPRINT_BINS)


class _Fingerprints:
    """The sparse log-count fingerprints of a source's ``rows [n]``, of unit length each."""

    def __init__(self, source: TaskSource, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        bins, values, counts = [], [], []
        for start in range(0, len(rows), _BLOCK):
            batch = source.gather(rows[start : start + _BLOCK])
            assert isinstance(batch, MoleculeBatch)
            logs = _unit_logs(batch)
            assert logs.values is not None
            bins.append(logs.columns.int())
            values.append(logs.values)
            counts.append(batch.bin_offsets.diff())
        self._bins, self._values, self._counts = torch.cat(bins), torch.cat(values), torch.cat(counts)
        self._starts = self._counts.cumsum(0) - self._counts

    def times(self, table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """``[m, d]``: the fingerprints of ``rows [m]`` times ``table [2048, d]``."""
        counts = self._counts[rows]
        offsets = counts.cumsum(0) - counts
        entry = torch.arange(int(counts.sum())) + torch.repeat_interleave(self._starts[rows] - offsets, counts)
        return F.embedding_bag(
            self._bins[entry].long(), table, offsets, mode="sum", per_sample_weights=self._values[entry]
        )
