"""What gradient-based methods share: gradient steps on a support set, from a start that meta-training learns.

    theta_0 = theta,   theta_{s+1} = U(theta_s, grad L_support(theta_s), lr_s),   loss of a task = L_query(theta_S)

L is the cross-entropy, or for regression the squared error. The gradient with respect to ``theta`` passes through
the inner steps (second order); ``first_order`` takes it at the adapted weights instead. A method overrides where a
task starts (:meth:`~GradientLearner.initial`), how it moves (:meth:`~GradientLearner.optimiser`,
:meth:`~GradientLearner.rates`), what moves (:meth:`~GradientLearner.adapts`) or what its loss is
(:meth:`~GradientLearner.step_weights`, :meth:`~GradientLearner.task_loss`).

The tied head is one learned row, copied for each class of the task. Copies of one row cancel in a softmax, so every
task starts from equal probabilities: the first inner step moves the head alone, and the backbone follows from the
second step on.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count, repeat
from typing import Self

import torch
from torch import nn
from torch.func import functional_call

from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.learner import Encoding, Laws, Learner, Predictor, check_support
from molmeta.core.task import Inputs, TaskKind
from molmeta.errors import ConfigError, InputError, SupportError
from molmeta.methods import inner_loop
from molmeta.methods.adapted import Adapted, Unit, loss_of, mean_logs
from molmeta.methods.inner_loop import Params, Rates
from molmeta.methods.normalisation import StepNorms, batch_norms, check_policy
from molmeta.methods.settings import OPTIMISERS, GradientConfig, is_part


class GradientLearner(Learner):
    """A backbone and a linear head that learn a task by gradient steps on its support set.

    Batch-norm layers follow ``config.normalisation``; with "batch" a prediction depends on the other rows of the same
    call: the method is transductive. Stored statistics change in meta-training alone, and with "per_step" alone.

    Raises:
        ConfigError: a part of ``config.adapt`` names no parameter, or the backbone has batch-norm layers that the
            policy cannot serve.
    """

    Config: type[GradientConfig] = GradientConfig
    laws = Laws(kinds=frozenset(TaskKind), encodes=False)

    def __init__(self, backbone: nn.Module, config: GradientConfig | None = None) -> None:
        super().__init__(backbone)
        self.config = config = config or self.Config()
        self.head = nn.Linear(self.backbone.width, 1 if config.head == "tied" else config.ways)
        layers = batch_norms(self.backbone)
        check_policy(config.normalisation, layers)
        self.laws = _laws_of(self.laws, config, bool(layers))
        self.norms: StepNorms | None = None
        if config.normalisation == "per_step" and layers:
            self.norms = StepNorms({f"backbone.{name}": m for name, m in layers.items()}, config.inner_steps)
        self._check_parts()
        self.optimiser()
        self.train()

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Logits ``[n, k]`` or scaled values ``[n, 1]`` under the present weights."""
        if isinstance(inputs, Encoding):
            raise InputError(
                f"{type(self).__name__} adapts the weights that make embeddings: give raw inputs, not an Encoding"
            )
        outputs: torch.Tensor = self.head(self.backbone(inputs))
        return outputs

    def outputs(self, params: Params, inputs: Inputs, step: int = 0) -> torch.Tensor:
        """:meth:`forward` under ``params``, those after ``step`` updates.

        Buffers are cloned, so that batch-norm statistics never leak from one task to another.
        """
        buffers = {name: buffer.clone() for name, buffer in self.named_buffers() if name.startswith("backbone.")}
        norms = {} if self.norms is None else self.norms.at(step)
        try:
            outputs: torch.Tensor = functional_call(self, {**buffers, **params, **norms}, (inputs,))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise SupportError(
                f'normalisation is "{self.config.normalisation}", but one row alone has no statistics; give two or '
                'more at a time, or choose "per_step" or "frozen"'
            ) from error
        if self.norms is not None and self.training:
            self.norms.keep(step, norms)
        return outputs

    def train(self, mode: bool = True) -> Self:
        """As every module's, but batch-norm layers follow ``config.normalisation``."""
        super().train(mode)
        policy = self.config.normalisation
        for layer in batch_norms(self.backbone).values():
            layer.train(policy == "batch" or (policy == "per_step" and mode))
        return self

    def initial(self, support: LabelledSet) -> Params:
        """All weights as a task starts with them; the tied head's row is copied for each class."""
        params: Params = dict(self._weights())
        if self.config.head == "tied" and support.kind.is_classification:
            params["head.weight"] = params["head.weight"].repeat(support.num_classes, 1)
            params["head.bias"] = params["head.bias"].repeat(support.num_classes)
        return params

    def rates(self, step: int) -> Rates:
        """The step sizes of inner update ``step`` (0, 1, ...): one for all, or a tensor a parameter that moves."""
        return self.config.inner_lr

    def optimiser(self) -> inner_loop.Update:
        """The inner update rule, made anew for each task."""
        return inner_loop.scheduled(OPTIMISERS.load(self.config.optimiser)(), self.rates)

    def adapts(self, name: str) -> bool:
        """Whether the inner loop moves the parameter ``name`` (one that requires no gradient never moves)."""
        return any(is_part(name, part) for part in self.config.parts())

    def moving(self) -> dict[str, nn.Parameter]:
        """The parameters that the inner loop moves, by name, in the backbone's own order."""
        own = () if self.norms is None else self.norms.at(0)  # a step's norms do not adapt
        weights = {name: p for name, p in self._weights().items() if name not in own}
        return {name: p for name, p in weights.items() if p.requires_grad and self.adapts(name)}

    def path(
        self, support: LabelledSet, *, steps: int, first_order: bool, parts: Iterator[LabelledSet] | None = None
    ) -> Iterator[Params]:
        """All weights before the first inner update, and after each.

        Args:
            support: the task's, its labels scaled.
            steps: inner updates.
            first_order: take the inner gradients as constants.
            parts: the examples of each update; None: ``support``, every time.
        """
        parts = parts or repeat(support)
        params = self.initial(support)
        names = self.moving()
        still = {name: p for name, p in params.items() if name not in names}
        moving = {name: p for name, p in params.items() if name in names}
        update = self.optimiser()
        done = count()

        def loss(moved: Params) -> torch.Tensor:
            part = next(parts)
            return loss_of(self.outputs({**still, **moved}, part.inputs, next(done)), part)

        yield params
        for _ in range(steps):
            moving = inner_loop.step(moving, loss, update, first_order=first_order)
            yield {**still, **moving}

    def adapted(self, support: LabelledSet, *, steps: int, first_order: bool) -> Params:
        """All weights after ``steps`` inner updates."""
        *_, last = self.path(support, steps=steps, first_order=first_order)
        return last

    def step_weights(self) -> list[float]:
        """How much the query loss counts before the first update and after each, ``[inner_steps + 1]``."""
        return [0.0] * self.config.inner_steps + [1.0]

    def task_loss(self, support: LabelledSet, query: LabelledSet) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The query loss after adapting to one task, differentiable, and detached numbers to log."""
        self._check(support)
        unit = self._unit(support)
        query = unit.scaled(query)
        config = self.config
        path = self.path(unit.scaled(support), steps=config.inner_steps, first_order=config.first_order)
        losses = []
        for step, (params, weight) in enumerate(zip(path, self.step_weights(), strict=True)):
            if weight:
                outputs = self.outputs(params, query.inputs, step)
                losses.append(weight * loss_of(outputs, query))
        loss = torch.stack(losses).sum()
        if query.kind.is_classification:
            right = outputs.argmax(dim=1) == query.labels
            return loss, {"query accuracy": right.float().mean()}
        return loss, {"query rmse": (outputs.detach()[:, 0] - query.labels).square().mean().sqrt()}

    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        losses, logs = zip(*(self.task_loss(*episode) for episode in batch.episodes()), strict=True)
        return torch.stack(losses).mean(), mean_logs(logs)

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        """As the default, task by task: each task's graph is freed before the next one is built."""
        logs = []
        for support, query in batch.episodes():
            loss, log = self.task_loss(support, query)
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            logs.append({"loss": loss.detach(), **log})
        return mean_logs(logs)

    def adapt(self, support: LabelledSet) -> Predictor:
        """Specialise a copy of the model to one task, dropout off; the learner itself is unchanged.

        Works under ``torch.no_grad()`` and ``torch.inference_mode()`` too.

        Args:
            support: ``n`` labelled raw inputs.

        Raises:
            SupportError: a class is missing, or the fixed head has another number of classes.
            InputError: the inputs are an Encoding, and the backbone adapts.
        """
        self._check(support)
        steps = self.config.inner_steps if self.config.test_inner_steps is None else self.config.test_inner_steps
        with torch.inference_mode(False):
            support = _ordinary(support)
            unit = self._unit(support)
            model = self._copy()
            params = model.adapted(unit.scaled(support), steps=steps, first_order=True)
            params = {name: p.detach() for name, p in params.items()}
            return Adapted(model.outputs, params, steps, support, unit)

    def _copy(self) -> Self:
        return copy.deepcopy(self).eval()

    def _weights(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if name.startswith(("backbone.", "head."))}

    def _check_parts(self) -> None:
        weights = self._weights()
        unknown = [part for part in self.config.parts() if not any(is_part(name, part) for name in weights)]
        if unknown or not self.config.parts():
            layers = list(dict.fromkeys(name.rpartition(".")[0] for name in weights if name.startswith("backbone.")))
            known = ", ".join(f'"{name}"' for name in layers[:8]) + (", ..." if len(layers) > 8 else "")
            raise ConfigError(
                f'adapt is "{self.config.adapt}", but no parameter is named {" or ".join(unknown) or "so"}; '
                f'try "all", "head", {known}'
            )

    def _check(self, support: LabelledSet) -> None:
        check_support(support, self.laws)
        ways = self.config.ways
        if self.config.head == "fixed" and support.num_classes != ways:
            raise SupportError(
                f"the fixed head has {ways} classes, but the support set has {support.num_classes}; "
                'set ways to that, or head to "tied", which serves any number'
            )

    def _unit(self, support: LabelledSet) -> Unit:
        scale_labels = self.config.scale_labels and not support.kind.is_classification
        return Unit.of(support.labels) if scale_labels else Unit()


def _laws_of(laws: Laws, config: GradientConfig, has_batch_norm: bool) -> Laws:
    laws = replace(laws, transductive=has_batch_norm and config.normalisation == "batch")
    if config.head == "tied":
        return laws
    kinds = {TaskKind.MULTICLASS} | ({TaskKind.BINARY} if config.ways == 2 else set())
    return replace(laws, kinds=frozenset(kinds), class_equivariant=False, any_way=False)


def _ordinary(support: LabelledSet) -> LabelledSet:
    """The same rows, gathered anew: tensors made in inference mode cannot take part in a gradient."""
    rows = torch.arange(len(support), device=support.labels.device)
    return replace(support, inputs=support.inputs[rows], labels=support.labels[rows])


def keyed(tensors: Mapping[str, torch.Tensor]) -> nn.ParameterDict:
    """Learned tensors by parameter name; a name in a module has no dots."""
    return nn.ParameterDict({name.replace(".", "/"): tensor for name, tensor in tensors.items()})


def named(tensors: nn.ParameterDict) -> Params:
    """What :func:`keyed` took."""
    return {key.replace("/", "."): tensor for key, tensor in tensors.items()}
