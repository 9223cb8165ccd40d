"""FS-Mol as a task source (Stanley et al., 2021, NeurIPS Datasets and Benchmarks): folds, draws and kinds.

The folder ``fs-mol`` under ``MOLMETA_DATA`` holds ``train/ valid/ test/``, one ``.jsonl.gz`` an assay; any folder of
that form is a source, so a person's own assays train and are evaluated in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from molmeta.core.random import keyed_rng
from molmeta.core.sampling import Draw, uniform
from molmeta.core.task import FloatArray, IntArray, Split, Task, TaskKind
from molmeta.domains.molecules.descriptions import rows_of
from molmeta.domains.molecules.fsmol_files import FOLDS, FSMolRows
from molmeta.domains.molecules.fsmol_tables import AssayRows, open_folder
from molmeta.domains.molecules.fsmol_targets import read_targets
from molmeta.domains.molecules.nearest import Counts, cached_nearest_similarity
from molmeta.domains.molecules.store import Progress, StoreSource, refused_rows
from molmeta.errors import DataError, InputError, SupportError
from molmeta.paths import cache_dir, data_dir, datasets_dir

RegressionRule = Literal["log", "adkf"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FSMolConfig:
    root: str = ""  # the folder with train/ valid/ test/; empty: fs-mol under MOLMETA_DATA
    hold_out: bool = True  # take datasets/fsmol/heldout.json's tasks out of train
    regression: RegressionRule = "log"  # which tasks count as regression tasks
    on_invalid: Literal["raise", "drop"] = "raise"  # molecules that cannot be used
    describe: bool = True  # tell models that read it what is known of each assay in words


class FSMol(StoreSource):
    """The folds of an FS-Mol folder, over one store of all their molecules.

    Args:
        config: where the folder is, and which tasks are held out.
        workers: processes that featurise; None takes every core.
        progress: called with the number of molecules featurised since the last call.

    Raises:
        DataError: the folder has none of the folds.
        InputError: molecules cannot be used; all rows are listed.
    """

    Config = FSMolConfig

    def __init__(
        self, config: FSMolConfig | None = None, *, workers: int | None = None, progress: Progress | None = None
    ) -> None:
        self.config = config or FSMolConfig()
        self.root = Path(self.config.root) if self.config.root else data_dir() / "fs-mol"
        if not any((self.root / fold).is_dir() for fold in FOLDS):
            raise DataError(
                f"there is no train, valid or test folder in {self.root}. Set MOLMETA_DATA to the folder that holds "
                'fs-mol, or fetch it with "molmeta data fetch fs-mol"'
            )
        self._tables, self.store = open_folder(self.root, cache_dir(), workers, progress)
        if self.store.reasons and self.config.on_invalid == "raise":
            raise self._refused()
        self._cached_tasks = lru_cache(maxsize=None)(self._tasks)

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> Sequence[Task]:
        """The tasks of one fold; regression tasks by the configured rule. Refused molecules are left out."""
        return self._cached_tasks(split, kind)

    def similarity_to_train(self, task: Task) -> NDArray[np.float32]:
        """``[n]`` count-Morgan Tanimoto similarity of each molecule of ``task`` to its nearest in the training tasks.

        Computed exactly for the task's whole fold at once (about 20 s for FS-Mol's valid fold, on one core), and kept
        in the cache. A training task's molecules are their own nearest. NaN where there are no training tasks.
        """
        known = self._nearest_train
        if self.tasks(Split.TRAIN) and np.isnan(known[task.rows]).any():
            train = self._distinct_rows(Split.TRAIN)
            split = next((s for s in Split if any(task.name == t.name for t in self.tasks(s))), None)
            fold = self._distinct_rows(split) if split else np.empty(0, np.int64)
            rows = np.setdiff1d(np.union1d(task.rows, fold), train)
            known[rows] = cached_nearest_similarity(self._counts(rows), self._counts(train), cache_dir())
        return known[task.rows]

    @cached_property
    def _nearest_train(self) -> NDArray[np.float32]:
        """What is known so far for each row of the store; a training molecule is its own nearest."""
        known = np.full(len(self.store), np.nan, np.float32)
        known[self._distinct_rows(Split.TRAIN)] = 1
        return known

    def _distinct_rows(self, split: Split) -> IntArray:
        return np.unique(np.concatenate([np.empty(0, np.int64), *(task.rows for task in self.tasks(split))]))

    def _counts(self, rows: IntArray) -> Counts:
        return Counts.of(self.store.arrays).take(rows)

    def describe(self, task: Task, classes: IntArray) -> torch.Tensor:
        """``[classes, buckets]`` what is known of the assay in words, hashed (see ``descriptions``)."""
        return rows_of(task.description if self.config.describe else {}, len(classes))

    @staticmethod
    def draw(task: Task, n_support: int, seed: int) -> Draw:
        """This benchmark's own draw; uniform for regression tasks. Without a support, every row is the query."""
        if n_support == 0:
            return np.empty(0, np.int64), np.arange(len(task))
        if task.kind.is_classification:
            return fsmol_draw(task, n_support, seed)
        if len(task) - n_support < 2:
            raise SupportError(f"task {task.name} has {len(task)} rows: a support of {n_support} leaves fewer than 2")
        return uniform(task.labels, n_support, len(task), keyed_rng(seed, f"draw {task.name}", n_support))

    def _refused(self) -> InputError:
        texts = list(self.store.reasons)
        bad = [(where, i, texts[k]) for where, i, k in self._tables.refused()]
        return refused_rows(bad, len(self._tables.molecules), self.store.reasons, self.root)

    def _tasks(self, split: Split, kind: TaskKind) -> list[Task]:
        folder = "train" if split is Split.HELDOUT else split.value
        held = heldout_tasks() if self.config.hold_out else HeldOut((), ())
        assays = list(self._tables.assays(folder))
        wanted = {
            Split.HELDOUT: set(held.heldout),
            Split.TRAIN: {rows.name for rows in assays} - set(held.heldout) - set(held.excluded),
        }.get(split)
        targets = read_targets(self.root, folder) if assays else {}
        return [
            _task(rows, kind, targets.get(rows.name, {}))
            for rows in assays
            if (wanted is None or rows.name in wanted) and self._serves(rows, kind)
        ]

    def _serves(self, rows: AssayRows, kind: TaskKind) -> bool:
        if kind is TaskKind.REGRESSION:
            return _is_regression_task(rows, self.config.regression)
        return kind is TaskKind.BINARY


