"""FS-Mol's task files: one assay a ``.jsonl.gz``, read as officially distributed."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molmeta.core.task import FloatArray


@dataclass(frozen=True, eq=False)
class FSMolRows:
    """The ``n`` rows of one task file.

    Attributes:
        smiles: ``[n]`` exact strings.
        labels: ``[n]`` 0.0 or 1.0.
        values: ``[n]`` the raw value, in nM or %.
        log_values: ``[n]`` -log10 of the molar value; NaN for % assays.
        relations: ``[n]`` "=", ">", ...; empty where none stands.
    """

    smiles: list[str]
    labels: FloatArray
    values: FloatArray
    log_values: FloatArray
    relations: list[str]


def read_task_file(path: Path) -> FSMolRows:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]

    def numbers(key: str) -> FloatArray:
        return np.array([float(row.get(key) or "nan") for row in rows], np.float64)

    return FSMolRows(
        [row["SMILES"] for row in rows],
        numbers("Property"),
        numbers("RegressionProperty"),
        numbers("LogRegressionProperty"),
        [row.get("Relation") or "" for row in rows],
    )
