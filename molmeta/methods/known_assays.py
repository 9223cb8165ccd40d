"""A Gaussian process on structure and on what other assays measured.

The process of ``gp.py`` over three views: how often the molecule is active elsewhere (whose linear function is the
prior mean: frequent hitters are a prediction that needs no support; Schimunek et al., 2023, arXiv:2305.09481), its
profile over other assays, and its structure. The backbone is ``profiles``; a molecule that no assay measured is
predicted by its structure alone.

With a backbone that reads what is said of the assay in words (``backbone.described``), the prior mean has one more
term, e <u(x), v(d)>: the logit of its two towers, on a learned scale. It is all there is without a support, beside the
rate; with one, it is what the support corrects.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from molmeta.core.episode import EpisodeBatch, Layout
from molmeta.core.learner import Encoding
from molmeta.core.task import Inputs, TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import PaddedEpisodes
from molmeta.methods.gp import GaussianProcess, GPConfig
from molmeta.methods.padded import inner


class KnownAssays(GaussianProcess):
    """The process over rate, profile and structure, told what is said of the assay."""

    def __init__(self, backbone: nn.Module, config: GPConfig | None = None) -> None:
        super().__init__(backbone, config)
        if len(self.backbone.views) < 3:
            raise ConfigError('known_assays needs what other assays measured: choose the backbone "profiles"')
        for kernel in (self.classification, self.regression):
            kernel.log_length.data.copy_(torch.tensor([1.0, 1.0, 0.5]).log())
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
        """``[n]`` whether an assay that was read measured each row."""
        (rate, profile, _), values = self.views, self.encode(inputs).values
        # An assay that shares no molecule with the others leaves the profile 0, but not the rate.
        return (values[:, 0] != 0) | (values[:, rate : rate + profile] != 0).any(1)

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
        return g + self._leaning(episodes.map(self._tower).support @ episodes.described.mT)

    def query_prior(self, episodes: PaddedEpisodes) -> torch.Tensor | float:
        g = super().query_prior(episodes)
        if isinstance(g, torch.Tensor):
            # The support corrects what g has in common for all molecules. Without one, a molecule that was never
            # measured, of rate 0, is as likely active as not.
            alone = (episodes.support_mask.sum(1) == 0)[:, None, None]
            g = g - alone * self._prior(g.new_tensor([0.0, 1.0]))
        if episodes.described is None:
            return g
        return g + self._leaning(episodes.map(self._tower).compare(inner, episodes.described))

    def _tower(self, rows: torch.Tensor) -> torch.Tensor:
        """``[..., 1 + k]`` what the molecules' tower says of rows."""
        return rows[..., sum(self.views) :]

    def _leaning(self, logits: torch.Tensor) -> torch.Tensor:
        """The towers' logits ``[..., 1]`` as a part of g, ``[..., 2]``."""
        return self.trust * logits * logits.new_tensor([-1.0, 1.0])
