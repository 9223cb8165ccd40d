"""FS-Mol's files: a ``.jsonl.gz`` an assay, in ``train/ valid/ test/``, and a JSON list of the tasks of each fold.

Read as officially distributed (Stanley et al., 2021): ``fingerprints``, ``descriptors`` and ``graph`` may be there and
are ignored; bare ``NaN`` is read. Written in the same form, so that a person's own assays make an FS-Mol-style folder.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molmeta.core.task import FloatArray, TaskKind
from molmeta.domains.molecules.label_values import censored, to_number
from molmeta.domains.molecules.labels import AssayLabels
from molmeta.errors import DataError, InputError

FOLDS = ("train", "valid", "test")
TASK_LIST = "tasks.json"
SUFFIX = ".jsonl.gz"


@dataclass(frozen=True, eq=False)
class FSMolRows:
    """The ``n`` rows of one task file.

    Attributes:
        smiles: ``[n]`` exact strings.
        labels: ``[n]`` 0.0 or 1.0.
        values: ``[n]`` the raw value, in nM or %; NaN where none stands.
        log_values: ``[n]`` -log10 of the molar value; NaN for % assays.
        relations: ``[n]`` "=", ">", ...; empty where none stands.
        assay_types: ``[n]`` ChEMBL's letter, such as B (binding) or F (functional); empty where none stands.
    """

    smiles: list[str]
    labels: FloatArray
    values: FloatArray
    log_values: FloatArray
    relations: list[str]
    assay_types: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.smiles)


def read_task_file(path: Path) -> FSMolRows:
    """Read one task file.

    Raises:
        DataError: the file is missing, truncated or damaged, with the line where that shows.
    """
    records: list[dict[str, Any]] = []
    number = 0
    try:
        with gzip.open(path, "rb") as lines:
            for line in lines:
                number += 1
                if not line.isspace():
                    records.append(_checked(json.loads(line)))
    except EOFError as error:
        raise DataError(f"{path} is truncated after line {number}: its end is missing. Fetch it again") from error
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Fetch it again") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: {error}. Fetch or write it again") from error
    if not records:
        raise DataError(f"{path} holds no rows. Fetch or write it again")

    def numbers(key: str) -> FloatArray:
        return np.array([record[key] for record in records], np.float64)

    return FSMolRows(
        [record["SMILES"] for record in records],
        numbers("Property"),
        numbers("RegressionProperty"),
        numbers("LogRegressionProperty"),
        [record.get("Relation") or "" for record in records],
        [record.get("AssayType") or "" for record in records],
    )


def _checked(record: Any) -> dict[str, Any]:
    """A record with its numbers read.

    Raises:
        ValueError, TypeError: a field is missing or wrong.
    """
    if not isinstance(record, dict):
        raise TypeError("not an object ({...})")
    if not isinstance(record.get("SMILES"), str):
        raise TypeError('no text "SMILES"')
    for key in ("Property", "RegressionProperty", "LogRegressionProperty"):
        record[key] = _float(record.get(key), key)
    if record["Property"] not in (0.0, 1.0):
        raise ValueError(f'"Property" is {record["Property"]}, not 0.0 or 1.0')
    return record


def _float(value: Any, key: str) -> float:
    try:
        return math.nan if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        raise ValueError(f'"{key}" is {value!r:.40}, not a number') from None


def write_task_file(path: Path, rows: FSMolRows) -> None:
    """Write one task file; it appears whole or not at all, the same bytes for the same rows. The assay is its name."""
    name = path.name.removesuffix(SUFFIX)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
            for i in range(len(rows)):
                packed.write(json.dumps(_record(name, rows, i), ensure_ascii=False).encode() + b"\n")
        partial.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _record(name: str, rows: FSMolRows, i: int) -> dict[str, str]:
    return {
        "SMILES": rows.smiles[i],
        "Property": str(float(rows.labels[i])),
        "Assay_ID": name,
        "RegressionProperty": _text(rows.values[i]),
        "LogRegressionProperty": _text(rows.log_values[i]),
        "Relation": rows.relations[i],
        "AssayType": rows.assay_types[i] if rows.assay_types else "",
    }


def _text(value: float) -> str:
    return "" if math.isnan(value) else str(float(value))


def rows_of(assay: AssayLabels) -> FSMolRows:
    """A binary assay as rows of a task file. Labels that are numbers are kept as raw values, with their relations.

    The unit of a raw value is not known, so ``log_values`` are NaN: set them where the unit is.

    Raises:
        InputError: the assay is not binary.
    """
    if assay.kind is not TaskKind.BINARY:
        raise InputError(f"FS-Mol's tasks are binary; {assay.name} is {assay.kind}. Derive classes with --threshold")
    read = [censored(text.strip()) or ("=", to_number(text)) for text in assay.texts]
    values = np.array([math.nan if value is None else value for _, value in read], np.float64)
    relations = ["" if value is None else relation for relation, value in read]
    return FSMolRows(
        list(assay.smiles), assay.labels.astype(np.float64), values, np.full(len(assay), np.nan), relations
    )


def write_folder(directory: Path, folds: Mapping[str, Mapping[str, FSMolRows]], *, force: bool = False) -> None:
    """Write an FS-Mol-style folder: ``train/ valid/ test/``, a file a task, and the task lists (``tasks.json``).

    Args:
        directory: appears whole or not at all.
        folds: train, valid or test -> task name -> rows.
        force: replace a folder of this form that stands there; any other is left alone.

    Raises:
        InputError: a fold or task name cannot be used, or a task stands in two folds.
        DataError: the directory is not empty and may not be replaced, or cannot be written.
    """
    _check_names(folds)
    _check_free(directory, force)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as beside:
            made = Path(beside) / "new"
            for fold in FOLDS:
                (made / fold).mkdir(parents=True)
                for name, rows in folds.get(fold, {}).items():
                    write_task_file(made / fold / f"{name}{SUFFIX}", rows)
            lists = {fold: list(folds.get(fold, {})) for fold in FOLDS}
            (made / TASK_LIST).write_text(json.dumps(lists), encoding="utf-8")
            if directory.exists():
                directory.replace(Path(beside) / "old")
            made.replace(directory)
    except OSError as error:
        raise DataError(f"{directory} cannot be written: {error.strerror or error}") from error


def _check_names(folds: Mapping[str, Mapping[str, FSMolRows]]) -> None:
    problems = [f'fold "{fold}" is not train, valid or test' for fold in folds if fold not in FOLDS]
    names = [name for tasks in folds.values() for name in tasks]
    problems += [f'task "{name}" stands in two folds' for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [f'task name "{name}" cannot name a file' for name in names if not re.fullmatch(r"\w[^/\\:\0]*", name)]
    if problems:
        raise InputError("; ".join(problems) + ". Rename them")


def _check_free(directory: Path, force: bool) -> None:
    if directory.exists() and not directory.is_dir():
        raise DataError(f"{directory} is a file. Give a folder")
    there = sorted(os.listdir(directory)) if directory.exists() else []
    if there and not force:
        raise DataError(f"{directory} is not empty. Give another folder, or replace it with --force")
    foreign = [name for name in there if name not in (*FOLDS, TASK_LIST)]
    if foreign:
        raise DataError(f"{directory} also holds {', '.join(foreign[:5])}, which is not replaced. Give another folder")
