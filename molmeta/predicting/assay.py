"""A bundle specialised to one assay: predictions, and what backs each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from molmeta.bundle import Bundle
from molmeta.core.ensemble import Encodings
from molmeta.core.task import FloatArray, TaskKind
from molmeta.domains.molecules.featurise import I64, MoleculeArrays
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.labels import AssayLabels
from molmeta.domains.molecules.nearest import F32, Counts, NearestTable
from molmeta.errors import ConfigError, SupportError
from molmeta.predicting.specialised import Labelled, Specialised


@dataclass(frozen=True, eq=False)
class AssayPrediction:
    """What is said of ``m`` molecules.

    Attributes:
        probabilities: ``[m, k]`` for classes, shifted to the prior; else None.
        mean: ``[m]`` for regression, in the labels' unit; else None.
        deviation: ``[m]`` predictive standard deviation for regression; else None.
        tails: ``[m]`` degrees of freedom of the Student law of this mean and deviation; infinite: a normal law.
        nearest: ``[m]`` position of the most similar support molecule; -1 where there is none.
        similarity: ``[m]`` its count-Morgan Tanimoto similarity.
        far: ``[m]`` far from both the support and the training chemistry.
    """

    probabilities: FloatArray | None
    mean: FloatArray | None
    deviation: FloatArray | None
    tails: FloatArray
    nearest: I64
    similarity: F32
    far: NDArray[np.bool_]

    @property
    def scores(self) -> FloatArray:
        """``[m, k]`` the probabilities, or ``[m, 1]`` the mean."""
        if self.probabilities is not None:
            return self.probabilities
        assert self.mean is not None
        return self.mean[:, None]

    def interval(self, level: float = 0.9) -> tuple[FloatArray, FloatArray]:
        """``[m]`` lower and upper end of the central interval that should hold this share of values; NaN: not told."""
        assert self.mean is not None
        half = stdtrit(self.tails, (1 + level) / 2) * np.sqrt(1 - 2 / self.tails)
        half = half * (np.nan if self.deviation is None else self.deviation)
        return self.mean - half, self.mean + half

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
        assay: the support's structures and labels as written.
        structures: ``[n]`` the support's canonical SMILES, by which a repeated molecule is known.
        specialised: the bundle adapted to the support.
        table: the support molecules, to compare others with.
    """

    bundle: Bundle
    assay: AssayLabels
    structures: Sequence[str]
    specialised: Specialised
    table: NearestTable

    @classmethod
    def fit(
        cls,
        bundle: Bundle,
        assay: AssayLabels,
        molecules: MoleculeArrays,
        structures: Sequence[str],
        *,
        prior: float | None = None,
        seed: int = 0,
        description: Mapping[str, str] | None = None,
    ) -> AssayModel:
        """Read a support set.

        Args:
            bundle: the model.
            assay: ``n`` labels (class 1 is the active class of a binary assay), and what they mean.
            molecules: the ``n`` molecules.
            structures: their canonical SMILES.
            prior: share of class 1 that is expected in the query; None: the support's.
            seed: for methods that draw at random while they adapt.
            description: what is known of a binary assay in words (see ``domains.molecules.descriptions``).

        Raises:
            SupportError: a class is missing, or the model does not serve the kind.
            ConfigError: the prior is out of range, the assay is not binary, or the model reads no descriptions.
        """
        check_prior(prior, assay.kind)
        check_description(description, assay, bundle)
        encoded = bundle.encode(MoleculeBatch.of(molecules))
        labelled = Labelled(encoded, assay.labels, assay.kind, assay.num_classes, prior, seed, description)
        table = NearestTable(Counts.of(molecules))
        return cls(bundle, assay, structures, Specialised.fit(bundle, labelled), table)

    @property
    def prior(self) -> float | None:
        """Share of class 1 that is expected in the query; None: the support's."""
        return self.specialised.labelled.prior

    def predict(self, encoded: Encodings, fingerprints: Counts) -> AssayPrediction:
        """Predict ``m`` molecules.

        Args:
            encoded: the molecules, from the bundle's ``encode``.
            fingerprints: the same molecules' fingerprints.
        """
        nearest, similarity = self.table.nearest(fingerprints)
        reference = self.bundle.reference
        far = reference.far(fingerprints, similarity) if reference else np.zeros(len(nearest), bool)
        scores, deviation, law = self.specialised.predict(encoded)
        tails = np.full(len(scores), law)
        if self.assay.kind.is_classification:
            return AssayPrediction(scores, None, None, tails, nearest, similarity, far)
        return AssayPrediction(None, scores[:, 0], deviation, tails, nearest, similarity, far)


def predict_molecules(models: Sequence[AssayModel], molecules: MoleculeArrays) -> list[AssayPrediction]:
    """Predict molecules for assays that share one bundle; each molecule is encoded once."""
    encoded = models[0].bundle.encode(MoleculeBatch.of(molecules))
    fingerprints = Counts.of(molecules)
    return [model.predict(encoded, fingerprints) for model in models]


def check_description(description: Mapping[str, str] | None, assay: AssayLabels, bundle: Bundle) -> None:
    """Refuse a description that would not be read, and a support of nothing where the model needs one.

    Raises:
        ConfigError: the model reads none, or the assay is not binary.
        SupportError: there is no labelled molecule, and nothing else to go by.
    """
    if description is not None and not bundle.reads_descriptions:
        raise ConfigError(
            "this model reads no description of an assay. Leave it out, or use a model that does, such as one trained "
            'by "molmeta train --config known-assays --set backbone.described=64"'
        )
    if description is not None and assay.kind is not TaskKind.BINARY:
        raise ConfigError(f"a description is read for two classes, not for {assay.kind} labels. Leave it out")
    if not len(assay.labels) and (description is None or not bundle.needs_no_support):
        raise SupportError(
            "no molecule is labelled. Give labelled molecules, or describe the assay to a model that reads it"
        )


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
