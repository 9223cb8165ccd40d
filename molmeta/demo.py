"""The demo assay, predicted: 16 labelled drugs, 34 to rank by whether they inhibit cyclooxygenase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from molmeta.bundle import Bundle
from molmeta.core.task import FloatArray, IntArray
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.tables import read_table
from molmeta.evaluation.metrics import metrics_of_draw
from molmeta.paths import datasets_dir
from molmeta.predicting.assay import predict_molecules
from molmeta.predicting.support import read_support

LABEL = "cox_inhibitor"


@dataclass(frozen=True, eq=False)
class Demonstration:
    """What the model says of the demo's query.

    Attributes:
        names: ``[m]`` drugs, the likeliest first.
        truth: ``[m]`` 1 for COX inhibitors.
        probabilities: ``[m]``.
        nearest: ``[m]`` the most similar support drug.
        similarity: ``[m]`` its count-Morgan Tanimoto similarity.
    """

    names: Sequence[str]
    truth: IntArray
    probabilities: FloatArray
    nearest: Sequence[str]
    similarity: FloatArray

    @property
    def scores(self) -> dict[str, float]:
        """The metrics of this draw."""
        return metrics_of_draw(self.truth, self.probabilities)

    @property
    def found(self) -> tuple[int, int]:
        """How many of the k first are active, and k: as many as there are actives."""
        k = int(self.truth.sum())
        return int(self.truth[:k].sum()), k


def demonstrate(bundle: Bundle) -> Demonstration:
    """Learn the demo's support set and rank its query."""
    folder = datasets_dir() / "demo"
    support = read_support(str(folder / "support.csv"), lambda _: None, labels=[LABEL])
    names = dict(zip(*(read_table(folder / "support.csv").column(c) for c in ("smiles", "name")), strict=True))
    query = read_table(folder / "query.csv")
    prediction = predict_molecules(support.learn(bundle), featurise(query.smiles).arrays)[0]
    assert prediction.probabilities is not None
    probabilities = prediction.probabilities[:, 1]
    order = np.argsort(-probabilities, kind="stable")
    return Demonstration(
        names=[query.column("name")[i] for i in order],
        truth=np.array(query.column(LABEL), np.int64)[order],
        probabilities=probabilities[order],
        nearest=[names[support.assays[0].smiles[prediction.nearest[i]]] for i in order],
        similarity=prediction.similarity[order].astype(np.float64),
    )
