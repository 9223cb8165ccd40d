"""Scores as a tidy table on disk: task, support size, seed, then one column a metric."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molmeta.errors import InputError
from molmeta.evaluation.fewshot import Score
from molmeta.files import write_whole

_KEYS = ("task", "support_size", "seed")


def check_writable(path: Path, force: bool) -> None:
    """Refuse, before any work, an output that cannot be written or would overwrite something.

    Raises:
        InputError: says which, and the way out.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if path.exists() and not force:
        raise InputError(f"{path} exists. Name another file, or give --force to overwrite it")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} cannot be written to; name another with --out")


def write_csv(path: Path, scores: Sequence[Score]) -> None:
    """Write scores as CSV, whole or not at all; a value that is not defined stays empty."""
    names = list(dict.fromkeys(name for s in scores for name in s.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_KEYS, *names])
    for s in scores:
        values = [s.values.get(name, float("nan")) for name in names]
        writer.writerow([s.task, s.support_size, s.seed, *("" if np.isnan(v) else repr(v) for v in values)])
    write_whole(path, text.getvalue().encode())


def read_csv(path: Path) -> list[Score]:
    """Read what :func:`write_csv` wrote.

    Raises:
        InputError: it is missing or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [
            Score(
                row["task"],
                int(row["support_size"]),
                int(row["seed"]),
                {name: float(value or "nan") for name, value in row.items() if name not in _KEYS},
            )
            for row in rows
        ]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a table of scores that molmeta evaluate wrote ({error})") from error
