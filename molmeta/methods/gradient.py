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
from molmeta.methods.adapted import Adapted, Unit, head_of, loss_of, mean_logs
from molmeta.methods.inner_loop import Params, Rates
from molmeta.methods.normalisation import StepNorms, batch_norms, check_policy
from molmeta.methods.settings import OPTIMISERS, GradientConfig, is_part
from molmeta.methods.stack import Groups, Stack, is_complete, stacked_parts


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
        embedding = self.encoded(inputs) if isinstance(inputs, Encoding) else self.backbone(inputs)
        outputs: torch.Tensor = self.head(embedding)
        return outputs

    def encoded(self, inputs: Encoding) -> torch.Tensor:
        """The embeddings that stand for inputs, where the backbone does not adapt."""
        if not self.laws.encodes:
            raise InputError(
                f"{type(self).__name__} adapts the weights that make embeddings: give raw inputs, not an Encoding"
            )
        return inputs.values

    def outputs(self, params: Params, inputs: Inputs, step: int = 0) -> torch.Tensor:
        """:meth:`forward` under ``params``, those after ``step`` updates."""
        return head_of(params, self.embed(params, inputs, step))

    def embed(self, params: Params, inputs: Inputs, step: int = 0) -> torch.Tensor:
        """``[n, d]`` what the backbone gives under ``params``, those after ``step`` updates.

        Buffers are cloned, so that batch-norm statistics never leak from one task to another.

        Raises:
            InputError: the inputs are an Encoding.
        """
        if isinstance(inputs, Encoding):
            return self.encoded(inputs)
        start = "backbone."
        norms = {} if self.norms is None else self.norms.at(step)
        tensors = {name: buffer.clone() for name, buffer in self.backbone.named_buffers()}
        tensors |= {name[len(start) :]: t for name, t in {**params, **norms}.items() if name.startswith(start)}
        try:
            embedding: torch.Tensor = functional_call(self.backbone, tensors, (inputs,))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise SupportError(
                f'normalisation is "{self.config.normalisation}", but one row alone has no statistics; give two or '
                'more at a time, or choose "per_step" or "frozen"'
            ) from error
        if self.norms is not None and self.training:
            self.norms.keep(step, norms)
        return embedding

    def train(self, mode: bool = True) -> Self:
        """As every module's, but batch-norm layers follow ``config.normalisation``."""
        super().train(mode)
        policy = self.config.normalisation
        for layer in batch_norms(self.backbone).values():
            layer.train(policy == "batch" or (policy == "per_step" and mode))
        return self

    def initial(self, support: LabelledSet | Stack) -> Params:
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
        self,
        support: LabelledSet | Stack,
        *,
        steps: int,
        first_order: bool,
        parts: Iterator[LabelledSet | Stack] | None = None,
    ) -> Iterator[Params]:
        """All weights before the first inner update, and after each.

        Args:
            support: the task's, or those of a stack of tasks; labels are scaled.
            steps: inner updates.
            first_order: take the inner gradients as constants.
            parts: the examples of each update; None: ``support``, every time.
        """
        params = self.initial(support)
        names = self.moving()
        still = {name: p for name, p in params.items() if name not in names}
        moving = {name: p for name, p in params.items() if name in names}
        if isinstance(support, Stack):
            moving = support.spread(moving)
        examples, update, done = parts or repeat(support), self.optimiser(), count()
        heads = {name: p for name, p in moving.items() if name.startswith("head.")}
        rest = {name: p for name, p in moving.items() if name not in heads}
        # From an even start the first step moves the head alone, so the second finds the embeddings as they were.
        even = bool(parts is None and heads and rest and self._starts_even(support))
        first: tuple[torch.Tensor, Params] | None = None

        def loss(moved: Params) -> torch.Tensor:
            nonlocal first
            part, weights, step = next(examples), {**still, **moving, **moved}, next(done)
            if first is None:
                embedding = self.embed(weights, part.inputs, step)
                first = (embedding, weights) if even and step == 0 else None
            else:
                embedding, first = inner_loop.again(*first, weights, retain=not first_order), None
            return _loss(head_of(weights, embedding), part)

        yield {**still, **moving}
        for step in range(steps):
            if even and step == 0:
                heads = inner_loop.step(heads, loss, update, first_order=first_order)
                moving = {**{name: p.view_as(p) for name, p in rest.items()}, **heads}
            else:
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
        loss, outputs = self._query_loss(unit.scaled(support), query)
        if query.kind.is_classification:
            right = outputs.argmax(dim=1) == query.labels
            return loss, {"query accuracy": right.to(outputs.dtype).mean()}
        return loss, {"query rmse": (outputs.detach()[:, 0] - query.labels).square().mean().sqrt()}

    def _query_loss(
        self, support: LabelledSet | Stack, query: LabelledSet | Stack
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What :meth:`step_weights` make of the query's losses, summed over a stack's tasks; and the last outputs."""
        config = self.config
        path = self.path(support, steps=config.inner_steps, first_order=config.first_order)
        losses = []
        for step, (params, weight) in enumerate(zip(path, self.step_weights(), strict=True)):
            if weight:
                outputs = self.outputs(params, query.inputs, step)
                losses.append(weight * _loss(outputs, query))
        return torch.stack(losses).sum(), outputs

    def losses(self, batch: EpisodeBatch) -> Iterator[tuple[int, torch.Tensor, dict[str, torch.Tensor]]]:
        """How many tasks, the sum of their losses, differentiable, and detached means to log: all at once, or each."""
        if not self._at_once(batch):
            for episode in batch.episodes():
                yield 1, *self.task_loss(*episode)
            return
        support, query = stacked_parts(batch, scale_labels=self.config.scale_labels)
        loss, outputs = self._query_loss(support, query)
        yield len(batch), loss, query.logs(outputs)

    def meta_loss(self, batch: EpisodeBatch) -> tuple[torch.Tensor, dict[str, float]]:
        parts = list(self.losses(batch))
        logs = mean_logs([log for _, _, log in parts], [tasks for tasks, _, _ in parts])
        return torch.stack([loss for _, loss, _ in parts]).sum() / len(batch), logs

    def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
        """As the default; of tasks computed one by one, each one's graph is freed before the next is built."""
        logs, counts = [], []
        for tasks, loss, log in self.losses(batch):
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            logs.append({"loss": loss.detach() / tasks, **log})
            counts.append(tasks)
            del loss  # or its graph would live until the next one is built
        return mean_logs(logs, counts)

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

    def _starts_even(self, support: LabelledSet | Stack) -> bool:
        """Whether all classes start from one row: no gradient then reaches the backbone before the head has moved."""
        plain = self.config.optimiser == "sgd" and type(self).initial is GradientLearner.initial
        return plain and self.config.head == "tied" and support.kind.is_classification and self.norms is None

    def _at_once(self, batch: EpisodeBatch) -> bool:
        """Whether the batch's tasks are computed together; else one by one, as what is not known to stack is."""
        fits = self.config.head == "tied" or bool((batch.num_classes == self.config.ways).all())
        return self._stacks(batch) and fits and is_complete(batch, self.laws)

    def _stacks(self, batch: EpisodeBatch) -> bool:
        own = all(getattr(type(self), n) is getattr(GradientLearner, n) for n in ("initial", "path", "task_loss"))
        if not own or self.config.optimiser not in ("sgd", "momentum", "adam"):
            return False
        if isinstance(batch.inputs, Encoding):
            return self.laws.encodes
        if not self.backbone.stacks or batch_norms(self.backbone):
            return False
        # A CPU gains nothing where the rows are large: what is filled up costs more than launches.
        ragged = isinstance(batch.inputs, Groups) and batch.labels.device.type != "cpu"
        return ragged or isinstance(batch.inputs, torch.Tensor)

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


def _loss(outputs: torch.Tensor, examples: LabelledSet | Stack) -> torch.Tensor:
    """Of one task; of a stack, the tasks' sum."""
    return examples.losses(outputs).sum() if isinstance(examples, Stack) else loss_of(outputs, examples)


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
