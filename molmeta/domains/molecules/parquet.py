"""Parquet tables, read batch by batch; every value becomes text, a null the empty string."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from molmeta.domains.molecules.formats import Source
from molmeta.domains.molecules.raw import RawTable, Row
from molmeta.errors import InputError

_BATCH = 4096


def count(path: Path) -> int:
    """The number of rows, from the file's footer.

    Raises:
        InputError: the file is damaged.
    """
    with _damage_named(str(path)), pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def read(source: Source) -> RawTable:
    """The columns and rows of a Parquet file.

    Raises:
        InputError: the file is damaged (also while its rows are read).
    """
    with _damage_named(source.name), pq.ParquetFile(source.path) as file:
        columns = [str(name) for name in file.schema_arrow.names]
    return RawTable(columns, _rows(source))


def _rows(source: Source) -> Iterator[Row]:
    with _damage_named(source.name), pq.ParquetFile(source.path) as file:
        for batch in file.iter_batches(_BATCH):
            columns = [
                ["" if value is None else str(value) for value in column.to_pylist()] for column in batch.columns
            ]
            yield from (Row(list(cells)) for cells in zip(*columns, strict=True))


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputError(f"{name} is a damaged Parquet file ({first_line}). Write or copy it again") from error
