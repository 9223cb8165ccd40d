"""A bundle that has read labelled molecules: what it predicts in their labels' unit, and what it would with fewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from molmeta.bundle import Bundle
from molmeta.core.ensemble import Encodings, EnsemblePredictor
from molmeta.core.learner import Prediction
from molmeta.core.prior import at_prior
from molmeta.core.random import seed_torch
from molmeta.core.task import FloatArray, TaskKind


@dataclass(frozen=True, eq=False)
class Labelled:
    """``n`` support molecules as a bundle reads them.

    Attributes:
        encoded: the molecules, from the bundle's ``encode``.
        labels: ``[n]`` class indices (1 is the active class of a binary assay), or values.
        kind: what the labels are.
        num_classes: k; 0 for regression.
        prior: share of class 1 that is expected in the query; None: the support's.
        seed: for methods that draw at random while they adapt.
        description: what is known of the assay in words; None: nothing.
    """

    encoded: Encodings
    labels: NDArray[np.generic]
    kind: TaskKind
    num_classes: int
    prior: float | None = None
    seed: int = 0
    description: Mapping[str, str] | None = None

    @property
    def shares(self) -> FloatArray:
        """``[k]`` the share of each class in the support; equal ones where nothing is labelled."""
        if not len(self.labels):
            return np.full(self.num_classes, 1 / self.num_classes)
        counts = np.bincount(self.labels.astype(np.int64), minlength=self.num_classes)
        return counts.astype(np.float64) / len(self.labels)

    @property
    def base(self) -> FloatArray:
        """What is expected of a molecule of which nothing is known: the share of each class ``[k]``, of a binary
        assay the ``prior`` where one is given; or the mean value ``[1]``."""
        if not self.kind.is_classification:
            return np.array([self.labels.astype(np.float64).mean()])
        return self.shares if self.prior is None else np.array([1 - self.prior, self.prior])

    def without(self, out: NDArray[np.bool_]) -> Labelled | None:
        """The other molecules than those marked ``[n]``; None where they are too few: one, or a class has none."""
        rest = self.take(~out)
        if len(rest.labels) < 2:
            return None
        return None if self.kind.is_classification and (rest.shares == 0).any() else rest

    def take(self, kept: NDArray[np.bool_]) -> Labelled:
        """The molecules that are marked ``[n]``."""
        rows = torch.from_numpy(np.flatnonzero(kept))
        return replace(self, encoded=tuple(each[rows] for each in self.encoded), labels=self.labels[kept])


class Said(NamedTuple):
    """What a specialised bundle says of ``m`` rows.

    Attributes:
        scores: ``[m, k]`` probabilities, or ``[m, 1]`` values.
        deviation: ``[m]`` of values, where there is one.
        tails: degrees of freedom of the values' law (see :class:`~molmeta.core.learner.Prediction`).
    """

    scores: FloatArray
    deviation: FloatArray | None
    tails: float


@dataclass(frozen=True, eq=False)
class Specialised:
    """A bundle adapted to labelled molecules."""

    labelled: Labelled
    _predictor: EnsemblePredictor
    _loc: float
    _scale: float

    @classmethod
    def fit(cls, bundle: Bundle, labelled: Labelled) -> Self:
        """Adapt the bundle.

        Raises:
            SupportError: a class is missing, or the model does not serve the kind.
        """
        loc, scale = 0.0, 1.0
        if labelled.kind is TaskKind.REGRESSION:
            # Centred in double precision: values such as 10000.1, 10000.2 differ in single precision no more.
            values = labelled.labels.astype(np.float64)
            loc, scale = float(values.mean()), float(values.std()) or 1.0
            target = torch.from_numpy(((values - loc) / scale).astype(np.float32))
        else:
            target = torch.from_numpy(labelled.labels.astype(np.int64))
        with torch.random.fork_rng():
            seed_torch(labelled.seed, 0)
            predictor = bundle.adapt(
                labelled.encoded, target, labelled.kind, labelled.num_classes, labelled.description
            )
        return cls(labelled, predictor, loc, scale)

    def predict(self, encoded: Encodings) -> Said:
        """Predict ``m`` rows."""
        prediction = self._predictor.predict(encoded)
        deviation = None if prediction.deviation is None else prediction.deviation.numpy() * self._scale
        return Said(self._scores(prediction), deviation, prediction.tails)

    def prior_part(self, encoded: Encodings) -> FloatArray:
        """By how much what the model learned of such molecules in training moves its prediction, before they are
        compared with the support: ``[m, k]`` or ``[m, 1]``; 0 where its methods learn no prior."""
        found = self._predictor.beforehand(encoded)
        if found is None:
            return np.zeros((len(encoded[0]), max(1, self.labelled.num_classes)))
        return self._scores(found.informed) - self._scores(found.uninformed)

    def _scores(self, prediction: Prediction) -> FloatArray:
        if prediction.mean is not None:
            values: FloatArray = prediction.mean.numpy()[:, None] * self._scale + self._loc
            return values
        assert prediction.probabilities is not None
        return self._shifted(prediction.probabilities.numpy())

    def _shifted(self, probabilities: FloatArray) -> FloatArray:
        if self.labelled.prior is None:
            return probabilities
        return at_prior(probabilities, self.labelled.shares, self.labelled.base)