def _task(rows: AssayRows, kind: TaskKind, target: Mapping[str, str]) -> Task:
    """An assay as a task, without its refused molecules. The description: its protein, and ChEMBL's type of assay."""
    kept = np.flatnonzero(rows.molecules >= 0)
    labels: IntArray | FloatArray = rows.labels[kept].astype(np.int64)
    return Task(
        name=rows.name,
        rows=rows.molecules[kept],
        labels=labels if kind is TaskKind.BINARY else rows.log_values[kept],
        kind=kind,
        num_classes=2 if kind is TaskKind.BINARY else 0,
        description=MappingProxyType({**target, **({"assay_type": rows.assay_type} if rows.assay_type else {})}),
        columns=MappingProxyType({"value": rows.values[kept], "relation": rows.relations[kept]}),
    )


def _is_regression_task(rows: FSMolRows | AssayRows, rule: RegressionRule) -> bool:
    """``log``: every log value is finite. ``adkf``: ADKF-IFT's rule on the raw values (nM, or % which it refuses)."""
    log_is_finite = bool(np.isfinite(rows.log_values).all())
    if rule == "log":
        return log_is_finite
    values = rows.values
    percent = bool(((values >= 0) & (values <= 100)).all())
    return log_is_finite and not percent and bool(np.isfinite(values).all()) and bool((values > 0).all())


@dataclass(frozen=True)
class HeldOut:
    """Train tasks kept aside to choose models: ``heldout`` to score on, ``excluded`` for being too close to them."""

    heldout: tuple[str, ...]
    excluded: tuple[str, ...]


@lru_cache(maxsize=1)
def heldout_tasks() -> HeldOut:
    """The held-out train tasks that every shipped configuration uses."""
    record = json.loads((datasets_dir() / "fsmol" / "heldout.json").read_text(encoding="utf-8"))
    return HeldOut(tuple(record["heldout"]), tuple(record["excluded"]))


# Seeding a generator again takes a fiftieth of the time that making one does; one thread may use it at a time.
_LEGACY, _LOCK = np.random.RandomState(0), Lock()


def fsmol_draw(task: Task, n_support: int, seed: int) -> Draw:
    """FS-Mol's own draw: a stratified support of ``n_support``; every other row is the query.

    Rows are ordered actives first, then inactives, each in file order, and split as scikit-learn's
    ``StratifiedShuffleSplit(n_splits=1, random_state=seed)`` does, row for row.

    Raises:
        SupportError: FS-Mol's sampler refuses the draw (too few rows of a class), or fewer than two rows are left.
    """
    n_query = len(task) - n_support
    if n_query < 2:
        raise SupportError(f"task {task.name} has {len(task)} rows: a support of {n_support} leaves fewer than 2")
    groups = [rows for rows in (np.flatnonzero(task.labels == label) for label in (1, 0)) if len(rows)]
    counts = np.array([len(rows) for rows in groups])
    if counts.min() < 2 or min(n_support, n_query) < len(groups):
        raise SupportError(
            f"task {task.name} has no stratified support of {n_support}: each class needs 2 rows, and support and "
            f"query a row a class; the classes have {counts.tolist()} rows"
        )
    with _LOCK:
        _LEGACY.seed(seed)
        first = _shares(counts, n_support, _LEGACY)
        rest = _shares(counts - first, n_query, _LEGACY)
        mixed = [_LEGACY.permutation(rows) for rows in groups]
        support = np.concatenate([rows[:n] for rows, n in zip(mixed, first, strict=True)])
        query = np.concatenate([rows[n : n + m] for rows, n, m in zip(mixed, first, rest, strict=True)])
        return _LEGACY.permutation(support), _LEGACY.permutation(query)


def _shares(counts: IntArray, n: int, rng: np.random.RandomState) -> IntArray:
    """How many of ``n`` rows each class gives: its share rounded down, then one more by the largest remainders."""
    exact = counts / counts.sum() * n  # in this order: another rounds otherwise, and draws otherwise
    sizes = np.floor(exact)
    remainders, missing = exact - sizes, n - int(sizes.sum())
    while missing > 0:
        tied = np.flatnonzero(remainders == remainders.max())
        chosen = rng.choice(tied, size=min(len(tied), missing), replace=False)
        sizes[chosen] += 1
        remainders[tied], missing = -1, missing - len(chosen)
    whole: IntArray = sizes.astype(np.int64)
    return whole
