"""The columns that predictions become: their names and their text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.labels import AssayLabels
from molmeta.errors import InputError
from molmeta.predicting.assay import AssayModel, AssayPrediction


@dataclass(frozen=True, eq=False)
class AssayColumns:
    """The columns of one assay, named ``<assay>_molmeta_...``:

        binary       probability (of the active class), class, uncertainty
        multiclass   probability_<class> for each class, class, uncertainty
        regression   prediction, deviation
        each         nearest (the most similar support molecule), similarity (count-Morgan Tanimoto to it),
                     far (from both the support and the training chemistry)

    ``uncertainty`` is the entropy of the probabilities over its largest value: 0 is sure, 1 undecided.
    """

    assay: AssayLabels
    model: AssayModel

    @cached_property
    def names(self) -> list[str]:
        """The columns' names."""
        if self.assay.kind is TaskKind.BINARY:
            own = ["probability", "class", "uncertainty"]
        elif self.assay.kind is TaskKind.MULTICLASS:
            own = [*(f"probability_{name}" for name in self.assay.classes), "class", "uncertainty"]
        else:
            own = ["prediction", "deviation"]
        return [f"{self.assay.name}_molmeta_{name}" for name in (*own, "nearest", "similarity", "far")]

    def cells(self, prediction: AssayPrediction) -> Iterable[tuple[str, ...]]:
        """A tuple of texts for each of ``m`` molecules, in the order of ``names``."""
        support = self.assay.smiles
        columns = [
            *self._own(prediction),
            [support[i] for i in prediction.nearest],
            [f"{s:.3f}" for s in prediction.similarity.tolist()],
            ["true" if far else "false" for far in prediction.far],
        ]
        return zip(*columns, strict=True)

    def _own(self, prediction: AssayPrediction) -> list[list[str]]:
        if prediction.probabilities is None:
            deviation = _numbers(prediction.deviation) if prediction.deviation is not None else None
            mean = _numbers(prediction.mean)
            return [mean, deviation or [""] * len(mean)]
        p = prediction.probabilities
        shown = [p[:, 1]] if self.assay.kind is TaskKind.BINARY else list(p.T)
        chosen = [self.assay.classes[i] for i in p.argmax(1)]
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
