"""Model-agnostic meta-learning (Finn et al., 2017, arXiv:1703.03400).

    min_theta  mean over tasks of  L_query(theta_S),   theta_{s+1} = theta_s - inner_lr * grad L_support(theta_s)

L is the cross-entropy, or for regression the squared error. The gradient with respect to ``theta`` passes through
the inner steps (second order); ``first_order`` takes it at the adapted weights instead.

The tied head is one learned row, copied for each class of the task. Copies of one row cancel in a softmax, so every
task starts from equal probabilities: the first inner step moves the head alone, and the backbone follows from the
second step on.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Self

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from molmeta.core.backbone import Backbone
from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.learner import Encoding, Laws, Learner, Prediction, Predictor, check_support
from molmeta.core.task import Inputs, TaskKind
from molmeta.errors import ConfigError, InputError, SupportError
from molmeta.methods import inner_loop
from molmeta.methods.inner_loop import Params


@dataclass(frozen=True, kw_only=True, slots=True)
class MAMLConfig:
    inner_lr: float = 0.05  # step size on the support set
    inner_steps: int = 5  # gradient steps a task
    test_inner_steps: int | None = None  # in adapt(); None: as inner_steps
    first_order: bool = False  # True: cheaper, ignores second derivatives
    head: Literal["tied", "fixed"] = "tied"  # fixed: a learned row for each of `ways` classes, as in the paper
    ways: int = 5  # classes of the fixed head
    adapt: str = "all"  # "all", or the start of parameter names: "head", "backbone", "backbone.layers.2"
    normalisation: Literal["frozen", "batch"] = "frozen"  # batch-norm layers: stored statistics, or the rows' at hand
    scale_labels: bool = True  # regression: learn (label - mean) / deviation of the support; False: labels as given

    def __post_init__(self) -> None:
        steps = {"inner_steps": self.inner_steps, "test_inner_steps": self.test_inner_steps}
        problems = [f"{name} is {n}, but a step count is 0 or more" for name, n in steps.items() if n and n < 0]
        if not (math.isfinite(self.inner_lr) and self.inner_lr >= 0):
            problems.append(f"inner_lr is {self.inner_lr}, but a step size is finite and 0 or more")
        if self.head not in ("tied", "fixed"):
            problems.append(f'head is "{self.head}"; choose "tied" or "fixed"')
        if self.normalisation not in ("frozen", "batch"):
            problems.append(f'normalisation is "{self.normalisation}"; choose "frozen" or "batch"')
        if self.ways < 2:
            problems.append(f"ways is {self.ways}, but a classifier has 2 classes or more")
        if problems:
            raise ConfigError("; ".join(problems))


class MAML(Learner):
    """Learns initial weights from which a few gradient steps on a support set give a good model.

    Variants override :meth:`initial` (where a task starts), :meth:`optimiser` (how it moves) or :meth:`adapts` (what
    moves). With ``normalisation="batch"``, as in the paper, a prediction depends on the other rows of the same call,
    and one row alone cannot be normalised: the method is transductive. Stored statistics are never updated.

    Raises:
        ConfigError: ``config.adapt`` names no parameter.
    """

    Config = MAMLConfig
    laws = Laws(kinds=frozenset(TaskKind), encodes=False)

    def __init__(self, backbone: Backbone, config: MAMLConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.head = nn.Linear(backbone.width, 1 if config.head == "tied" else config.ways)
        self.laws = _laws_of(self.laws, config)
        if not any(self.adapts(name) for name, _ in self.named_parameters()):
            parts = ", ".join(f'"backbone.{name}"' for name, _ in backbone.named_children())
            raise ConfigError(f'adapt is "{config.adapt}", but no parameter has that name; try "all", "head", {parts}')
        self.train()

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Logits ``[n, k]`` or scaled values ``[n, 1]`` under the present weights."""
        if isinstance(inputs, Encoding):
            raise InputError("MAML adapts the weights that make embeddings: give raw inputs, not an Encoding")
        outputs: torch.Tensor = self.head(self.backbone(inputs))
        return outputs

    def outputs(self, params: Params, inputs: Inputs) -> torch.Tensor:
        """:meth:`forward` under ``params``; buffers are cloned, so that batch-norm statistics never leak."""
        buffers = {name: buffer.clone() for name, buffer in self.named_buffers()}
        outputs: torch.Tensor = functional_call(self, {**buffers, **params}, (inputs,))
        return outputs

    def train(self, mode: bool = True) -> Self:
        """As every module's, but batch-norm layers follow ``config.normalisation`` in either mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.train(self.config.normalisation == "batch")
        return self

    def initial(self, support: LabelledSet) -> Params:
        """All parameters as a task starts with them; the tied head's row is copied for each class."""
        params: Params = dict(self.named_parameters())
        if self.config.head == "tied" and support.kind.is_classification:
            params["head.weight"] = params["head.weight"].repeat(support.num_classes, 1)
            params["head.bias"] = params["head.bias"].repeat(support.num_classes)
        return params

    def optimiser(self) -> inner_loop.Update:
        """The inner update rule, made anew for each task."""
        return partial(inner_loop.sgd, lr=self.config.inner_lr)

    def adapts(self, name: str) -> bool:
        """Whether the inner loop moves the parameter ``name`` (one that requires no gradient never moves)."""
        part = self.config.adapt
        return part in ("all", name) or name.startswith(f"{part}.")

    def adapted(self, support: LabelledSet, *, steps: int, first_order: bool) -> Params:
        """All parameters after ``steps`` inner updates on ``support`` (its labels scaled)."""
        params = self.initial(support)
        moves = {name for name, p in self.named_parameters() if p.requires_grad and self.adapts(name)}
        still = {name: p for name, p in params.items() if name not in moves}

        def loss(moving: Params) -> torch.Tensor:
            return _loss(self.outputs({**still, **moving}, support.inputs), support)

        moving = {name: p for name, p in params.items() if name in moves}
        return {**still, **inner_loop.adapt(moving, loss, self.optimiser(), steps=steps, first_order=first_order)}

    def task_loss(self, support: LabelledSet, query: LabelledSet) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The query loss after adapting to one task, differentiable, and detached numbers to log."""
        self._check(support)
        unit = self._unit(support)
        query = unit.scaled(query)
        params = self.adapted(unit.scaled(support), steps=self.config.inner_steps, first_order=self.config.first_order)
        outputs = self.outputs(params, query.inputs)
        loss = _loss(outputs, query)
        if query.kind.is_classification:
            right = outputs.argmax(dim=1) == query.labels
            return loss, {"query accuracy": right.float().mean()}
        return loss, {"query rmse": loss.detach().sqrt()}

    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        losses, logs = zip(*(self.task_loss(*episode) for episode in batch.episodes()), strict=True)
        return torch.stack(losses).mean(), _mean(logs)

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        """As the default, task by task: each task's graph is freed before the next one is built."""
        logs = []
        for support, query in batch.episodes():
            loss, log = self.task_loss(support, query)
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            logs.append({"loss": loss.detach(), **log})
        return _mean(logs)

    def adapt(self, support: LabelledSet) -> Predictor:
        """Specialise a copy of the model to one task, dropout off; the learner itself is unchanged.

        Works under ``torch.no_grad()`` and ``torch.inference_mode()`` too.

        Args:
            support: ``n`` labelled raw inputs.

        Raises:
            SupportError: a class is missing, or the fixed head has another number of classes.
            InputError: the inputs are an Encoding.
        """
        self._check(support)
        steps = self.config.inner_steps if self.config.test_inner_steps is None else self.config.test_inner_steps
        with torch.inference_mode(False):
            support = _ordinary(support)
            unit = self._unit(support)
            model = copy.deepcopy(self).eval()
            params = model.adapted(unit.scaled(support), steps=steps, first_order=True)
            params = {name: p.detach() for name, p in params.items()}
            return _Adapted(model, params, support, unit)

    def _check(self, support: LabelledSet) -> None:
        check_support(support, self.laws)
        ways = self.config.ways
        if self.config.head == "fixed" and support.num_classes != ways:
            raise SupportError(
                f"the fixed head has {ways} classes, but the support set has {support.num_classes}; "
                'set ways to that, or head to "tied", which serves any number'
            )

    def _unit(self, support: LabelledSet) -> _Unit:
        scale_labels = self.config.scale_labels and not support.kind.is_classification
        return _Unit.of(support.labels) if scale_labels else _Unit()


