"""A bundle specialised to one assay: predictions, and what backs each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from molmeta.bundle import Bundle, Encodings, EnsemblePredictor
from molmeta.core.random import seed_torch
from molmeta.core.task import FloatArray, TaskKind
from molmeta.domains.molecules.featurise import I64, MoleculeArrays
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.nearest import F32, Counts, NearestTable
from molmeta.errors import ConfigError


@dataclass(frozen=True, eq=False)
class AssayPrediction:
    """What is said of ``m`` molecules.

    Attributes:
        probabilities: ``[m, k]`` for classes, shifted to the prior; else None.
        mean: ``[m]`` for regression, in the labels' unit; else None.
        deviation: ``[m]`` predictive standard deviation for regression; else None.
        nearest: ``[m]`` position of the most similar support molecule.
        similarity: ``[m]`` its count-Morgan Tanimoto similarity.
        far: ``[m]`` far from both the support and the training chemistry.
    """

    probabilities: FloatArray | None
    mean: FloatArray | None
    deviation: FloatArray | None
    nearest: I64
    similarity: F32
    far: NDArray[np.bool_]

    @property
    def uncertainty(self) -> FloatArray | None:
        """``[m]`` for classes: the entropy of the probabilities over its largest value; 0 is sure, 1 undecided."""
        if self.probabilities is None:
            return None
        p = self.probabilities.clip(1e-12, 1)
        entropy: FloatArray = -(p * np.log(p)).sum(1) / np.log(p.shape[1])
        return entropy.clip(0, 1)

    @classmethod
    def concatenate(cls, parts: Sequence[AssayPrediction]) -> AssayPrediction:
        """Predictions of several blocks of molecules as one."""

        def joined(name: str) -> Any:
            columns = [getattr(part, name) for part in parts]
            return None if columns[0] is None else np.concatenate(columns)

        return cls(**{column.name: joined(column.name) for column in fields(cls)})


@dataclass(frozen=True, eq=False)
class AssayModel:
    """A bundle that has read the support set of one assay.

    Attributes:
        bundle: the model.
        kind: what the labels are.
        table: the support molecules, to compare others with.
        share: share of class 1 in a binary support; NaN otherwise.
        prior: share of class 1 that is expected in the query; None: the support's.
    """

    bundle: Bundle
    kind: TaskKind
    table: NearestTable
    share: float
    prior: float | None
    _predictor: EnsemblePredictor
    _loc: float
    _scale: float

    @classmethod
    def fit(
        cls,
        bundle: Bundle,
        molecules: MoleculeArrays,
        labels: NDArray[np.generic],
        kind: TaskKind,
        num_classes: int,
        *,
        prior: float | None = None,
        seed: int = 0,
    ) -> AssayModel:
        """Read a support set.

        Args:
            bundle: the model.
            molecules: ``n`` support molecules.
            labels: ``[n]`` class indices (1 is the active class of a binary assay), or values.
            kind: what the labels are.
            num_classes: k; 0 for regression.
            prior: see the class.
            seed: for methods that draw at random while they adapt.

        Raises:
            SupportError: a class is missing, or the model does not serve the kind.
            ConfigError: the prior is out of range, or the assay is not binary.
        """
        check_prior(prior, kind)
        loc, scale = 0.0, 1.0
        if kind is TaskKind.REGRESSION:
            # Centred in double precision: values such as 10000.1, 10000.2 differ in single precision no more.
            values = labels.astype(np.float64)
            loc, scale = float(values.mean()), float(values.std()) or 1.0
            target = torch.from_numpy(((values - loc) / scale).astype(np.float32))
        else:
            target = torch.from_numpy(labels.astype(np.int64))
        encoded = bundle.encode(MoleculeBatch.of(molecules))
        with torch.random.fork_rng():
            seed_torch(seed, 0)
            predictor = bundle.adapt(encoded, target, kind, num_classes)
        share = float(labels.astype(np.float64).mean()) if kind is TaskKind.BINARY else float("nan")
        return cls(bundle, kind, NearestTable(Counts.of(molecules)), share, prior, predictor, loc, scale)

    def predict(self, encoded: Encodings, fingerprints: Counts) -> AssayPrediction:
        """Predict ``m`` molecules.

        Args:
            encoded: the molecules, from the bundle's ``encode``.
            fingerprints: the same molecules' fingerprints.
        """
        nearest, similarity = self.table.nearest(fingerprints)
        reference = self.bundle.reference
        far = reference.far(fingerprints, similarity) if reference else np.zeros(len(nearest), bool)
        prediction = self._predictor.predict(encoded)
        probabilities = mean = deviation = None
        if prediction.probabilities is not None:
            probabilities = self._shifted(prediction.probabilities.numpy())
        if prediction.mean is not None:
            mean = prediction.mean.numpy() * self._scale + self._loc
        if prediction.deviation is not None:
            deviation = prediction.deviation.numpy() * self._scale
        return AssayPrediction(probabilities, mean, deviation, nearest, similarity, far)

    def _shifted(self, probabilities: FloatArray) -> FloatArray:
        """Bayes' rule for another share of actives: the odds change by prior odds over the support's odds."""
        if self.prior is None or self.kind is not TaskKind.BINARY:
            return probabilities
        weights = np.array([(1 - self.prior) / (1 - self.share), self.prior / self.share])
        shifted: FloatArray = probabilities * weights
        shifted /= shifted.sum(1, keepdims=True)
        return shifted


def predict_molecules(models: Sequence[AssayModel], molecules: MoleculeArrays) -> list[AssayPrediction]:
    """Predict molecules for assays that share one bundle; each molecule is encoded once."""
    encoded = models[0].bundle.encode(MoleculeBatch.of(molecules))
    fingerprints = Counts.of(molecules)
    return [model.predict(encoded, fingerprints) for model in models]


def check_prior(prior: float | None, kind: TaskKind) -> None:
    """Refuse a prior that is no share, or that has no meaning.

    Raises:
        ConfigError: as said.
    """
    if prior is None:
        return
    if not (isinstance(prior, (int, float, np.number)) and 0 < prior < 1):
        raise ConfigError(f"prior is the expected share of actives, between 0 and 1 (0.01 is 1 %), not {prior}")
    if kind is not TaskKind.BINARY:
        raise ConfigError(f"prior is the expected share of actives: it has no meaning for {kind} labels. Leave it out")
