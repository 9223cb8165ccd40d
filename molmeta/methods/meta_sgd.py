"""Meta-SGD (Li et al., 2017, arXiv:1707.09835): the step sizes are learned with the initial weights.

    min_{theta, alpha}  mean over tasks of  L_query(theta - alpha * grad L_support(theta))        (* element by element)

``alpha`` is not kept positive, so that both the length and the direction of a step are learned. The paper makes one
step and draws ``alpha`` at random at first; here it starts at ``inner_lr``, and every inner step uses the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from molmeta.errors import ConfigError
from molmeta.methods.gradient import GradientLearner, keyed, named
from molmeta.methods.inner_loop import Rates
from molmeta.methods.settings import GradientConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class MetaSGDConfig(GradientConfig):
    inner_steps: int = 1  # gradient steps a task
    rates: Literal["element", "tensor"] = "element"  # a step size for each number, or for each parameter tensor

    def __post_init__(self) -> None:
        GradientConfig.__post_init__(self)
        if self.rates not in ("element", "tensor"):
            raise ConfigError(f'rates is "{self.rates}"; choose "element" or "tensor"')


class MetaSGD(GradientLearner):
    """Learns initial weights and a step size for each; the copies of a tied head's row share theirs."""

    Config = MetaSGDConfig
    config: MetaSGDConfig

    def __init__(self, backbone: nn.Module, config: MetaSGDConfig | None = None) -> None:
        super().__init__(backbone, config)
        each, lr = self.config.rates == "element", self.config.inner_lr
        self.alpha = keyed({name: torch.full(p.shape if each else (), lr) for name, p in self.moving().items()})

    def rates(self, step: int) -> Rates:
        return named(self.alpha)
