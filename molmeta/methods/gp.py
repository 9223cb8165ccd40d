"""Deep-kernel Gaussian process with a learned mean, averaged over how much each view counts: exact, by Cholesky.

    K_w = a^2 sum over views of w_v exp((cos(Z_v, Z'_v) - 1) / l_v^2),    w on a grid of shares that sum to 1
    r = y - b - g(Z)                             what neither base rate nor prior explains; b = mean of y
    mean_w(z*) = b + g(z*) + k_w(z*, Z) (K_w + s^2 I)^-1 r
    var_w(z*)  = a^2 + s^2 - k_w(z*, Z) (K_w + s^2 I)^-1 k_w(Z, z*)
    p(w | support) ~ N(r; 0, K_w + s^2 I)        the evidence; mean and variance are those of the mixture over w

The kernel over a learned embedding is Patacchiola et al. (2020, arXiv:1910.05199); ``g``, a learned mean, is what the
model knows of a molecule before it sees the support, and its weight falls as the support grows (Fortuin et al., 2019,
arXiv:1901.08098). The average over w lets each assay say whether the learned view or the plain fingerprint serves it
better: the learned one wins on chemistry like that of training, the plain one elsewhere. Classes are regressed one
against the rest on labels of -1 and 1; logits are the means, shrunk where the variance is large (MacKay, 1992), on a
learned scale: p = softmax(c mean / sqrt(1 + v var)). Values follow a Student law of this mean and variance, of learned
degrees of freedom: measured values have outliers. All of it is trained by the loss of the queries. Each family of kinds
has its own kernel parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.learner import Encoding, Laws
from molmeta.core.task import Inputs, TaskKind
from molmeta.methods.episodic import EmbeddingLearner, Head, HeadOutput, PaddedEpisodes


@dataclass(frozen=True, kw_only=True, slots=True)
class GPConfig:
    prior: bool = True  # learn g for binary tasks; off, the method is class-equivariant


class Kernel(nn.Module):
    """Amplitude, a length for each view and the noise, on a log scale: the kernel of one family of kinds."""

    shares: torch.Tensor

    def __init__(self, views: tuple[int, ...]) -> None:
        super().__init__()
        self.views = views
        self.log_amplitude = nn.Parameter(torch.tensor(0.0))
        self.log_length = nn.Parameter(torch.full((len(views),), -0.7))
        self.log_noise = nn.Parameter(torch.tensor(-0.7))
        self.register_buffer("shares", share_grid(len(views)), persistent=False)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """``[s, t, i, j]``, one kernel for each row of the grid, of rows ``[t, i, d]`` and ``[t, j, d]``.

        Each view of a row has unit length; what comes after the views is not compared.
        """
        parts = zip(*(torch.split(x[..., : sum(self.views)], list(self.views), -1) for x in (left, right)), strict=True)
        # Only the first view is learned: no gradient is taken through the others.
        cosines = [a @ b.mT if v == 0 else a.detach() @ b.detach().mT for v, (a, b) in enumerate(parts)]
        lengths = (2 * self.log_length).exp()
        similar = torch.stack([((cosine - 1) / lengths[v]).exp() for v, cosine in enumerate(cosines)])
        return self.own * torch.einsum("sv,vtij->stij", self.shares.to(similar.dtype), similar)

    @property
    def own(self) -> torch.Tensor:
        """a^2 = k(z, z), the same for every z."""
        return (2 * self.log_amplitude).exp()

    @property
    def noise(self) -> torch.Tensor:
        """s^2, kept away from 0 so that the Cholesky factor exists for repeated rows."""
        return (2 * self.log_noise).exp() + 1e-3


class GaussianProcess(EmbeddingLearner):
    """An exact Gaussian process on the embedding; serves every kind."""

    Config = GPConfig
    laws = Laws(kinds=frozenset(TaskKind), shares_rows=True)

    def __init__(self, backbone: nn.Module, config: GPConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or GPConfig()
        self.classification = Kernel(self.views)
        self.regression = Kernel(self.views)
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.log_shrinkage = nn.Parameter(torch.tensor(0.0))
        self.log_tails = nn.Parameter(torch.tensor(2.0))
        if self.config.prior:
            # The active class is not like the other: with a prior, binary tasks are not class-equivariant.
            # And what the model knows of a molecule beforehand is an answer without a support, too.
            self.laws = replace(self.laws, class_equivariant=False, empty_support=True)
            self.prior = nn.Linear(self.views[0], 1)
            nn.init.zeros_(self.prior.weight)
            nn.init.zeros_(self.prior.bias)

    @property
    def views(self) -> tuple[int, ...]:
        """Widths of the parts of an embedding that the kernel compares."""
        return self.backbone.views

    def encode(self, inputs: Inputs) -> Encoding:
        """Embeddings whose views have unit length each."""
        if isinstance(inputs, Encoding):
            return inputs
        views = torch.split(self.backbone(inputs), list(self.backbone.views), dim=-1)
        return Encoding(torch.cat([F.normalize(view, dim=-1) for view in views], dim=-1))

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        posterior = self._posterior(episodes)
        return self._said(episodes.kind, *posterior(episodes.across(posterior.kernel), self.query_prior(episodes)))

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        """The Cholesky factors are made once, however many blocks of queries follow."""
        return partial(self._asked, self._posterior(episodes), episodes)

    def _asked(self, posterior: Posterior, episodes: PaddedEpisodes, query: torch.Tensor) -> HeadOutput:
        g = self.query_prior(replace(episodes, query=query))
        return self._said(episodes.kind, *posterior(posterior.kernel(query, episodes.support), g))

    def _posterior(self, episodes: PaddedEpisodes) -> Posterior:
        if not episodes.kind.is_classification:
            return Posterior(self.regression, episodes, episodes.targets)
        signs = (2 * episodes.targets - 1) * episodes.support_mask[..., None]
        return Posterior(self.classification, episodes, signs, self.support_prior(episodes))

    def support_prior(self, episodes: PaddedEpisodes) -> torch.Tensor | float:
        """g of the support rows, ``[t, n, 2]``; 0 where no prior is learned."""
        return episodes.map(self._prior).support if self._has_prior(episodes.kind) else 0.0

    def query_prior(self, episodes: PaddedEpisodes) -> torch.Tensor | float:
        """Likewise of the queries, ``[t, m, 2]``."""
        return episodes.map(self._prior).query if self._has_prior(episodes.kind) else 0.0

    def _said(self, kind: TaskKind, mean: torch.Tensor, variance: torch.Tensor) -> HeadOutput:
        if kind.is_classification:
            return self._logits(mean, variance)
        return HeadOutput(mean=mean[..., 0], deviation=variance.sqrt(), tails=2 + self.log_tails.exp())

    def beforehand(self, episodes: PaddedEpisodes) -> tuple[Head, Head] | None:
        """The mean of a row that is like no support row: b + g, and b alone."""
        if not self._has_prior(episodes.kind):
            return None
        counts = episodes.class_counts()[:, None]
        base = (2 * counts - counts.sum(-1, keepdim=True)) / counts.sum(-1, keepdim=True).clamp(min=1)

        def unlike(weight: float, query: torch.Tensor) -> HeadOutput:
            g = self.query_prior(replace(episodes, query=query))
            mean = base + weight * torch.as_tensor(g).expand(*query.shape[:2], 2)
            return self._logits(mean, self.classification.own + self.classification.noise.expand(mean.shape[:-1]))

        return partial(unlike, 1.0), partial(unlike, 0.0)

    def _logits(self, mean: torch.Tensor, variance: torch.Tensor) -> HeadOutput:
        """Means ``[t, m, k]``, shrunk by the variances ``[t, m]``."""
        shrinkage = (1 + self.log_shrinkage.exp() * variance[..., None]).sqrt()
        return HeadOutput(logits=self.log_scale.exp() * mean / shrinkage)

    def _has_prior(self, kind: TaskKind) -> bool:
        return self.config.prior and kind is TaskKind.BINARY

    def _prior(self, rows: torch.Tensor) -> torch.Tensor:
        """g for each class of ``rows [..., d]``, ``[..., 2]``: opposite for the two classes of a binary task."""
        g: torch.Tensor = self.prior(rows[..., : self.views[0]]) * rows.new_tensor([-1.0, 1.0])
        return g


def share_grid(views: int, parts: int = 4) -> torch.Tensor:
    """``[s, views]``: the ways to give ``parts`` quarters to the views, each moved a tenth of the way to equal."""
    splits = [c for c in product(range(parts + 1), repeat=views) if sum(c) == parts]
    return 0.9 * torch.tensor(splits, dtype=torch.float64) / parts + 0.1 / views


class Posterior:
    """The process given a support: ``posterior(across, prior)`` is its mean and variance, averaged over the grid.

    Args:
        kernel: of the kind's family.
        episodes: whose support is read.
        targets: ``[t, n, c]``.
        prior: g of the support, ``[t, n, c]``, or a scalar.
    """

    def __init__(
        self, kernel: Kernel, episodes: PaddedEpisodes, targets: torch.Tensor, prior: torch.Tensor | float = 0.0
    ) -> None:
        self.kernel = kernel
        self.mask = episodes.support_mask[..., None].to(targets.dtype)
        self.base = targets.sum(1, keepdim=True) / self.mask.sum(1, keepdim=True).clamp(min=1)
        residual = (targets - self.base - prior) * self.mask
        # Padding rows are masked: with the noise on their diagonal they stand apart from every other row.
        within = episodes.within(kernel) * self.mask * self.mask.mT
        identity = torch.eye(within.shape[-1], dtype=within.dtype, device=within.device)
        self.factor = torch.linalg.cholesky(within + identity * kernel.noise)
        self.solved = torch.cholesky_solve(residual.expand(len(self.factor), *residual.shape), self.factor)
        # One-against-the-rest columns see the same rows: their evidence is averaged, not added up. Classes that an
        # episode lacks have residual 0, and do not count.
        self.columns = episodes.num_classes.clamp(min=1).to(targets.dtype)
        fit = (residual * self.solved).sum((-2, -1)) / self.columns
        evidence = -fit / 2 - self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        self.weights = evidence.softmax(0)[..., None]  # [s, t, 1]

    def __call__(self, across: torch.Tensor, prior: torch.Tensor | float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean ``[t, m, c]`` and variance ``[t, m]`` (noise included) of the queries.

        Args:
            across: ``[s, t, m, n]`` kernels of each query with each support row.
            prior: g of the queries, ``[t, m, c]``, or a scalar.
        """
        across = across * self.mask.mT
        means = across @ self.solved  # [s, t, m, c]
        explained = torch.linalg.solve_triangular(self.factor, across.mT, upper=False).square().sum(-2)
        variances = (self.kernel.own - explained).clamp(min=0) + self.kernel.noise
        mean = (self.weights[..., None] * means).sum(0)
        spread = (means - mean).square().sum(-1) / self.columns[:, None]
        return self.base + prior + mean, (self.weights * (variances + spread)).sum(0)
