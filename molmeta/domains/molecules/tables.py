"""Tables of molecules: CSV, TSV, SMI, SDF and Parquet, plain or gzip, whole or in chunks of flat memory.

Every column is kept as text, exactly as read, so that an output table can give it back. Row numbers in messages count
the data rows from 1: the header is not one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from molmeta.domains.molecules import delimited
from molmeta.domains.molecules.formats import STDIN, Form, count_rows, is_table_name, near_names, open_source
from molmeta.domains.molecules.raw import RawTable, Row
from molmeta.errors import InputError

__all__ = ["Table", "count_rows", "iter_table", "read_table"]

_TRIED_VALUES = 50
_SHARE_THAT_PARSES = 0.8
_MEAN_HEAVY_ATOMS = 3.0


@dataclass(frozen=True, eq=False)
class Table:
    """A table of ``n`` molecules, or a chunk of one.

    Attributes:
        data: ``[n]`` rows of text, index 0..n-1; an absent value is the empty string.
        smiles_column: the column that holds the structures.
        source: what messages call the table.
        first_row: number of the first row, counting data rows from 1.
        refusals: position in this table -> why its structure never became a SMILES (SDF only).
    """

    data: pd.DataFrame
    smiles_column: str
    source: str
    first_row: int = 1
    refusals: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def smiles(self) -> list[str]:
        """The structures, ``[n]``."""
        return self.column(self.smiles_column)

    @property
    def rows(self) -> range:
        """The row numbers, ``[n]``."""
        return range(self.first_row, self.first_row + len(self))

    def column(self, name: str) -> list[str]:
        """The values of one column, ``[n]``.

        Raises:
            InputError: there is no such column.
        """
        if name not in self.data.columns:
            raise missing_columns([name], list(self.data.columns), self.source)
        return list(self.data[name])


def missing_columns(wanted: Sequence[str], columns: Sequence[str], source: str) -> InputError:
    """The error for columns that a table has not."""
    absent = [f'"{name}"' for name in wanted if name not in columns]
    return InputError(
        f"{source} has no column {' or '.join(absent)}. Its columns: {', '.join(columns[:_TRIED_VALUES])}"
    )


def read_table(source: str | Path, smiles_column: str | None = None) -> Table:
    """Read a whole table.

    Args:
        source: a file; ``-`` for standard input; or one SMILES, where no file has that name.
        smiles_column: the column of structures; None finds it (a column named smiles, else the only one with a
            name such as canonical_smiles, structure or mol, else the only one whose values are structures).

    Raises:
        InputError: the file cannot be read, a column is missing, or the column of structures is not plain.
    """
    with closing(_tables(source, None, smiles_column)) as tables:
        return next(tables)


def iter_table(source: str | Path, chunk_rows: int = 10_000, smiles_column: str | None = None) -> Iterator[Table]:
    """As :func:`read_table`, in chunks of at most ``chunk_rows`` rows; the first chunk settles the SMILES column."""
    if chunk_rows < 1:
        raise InputError(f"a chunk has 1 row or more, not {chunk_rows}")
    return _tables(source, chunk_rows, smiles_column)


def _tables(given: str | Path, chunk_rows: int | None, smiles_column: str | None) -> Generator[Table, None, None]:
    source = str(given)
    with _raw_table(source, smiles_column) as (name, raw):
        _check_columns(raw.columns, smiles_column, name)
        wanted = smiles_column or raw.smiles_column
        first_row = 1
        while rows := list(islice(raw.rows, chunk_rows)):
            data = pd.DataFrame([row.cells for row in rows], columns=raw.columns, dtype=object)
            wanted = wanted or find_smiles_column(data, name)
            refusals = {i: row.refusal for i, row in enumerate(rows) if row.refusal}
            yield Table(data, wanted, name, first_row, refusals if wanted == raw.smiles_column else {})
            first_row += len(rows)
        if first_row == 1:
            raise InputError(f"{name} has a header but no rows")


@contextmanager
def _raw_table(given: str, smiles_column: str | None) -> Iterator[tuple[str, RawTable]]:
    if given != STDIN and not _exists(given):
        _check_is_smiles(given)
        column = smiles_column or "smiles"
        yield given, RawTable([column], iter([Row([given])]), column)
        return
    with open_source(given) as source:
        if source.form is Form.PARQUET:
            from molmeta.domains.molecules import parquet

            raw = parquet.read(source)
        elif source.form is Form.SDF:
            from molmeta.domains.molecules import sdf

            raw = sdf.read(source)
        else:
            raw = delimited.read(source, smiles_column)
        yield source.name, raw


def _exists(given: str) -> bool:
    try:
        return Path(given).exists()
    except (OSError, ValueError):  # too long for a path
        return False


def _check_is_smiles(given: str) -> None:
    """Refuse an argument that is neither a file nor a structure."""
    from molmeta.domains.molecules.parse import parse

    parsed = parse(given)
    if parsed.molecule is None:
        as_smiles = "" if is_table_name(given) else f" As a SMILES it cannot be read: {parsed.reason}"
        raise InputError(f"there is no file {given:.200}.{near_names(Path(given))}{as_smiles}")


def _heavy_atoms(text: str) -> int:
    from molmeta.domains.molecules.parse import parse

    molecule = parse(text).molecule
    return 0 if molecule is None else molecule.GetNumAtoms()


def _check_columns(columns: Sequence[str], smiles_column: str | None, source: str) -> None:
    repeated = {name: [i + 1 for i, other in enumerate(columns) if other == name] for name in columns}
    repeated = {name: places for name, places in repeated.items() if len(places) > 1}
    if repeated:
        listed = "; ".join(
            f'"{name}" (columns {", ".join(map(str, places))})' if name else f"no name at all (columns {places})"
            for name, places in repeated.items()
        )
        raise InputError(f"{source} has columns of the same name: {listed}. Rename or remove all but one of each")
    if smiles_column is not None and smiles_column not in columns:
        raise missing_columns([smiles_column], columns, source)


def find_smiles_column(data: pd.DataFrame, source: str) -> str:
    """The column of structures, by its name or, where no name tells, by its values.

    Raises:
        InputError: none or several columns could be it.
    """
    columns = [str(name) for name in data.columns]
    exact = [name for name in columns if name.casefold() == "smiles"]
    named = exact if len(exact) == 1 else [name for name in columns if delimited.is_smiles_name(name)]
    found = named or [name for name in columns if _holds_structures(data[name])]
    if len(found) == 1:
        return found[0]
    which = f"may be {', '.join(found)}" if found else f"is not to be found among {', '.join(columns[:_TRIED_VALUES])}"
    raise InputError(f"{source}: the column of structures {which}. Name it with --smiles-column")


def _holds_structures(values: Iterable[str]) -> bool:
    tried = list(islice((value for value in values if value.strip()), _TRIED_VALUES))
    sizes = [size for size in map(_heavy_atoms, tried) if size]
    return len(sizes) > _SHARE_THAT_PARSES * len(tried) and sum(sizes) >= _MEAN_HEAVY_ATOMS * len(sizes)
