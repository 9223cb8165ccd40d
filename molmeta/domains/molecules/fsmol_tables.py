"""The tasks of an FS-Mol folder as flat arrays, kept beside their molecules in the store's folder.

Reading 4,935 task files takes seconds, so what they say is kept, under the name of how they looked: the name, size and
times of each. Where a file was changed, added or removed, the files are read again.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from molmeta.core.task import FloatArray, IntArray
from molmeta.domains.molecules.fsmol_files import FOLDS, SUFFIX, FSMolRows, read_task_file
from molmeta.domains.molecules.store import MoleculeStore, Progress, prepare, read, version
from molmeta.errors import DataError
from molmeta.files import write_whole

FORMAT = 1
# The coarsest file system (FAT) tells times to two seconds: a file changed twice within them can look the same.
_SETTLED = 2.0

Texts = NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class AssayRows:
    """The ``n`` rows of one assay.

    Attributes:
        name: the assay.
        assay_type: ChEMBL's letter; several are joined with "; ", and empty where none is known.
        molecules: ``[n]`` row of the store; ``-1 - k`` for the k-th refused molecule.
        labels: ``[n]`` 0 or 1.
        values, log_values: ``[n]``; see :class:`FSMolRows`.
        relations: ``[n]`` "=", ">", ...
    """

    name: str
    assay_type: str
    molecules: IntArray
    labels: NDArray[np.uint8]
    values: FloatArray
    log_values: FloatArray
    relations: Texts


@dataclass(frozen=True, eq=False)
class FSMolTables:
    """Every assay of a folder, flat: assay ``i`` owns the rows ``offsets[i]:offsets[i + 1]``.

    Attributes:
        folds, names, assay_types: ``[t]``.
        offsets: ``[t + 1]``.
        molecules, labels, values, log_values: ``[n]``; see :class:`AssayRows`.
        relations: ``[n]`` which of ``relation_texts`` stands there.
        relation_texts: the distinct ones.
    """

    folds: Texts
    names: Texts
    assay_types: Texts
    offsets: IntArray
    molecules: IntArray
    labels: NDArray[np.uint8]
    values: FloatArray
    log_values: FloatArray
    relations: IntArray
    relation_texts: Texts

    def assays(self, fold: str) -> Iterator[AssayRows]:
        """The assays of one fold, in the order of their names."""
        for i in np.flatnonzero(self.folds == fold).tolist():
            rows = slice(self.offsets[i], self.offsets[i + 1])
            yield AssayRows(
                name=str(self.names[i]),
                assay_type=str(self.assay_types[i]),
                molecules=self.molecules[rows],
                labels=self.labels[rows],
                values=self.values[rows],
                log_values=self.log_values[rows],
                relations=self.relation_texts[self.relations[rows]],
            )

    def refused(self) -> list[tuple[str, int, int]]:
        """Of each row whose molecule was refused: fold and assay, the row's number from 1, and which molecule it is."""
        rows = np.flatnonzero(self.molecules < 0)
        assays = np.searchsorted(self.offsets, rows, side="right") - 1
        return [
            (f"{self.folds[a]}/{self.names[a]}", int(row - self.offsets[a]) + 1, -1 - int(self.molecules[row]))
            for row, a in zip(rows, assays, strict=True)
        ]

    @classmethod
    def of(cls, folds: Mapping[str, Mapping[str, FSMolRows]], store: MoleculeStore) -> Self:
        """The tables of task files as read (fold -> assay -> rows), over the store of their molecules."""
        assays = [(fold, name, rows) for fold, tasks in folds.items() for name, rows in tasks.items()]
        place = {**store.row_of, **{text: -1 - k for k, text in enumerate(store.reasons)}}
        code: dict[str, int] = {}
        relations = [code.setdefault(str(each), len(code)) for *_, rows in assays for each in rows.relations]
        return cls(
            folds=np.array([fold for fold, _, _ in assays], np.str_),
            names=np.array([name for _, name, _ in assays], np.str_),
            assay_types=np.array([_joined(rows.assay_types) for *_, rows in assays], np.str_),
            offsets=np.cumsum([0, *(len(rows) for *_, rows in assays)], dtype=np.int64),
            molecules=np.array([place[text] for *_, rows in assays for text in rows.smiles], np.int64),
            labels=_flat([rows.labels for *_, rows in assays]).astype(np.uint8),
            values=_flat([rows.values for *_, rows in assays]),
            log_values=_flat([rows.log_values for *_, rows in assays]),
            relations=np.array(relations, np.int64),
            relation_texts=np.array(list(code), np.str_),
        )


def open_folder(
    root: Path, cache: Path, workers: int | None = None, progress: Progress | None = None
) -> tuple[FSMolTables, MoleculeStore]:
    """The tables of an FS-Mol folder and the store of its molecules: read from ``cache`` where they are there.

    Raises:
        DataError: a task file or the store is damaged.
    """
    folds = {fold: _task_files(root / fold) for fold in FOLDS}
    look = _look(folds)
    for kept in (cache / "stores").glob(f"*/tasks-{look}.npz"):
        tables = _load(kept)
        if tables is not None:
            return tables, read(kept.parent)
    rows = {
        fold: {name: read_task_file(root / fold / f"{name}{SUFFIX}") for name in found} for fold, found in folds.items()
    }
    folder = prepare(
        [t for tasks in rows.values() for each in tasks.values() for t in each.smiles], cache, workers, progress
    )
    store = read(folder)
    tables = FSMolTables.of(rows, store)
    if _settled(folds):
        _keep(tables, folder / f"tasks-{look}.npz")
    return tables, store


def _task_files(folder: Path) -> dict[str, os.stat_result]:
    """How each task file of a fold looks, by its task's name, in the order of the files' names."""
    if not folder.is_dir():
        return {}
    try:
        with os.scandir(folder) as entries:
            found = sorted((e.name, e.stat()) for e in entries if e.name.endswith(SUFFIX))
    except OSError as error:
        raise DataError(f"{error.filename or folder} cannot be read ({error}). Fetch it again") from error
    return {name.removesuffix(SUFFIX): look for name, look in found}


def _look(folds: Mapping[str, Mapping[str, os.stat_result]]) -> str:
    """One name for how all files look. The time of the last change to a file's record (ctime) cannot be set back."""
    digest = hashlib.sha256(f"molmeta tasks {FORMAT} {version()}\n".encode())
    for fold, files in folds.items():
        for name, look in files.items():
            line = f"{fold}/{name!r} {look.st_size} {look.st_mtime_ns} {look.st_ctime_ns}\n"
            digest.update(line.encode())
    return digest.hexdigest()[:20]


def _settled(folds: Mapping[str, Mapping[str, os.stat_result]]) -> bool:
    """Whether no file is so new that a change would not show."""
    newest = max((look.st_ctime for files in folds.values() for look in files.values()), default=0.0)
    return newest < time.time() - _SETTLED


def _load(path: Path) -> FSMolTables | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            return FSMolTables(**{each.name: kept[each.name] for each in fields(FSMolTables)})
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile):  # damaged: it is written anew
        return None


def _keep(tables: FSMolTables, path: Path) -> None:
    content = io.BytesIO()
    np.savez(content, **{each.name: getattr(tables, each.name) for each in fields(FSMolTables)})
    with suppress(OSError):  # where the cache cannot be written to, the next opening reads the files again
        write_whole(path, content.getvalue())


def _joined(types: Sequence[str]) -> str:
    return "; ".join(dict.fromkeys(str(each) for each in types if each))


def _flat(parts: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate([np.empty(0), *parts])
