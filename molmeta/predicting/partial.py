"""Tables that grow block by block beside their place and are renamed when whole, so that a killed job can go on.

``out.csv.partial`` holds the rows so far, ``out.csv.progress`` which job they belong to and how much of them counts:
what was written after it is cut off when the job goes on.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from molmeta.errors import InputError, MolmetaError
from molmeta.files import write_whole

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


class PartialTables:
    """One or more tables that one job writes; use it in a ``with`` statement.

    Args:
        paths: where the tables are to stand: ``.csv`` or ``.tsv``, plain or ``.gz``. The first names the progress.
        headers: the column names of each.
        key: what the job is: its inputs and settings. Rows that a job of another key left are dropped.

    Attributes:
        rows: input rows that are done.
        counts: what the job has counted so far, kept for when it goes on.
        went_on: whether an unfinished job of this key was found.
        started_over: whether one of another key was found, and dropped.
    """

    def __init__(self, paths: Sequence[Path], headers: Sequence[Sequence[str]], key: str) -> None:
        self._paths = paths
        self._headers = headers
        self._key = key
        self._progress = _beside(paths[0], ".progress")
        self._partials = [_beside(path, ".partial") for path in paths]
        state = self._read()
        self.rows: int = state["rows"] if state else 0
        self.counts: Counter[str] = Counter(state["counts"] if state else {})
        self.went_on = state is not None
        self.started_over = state is None and self._partials[0].exists()
        sizes = state["sizes"] if state else [0] * len(paths)
        self._files = [partial.open("r+b" if state else "wb") for partial in self._partials]
        for file, size in zip(self._files, sizes, strict=True):
            file.truncate(size)
            file.seek(size)

    def _read(self) -> dict[str, Any] | None:
        try:
            state: dict[str, Any] = json.loads(self._progress.read_text(encoding="utf-8"))
            if state["key"] != self._key or len(state["sizes"]) != len(self._partials):
                return None
            whole = all(p.stat().st_size >= size for p, size in zip(self._partials, state["sizes"], strict=True))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return state if whole else None

    def write(self, blocks: Sequence[Sequence[Sequence[str]]], rows: int) -> None:
        """Append a block to each table; with it, ``rows`` input rows are done."""
        for i, (file, path, block) in enumerate(zip(self._files, self._paths, blocks, strict=True)):
            begins = file.tell() == 0 and (block or i == 0)
            text = table_text([self._headers[i], *block] if begins else block, separator_of(path)).encode()
            # A gzip file may consist of many members, so that it can be cut off between two of them.
            file.write(gzip.compress(text, mtime=0) if path.suffix == ".gz" and text else text)
            file.flush()
            os.fsync(file.fileno())
        self.rows += rows
        state = {
            "key": self._key,
            "rows": self.rows,
            "sizes": [file.tell() for file in self._files],
            "counts": dict(self.counts),
        }
        write_whole(self._progress, json.dumps(state).encode())

    def __len__(self) -> int:
        return len(self._paths)

    def finish(self) -> None:
        """Put the whole tables in their places; one without a row, beyond the first, is left out."""
        for i, (file, partial, path) in enumerate(zip(self._files, self._partials, self._paths, strict=True)):
            size = file.tell()
            file.close()
            if size or i == 0:
                partial.replace(path)
            else:
                partial.unlink()
        self._progress.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()
        # An input that proved unusable half way has to change, so that nothing can go on from here.
        if error is not None and (not self.rows or isinstance(error, MolmetaError)):
            for path in (*self._partials, self._progress):
                path.unlink(missing_ok=True)


class StreamTable:
    """A table on standard output: as :class:`PartialTables`, but nothing to go on from."""

    went_on = started_over = False

    def __init__(self, header: Sequence[str], stream: TextIO | None = None) -> None:
        self._header = header
        self._stream = stream or sys.stdout
        self.rows = 0
        self.counts: Counter[str] = Counter()

    def write(self, blocks: Sequence[Sequence[Sequence[str]]], rows: int) -> None:
        """Write a block of the first table; the others have no place here."""
        self._stream.write(table_text(blocks[0] if self.rows else [self._header, *blocks[0]], ","))
        self._stream.flush()
        self.rows += rows

    def __len__(self) -> int:
        return 1

    def finish(self) -> None:
        """Nothing is left to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def separator_of(path: Path) -> str:
    """The separator that a file's name asks for.

    Raises:
        InputError: tables of that form are not written.
    """
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in _SEPARATORS:
        raise InputError(f"{path}: tables are written as .csv or .tsv, plain or .gz, not as {suffix or 'a bare name'}")
    return _SEPARATORS[suffix]


def table_text(rows: Iterable[Sequence[str]], separator: str) -> str:
    """Rows as delimited text; cells that hold the separator, a quote or a line break are quoted."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
