"""Matching networks (Vinyals et al., 2016, arXiv:1606.04080).

    p(y = k | x) = sum over the support of class k of a(x, x_i),   a(x, x_i) = softmax_i( T cos(f(x), g(x_i)) )   eq. 1

Without full-context embeddings f and g are the backbone. With them (FCE), for embeddings f'(x), g'(x_i) [d]:

    g(x_i) = h_i(forwards) + h_i(backwards) + g'(x_i),   an LSTM each way over the support         appendix A.2
    h_s = LSTM(f'(x), [h_(s-1), r_(s-1)], c_(s-1)) + f'(x),   s = 1..S,   f(x) = h_S               appendix A.1
    r_s = sum_i softmax_i( h_s' g(x_i) ) g(x_i)

The paper has T = 1, fixed: five classes of one example then never get more than 65 % of the attention. FCE reads the
support as a sequence, so its order matters.

Regression is the same attention: each row of the support puts a Gaussian of a learned deviation s at its value, and
mean sum_i a_i y_i and variance s^2 + sum_i a_i (y_i - mean)^2 are those of the mixture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, Head, HeadOutput, PaddedEpisodes
from molmeta.methods.padded import inner, unit_length


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchingConfig:
    full_context: bool = False  # FCE
    steps: int = 5  # FCE: S, how often a query reads the support
    temperature: float = 10.0  # T at the start
    learn_temperature: bool = True  # False, with a temperature of 1: as in the paper

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.temperature > 0:
            raise ConfigError(
                f"steps is 1 or more and temperature is positive, not {self.steps} and {self.temperature}"
            )


class MatchingNetwork(EmbeddingLearner):
    """Labels of the support, weighted by attention."""

    Config = MatchingConfig
    laws = Laws(kinds=frozenset(TaskKind), shares_rows=True)

    def __init__(self, backbone: nn.Module, config: MatchingConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or MatchingConfig()
        self.log_temperature = nn.Parameter(
            torch.tensor(self.config.temperature).log(), requires_grad=self.config.learn_temperature
        )
        self.log_noise = nn.Parameter(torch.tensor(-0.7))
        if self.config.full_context:
            self.laws = replace(self.laws, support_order_invariant=False, shares_rows=False)
            self.of_support = nn.LSTM(self.backbone.width, self.backbone.width, batch_first=True, bidirectional=True)
            # The paper's [h, r] feeds the gates; r enters beside f'(x), which gives the same gates.
            self.of_query = nn.LSTMCell(2 * self.backbone.width, self.backbone.width)

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        if self.config.full_context:
            return self.conditioned(episodes)(episodes.query)
        return self._attend(episodes, episodes.map(unit_length).across(inner))

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        support = episodes.support
        return partial(self._compare, episodes, self._in_context(episodes) if self.config.full_context else support)

    def _compare(self, episodes: PaddedEpisodes, support: torch.Tensor, query: torch.Tensor) -> HeadOutput:
        if self.config.full_context:
            query = self._read(query, support, episodes.support_mask)
        return self._attend(episodes, inner(unit_length(query), unit_length(support)))

    def _attend(self, episodes: PaddedEpisodes, cosine: torch.Tensor) -> HeadOutput:
        """By the cosine ``[t, m, n]`` of each query to each support row."""
        scores = self.log_temperature.exp() * cosine
        if episodes.kind.is_classification:
            # The softmax's denominator is common to the classes; a large negative number keeps gradients finite.
            outside = (episodes.targets.mT == 0)[:, None]  # [t, 1, k, n]
            return HeadOutput(logits=scores[:, :, None].masked_fill(outside, -1e4).logsumexp(-1))
        attention, values = _softmax(scores, episodes.support_mask), episodes.targets[..., 0]
        mean = (attention @ values[..., None])[..., 0]
        spread = (attention * (values[:, None] - mean[..., None]).square()).sum(-1)
        return HeadOutput(mean=mean, deviation=(spread + (2 * self.log_noise).exp()).sqrt())

    def _in_context(self, episodes: PaddedEpisodes) -> torch.Tensor:
        """g: the support ``[t, n, d]`` read both ways; a packed sequence ends where its episode does."""
        lengths = episodes.support_mask.sum(1).cpu()
        packed = pack_padded_sequence(episodes.support, lengths, batch_first=True, enforce_sorted=False)
        both, _ = pad_packed_sequence(self.of_support(packed)[0], batch_first=True)
        forwards, backwards = both.chunk(2, -1)
        return forwards + backwards + episodes.support

    def _read(self, query: torch.Tensor, support: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """f: each query ``[t, m, d]`` after reading the support ``[t, n, d]``."""
        embedded = query.flatten(0, 1)
        h, c = torch.zeros_like(embedded), torch.zeros_like(embedded)
        for _ in range(self.config.steps):
            read = _softmax(h.view_as(query) @ support.mT, mask) @ support
            h, c = self.of_query(torch.cat([embedded, read.flatten(0, 1)], dim=-1), (h, c))
            h = h + embedded
        return h.view_as(query)


def _softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Over the support ``[t, m, n]``, where ``mask [t, n]`` has a row."""
    return scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
