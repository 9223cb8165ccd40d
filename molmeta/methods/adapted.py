"""A model that gradient steps have specialised to one task, the unit of its labels, and its loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from molmeta.core import stacked
from molmeta.core.episode import LabelledSet
from molmeta.core.learner import Prediction
from molmeta.core.task import Inputs
from molmeta.methods.inner_loop import Params

Outputs = Callable[[Params, Inputs, int], torch.Tensor]  # weights, m rows, updates done -> logits or values [m, k]


class Adapted:
    """A predictor with weights of its own.

    For regression the deviation is the same for every row: the root mean square residual on the support that the
    weights were fitted to. It is a floor of the true error, not an estimate from unseen rows.
    """

    def __init__(self, outputs: Outputs, params: Params, steps: int, support: LabelledSet, unit: Unit) -> None:
        self._outputs, self._params, self._steps = outputs, params, steps
        self._kind, self._unit = support.kind, unit
        self._deviation = torch.zeros(())
        if not support.kind.is_classification:
            residual = support.labels - self._mean(support.inputs)
            self._deviation = residual.square().mean().sqrt()

    def predict(self, inputs: Inputs) -> Prediction:
        if not self._kind.is_classification:
            mean = self._mean(inputs)
            return Prediction(mean=mean, deviation=self._deviation.expand_as(mean))
        with torch.no_grad():
            return Prediction(probabilities=self._outputs(self._params, inputs, self._steps).softmax(dim=1))

    def _mean(self, inputs: Inputs) -> torch.Tensor:
        with torch.no_grad():
            outputs = self._outputs(self._params, inputs, self._steps)
            return outputs[:, 0] * self._unit.scale + self._unit.loc


@dataclass(frozen=True, eq=False)
class Unit:
    """Regression labels are learned as ``(label - loc) / scale``."""

    loc: torch.Tensor | float = 0.0
    scale: torch.Tensor | float = 1.0

    @classmethod
    def of(cls, labels: torch.Tensor) -> Unit:
        """Mean and deviation of ``labels [n]``; scale 1 where they are all equal."""
        varies = labels.amax() > labels.amin()  # the deviation of equal numbers need not round to 0
        return cls(labels.mean(), torch.where(varies, labels.std(correction=0), 1.0))

    def scaled(self, examples: LabelledSet) -> LabelledSet:
        if examples.kind.is_classification:
            return examples
        return replace(examples, labels=(examples.labels - self.loc) / self.scale)


def head_of(params: Params, embedding: torch.Tensor) -> torch.Tensor:
    """The linear head's outputs ``[n, k]`` of embeddings ``[n, d]``, under ``params``."""
    return stacked.linear(embedding, params["head.weight"], params["head.bias"])


def loss_of(outputs: torch.Tensor, examples: LabelledSet) -> torch.Tensor:
    """Cross-entropy of logits ``[n, k]``, or mean squared error of values ``[n, 1]``."""
    if examples.kind.is_classification:
        return F.cross_entropy(outputs, examples.labels)
    return F.mse_loss(outputs[:, 0], examples.labels.to(outputs.dtype))


def mean_logs(logs: Sequence[dict[str, torch.Tensor]], tasks: Sequence[int] | None = None) -> dict[str, float]:
    """What was logged, averaged over the tasks: one an entry, or so many."""
    share = torch.tensor(tasks or [1] * len(logs), dtype=torch.float64)
    values = {name: torch.stack([log[name] for log in logs]).double().cpu() for name in logs[0]}
    return {name: float(value @ share / share.sum()) for name, value in values.items()}
