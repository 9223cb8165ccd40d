"""Training from scratch on each support: the reference that has seen no other task.

min_{phi, h}  L_support(h f_phi(x)),   from the random phi that the backbone was made with
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from molmeta.core.episode import EpisodeBatch
from molmeta.errors import ConfigError
from molmeta.methods.anil import ANIL
from molmeta.methods.settings import GradientConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ScratchConfig(GradientConfig):
    inner_lr: float = 0.01  # step size on the support set
    inner_steps: int = 100  # gradient steps on the support set
    optimiser: str = "adam"  # of those steps


class Scratch(ANIL):
    """A backbone and a head trained on each support alone. Nothing is meta-trained.

    With ``adapt="head"`` the backbone's features stay random.
    """

    Config = ScratchConfig

    def __init__(self, backbone: nn.Module, config: ScratchConfig | None = None) -> None:
        super().__init__(backbone, config)
        self.laws = replace(self.laws, meta_trained=False)

    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """Refused: there is nothing to differentiate.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("scratch learns from each support alone: there is nothing to meta-train. Score it as it is")

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        """As :meth:`meta_loss`."""
        return {"loss": float(self.meta_loss(batch)[0])}
