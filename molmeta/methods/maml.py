"""Model-agnostic meta-learning (Finn et al., 2017, arXiv:1703.03400), with the options of MAML++.

    min_theta  mean over tasks of  L_query(theta_S),   theta_{s+1} = theta_s - lr * grad L_support(theta_s)

``first_order`` treats the inner gradients as constants (section 5.2). ``head="fixed"``, ``scale_labels=False`` and, for
batch-norm layers, ``normalisation="batch"`` are the paper's. Of MAML++ (Antoniou et al., 2019, arXiv:1810.09502):

    learn_rates                lr is learned, a number for each parameter tensor and inner step
    multi_step                 L = sum_s w_s L_query(theta_s): w is 1/S for each of the S steps at first, and moves
                               linearly to the last step alone over that many meta-updates
    normalisation="per_step"   see ``normalisation.py``
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from molmeta.core.episode import EpisodeBatch
from molmeta.errors import ConfigError
from molmeta.methods.gradient import GradientLearner, keyed, named
from molmeta.methods.inner_loop import Rates
from molmeta.methods.settings import GradientConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class MAMLConfig(GradientConfig):
    learn_rates: bool = False  # a learned step size for each parameter tensor and inner step, from inner_lr
    multi_step: int = 0  # meta-updates until the last step's query loss alone counts; 0: from the start

    def __post_init__(self) -> None:
        GradientConfig.__post_init__(self)
        if self.multi_step < 0:
            raise ConfigError(f"multi_step is {self.multi_step}, but a count of meta-updates is 0 or more")


class MAML(GradientLearner):
    """Learns initial weights from which a few gradient steps on a support set give a good model."""

    Config = MAMLConfig
    config: MAMLConfig
    updates: torch.Tensor

    def __init__(self, backbone: nn.Module, config: MAMLConfig | None = None) -> None:
        super().__init__(backbone, config)
        steps, lr = self.config.inner_steps, self.config.inner_lr
        if self.config.learn_rates:
            self.step_sizes = keyed({name: torch.full((max(1, steps),), lr) for name in self.moving()})
        if self.config.multi_step:
            self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def rates(self, step: int) -> Rates:
        if not self.config.learn_rates:
            return self.config.inner_lr
        return {name: lr[min(step, len(lr) - 1)] for name, lr in named(self.step_sizes).items()}

    def step_weights(self) -> list[float]:
        steps, until = self.config.inner_steps, self.config.multi_step
        left = max(0.0, 1 - int(self.updates) / until) if until else 0.0
        early = left / max(1, steps)
        return [0.0, *[early] * (steps - 1), 1 - early * (steps - 1)] if steps else [1.0]

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        logs = super().meta_backward(batch)
        if self.config.multi_step:
            self.updates += 1
        return logs
