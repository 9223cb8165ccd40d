"""ANIL, almost no inner loop (Raghu et al., 2020, arXiv:1909.09157): the head alone adapts.

    min_{phi, h}  mean over tasks of  L_query(f_phi, h_S),   h_{s+1} = h_s - lr * grad_h L_support(f_phi, h_s)

The same objective as MAML's with ``adapt="head"``. As no task moves ``phi``, one pass of the backbone serves a whole
meta-batch, and an embedding serves every task. Not so with batch-norm layers that use the rows at hand
(``normalisation`` "batch" or "per_step"): then each support and each query is a pass of its own, as in MAML.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import nn

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding, Prediction
from molmeta.core.task import Inputs
from molmeta.errors import ConfigError
from molmeta.methods.gradient import GradientLearner
from molmeta.methods.inner_loop import Params
from molmeta.methods.normalisation import batch_norms
from molmeta.methods.settings import GradientConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ANILConfig(GradientConfig):
    adapt: str = "head"  # or a part of it: "head.weight"

    def __post_init__(self) -> None:
        GradientConfig.__post_init__(self)
        if not all(part.strip().startswith("head") for part in self.adapt.split(",")):
            raise ConfigError(f'adapt is "{self.adapt}", but ANIL adapts the head alone; for more there is maml')


class ANIL(GradientLearner):
    """Learns a backbone and an initial head from which a few gradient steps on the head give a good model."""

    Config: type[GradientConfig] = ANILConfig

    def __init__(self, backbone: nn.Module, config: GradientConfig | None = None) -> None:
        super().__init__(backbone, config)
        own_rows = self.config.normalisation in ("batch", "per_step") and bool(batch_norms(self.backbone))
        head_only = all(name.startswith("head.") for name in self.moving())
        self.laws = replace(self.laws, encodes=head_only and not own_rows)

    def embed(self, params: Params, inputs: Inputs, step: int = 0) -> torch.Tensor:
        """As for every gradient-based method; where the laws allow it, with the backbone's own weights."""
        return self.encode(inputs).values if self.laws.encodes else super().embed(params, inputs, step)

    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        return super().meta_loss(batch.with_inputs(self.encode(batch.inputs)) if self.laws.encodes else batch)

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        """Task by task down to the embeddings, then once through the backbone."""
        if not self.laws.encodes:
            return super().meta_backward(batch)
        encoded = self.encode(batch.inputs).values
        embeddings = encoded.detach().requires_grad_()
        logs = super().meta_backward(batch.with_inputs(Encoding(embeddings)))
        if encoded.requires_grad:
            encoded.backward(embeddings.grad)  # type: ignore[no-untyped-call]
        return logs

    def predict_episodes(self, batch: EpisodeBatch) -> list[Prediction]:
        if not self.laws.encodes:
            return super().predict_episodes(batch)
        model = self._copy()
        return super(ANIL, model).predict_episodes(batch.with_inputs(model.encode(batch.inputs)))

    def _copy(self) -> Self:
        """The predictor's own; it shares a backbone that no task moves, unless dropout is on there."""
        share = self.laws.encodes and not any(module.training for module in self.backbone.modules())
        return copy.deepcopy(self, {id(self.backbone): self.backbone} if share else {}).eval()
