"""What every format's reader yields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Row(NamedTuple):
    """One row: its cells as read, and why its structure was refused before it became a SMILES (SDF only)."""

    cells: list[str]
    refusal: str = ""


class RawTable(NamedTuple):
    """Column names, rows to come, and the SMILES column where the format itself says which."""

    columns: list[str]
    rows: Iterator[Row]
    smiles_column: str | None = None
