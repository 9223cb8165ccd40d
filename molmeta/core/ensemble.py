"""Several learners as one: their predictions are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from molmeta.core.learner import Beforehand, Prediction, Predictor, PriorPredictor
from molmeta.core.task import Inputs

Encodings = tuple[Inputs, ...]  # one for each member


@dataclass(frozen=True, eq=False)
class EnsemblePredictor:
    """The members' predictors, averaged: probabilities for classes, for regression a mixture, of which mean
    and deviation are exact, and the tails the heaviest of the members'.

    Attributes:
        predictors: the members'; None for one that does not serve the task's kind.
        temperature: what the average's logits are divided by.
        plain: what the support's labels are on average: the share of each class ``[k]``, or the mean ``[]``.
    """

    predictors: Sequence[Predictor | None]
    temperature: float = 1.0
    plain: torch.Tensor = field(default_factory=lambda: torch.zeros(()))

    @torch.no_grad()
    def predict(self, encoded: Encodings) -> Prediction:
        """Predict ``m`` rows, given to each member in its own form; the result is on the CPU."""
        pairs = zip(self.predictors, encoded, strict=True)
        return mix(
            [predictor.predict(inputs) for predictor, inputs in pairs if predictor is not None], self.temperature
        )

    @torch.no_grad()
    def beforehand(self, encoded: Encodings) -> Beforehand | None:
        """What is said of ``m`` rows before they are compared with the support; None where no member has a prior.

        A member without one says ``plain``, informed or not.
        """
        pairs = zip(self.predictors, encoded, strict=True)
        found = [p.beforehand(x) if isinstance(p, PriorPredictor) else None for p, x in pairs if p is not None]
        if all(each is None for each in found):
            return None
        rows = self.plain.expand(len(encoded[0]), *self.plain.shape)
        plain = Prediction(probabilities=rows) if self.plain.ndim else Prediction(mean=rows)
        informed = mix([plain if each is None else each.informed for each in found], self.temperature)
        uninformed = mix([plain if each is None else each.uninformed for each in found], self.temperature)
        return Beforehand(informed, uninformed)


def mix(each: Sequence[Prediction], temperature: float = 1.0) -> Prediction:
    """The average of several predictions of the same rows, on the CPU; see :class:`EnsemblePredictor`."""
    if each[0].mean is not None:
        return _mixture(each)
    stacked = torch.stack([p.probabilities for p in each if p.probabilities is not None])
    average = stacked.double().mean(0).cpu()
    if temperature != 1:
        average = (average.clamp(min=1e-12).log() / temperature).softmax(-1)
    return Prediction(probabilities=average)


def _mixture(each: Sequence[Prediction]) -> Prediction:
    means = torch.stack([p.mean for p in each if p.mean is not None]).double().cpu()
    mean = means.mean(0)
    deviations = [p.deviation for p in each if p.deviation is not None]
    if len(deviations) < len(each):
        return Prediction(mean=mean)
    within = torch.stack(deviations).double().cpu().square().mean(0)
    deviation = (within + (means - mean).square().mean(0)).sqrt()
    return Prediction(mean=mean, deviation=deviation, tails=min(p.tails for p in each))
