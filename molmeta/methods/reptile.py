"""Reptile (Nichol et al., 2018, arXiv:1803.02999): move the initial weights towards each task's adapted ones.

    theta <- theta + eps * mean over tasks of (W - theta),   W = the weights after S inner steps on the task

theta - W is not the gradient of a loss: it is written into ``.grad`` for the outer optimiser, whose step size is eps.
Training needs no split of a task: each inner step sees ``inner_rows`` rows of its support and query together, in a
random order (section 6: different rows in each step are what makes W - theta carry more than the mean gradient). In
use, every step sees the whole support.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.errors import ConfigError
from molmeta.methods.adapted import loss_of, mean_logs
from molmeta.methods.gradient import GradientLearner
from molmeta.methods.settings import GradientConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ReptileConfig(GradientConfig):
    first_order: bool = True  # the only one: no inner step is differentiated through
    inner_rows: int = 10  # rows of each inner step in training; 0: all

    def __post_init__(self) -> None:
        GradientConfig.__post_init__(self)
        if not self.first_order:
            raise ConfigError("first_order is false, but Reptile takes no second derivatives")
        if self.inner_rows < 0:
            raise ConfigError(f"inner_rows is {self.inner_rows}, but a number of rows is 1 or more, or 0 for all")


class Reptile(GradientLearner):
    """Learns initial weights near to every task's. ``meta_loss`` says how good they are; no step follows it.

    Raises:
        ConfigError: batch norm per step, whose weights no displacement moves.
    """

    Config = ReptileConfig
    config: ReptileConfig

    def __init__(self, backbone: nn.Module, config: ReptileConfig | None = None) -> None:
        super().__init__(backbone, config)
        if self.norms is not None:
            raise ConfigError('normalisation is "per_step", whose weights Reptile cannot learn; choose "batch"')

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        """Add the mean displacement ``theta - W`` to ``.grad``; the loss in the logs is the query's under ``W``."""
        logs = []
        for i, (support, query) in enumerate(batch.episodes()):
            self._check(support)
            unit, rows = self._unit(support), torch.nonzero(batch.episode == i).flatten()
            examples = unit.scaled(replace(support, inputs=batch.inputs[rows], labels=batch.labels[rows]))
            parts = _minibatches(examples, self.config.inner_rows or len(rows))
            start, *_, end = self.path(examples, steps=self.config.inner_steps, first_order=True, parts=parts)
            for name, weights in self.moving().items():
                moved = (start[name] - end[name]).detach() / len(batch)
                if moved.shape != weights.shape:  # the tied head's row moves as its copies do on average
                    moved = moved.mean(0, keepdim=True)
                weights.grad = moved if weights.grad is None else weights.grad + moved
            with torch.no_grad():
                logs.append({"loss": loss_of(self.outputs(end, query.inputs), unit.scaled(query))})
        return mean_logs(logs)


def _minibatches(examples: LabelledSet, size: int) -> Iterator[LabelledSet]:
    """``size`` rows at a time, in a new random order each time round; rows that are left over wait for the next."""
    size = min(size, len(examples))
    while True:
        order = torch.randperm(len(examples)).to(examples.labels.device)
        for rows in torch.split(order[: len(order) // size * size], size):
            yield replace(examples, inputs=examples.inputs[rows], labels=examples.labels[rows])
