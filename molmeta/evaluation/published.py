"""Published results, as facts with their source: ``datasets/<benchmark>/published.csv``, read into rows.

They stand beside measured results in a table, never among them: nothing here was run by this package, and what makes
the numbers comparable or not is written in ``datasets/published.md``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass

from molmeta.errors import ConfigError
from molmeta.paths import datasets_dir


@dataclass(frozen=True)
class PublishedScore:
    """One number of a paper.

    Attributes:
        dataset: ``fsmol``, or the MoleculeNet data set (``tox21``).
        method: the method, as its source calls it.
        kind: ``binary`` or ``regression``.
        metric: ``delta_auprc``, ``r2`` or ``roc_auc``; 1 is perfect.
        support_size: labelled molecules of a task; k-shot is 2 k.
        mean: mean over tasks.
        error: what stands behind the ±, or None; ``error_kind`` says of what.
        tasks: how many tasks, where known.
        fold: the fold that was scored.
        source: the paper or repository.
        confirmed: whether the number was seen in that source when it was entered.
        note: what else a reader must know.
    """

    dataset: str
    method: str
    kind: str
    metric: str
    support_size: int
    mean: float
    error: float | None
    error_kind: str
    tasks: int | None
    fold: str
    source: str
    confirmed: bool
    note: str

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.3f}"
        doubt = "" if self.confirmed else ", not checked"
        return f"{self.method} at {self.support_size}: {self.mean:.3f}{error} ({self.source}{doubt})"


def benchmarks() -> list[str]:
    """The benchmarks that published results are at hand for."""
    return sorted(path.parent.name for path in datasets_dir().glob("*/published.csv"))


def published(benchmark: str) -> list[PublishedScore]:
    """The published results of ``fsmol`` or ``moleculenet``, in the order of the file.

    Raises:
        ConfigError: no published results are at hand for a benchmark of this name.
    """
    path = datasets_dir() / benchmark / "published.csv"
    if benchmark not in benchmarks():
        raise ConfigError(f'no published results for "{benchmark}". There are some for {", ".join(benchmarks())}')
    with path.open(newline="", encoding="utf-8") as file:
        return [_score(row) for row in csv.DictReader(file)]


def _score(row: dict[str, str]) -> PublishedScore:
    return PublishedScore(
        dataset=row["dataset"],
        method=row["method"],
        kind=row["kind"],
        metric=row["metric"],
        support_size=int(row["support_size"]),
        mean=float(row["mean"]),
        error=float(row["error"]) if row["error"] else None,
        error_kind=row["error_kind"],
        tasks=int(row["tasks"]) if row["tasks"] else None,
        fold=row["fold"],
        source=row["source"],
        confirmed=row["confirmed"] == "yes",
        note=row["note"],
    )
