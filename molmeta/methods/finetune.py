"""Fine-tuning a multi-task model: the reference that does not learn to adapt (Chen et al., 2019, arXiv:1904.04232).

    pre-training  min_{phi, w}  mean over the rows of the training tasks of  L(w_t f_phi(x)),  a linear head w_t a task
    a new task    min_h  L_support(h f_phi(x)),  from a head h of zeros;  with ``adapt="all"`` phi moves too

For chemistry this is the usual multi-task network. Every class of every training task has a row of the head of its own,
known by ``EpisodeBatch.class_ids``, whatever number an episode gives it. An episode's rows compete among its own
classes: to pre-train on one large task of many classes, draw episodes of many ways. The training heads serve no new
task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.learner import Learner
from molmeta.errors import ConfigError, InputError
from molmeta.methods.adapted import loss_of
from molmeta.methods.anil import ANIL
from molmeta.methods.normalisation import Policy, batch_norms
from molmeta.methods.settings import GradientConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTuneConfig(GradientConfig):
    adapt: str = "head"  # what is fitted to a support: "head", "all", or parts as maml takes them
    inner_lr: float = 0.01  # step size on the support set
    inner_steps: int = 100  # gradient steps on the support set
    optimiser: str = "adam"  # of those steps
    normalisation: Policy = "frozen"  # on a support; pre-training uses batch-norm layers as they are meant to be
    heads: int = 16384  # rows for the classes of all training tasks (a task, for regression): at least so many

    def __post_init__(self) -> None:
        GradientConfig.__post_init__(self)
        if self.normalisation == "per_step":
            raise ConfigError('normalisation is "per_step", but no inner step is meta-trained; choose "frozen"')
        if self.heads < 1:
            raise ConfigError(f"heads is {self.heads}, but a number of rows is 1 or more")


class FineTune(ANIL):
    """A shared backbone, pre-trained with a linear head for each training task, fine-tuned on a support."""

    Config = FineTuneConfig
    config: FineTuneConfig
    ids: torch.Tensor

    def __init__(self, backbone: nn.Module, config: FineTuneConfig | None = None) -> None:
        super().__init__(backbone, config)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        heads = torch.randn(self.config.heads, self.backbone.width + 1) / self.backbone.width**0.5
        self.heads = nn.Parameter(heads)  # a row of weights and a bias for each class
        self.register_buffer("ids", torch.full((self.config.heads,), -1))  # whose row each is, in order of appearance

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for layer in batch_norms(self.backbone).values() if mode else ():
            layer.train()
        return self

    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """Mean over episodes of the loss of all their rows, support and query alike, under their tasks' heads."""
        encoded = self.encode(batch.inputs).values
        rows = self.heads[self._rows(batch)]
        counts = batch.num_classes.clamp(min=1).tolist()
        labels = batch.labels if batch.kind.is_classification else batch.scaled_labels()
        losses = []
        for i, own in enumerate(torch.split(rows, counts)):
            here = batch.episode == i
            outputs = nn.functional.linear(encoded[here], own[:, :-1], own[:, -1])
            losses.append(loss_of(outputs, LabelledSet(outputs, labels[here], batch.kind, len(own))))
        return torch.stack(losses).mean(), {}

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        return Learner.meta_backward(self, batch)

    def _rows(self, batch: EpisodeBatch) -> torch.Tensor:
        """The row of ``heads`` of each class of each episode; a class that is new gets the next one."""
        if batch.class_ids is None:
            raise InputError("the episodes do not say of which task they are: collate them, which gives class_ids")
        new = torch.unique(batch.class_ids[~torch.isin(batch.class_ids, self.ids)])
        taken = int((self.ids >= 0).sum())
        if taken + len(new) > len(self.ids):
            raise ConfigError(
                f"the training tasks have more than {len(self.ids)} classes; raise [method].heads to their number"
            )
        self.ids[taken : taken + len(new)] = new
        order = self.ids.argsort()
        return order[torch.searchsorted(self.ids[order], batch.class_ids)]
