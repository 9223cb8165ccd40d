"""CSV, TSV and SMI text.

The separator is the one of comma, semicolon, tab and bar that splits the first rows most evenly. Blank lines are not
rows, except within a one-column file, where an empty line is a row without a structure. The first line of a one-column
file is a header only if it is a known name for structures (or the one asked for); otherwise every line is a row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import islice

from molmeta.domains.molecules.formats import Form, Source, damage_named, open_text
from molmeta.domains.molecules.raw import RawTable, Row
from molmeta.errors import InputError

SEPARATORS = (",", ";", "\t", "|")
SMILES_NAMES = {
    *("smiles", "smi", "canonicalsmiles", "isomericsmiles", "cansmiles", "isosmiles", "rdkitsmiles", "cxsmiles"),
    *("smilesstring", "structure", "mol", "molecule", "compoundsmiles", "moleculesmiles"),
}
_SNIFFED_LINES = 50
_LISTED_ROWS = 20
_SMI_COLUMNS = ["smiles", "name"]


def is_smiles_name(name: str) -> bool:
    """Whether a column's name says that it holds structures; case and punctuation do not count."""
    return "".join(filter(str.isalnum, name.casefold())) in SMILES_NAMES


def read(source: Source, smiles_column: str | None = None) -> RawTable:
    """The columns and rows of a text table.

    Raises:
        InputError: there is no header where one is needed; the file is damaged or its rows uneven (while reading).
    """
    head = _head(source)
    if source.form is Form.SMI:
        return RawTable(_SMI_COLUMNS, _smi_rows(source, is_smiles_name(head[0].split()[0])), "smiles")
    separator = _separator(head)
    header = [name.strip() for name in _first_record(head, separator, source.name)]
    named = any(is_smiles_name(name) or name == smiles_column for name in header)
    if len(header) == 1 and not named:
        return RawTable(["smiles"], _rows(source, separator, 1, skip=0), "smiles")
    if not named and any(map(_is_structure, header)):
        raise InputError(
            f'{source.name} has no header: its first row is "{head[0].strip():.80}". '
            "Add a first row of column names, for example smiles,label"
        )
    return RawTable(header, _rows(source, separator, len(header), skip=1))


def _first_record(head: list[str], separator: str, name: str) -> list[str]:
    record = next(_records(head, separator, 0, name), None)
    if record is None:
        raise InputError(f"{name} holds no rows")
    return record


def _head(source: Source) -> list[str]:
    with open_text(source.path) as text, damage_named(source.name):
        head = list(islice((line for line in text if line.strip()), _SNIFFED_LINES))
    if not head:
        raise InputError(f"{source.name} holds no rows")
    return head


def _is_structure(cell: str) -> bool:
    from molmeta.domains.molecules.parse import parse

    molecule = parse(cell).molecule
    return molecule is not None and molecule.GetNumAtoms() > 1


def _separator(head: list[str]) -> str:
    def evenness(separator: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(head, delimiter=separator) if row]
        except csv.Error:
            return 0.0, 0
        width = widths[0] if widths else 0
        return (sum(w == width for w in widths) / len(widths), width) if width > 1 else (0.0, 1)

    return max(SEPARATORS, key=evenness)


def _rows(source: Source, separator: str, width: int, skip: int) -> Iterator[Row]:
    """The data rows; uneven ones are collected to the end of the file before they are reported."""
    uneven: list[str] = []
    found = number = 0
    with open_text(source.path) as text, damage_named(source.name):
        for cells in islice(_records(text, separator, width, source.name), skip, None):
            number += 1
            if len(cells) == width:
                if not found:
                    yield Row(cells)
                continue
            found += 1
            if found <= _LISTED_ROWS:
                uneven.append(f"  row {number} has {len(cells)} field{'s' * (len(cells) != 1)}")
    if found:
        more = f"\n  ... and {found - len(uneven)} more" if found > len(uneven) else ""
        raise InputError(
            f"{found} of {number} rows in {source.name} do not have the header's {width} fields.\n"
            + "\n".join(uneven)
            + more
            + '\n  Put quotes ("...") around a field that holds the separator, or fill in what is missing'
        )


def _records(text: Iterable[str], separator: str, width: int, name: str) -> Iterator[list[str]]:
    """Every record but the blank ones; those within a one-column file are records of one empty cell."""
    blanks: list[list[str]] = []
    begun = False
    reader = csv.reader(text, delimiter=separator, strict=True)
    try:
        for cells in reader:
            if "".join(cells).strip() or len(cells) > 1 or cells == [""]:  # [""]: a quoted nothing; []: a blank line
                yield from blanks
                yield cells
                blanks, begun = [], True
            elif begun and width == 1:
                blanks.append([""])
    except csv.Error as error:
        raise InputError(
            f"{name}, line {reader.line_num}: {error}. "
            'Close every quote ("), and write a quote within a quoted field twice ("")'
        ) from error


def _smi_rows(source: Source, has_header: bool) -> Iterator[Row]:
    with open_text(source.path) as text, damage_named(source.name):
        lines = (line for line in text if line.strip())
        for line in islice(lines, int(has_header), None):
            smiles, *name = line.split(None, 1)
            yield Row([smiles, "".join(name).strip()])
