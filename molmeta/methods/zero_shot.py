"""Prototypes from descriptions, blended with examples (Snell et al., 2017, arXiv:1703.05175, section 2.6).

    p(y = k | x) = softmax_k( -||f(x) - c_k||^2 ),   c_k = (n_k mean_k + w g(v_k)) / (n_k + w)

``v_k`` describes class k (a name, a sentence, attributes), ``g`` embeds it into the space of ``f``, and ``mean_k`` is
that of f over the class's n_k examples. Without an example c_k = g(v_k), the paper's zero-shot prototype; as w -> 0 it
is that of ProtoNet. The blend is a posterior mean: if the examples of a class scatter about its prototype as
N(c_k, s^2 I), and prototypes about their descriptions as N(g(v_k), t^2 I), then E[c_k | examples] has the form above
with w = s^2 / t^2 (the normal with known variance: Gelman et al., Bayesian Data Analysis, section 2.5). w is learned:
a description is worth w examples.

With ``distance = "cosine"`` f and g have unit length, c_k is the blend scaled to unit length (the posterior mode of a
von Mises-Fisher direction, w = the ratio of concentrations) and the logit is T cos(f(x), c_k), T learned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.backbone import as_backbone
from molmeta.core.episode import EpisodeBatch, Layout
from molmeta.core.learner import Encoding, Laws, require_descriptions
from molmeta.core.task import Inputs, TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.episodic import EmbeddingLearner, HeadOutput, PaddedEpisodes


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeroShotConfig:
    # The description encoder: its name and settings. Empty: the backbone itself, where descriptions are of its inputs.
    task_backbone: dict = field(default_factory=dict)  # type: ignore[type-arg]
    weight: float = 1.0  # w at the start: how many examples a description is worth
    alone: float = 0.5  # share of the training loss from descriptions alone; 1: the paper's zero-shot training
    distance: Literal["euclidean", "cosine"] = "euclidean"
    temperature: float = 10.0  # cosine: T at the start
    unit_length: bool = False  # euclidean: g of unit length, as the paper found helpful without examples

    def __post_init__(self) -> None:
        if not (self.weight > 0 and self.temperature > 0 and 0 <= self.alone <= 1):
            raise ConfigError(
                "weight and temperature are positive and alone lies in [0, 1], "
                f"not {self.weight}, {self.temperature} and {self.alone}"
            )


class ZeroShot(EmbeddingLearner):
    """Nearest prototype, of a description and whatever examples there are: none is enough.

    Args:
        backbone: f, of the inputs.
        config: the settings.
        task_backbone: g up to a linear map, of the descriptions; None: ``backbone``.
    """

    Config = ZeroShotConfig
    laws = Laws(kinds=frozenset({TaskKind.BINARY, TaskKind.MULTICLASS}), described=True)

    def __init__(
        self, backbone: nn.Module, config: ZeroShotConfig | None = None, task_backbone: nn.Module | None = None
    ) -> None:
        super().__init__(backbone)
        self.config = config or ZeroShotConfig()
        if self.config.task_backbone and task_backbone is None:
            raise ConfigError("the configuration names a task_backbone: build it and pass it as task_backbone")
        self.task_backbone = None if task_backbone is None else as_backbone(task_backbone)
        self.project = nn.Linear((self.task_backbone or self.backbone).width, self.backbone.width)
        if task_backbone is None:  # a description starts where an input of the same words stands
            nn.init.eye_(self.project.weight)
            nn.init.zeros_(self.project.bias)
        self.log_weight = nn.Parameter(torch.tensor(self.config.weight).log())
        if self.config.distance == "cosine":
            self.log_temperature = nn.Parameter(torch.tensor(self.config.temperature).log())

    def encode(self, inputs: Inputs) -> Encoding:
        # A support may be empty, and a backbone need not take 0 rows.
        return super().encode(inputs) if len(inputs) else Encoding(self.project.bias.new_zeros(0, self.backbone.width))

    def describe(self, inputs: Inputs) -> torch.Tensor:
        """g: ``[k, d]`` of ``k`` descriptions, raw or as the description encoder's Encoding."""
        encoder = self.task_backbone or self.backbone
        g: torch.Tensor = self.project(inputs.values if isinstance(inputs, Encoding) else encoder(inputs))
        return F.normalize(g, dim=-1) if self.config.unit_length or self.config.distance == "cosine" else g

    def pad(self, batch: EpisodeBatch, encoded: torch.Tensor) -> tuple[PaddedEpisodes, Layout]:
        classes = batch.num_classes
        described = self.describe(require_descriptions(batch.task_inputs, int(classes.sum()))).to(encoded.dtype)
        rows = (classes.cumsum(0) - classes)[:, None] + torch.arange(int(classes.max()), device=classes.device)
        episodes, layout = super().pad(batch, encoded)
        # Classes that an episode lacks get another's row: their logits are masked.
        return replace(episodes, described=described[rows.clamp(max=len(described) - 1)]), layout

    def head(self, episodes: PaddedEpisodes) -> HeadOutput:
        assert episodes.described is not None
        weight, counts = self.log_weight.exp(), episodes.class_counts()[..., None]
        if self.config.distance == "cosine":
            support, query = F.normalize(episodes.support, dim=-1), F.normalize(episodes.query, dim=-1)
            centres = F.normalize(episodes.targets.mT @ support + weight * episodes.described, dim=-1)
            return HeadOutput(logits=self.log_temperature.exp() * query @ centres.mT)
        centres = (episodes.targets.mT @ episodes.support + weight * episodes.described) / (counts + weight)
        return HeadOutput(logits=-torch.cdist(episodes.query, centres).square())

    def query_loss(
        self, episodes: PaddedEpisodes, batch: EpisodeBatch, layout: Layout
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Of the blend and of the descriptions alone, so that one model serves with examples and without."""
        loss, logs = super().query_loss(episodes, batch, layout)
        no_examples = replace(episodes, targets=torch.zeros_like(episodes.targets))
        alone, of_alone = super().query_loss(no_examples, batch, layout)
        loss = (1 - self.config.alone) * loss + self.config.alone * alone
        return loss, {**logs, "accuracy without examples": of_alone["accuracy"]}
