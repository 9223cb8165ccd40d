"""Tox21, SIDER, MUV and ToxCast of MoleculeNet (Wu et al., 2018, Chem. Sci. 9, 513): a task source, a task an endpoint.

The test tasks are the published ones of few-shot work (Wang et al., 2021, NeurIPS). Published numbers choose their
checkpoint on these; here some of the published training tasks are kept to choose on. See ``datasets/moleculenet``.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import pandas as pd

from molmeta.core.random import keyed_rng
from molmeta.core.sampling import Draw
from molmeta.core.task import FloatArray, Split, Task, TaskKind
from molmeta.domains.molecules.draws import draw_classes
from molmeta.domains.molecules.store import Progress, StoreSource, open_or_build, refused_rows
from molmeta.errors import DataError, SupportError
from molmeta.paths import cache_dir, data_dir, datasets_dir

Name = Literal["tox21", "sider", "muv", "toxcast"]
NAMES: tuple[Name, ...] = get_args(Name)
_SMILES = "smiles"
_OTHER_NAMES = {"toxcast": ("toxcast_data",)}


@dataclass(frozen=True, kw_only=True, slots=True)
class MoleculeNetConfig:
    dataset: Name = "tox21"
    root: str = ""  # the folder of the CSV files; empty: moleculenet under MOLMETA_DATA
    on_invalid: Literal["raise", "drop"] = "drop"  # molecules that cannot be used


class MoleculeNet(StoreSource):
    """One data set of MoleculeNet, over one store of all its molecules.

    ``store.reasons`` tells the molecules that were refused, and why.

    Args:
        config: which data set, and where its file is.
        workers: processes that featurise; None takes every core.
        progress: called with the number of molecules featurised since the last call.

    Raises:
        DataError: the file is missing or damaged, or lacks an endpoint.
        InputError: molecules cannot be used, and may not be dropped; the rows are listed.
    """

    Config = MoleculeNetConfig

    def __init__(
        self, config: MoleculeNetConfig | None = None, *, workers: int | None = None, progress: Progress | None = None
    ) -> None:
        self.config = config or MoleculeNetConfig()
        self.root = Path(self.config.root) if self.config.root else data_dir() / "moleculenet"
        self._splits = published_splits()[self.config.dataset]
        path = _find(self.root, self.config.dataset)
        smiles, self._labels = _read(path, [endpoint for split in self._splits.values() for endpoint in split])
        self.store = open_or_build(smiles, cache_dir(), workers, progress)
        if self.store.reasons and self.config.on_invalid == "raise":
            bad = [(path.name, i, text) for i, text in enumerate(smiles, 1) if text in self.store.reasons]
            raise refused_rows(bad, len(smiles), self.store.reasons, self.root)
        self._rows = np.array([self.store.row_of.get(text, -1) for text in smiles], np.int64)
        self._cached_tasks = lru_cache(maxsize=None)(self._tasks)

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> Sequence[Task]:
        """The endpoints of one split, such as ``tox21/NR-AR``, each with the molecules that have a label for it."""
        return self._cached_tasks(split) if kind is TaskKind.BINARY else []

    @staticmethod
    def draw(task: Task, n_support: int, seed: int) -> Draw:
        """K shots a class, ``n_support = 2 K`` rows at random; every other labelled row is the query.

        Raises:
            SupportError: ``n_support`` is not even, or a class has fewer than K + 1 rows.
        """
        if n_support < 2 or n_support % 2:
            raise SupportError(f"K shots of each of two classes are 2, 4, 6, ... rows: not {n_support}")
        shots, counts = n_support // 2, np.bincount(task.labels.astype(np.int64), minlength=2)
        if counts.min() < shots + 1:
            raise SupportError(
                f"task {task.name} has {counts[1]} actives and {counts[0]} inactives: {shots} shots need "
                f"{shots + 1} of each, one for the query"
            )
        return draw_classes(task.labels, (shots, shots), keyed_rng(seed, f"draw {task.name}", n_support))

    def _tasks(self, split: Split) -> list[Task]:
        return [self._task(endpoint) for endpoint in self._splits.get(split, ())]

    def _task(self, endpoint: str) -> Task:
        values = self._labels[endpoint]
        kept = np.flatnonzero(np.isfinite(values) & (self._rows >= 0))
        return Task(
            name=f"{self.config.dataset}/{endpoint}",
            rows=self._rows[kept],
            labels=values[kept].astype(np.int64),
            kind=TaskKind.BINARY,
            num_classes=2,
            description=MappingProxyType({"dataset": self.config.dataset, "endpoint": endpoint}),
        )


@lru_cache(maxsize=1)
def published_splits() -> Mapping[str, Mapping[Split, tuple[str, ...]]]:
    """Data set -> train, valid and test -> endpoints; see ``datasets/moleculenet/README.md``."""
    record = json.loads((datasets_dir() / "moleculenet" / "splits.json").read_text(encoding="utf-8"))
    splits = (Split.TRAIN, Split.VALID, Split.TEST)
    return {name: {s: tuple(record[name][s]) for s in splits} for name in NAMES}


def _find(root: Path, dataset: str) -> Path:
    names = [f"{stem}{suffix}" for stem in (dataset, *_OTHER_NAMES.get(dataset, ())) for suffix in (".csv", ".csv.gz")]
    path = next((root / name for name in names if (root / name).is_file()), None)
    if path is None:
        raise DataError(
            f"there is no {' or '.join(names)} in {root}. Set MOLMETA_DATA to the folder that holds moleculenet, or "
            'fetch it with "molmeta data fetch moleculenet"'
        )
    return path


def _read(path: Path, endpoints: Sequence[str]) -> tuple[list[str], dict[str, FloatArray]]:
    """The SMILES of all rows, and the labels of each endpoint: 0.0, 1.0 or NaN."""
    wanted = {_SMILES, *endpoints}
    try:
        table = pd.read_csv(
            path, usecols=lambda name: name in wanted, dtype={_SMILES: str}, keep_default_na=False, na_values=[""]
        )
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). Fetch it again") from error
    absent = sorted(wanted - set(table.columns))
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise DataError(f"{path} has no column {', '.join(absent[:5])}{more}. Fetch it again")
    foreign = [name for name in endpoints if not table[name].isin([0, 1]).where(table[name].notna(), True).all()]
    if foreign:
        raise DataError(f"{path}: labels are 0, 1 or empty; others stand in {', '.join(foreign[:5])}. Fetch it again")
    labels = {name: table[name].to_numpy(np.float64) for name in endpoints}
    return table[_SMILES].fillna("").tolist(), labels
