"""Deep kernels whose hyperparameters are shared by all tasks (DKT) or refitted to each (ADKF): exact, by Cholesky.

    y ~ N(0, A),   A = a^2 C(d / (l m)) + s^2 I,   d = |f(x) - f(x')|,   theta = (log l, log a^2, log s^2)
    mean(x*) = k(x*) A^-1 y,   var(x*) = a^2 + s^2 - k(x*) A^-1 k(x*)'

DKT (Patacchiola et al., 2020, arXiv:1910.05199): one theta for all tasks, learned with the features f.
ADKF-IFT (Chen, Tripp and Hernandez-Lobato, 2023, arXiv:2205.02708): each task has its own, fitted to its support,

    theta_T = argmin L,   L(theta, f) = -log N(y; 0, A) + sum_j (theta_j - theta0_j)^2 / (2 w_j^2)
    d loss / df = @loss/@f - @loss/@theta (@2L/@theta2)^-1 @2L/@theta@f          the implicit function theorem

The loss is that of the queries. L has its gradient g and Hessian H in closed form, so that the argmin is found by
damped Newton steps; the theorem is one more step that is differentiated through, theta_T - H^-1 g(theta_T, f). A second
such step makes second derivatives exact, too: each squares the error.

As in the paper, C is Matern-5/2, m = sqrt(median(d^2) / 2) over the support's pairs, and the prior puts the mode of the
length at m and of the noise at .1 (classes) or .01 (values), both within w = 1/4. Ours: the prior's modes theta0 only
start there and are learned, so that w = 0 is DKT; the amplitude has a prior as well (w = 1), without which a support of
one value has no optimum; y is -1 and 1, one class against the rest, less its mean; logits are the means, shrunk where
the variance is large: c mean / sqrt(1 + v var), c and v learned; DKT, too, is trained by the queries' loss, where its
paper takes the marginal likelihood of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import nn

from molmeta.core.learner import Laws
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, Head, HeadOutput, PaddedEpisodes

Similarity = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # C, dC/d log l, d2C/d log l 2


@dataclass(frozen=True, kw_only=True, slots=True)
class DKTConfig:
    kernel: Literal["matern", "rbf"] = "matern"  # matern: with nu = 5/2


@dataclass(frozen=True, kw_only=True, slots=True)
class ADKFConfig(DKTConfig):
    implicit: bool = True  # differentiate the fit; False: theta counts as a constant of the task
    steps: int = 30  # Newton steps at most; fewer where they have converged

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}, but a fit takes 1 Newton step or more")


def matern(squared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matern-5/2 of squared distances in units of the length, and its two derivatives in log l."""
    q = (5 * squared + 1e-12).sqrt()  # of 0, a root has no gradient
    decay = (-q).exp()
    return (1 + q + q**2 / 3) * decay, q**2 * (1 + q) / 3 * decay, q**2 * (q**2 - 2 * q - 2) / 3 * decay


