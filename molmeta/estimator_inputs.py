"""What the estimators are given, as lists and arrays; or an error that lists every problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from molmeta.core.task import FloatArray
from molmeta.domains.molecules import checks
from molmeta.domains.molecules.parse import NO_STRUCTURE
from molmeta.errors import InputError

_LISTED = 20


def as_smiles(X: Any) -> list[Any]:
    """The molecules of a list, array, Series, or table of one column.

    Raises:
        InputError: it is one string, or has several columns.
    """
    if isinstance(X, str):
        raise InputError(f'X is one string. Give a list of SMILES: ["{X:.40}"]')
    if isinstance(X, (list, tuple)) and not any(isinstance(x, (list, tuple, np.ndarray)) for x in X):
        return list(X)
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(f"X has the shape {values.shape}. Give one SMILES a row: a list, or a single column")
    return list(values)


def as_labels(y: ArrayLike) -> NDArray[Any]:
    """Labels ``[n]``, none of them missing.

    Raises:
        InputError: they have several columns, or some are missing.
    """
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(f"y has the shape {labels.shape}. Give one label a molecule")
    refuse_positions(np.asarray(pd.isna(labels)), labels, "labels are missing")
    if labels.dtype == object:
        labels = np.array(labels.tolist())
    if labels.dtype.kind not in "biufU":
        raise InputError(f"y holds {labels.dtype} values; labels are numbers, texts or booleans")
    return labels


def as_numbers(labels: NDArray[Any]) -> FloatArray:
    """Labels ``[n]`` as finite numbers.

    Raises:
        InputError: some are not; all of them are listed.
    """
    values: FloatArray = np.asarray(pd.to_numeric(labels, errors="coerce"), np.float64)
    refuse_positions(
        np.isnan(values), labels, "labels are not numbers", "Leave them out; for classes: FewShotClassifier"
    )
    refuse_positions(np.isinf(values), labels, "labels are not finite")
    return values


def refuse_positions(
    wrong: NDArray[np.bool_], values: NDArray[Any], what: str, way_out: str = "Leave these molecules out"
) -> None:
    """Raise an InputError that lists the positions where ``wrong [n]`` is True, if any."""
    rows = np.flatnonzero(wrong)
    if len(rows):
        listed = ", ".join(f"{i} ({values[i]})" for i in rows[:_LISTED]) + ", ..." * (len(rows) > _LISTED)
        raise InputError(f"{len(rows)} of {len(values)} {what}: positions {listed}. {way_out}")


def refused_error(smiles: Sequence[Any], reasons: Sequence[str], otherwise: str) -> InputError:
    """The error that lists molecules that cannot be read.

    Args:
        smiles: all of them.
        reasons: why each was refused; empty for the others.
        otherwise: what ``on_invalid="nan"`` would do with them.
    """
    refused = [
        checks.Refused(i, "" if reason == NO_STRUCTURE else str(text), reason)
        for i, (text, reason) in enumerate(zip(smiles, reasons, strict=True))
        if reason
    ]
    way_out = f'Fix these molecules (counted from 0), or set on_invalid="nan" ({otherwise})'
    return checks.refused_error(refused, len(smiles), "X", way_out=way_out)
