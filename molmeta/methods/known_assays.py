"""A Gaussian process on structure and on what other assays measured, and a vote of the assays that agree with this one.

    p(x) = (1 - l m(x)) p_gp(x) + l v(x)
    v(x) = sum_t w_t q(a_xt),    m(x) = sum_t w_t [x was measured in t],    over the T assays of the panel
    w_t ~ prod over the support of q(a_it)^(b y_i) ...   = softmax_t( b sum_i log p(y_i | a_it) )
    p(y = 1 | a) = q where assay t found the molecule active, 1 - q where inactive, 1/2 where it did not measure it
    l = sigmoid(c - d log(n / 16)),   n the size of the support; 0 without one

``p_gp`` is the process of ``gp.py`` over three views: how often the molecule is active elsewhere (whose linear function
is the prior mean: frequent hitters are a prediction that needs no support; Schimunek et al., 2023, arXiv:2305.09481),
its profile over other assays, and its fingerprint. The vote is the posterior mean of a mixture over assays, tempered by
b: with few labels, an assay that agrees with them all is the best guess of what this one is. q, b, c and d are learned
with the process's own parameters. The backbone is ``profiles``; a molecule that it does not know is predicted by its
structure alone. Several classes and values: the process alone.

With a backbone that reads what is said of the assay in words (``backbone.described``), the prior mean has one more
term, e <u(x), v(d)>: the logit of its two towers, on a learned scale. It is all there is without a support, beside the
rate; with one, it is what the support corrects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.episode import EpisodeBatch, Layout
from molmeta.core.learner import Encoding
from molmeta.core.task import Inputs, TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import Head, HeadOutput, PaddedEpisodes
from molmeta.methods.gp import GaussianProcess, GPConfig
from molmeta.methods.padded import inner


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownAssaysConfig(GPConfig):
    agreement: float = 0.8  # q at the start
    temper: float = 0.4  # b at the start
    vote: bool = True  # off, l is 0


class KnownAssays(GaussianProcess):
    """The process and the vote, mixed."""

    Config = KnownAssaysConfig
    config: KnownAssaysConfig

    def __init__(self, backbone: nn.Module, config: KnownAssaysConfig | None = None) -> None:
        super().__init__(backbone, config or KnownAssaysConfig())
        if len(self.backbone.views) != 4:
            raise ConfigError('known_assays needs what other assays measured: choose the backbone "profiles"')
        for kernel in (self.classification, self.regression):
            kernel.log_length.data.copy_(torch.tensor([1.0, 1.0, 0.5]).log())
        self.agreement = nn.Parameter(torch.tensor(self.config.agreement).logit())
        self.log_temper = nn.Parameter(torch.tensor(self.config.temper).log())
        self.share = nn.Parameter(torch.tensor([0.0, 1.0]))  # c, d
        if self.towers is not None:
            self.trust = nn.Parameter(torch.tensor(0.1))  # e

    @property
    def views(self) -> tuple[int, ...]:
        return self.backbone.views[:3]

    @property
    def towers(self) -> Any:
        """The backbone's, of a molecule and of what is said of an assay; None where it reads no descriptions."""
        return getattr(self.backbone, "towers", None)

    def encode(self, inputs: Inputs) -> Encoding:
        return inputs if isinstance(inputs, Encoding) else Encoding(self.backbone(inputs))

    def knows(self, inputs: Inputs) -> torch.Tensor:
        """``[n]`` whether an assay of the panel measured each row."""
        return (self._measured(self.encode(inputs).values) != 0).any(1)

    def pad(self, batch: EpisodeBatch, encoded: torch.Tensor) -> tuple[PaddedEpisodes, Layout]:
        episodes, layout = super().pad(batch, encoded)
        return self._told(episodes, batch), layout

    def _padded(self, batch: EpisodeBatch) -> tuple[PaddedEpisodes, Layout]:
        episodes, layout = super()._padded(batch)
        return self._told(episodes, batch), layout

    def _told(self, episodes: PaddedEpisodes, batch: EpisodeBatch) -> PaddedEpisodes:
        """With what the backbone makes of each assay's description, ``[t, 1, 1 + k]``; of none, of an empty one."""
        towers = self.towers
        if towers is None or batch.kind is not TaskKind.BINARY:
            return episodes
        words = towers.words.new_zeros(len(batch), towers.words.shape[1])
        if isinstance(batch.task_inputs, torch.Tensor):  # a row a class, of which an assay has two, the same
            words = batch.task_inputs[batch.num_classes.cumsum(0) - 1].to(words)
        return episodes.told(towers.assays(words)[:, None])

    def support_prior(self, episodes: PaddedEpisodes) -> torch.Tensor | float:
        g = super().support_prior(episodes)
        if episodes.described is None:
            return g
        return g + self._leaning(episodes.map(self._structure).support @ episodes.described.mT)

    def query_prior(self, episodes: PaddedEpisodes) -> torch.Tensor | float:
        g = super().query_prior(episodes)
        if isinstance(g, torch.Tensor):
            # The support corrects what g has in common for all molecules. Without one, a molecule that was never
            # measured, of rate 0, is as likely active as not.
            alone = (episodes.support_mask.sum(1) == 0)[:, None, None]
            g = g - alone * self._prior(g.new_tensor([0.0, 1.0]))
        if episodes.described is None:
            return g
        return g + self._leaning(episodes.map(self._structure).compare(inner, episodes.described))

    def _structure(self, rows: torch.Tensor) -> torch.Tensor:
        """``[..., 1 + k]`` what the towers make of the fingerprints, which the structure of the rows begins with."""
        start, towers = sum(self.views[:2]), self.towers
        fingerprints = rows[..., start : start + towers.structure.shape[1]]
        u: torch.Tensor = towers.molecules(F.normalize(fingerprints, dim=-1))
        return u

    def _leaning(self, logits: torch.Tensor) -> torch.Tensor:
        """The towers' logits ``[..., 1]`` as a part of g, ``[..., 2]``."""
        return self.trust * logits * logits.new_tensor([-1.0, 1.0])

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        process = super().head(episodes.map(self._compared))
        if not self._has_votes(episodes.kind):
            return process
        asked = episodes.map(self._measured)
        return self._mixed(process, asked.compare(inner, self._votes(asked)), asked)

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        process, asked = super().conditioned(episodes.map(self._compared)), episodes.map(self._measured)
        votes = self._votes(asked) if self._has_votes(episodes.kind) else None
        return partial(self._answer, process, asked, votes)

    def _answer(
        self, process: Head, asked: PaddedEpisodes, votes: torch.Tensor | None, query: torch.Tensor
    ) -> HeadOutput:
        said = process(self._compared(query))
        return said if votes is None else self._mixed(said, inner(self._measured(query), votes), asked)

    def _has_votes(self, kind: TaskKind) -> bool:
        return self.config.vote and kind is TaskKind.BINARY

    def _compared(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[..., : sum(self.views)]

    def _measured(self, rows: torch.Tensor) -> torch.Tensor:
        """``[..., 2T]``: 1, -1 or 0 for each assay of the panel, then whether it measured the row."""
        signs = rows[..., sum(self.views) :]
        return torch.cat([signs, signs.abs()], dim=-1)

    def _votes(self, asked: PaddedEpisodes) -> torch.Tensor:
        """``[t, 2, 2T]``: what a row that was :meth:`_measured` is multiplied with to give v and m."""
        q, size = self.agreement.sigmoid(), asked.support.shape[-1] // 2
        labels = (asked.targets[..., 1] - asked.targets[..., 0]) * asked.support_mask
        agreed = labels[:, None] @ asked.support[..., :size]  # [t, 1, T]: rows that agree, less those that do not
        measured = asked.support[..., size:].sum(1, keepdim=True)
        known = measured / 2 * (q.log() + (1 - q).log()) + agreed / 2 * (q.log() - (1 - q).log())
        likelihood = known + (asked.support_mask.sum(1)[:, None, None] - measured) * math.log(0.5)
        weights = (self.log_temper.exp() * likelihood).softmax(-1)
        v = torch.cat([(q - 0.5) * weights, 0.5 * weights], dim=-1)
        return torch.cat([v, torch.cat([torch.zeros_like(weights), weights], dim=-1)], dim=1)

    def _mixed(self, process: HeadOutput, voted: torch.Tensor, asked: PaddedEpisodes) -> HeadOutput:
        assert process.logits is not None
        sizes = asked.support_mask.sum(1).to(voted.dtype)
        share = (self.share[0] - self.share[1] * (sizes.clamp(min=1) / 16).log()).sigmoid()[:, None]
        share = share * (sizes > 0)[:, None]  # without a support, no assay agrees with it better than another
        v, m = voted.unbind(-1)
        active = (1 - share * m) * process.logits.softmax(-1)[..., 1] + share * v
        active = active.clamp(1e-6, 1 - 1e-6)
        return HeadOutput(logits=torch.stack([1 - active, active], dim=-1).log())