def rbf(squared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """exp(-d^2 / 2) of squared distances in units of the length, and its two derivatives in log l."""
    similar = (-squared / 2).exp()
    return similar, squared * similar, squared * (squared - 2) * similar


_FLOOR = 1e-3  # added to s^2, so that the Cholesky factor of repeated rows exists
SIMILARITIES: dict[str, Similarity] = {"matern": matern, "rbf": rbf}


class DKT(EmbeddingLearner):
    """A Gaussian process on the embedding, with one kernel for all tasks; serves every kind."""

    Config: type[DKTConfig] = DKTConfig
    laws = Laws(kinds=frozenset(TaskKind), shares_rows=True)
    config: DKTConfig

    def __init__(self, backbone: nn.Module, config: DKTConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config or self.Config()
        self.classification = nn.Parameter(torch.tensor([0.0, 0.0, math.log(0.1)]))
        self.regression = nn.Parameter(torch.tensor([0.0, 0.0, math.log(0.01)]))
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.log_shrinkage = nn.Parameter(torch.tensor(0.0))

    def theta(self, process: Process, start: torch.Tensor) -> torch.Tensor:
        """``[t, 3]`` hyperparameters of each task, ``start [3]`` being those of the kind."""
        return start.expand(len(process.targets), 3)

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        return self._said(episodes.kind, *self._posterior(episodes)(episodes.across(squared_distance)))

    def conditioned(self, episodes: PaddedEpisodes) -> Head:
        """The fit and its Cholesky factors are made once, however many blocks of queries follow."""
        return partial(self._asked, episodes, self._posterior(episodes))

    def _asked(self, episodes: PaddedEpisodes, posterior: Posterior, query: torch.Tensor) -> HeadOutput:
        return self._said(episodes.kind, *posterior(squared_distance(query, episodes.support)))

    def _posterior(self, episodes: PaddedEpisodes) -> Posterior:
        process = Process(episodes, SIMILARITIES[self.config.kernel])
        start = self.classification if episodes.kind.is_classification else self.regression
        return Posterior(process, self.theta(process, start))

    def _said(self, kind: TaskKind, mean: torch.Tensor, variance: torch.Tensor) -> HeadOutput:
        if not kind.is_classification:
            return HeadOutput(mean=mean[..., 0], deviation=variance.sqrt())
        shrinkage = (1 + self.log_shrinkage.exp() * variance[..., None]).sqrt()
        return HeadOutput(logits=self.log_scale.exp() * mean / shrinkage)


class ADKF(DKT):
    """As :class:`DKT`, the hyperparameters fitted to each support."""

    Config = ADKFConfig
    config: ADKFConfig

    def theta(self, process: Process, start: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            moved = process.fit(start, self.config.steps)
        with torch.set_grad_enabled(self.config.implicit and torch.is_grad_enabled()):
            moved = newton(process, start, moved, steps=2)
        return start + moved


class Objective(NamedTuple):
    """L of each task, ``[t]``, its gradient ``[t, 3]`` and its Hessian ``[t, 3, 3]`` in theta."""

    value: torch.Tensor
    gradient: torch.Tensor
    hessian: torch.Tensor


class Process:
    """The Gaussian processes of ``t`` supports, before their hyperparameters are known.

    Args:
        episodes: whose support is read.
        similarity: C.
    """

    widths = (0.25, 1.0, 0.25)  # w

    def __init__(self, episodes: PaddedEpisodes, similarity: Similarity) -> None:
        self.similarity = similarity
        rows = episodes.support_mask[..., None]
        self.mask = rows.to(episodes.targets.dtype)  # [t, n, 1]
        self.pairs = self.mask * self.mask.mT
        targets = 2 * episodes.targets - 1 if episodes.kind.is_classification else episodes.targets
        targets = targets * self.mask
        self.base = targets.sum(1, keepdim=True) / self.mask.sum(1, keepdim=True)
        self.targets = (targets - self.base) * self.mask
        # One-against-the-rest columns see the same rows: their evidence is averaged, not added up. Classes that an
        # episode lacks have targets of 0, and do not count.
        self.columns = episodes.num_classes.clamp(min=1).to(targets.dtype)
        squared = episodes.within(squared_distance)
        self.unit = typical(squared, rows & rows.mT)[:, None, None]  # m^2
        self.squared = squared / self.unit
        self.identity = torch.eye(squared.shape[-1], dtype=squared.dtype, device=squared.device)

    def covariance(self, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A ``[t, n, n]``, the identity in the padding, and its derivatives: ``[4, t, n, n]``.

        They are @A / @theta_j, and the one second derivative that is none of these, @2A / @theta_0 2.
        """
        length, own, noise = theta.exp()[..., None, None].unbind(1)
        similar = [own * part * self.pairs for part in self.similarity(self.squared / length**2)]
        diagonal = self.identity * self.mask
        white = noise * diagonal
        whole = similar[0] + white + _FLOOR * diagonal + self.identity - diagonal
        return whole, torch.stack([similar[1], similar[0], white, similar[2]])

    def objective(self, start: torch.Tensor, moved: torch.Tensor) -> Objective:
        """L at theta = ``start [3]`` + ``moved [t, 3]``, by A's first and second derivatives.

        2 dL = tr(S dA),   2 d2L = tr(S d2A) - tr(P dA P dA) + 2 y' P dA P dA P y,   P = A^-1,   S = P - P y y' P
        """
        whole, changes = self.covariance(start + moved)
        factor = torch.linalg.cholesky(whole)
        inverse = torch.cholesky_inverse(factor)
        solved = inverse @ self.targets
        per = self.columns[:, None, None]
        slopes = ((inverse - solved @ solved.mT / per) * changes).sum((-2, -1)) / 2  # tr(S dA) / 2: [4, t]
        first = changes[:3]
        turned = inverse @ first
        bent, through = first @ solved, turned @ solved  # dA P y and P dA P y: [3, t, n, c]
        hessian = torch.einsum("jtnc,ktnc->tjk", bent, through) / per
        hessian = hessian - torch.einsum("jtab,ktba->tjk", turned, turned) / 2
        length, own, noise, bend = slopes
        zero = torch.zeros_like(noise)
        second = (bend, length, zero, length, own, zero, zero, zero, noise)  # theta is in logarithms
        fit = (self.targets * solved).sum((-2, -1)) / self.columns
        tight = moved.new_tensor(self.widths) ** -2
        return Objective(
            fit / 2 + factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) + (tight * moved**2).sum(-1) / 2,
            slopes[:3].T + tight * moved,
            hessian + torch.stack(second, -1).view(-1, 3, 3) + tight.diag(),
        )

    def fit(self, start: torch.Tensor, steps: int) -> torch.Tensor:
        """``[t, 3]``: how far each task's theta moves from ``start`` to the minimum of L, by damped Newton steps.

        A step that does not lower L is taken back, and the next is more cautious. Where L bends downwards, the step
        follows the gradient down.
        """
        moved = start.new_zeros(len(self.targets), 3)
        damping = torch.ones_like(moved[:, :1])
        now = self.objective(start, moved)
        for _ in range(steps):
            bends, axes = torch.linalg.eigh(now.hessian)
            along = (axes.mT @ now.gradient[..., None])[..., 0]
            # What an undamped step would gain, against what L can tell.
            if ((along**2 / bends.abs()).sum(-1) < 10 * torch.finfo(moved.dtype).eps * (1 + now.value.abs())).all():
                break
            along = along / (bends.abs() + damping)
            tried = moved - (axes @ along[..., None])[..., 0].clamp(-1, 1)
            then = self.objective(start, tried)
            lower = (then.value < now.value)[:, None]
            damping = torch.where(lower, damping / 10, damping * 4)
            moved = torch.where(lower, tried, moved)
            now = Objective(*(_where(lower, new, old) for new, old in zip(then, now, strict=True)))
        return moved


class Posterior:
    """The processes given their supports, at hyperparameters ``theta [t, 3]``."""

    def __init__(self, process: Process, theta: torch.Tensor) -> None:
        self.process = process
        self.length, self.own, self.noise = theta.exp()[..., None, None].unbind(1)
        self.factor = torch.linalg.cholesky(process.covariance(theta)[0])
        self.solved = torch.cholesky_solve(process.targets, self.factor)

    def __call__(self, squared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean ``[t, m, c]`` and variance ``[t, m]``, noise included, of queries.

        Args:
            squared: ``[t, m, n]`` squared distances of each query from each support row.
        """
        similar = self.process.similarity(squared / (self.process.unit * self.length**2))[0]
        across = self.own * similar * self.process.mask.mT
        explained = torch.linalg.solve_triangular(self.factor, across.mT, upper=False).square().sum(-2)
        variance = (self.own[..., 0] - explained).clamp(min=0) + self.noise[..., 0] + _FLOOR
        return self.process.base + across @ self.solved, variance


def newton(process: Process, start: torch.Tensor, moved: torch.Tensor, steps: int) -> torch.Tensor:
    """``moved [t, 3]`` after ``steps`` Newton steps that are differentiated through; a minimum stays where it is."""
    for _ in range(steps):
        _, gradient, hessian = process.objective(start, moved)
        # Bounded, for a fit that had not converged.
        moved = moved - torch.linalg.solve(hessian, gradient).clamp(-0.1, 0.1)
    return moved


def squared_distance(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``[t, i, j]`` squared distances of rows ``[t, i, d]`` and ``[t, j, d]``; twice differentiable, unlike cdist's."""
    norms = left.square().sum(-1)[..., None] + right.square().sum(-1)[..., None, :]
    return (norms - 2 * left @ right.mT).clamp(min=0)


def typical(squared: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """``[t]``: half the median of the ``real`` ones of ``squared [t, n, n]`` above the diagonal; 1 where there is none.

    Pairs of one place do not count.
    """
    largest = (squared * real).amax((-2, -1), keepdim=True)
    kept = torch.triu(real & (squared > 1e-6 * largest), diagonal=1)
    median = torch.where(kept, squared, torch.nan).flatten(1).nanmedian(1).values
    return torch.where(kept.any(-1).any(-1), median / 2, 1.0)


def _where(lower: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return torch.where(lower.view(-1, *[1] * (new.ndim - 1)), new, old)
