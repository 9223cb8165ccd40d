"""Quadratic probe (Formont et al., 2024, arXiv:2404.02314): for each class a centre and a metric of its own.

    p(y = k | x) = softmax_k( -T d_k(z) ),   d_k(z) = (z - w_k)' M_k (z - w_k),   z = f(x) / ||f(x)||

Both are fitted to the support, one with the other held, from w_k the mean of class k:

    M_k <- ((1 - l) C_k + l I)^-1,   C_k = mean over class k of (z_i - w_k)(z_i - w_k)'
    w_k <- w_k + s / n  sum_i (1[y_i = k] - p(y_i = k | x_i)) (z_i - w_k)

The first is the closed form of the metric; its shrinkage l keeps M_k bounded where a class has few rows. The second is
a gradient step of the cross-entropy, measured in the metric itself (times M_k^-1; the paper takes Adam's step). T, l
and s are learned with the embedding; with ``frozen`` the embedding stays as another run left it, as in the paper.

A centre is a weighted mean of the rows, w_k = Z' a_k, so that inner products are all that is needed, at any width. With
A the rows of class k less w_k, and b = (1 - l) / n_k, Woodbury's identity gives

    d_k(z) = ( ||z - w_k||^2 - b u' (l I + b A A')^-1 u ) / l,   u = A (z - w_k)

With ``log_determinant``, d_k is less log |M_k|: T = 1/2 is then quadratic discriminant analysis with equal priors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import nn

from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, Head, HeadOutput, PaddedEpisodes
from molmeta.methods.padded import inner, unit_length


@dataclass(frozen=True, kw_only=True, slots=True)
class QuadraticProbeConfig:
    steps: int = 5  # how often centres move and metrics follow
    step_size: float = 0.5  # s at the start
    shrinkage: float = 0.2  # l at the start: 1 makes every metric the same
    temperature: float = 1.0  # T at the start
    log_determinant: bool = False  # a class that is spread out is less likely at its centre
    frozen: bool = False  # learn T, l and s alone

    def __post_init__(self) -> None:
        if self.steps < 0 or not (self.step_size > 0 and self.temperature > 0 and 0 < self.shrinkage < 1):
            raise ConfigError(
                "steps is 0 or more, step_size and temperature are positive and shrinkage is between 0 and 1, not "
                f"{self.steps}, {self.step_size}, {self.temperature} and {self.shrinkage}"
            )


class QuadraticProbe(EmbeddingLearner):
    """Nearest centre by each class's own metric, both fitted to the support."""

    Config = QuadraticProbeConfig
    laws = Laws(kinds=frozenset({TaskKind.BINARY, TaskKind.MULTICLASS}), shares_rows=True)

    def __init__(self, backbone: nn.Module, config: QuadraticProbeConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or QuadraticProbeConfig()
        self.log_step = nn.Parameter(torch.tensor(self.config.step_size).log())
        self.logit_shrinkage = nn.Parameter(torch.tensor(self.config.shrinkage).logit())
        self.log_temperature = nn.Parameter(torch.tensor(self.config.temperature).log())
        self.backbone.requires_grad_(not self.config.frozen)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.frozen:
            self.backbone.eval()
        return self

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        episodes = episodes.map(unit_length)
        return self._classify(self._fit(episodes), episodes.across(inner))

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        episodes = episodes.map(unit_length)
        return partial(self._compare, self._fit(episodes), episodes.support)

    def _compare(self, fitted: Fitted, support: torch.Tensor, query: torch.Tensor) -> HeadOutput:
        return self._classify(fitted, inner(unit_length(query), support))

    def _classify(self, fitted: Fitted, across: torch.Tensor) -> HeadOutput:
        return HeadOutput(logits=self._logits(fitted, across).mT)

    def _logits(self, fitted: Fitted, across: torch.Tensor) -> torch.Tensor:
        """``[t, k, m]`` for the inner products ``[t, m, n]`` of rows with the support."""
        distance = fitted.distance(across)
        if self.config.log_determinant:
            distance = distance + fitted.log_determinant[..., None]
        return -self.log_temperature.exp() * distance

    def _fit(self, episodes: PaddedEpisodes) -> Fitted:
        """Centres and metrics of ``episodes``, whose rows have unit length."""
        shrinkage, step = self.logit_shrinkage.sigmoid().clamp(min=1e-3), self.log_step.exp()
        mask = episodes.support_mask[..., None].to(episodes.targets.dtype)
        gram = episodes.within(inner) * mask * mask.mT
        targets, count = episodes.targets.mT, mask.sum(1, keepdim=True)  # [t, k, n], [t, 1, 1]
        absent = (targets.sum(-1) == 0)[..., None]
        weights = targets / targets.sum(-1, keepdim=True).clamp(min=1)
        fitted = Fitted(gram, targets, weights, shrinkage)
        for _ in range(self.config.steps):
            probabilities = self._logits(fitted, gram).masked_fill(absent, -torch.inf).softmax(1)
            error = (targets - probabilities) * mask.mT * step / count
            weights = weights + error - error.sum(-1, keepdim=True) * weights
            fitted = Fitted(gram, targets, weights, shrinkage)
        return fitted


class Fitted:
    """The centre and the metric of each class.

    Args:
        gram: ``[t, n, n]`` inner products of the support's rows; 0 in the padding.
        targets: ``[t, k, n]`` one-hot.
        weights: ``[t, k, n]``, whose sums are 1: a class's centre is the mean of the rows under them.
        shrinkage: l.
    """

    def __init__(
        self, gram: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, shrinkage: torch.Tensor
    ) -> None:
        self.targets, self.weights, self.shrinkage = targets, weights, shrinkage
        self.to_centre = weights @ gram  # [t, k, n] z_i' w_k
        self.length = (self.to_centre * weights).sum(-1)  # [t, k] ||w_k||^2
        self.share = (1 - shrinkage) / targets.sum(-1).clamp(min=1)  # [t, k] b
        within = self._offsets(gram[:, None], self.to_centre) * targets[:, :, None]
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        self.factor = torch.linalg.cholesky(shrinkage * identity + self.share[..., None, None] * within)

    def distance(self, across: torch.Tensor) -> torch.Tensor:
        """``[t, k, m]`` d_k(z), less ||z||^2 / l, which is common to the classes.

        Args:
            across: ``[t, m, n]`` inner products of rows z with the support's.
        """
        to_centre = self.weights @ across.mT  # [t, k, m] z' w_k
        offsets = self._offsets(across.mT[:, None], to_centre)
        explained = torch.linalg.solve_triangular(self.factor, offsets, upper=False).square().sum(-2)
        relative: torch.Tensor = self.length[..., None] - 2 * to_centre - self.share[..., None] * explained
        return relative / self.shrinkage

    @property
    def log_determinant(self) -> torch.Tensor:
        """``[t, k]`` - log |M_k|, less what is common to the classes."""
        diagonal: torch.Tensor = self.factor.diagonal(dim1=-2, dim2=-1)
        return 2 * diagonal.log().sum(-1)

    def _offsets(self, products: torch.Tensor, to_centre: torch.Tensor) -> torch.Tensor:
        """``[t, k, n, m]`` (z_i - w_k)'(z - w_k) for the rows i of class k, else 0.

        Args:
            products: ``[t, 1, n, m]`` z_i'z.
            to_centre: ``[t, k, m]`` z'w_k.
        """
        offsets = products - self.to_centre[..., None] - to_centre[:, :, None] + self.length[..., None, None]
        return offsets * self.targets[..., None]
