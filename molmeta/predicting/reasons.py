"""Why a molecule is predicted as it is: the support molecules that moved it, and what the model knew beforehand.

    prediction = base + prior part + support part
    influence of j = prediction - prediction by the same model that has read the support without molecule j

The influence is exact, not an approximation: the bundle is adapted to the rest of the support, and predicts again from
the molecules' encodings, which do not depend on the support. Influences need not add up to the support part: of two
molecules that say the same, neither is missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molmeta.core.ensemble import Encodings
from molmeta.core.task import FloatArray, TaskKind
from molmeta.domains.molecules.featurise import I64, MoleculeArrays
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.nearest import Counts
from molmeta.predicting.assay import AssayModel, AssayPrediction
from molmeta.predicting.specialised import Specialised

_QUERY: dict[str, Any] = {"of_query": True}
_PRINTED = 10
VALUE = "value"  # what is explained of regression


@dataclass(frozen=True, eq=False)
class Reasons:
    """Why ``m`` molecules are predicted as they are from ``n`` labelled ones; see the module for the equations.

    What is explained (``what``) is the probability of the active class, of several classes the likeliest one's, or the
    value. A molecule without a prediction has NaN throughout.

    Attributes:
        assay: its name.
        support: ``[n]`` the support molecules, as written.
        labels: ``[n]`` their labels, as written.
        copies: ``[n]`` position of the first support molecule of the same structure: a molecule is its structure, and
            is left out with all its copies.
        smiles: ``[m]`` the molecules, as written.
        refused: ``[m]`` why a molecule has no prediction; empty for the others.
        what: ``[m]`` what is explained: 'probability of "active"'.
        prediction: ``[m]`` as predicted, ``prior=`` included.
        base: ``[m]`` what is expected of any molecule: the share of the class in the support, or the ``prior`` that
            was given; the mean value.
        prior_part: ``[m]`` what the model learned of such molecules in training, whatever the support says of them;
            0 for a method that learns no such prior.
        support_part: ``[m]`` the rest: what comparing the molecule with the support did.
        influence: ``[m, n]`` by how much the prediction would fall without this support molecule (rise, if negative);
            NaN where it cannot be left out: the only example of its class, or one of only two molecules.
        similarity: ``[m, n]`` count-Morgan Tanimoto similarity to each support molecule.
        training_similarity: ``[m]`` the same to the nearest in a random sample of the training chemistry; NaN where
            the model keeps none.
        far: ``[m]`` far from both the support and the training chemistry.
    """

    assay: str
    support: Sequence[str]
    labels: Sequence[str]
    copies: I64
    smiles: Sequence[str] = field(metadata=_QUERY)
    refused: Sequence[str] = field(metadata=_QUERY)
    what: Sequence[str] = field(metadata=_QUERY)
    prediction: FloatArray = field(metadata=_QUERY)
    base: FloatArray = field(metadata=_QUERY)
    prior_part: FloatArray = field(metadata=_QUERY)
    support_part: FloatArray = field(metadata=_QUERY)
    influence: FloatArray = field(metadata=_QUERY)
    similarity: FloatArray = field(metadata=_QUERY)
    training_similarity: FloatArray = field(metadata=_QUERY)
    far: NDArray[np.bool_] = field(metadata=_QUERY)

    def __len__(self) -> int:
        return len(self.smiles)

    def strongest(self, count: int) -> I64:
        """``[m, count]`` positions of the support molecules of the largest influence, whatever its sign, the largest
        first, a repeated molecule once; -1 where there are no more."""
        first = np.unique(self.copies)
        size = np.abs(self.influence[:, first])
        order = np.argsort(-np.nan_to_num(size, nan=-1.0), axis=1, kind="stable")[:, :count]
        found = np.where(np.isnan(np.take_along_axis(size, order, 1)), -1, first[order])
        return np.pad(found, ((0, 0), (0, count - found.shape[1])), constant_values=-1)

    def __str__(self) -> str:
        """The parts of each prediction and its three strongest support molecules, in lines."""
        lines = [line for i in range(min(len(self), _PRINTED)) for line in self._lines(i)]
        more = len(self) - _PRINTED
        return "\n".join([*lines, f"... and {more:,} more molecules"] if more > 0 else lines)

    def _lines(self, i: int) -> list[str]:
        if self.refused[i]:
            return [f"{self.smiles[i]}: no prediction ({self.refused[i]})"]
        head = (
            f"{self.smiles[i]}: {self.what[i]} {self.prediction[i]:.3g} = {self.base[i]:.3g} (base) "
            f"{self.prior_part[i]:+.3g} (prior) {self.support_part[i]:+.3g} (support); nearest training molecule "
            f"{self.training_similarity[i]:.2f}{', far' * bool(self.far[i])}"
        )
        rows = [
            f"  {self.influence[i, j]:+9.3g}  similarity {self.similarity[i, j]:.2f}  {self.labels[j]}  "
            f"{self.support[j]}"
            for j in self.strongest(3)[i]
            if j >= 0
        ]
        return [head, *rows]

    def draw(self, path: str | Path, count: int = 4, force: bool = False) -> Path:
        """Draw each molecule beside the support molecules that moved it most, and the most similar one.

        Args:
            path: ``.html`` (one self-contained page), ``.svg`` or ``.png``.
            count: support molecules of the largest influence that are drawn.
            force: overwrite the file.

        Raises:
            InputError: the file stands there already, or is to have another form.
        """
        from molmeta.predicting.drawing import draw_reasons

        return draw_reasons([self], path, count, force)

    def among(self, smiles: Sequence[str], refused: Sequence[str]) -> Reasons:
        """The same where all molecules stand, those without a prediction included.

        Args:
            smiles: ``[M]`` all of them, as written.
            refused: ``[M]`` why one has no prediction; empty for the ``m`` of this.
        """
        valid = np.array([not reason for reason in refused], bool)

        def spread(values: Any) -> Any:
            if isinstance(values, np.ndarray):
                wide = np.full((len(valid), *values.shape[1:]), False if values.dtype == bool else np.nan, values.dtype)
                wide[valid] = values
                return wide
            rest = iter(values)
            return [next(rest) if ok else "" for ok in valid]

        columns = {c.name: spread(getattr(self, c.name)) for c in fields(self) if c.metadata}
        return replace(self, **{**columns, "smiles": [str(s) for s in smiles], "refused": list(refused)})

    @staticmethod
    def blank(model: AssayModel) -> Reasons:
        """Of no molecule."""
        n, none = len(model.structures), np.zeros(0)
        columns: dict[str, Any] = {c.name: none for c in fields(Reasons) if c.metadata}
        columns |= {"smiles": [], "refused": [], "what": [], "far": none.astype(bool)}
        columns |= {"influence": np.zeros((0, n)), "similarity": np.zeros((0, n))}
        return Reasons(model.assay.name, model.assay.smiles, model.assay.texts, _copies(model), **columns)

    @staticmethod
    def concatenate(parts: Sequence[Reasons]) -> Reasons:
        """Several blocks of molecules of one assay as one."""

        def joined(name: str) -> Any:
            columns = [getattr(part, name) for part in parts]
            if isinstance(columns[0], np.ndarray):
                return np.concatenate(columns)
            return [value for column in columns for value in column]

        return replace(parts[0], **{c.name: joined(c.name) for c in fields(Reasons) if c.metadata})


def explain_molecules(
    models: Sequence[AssayModel], smiles: Sequence[str], molecules: MoleculeArrays
) -> list[tuple[AssayPrediction, Reasons]]:
    """Predict molecules for assays that share one bundle, and say why; each molecule is encoded once.

    Takes as many adaptations and predictions as there are support molecules; memory for one at a time.

    Args:
        models: the assays.
        smiles: ``[m]`` the molecules as written.
        molecules: the same.
    """
    encoded = models[0].bundle.encode(MoleculeBatch.of(molecules))
    fingerprints = Counts.of(molecules)
    return [_explain(model, smiles, encoded, fingerprints) for model in models]


def _explain(
    model: AssayModel, smiles: Sequence[str], encoded: Encodings, fingerprints: Counts
) -> tuple[AssayPrediction, Reasons]:
    prediction = model.predict(encoded, fingerprints)
    scores = prediction.scores
    column = _explained_column(model.assay.kind, scores)
    rows = np.arange(len(scores))
    value = scores[rows, column]
    base = model.specialised.labelled.base[column]
    prior_part = model.specialised.prior_part(encoded)[rows, column]
    copies = _copies(model)
    reference = model.bundle.reference
    named = [f'probability of "{name}"' for name in model.assay.classes] or [VALUE]
    return prediction, Reasons(
        assay=model.assay.name,
        support=model.assay.smiles,
        labels=model.assay.texts,
        copies=copies,
        smiles=list(smiles),
        refused=[""] * len(value),
        what=[named[k] for k in column],
        prediction=value,
        base=base,
        prior_part=prior_part,
        support_part=value - base - prior_part,
        influence=_influence(model, copies, encoded, column, value),
        similarity=model.table.similarities(fingerprints).astype(np.float64),
        training_similarity=(
            reference.similarity(fingerprints).astype(np.float64) if reference else np.full(len(value), np.nan)
        ),
        far=prediction.far,
    )


def _copies(model: AssayModel) -> I64:
    """``[n]`` the first support molecule of the same structure as each."""
    first = {text: i for i, text in reversed(list(enumerate(model.structures)))}
    return np.array([first[text] for text in model.structures], np.int64)


def _explained_column(kind: TaskKind, scores: FloatArray) -> I64:
    """``[m]`` which column of ``scores [m, c]`` is explained."""
    if kind is TaskKind.MULTICLASS:
        return np.asarray(scores.argmax(1), np.int64)
    return np.full(len(scores), scores.shape[1] - 1, np.int64)


def _influence(model: AssayModel, copies: I64, encoded: Encodings, column: I64, value: FloatArray) -> FloatArray:
    """``[m, n]``: what each support molecule, with its copies, adds to the explained ``value [m]``."""
    influence = np.full((len(value), len(copies)), np.nan)
    for i in np.unique(copies):
        out = copies == i
        rest = model.specialised.labelled.without(out)
        if rest is not None:
            scores = Specialised.fit(model.bundle, rest).predict(encoded).scores
            influence[:, out] = (value - scores[np.arange(len(value)), column])[:, None]
    return influence
