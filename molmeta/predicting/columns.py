"""The columns that predictions become: their names and their text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from molmeta.core.task import TaskKind
from molmeta.errors import InputError
from molmeta.predicting.assay import AssayModel, AssayPrediction
from molmeta.predicting.reasons import Reasons


@dataclass(frozen=True, eq=False)
class AssayColumns:
    """The columns of one assay, named ``<assay>_molmeta_...``:

        binary       probability (of the active class), class, uncertainty
        multiclass   probability_<class> for each class, class, uncertainty
        regression   prediction, deviation, low, high (the ends of the interval that should hold 90 % of values)
        each         nearest (the most similar support molecule), similarity (count-Morgan Tanimoto to it),
                     far (from both the support and the training chemistry)

    ``uncertainty`` is the entropy of the probabilities over its largest value: 0 is sure, 1 undecided. With ``reasons``
    there are also base, prior_part and support_part, which add up to the prediction (of several classes: the likeliest
    one's probability); training_similarity; and reason_1, reason_1_label, reason_1_influence, ...: the support
    molecules of the largest influence (see :class:`~molmeta.predicting.reasons.Reasons`).

    Attributes:
        model: of the assay.
        reasons: support molecules that are named for each prediction; 0: no reasons.
    """

    model: AssayModel
    reasons: int = 0

    @cached_property
    def names(self) -> list[str]:
        """The columns' names."""
        assay = self.model.assay
        if assay.kind is TaskKind.BINARY:
            own = ["probability", "class", "uncertainty"]
        elif assay.kind is TaskKind.MULTICLASS:
            own = [*(f"probability_{name}" for name in assay.classes), "class", "uncertainty"]
        else:
            own = ["prediction", "deviation", "low", "high"]
        own += ["nearest", "similarity", "far"]
        if self.reasons:
            own += ["base", "prior_part", "support_part", "training_similarity"]
        for place in range(1, self.reasons + 1):
            own += [f"reason_{place}", f"reason_{place}_label", f"reason_{place}_influence"]
        return [f"{assay.name}_molmeta_{name}" for name in own]

    def cells(self, prediction: AssayPrediction, reasons: Reasons | None = None) -> Iterable[tuple[str, ...]]:
        """A tuple of texts for each of ``m`` molecules, in the order of ``names``."""
        support = self.model.assay.smiles
        columns = [
            *self._own(prediction),
            [support[i] if i >= 0 else "" for i in prediction.nearest],
            [f"{s:.3f}" for s in prediction.similarity.tolist()],
            ["true" if far else "false" for far in prediction.far],
        ]
        return zip(*columns, *(self._reasons(reasons) if reasons else []), strict=True)

    def _reasons(self, reasons: Reasons) -> list[list[str]]:
        parts = [_numbers(part) for part in (reasons.base, reasons.prior_part, reasons.support_part)]
        columns = [*parts, ["" if np.isnan(s) else f"{s:.3f}" for s in reasons.training_similarity]]
        for found in reasons.strongest(self.reasons).T:
            columns += [
                [reasons.support[j] if j >= 0 else "" for j in found],
                [reasons.labels[j] if j >= 0 else "" for j in found],
                [f"{row[j]:.6g}" if j >= 0 else "" for j, row in zip(found, reasons.influence, strict=True)],
            ]
        return columns

    def _own(self, prediction: AssayPrediction) -> list[list[str]]:
        if prediction.probabilities is None:
            mean = _numbers(prediction.mean)
            if prediction.deviation is None:
                return [mean, *[[""] * len(mean)] * 3]
            return [mean, _numbers(prediction.deviation), *(_numbers(end) for end in prediction.interval())]
        p = prediction.probabilities
        assay = self.model.assay
        shown = [p[:, 1]] if assay.kind is TaskKind.BINARY else list(p.T)
        chosen = [assay.classes[i] for i in p.argmax(1)]
        return [*(_numbers(column) for column in shown), chosen, _numbers(prediction.uncertainty)]


def _numbers(values: Iterable[float] | None) -> list[str]:
    return [f"{value:.6g}" for value in values] if values is not None else []


def check_clashes(own: Sequence[str], added: Sequence[str], source: str) -> None:
    """Refuse an input column that has the name of a prediction column.

    Raises:
        InputError: names them.
    """
    clashes = [name for name in added if name in set(own)]
    if clashes:
        raise InputError(
            f"{source} already has columns that predictions would be written to: {', '.join(clashes)}. "
            "Rename or remove them (is it the output of an earlier prediction?)"
        )
    repeated = sorted({name for name in added if list(added).count(name) > 1})
    if repeated:
        raise InputError(f"two assays would write the same columns: {', '.join(repeated)}. Rename one of the assays")
