"""R2-D2 and LR-D2: closed-form heads on a learned embedding (Bertinetto et al., 2019, arXiv:1805.08136).

    W = argmin ||X W - Y||^2 + lambda ||W||^2 = X' (X X' + lambda I)^-1 Y       ridge; by Woodbury n x n
    logits = a (x' W) + b                                                       a and lambda are learned

X [n, d + 1] holds the support's embeddings and a column of ones, whose weight is the intercept; Y [n, k] is one-hot.
The paper's b is one number for all classes, which cancels in the softmax.
``solver = "logistic"`` is LR-D2: sum log(1 + exp(-y x'w)) + lambda ||w||^2 / 2, y = +-1, by a few Newton
steps (iteratively reweighted least squares), for each class against the rest:

    w <- X' (X X' + lambda S^-1)^-1 z,   m = sigmoid(X w),  S = diag(m (1 - m)),  z = X w + S^-1 (y01 - m)

Regression takes Y in units of the support. Ridge is the posterior mean under w ~ N(0, s^2 / lambda), so that the
variance is s^2 (1 + x' (X'X + lambda I)^-1 x), with s learned (Bishop, 2006, eqs. 3.53 to 3.59).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, Head, HeadOutput, PaddedEpisodes


@dataclass(frozen=True, kw_only=True, slots=True)
class R2D2Config:
    solver: Literal["ridge", "logistic"] = "ridge"
    steps: int = 5  # logistic: Newton steps
    ridge: float = 1.0  # lambda at the start
    scale: float = 5.0  # a at the start

    def __post_init__(self) -> None:
        if self.steps < 1 or not (self.ridge > 0 and self.scale > 0):
            raise ConfigError(
                f"steps is 1 or more, ridge and scale are positive, not {self.steps}, {self.ridge} and {self.scale}"
            )


class R2D2(EmbeddingLearner):
    """Ridge or logistic regression, fitted to each support and differentiated through."""

    Config = R2D2Config
    laws = Laws(kinds=frozenset(TaskKind))

    def __init__(self, backbone: nn.Module, config: R2D2Config | None = None) -> None:
        super().__init__(backbone)
        self.config = config or R2D2Config()
        self.log_ridge = nn.Parameter(torch.tensor(self.config.ridge).log())
        self.log_scale = nn.Parameter(torch.tensor(self.config.scale).log())
        self.log_noise = nn.Parameter(torch.tensor(-0.7))
        if self.config.solver == "logistic":
            self.laws = replace(self.laws, kinds=self.laws.kinds - {TaskKind.REGRESSION})

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        return self.conditioned(episodes)(episodes.query)

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        support = _with_ones(episodes.support) * episodes.support_mask[..., None]  # padding rows stay 0
        gram, ridge = support @ support.mT, self.log_ridge.exp()
        if self.config.solver == "logistic":
            dual = logistic(gram, episodes.targets, episodes.support_mask, ridge, self.config.steps)
            return partial(self._classify, support.mT @ dual)
        identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        factor = torch.linalg.cholesky(gram + ridge * identity)
        weights = support.mT @ torch.cholesky_solve(episodes.targets, factor)
        if episodes.kind.is_classification:
            return partial(self._classify, weights)
        return partial(self._regress, weights, support, factor)

    def _classify(self, weights: torch.Tensor, query: torch.Tensor) -> HeadOutput:
        return HeadOutput(logits=self.log_scale.exp() * (_with_ones(query) @ weights))

    def _regress(
        self, weights: torch.Tensor, support: torch.Tensor, factor: torch.Tensor, query: torch.Tensor
    ) -> HeadOutput:
        rows = _with_ones(query)
        across = torch.linalg.solve_triangular(factor, support @ rows.mT, upper=False)  # [t, n, m]
        # x' (X'X + lambda I)^-1 x, by Woodbury
        leverage = (rows.square().sum(-1) - across.square().sum(1)) / self.log_ridge.exp()
        deviation = self.log_noise.exp() * (1 + leverage.clamp(min=0)).sqrt()
        return HeadOutput(mean=(rows @ weights)[..., 0], deviation=deviation)


def logistic(
    gram: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, ridge: torch.Tensor, steps: int
) -> torch.Tensor:
    """Dual weights ``[t, n, k]`` of each class against the rest, ``w = X' dual``, after Newton steps from 0.

    With R = S^(1/2), (K + lambda S^-1)^-1 z = R (lambda I + R K R)^-1 R z, whose matrix is well conditioned however
    sure the model is.

    Args:
        gram: ``[t, n, n]``, K = X X'; padding rows are 0.
        targets: ``[t, n, k]`` one-hot.
        mask: ``[t, n]`` True where there is a row.
        ridge: lambda.
        steps: Newton steps.
    """
    gram, mask = gram[:, None], mask[:, None]  # [t, 1, n, n], [t, 1, n]
    signs = 2 * targets.mT - 1  # [t, k, n]
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    dual = torch.zeros_like(signs)
    for _ in range(steps):
        fitted = (gram @ dual[..., None])[..., 0]
        margin = (signs * fitted).clamp(min=-20)  # a step that overshot leaves finite numbers
        root = ((F.logsigmoid(margin) + F.logsigmoid(-margin)) / 2).exp()
        rooted = (root * fitted + signs * (-margin / 2).exp()) * mask  # R z
        factor = torch.linalg.cholesky(root[..., None] * gram * root[..., None, :] + ridge * identity)
        dual = root * torch.cholesky_solve(rooted[..., None], factor)[..., 0]
    return dual.mT


def _with_ones(rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)