class _Adapted:
    """A predictor with weights of its own.

    For regression the deviation is the same for every row: the root mean square residual on the support that the
    weights were fitted to. It is a floor of the true error, not an estimate from unseen rows.
    """

    def __init__(self, model: MAML, params: Params, support: LabelledSet, unit: _Unit) -> None:
        self._model, self._params, self._kind, self._unit = model, params, support.kind, unit
        self._deviation = torch.zeros(())
        if not support.kind.is_classification:
            residual = support.labels - self._mean(support.inputs)
            self._deviation = residual.square().mean().sqrt()

    def predict(self, inputs: Inputs) -> Prediction:
        if not self._kind.is_classification:
            mean = self._mean(inputs)
            return Prediction(mean=mean, deviation=self._deviation.expand_as(mean))
        with torch.no_grad():
            return Prediction(probabilities=self._model.outputs(self._params, inputs).softmax(dim=1))

    def _mean(self, inputs: Inputs) -> torch.Tensor:
        with torch.no_grad():
            return self._model.outputs(self._params, inputs)[:, 0] * self._unit.scale + self._unit.loc


@dataclass(frozen=True, eq=False)
class _Unit:
    """Regression labels are learned as ``(label - loc) / scale``."""

    loc: torch.Tensor | float = 0.0
    scale: torch.Tensor | float = 1.0

    @classmethod
    def of(cls, labels: torch.Tensor) -> _Unit:
        """Mean and deviation of ``labels [n]``; scale 1 where they are all equal."""
        varies = labels.amax() > labels.amin()  # the deviation of equal numbers need not round to 0
        return cls(labels.mean(), torch.where(varies, labels.std(correction=0), 1.0))

    def scaled(self, examples: LabelledSet) -> LabelledSet:
        if examples.kind.is_classification:
            return examples
        return replace(examples, labels=(examples.labels - self.loc) / self.scale)


def _laws_of(laws: Laws, config: MAMLConfig) -> Laws:
    laws = replace(laws, transductive=config.normalisation == "batch")
    if config.head == "tied":
        return laws
    kinds = {TaskKind.MULTICLASS} | ({TaskKind.BINARY} if config.ways == 2 else set())
    return replace(laws, kinds=frozenset(kinds), class_equivariant=False, any_way=False)


def _loss(outputs: torch.Tensor, examples: LabelledSet) -> torch.Tensor:
    if examples.kind.is_classification:
        return F.cross_entropy(outputs, examples.labels)
    return F.mse_loss(outputs[:, 0], examples.labels.to(outputs.dtype))


def _ordinary(support: LabelledSet) -> LabelledSet:
    """The same rows, gathered anew: tensors made in inference mode cannot take part in a gradient."""
    rows = torch.arange(len(support), device=support.labels.device)
    return replace(support, inputs=support.inputs[rows], labels=support.labels[rows])


def _mean(logs: Sequence[dict[str, torch.Tensor]]) -> dict[str, float]:
    return {name: float(torch.stack([log[name] for log in logs]).mean()) for name in logs[0]}
