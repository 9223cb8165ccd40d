"""The assays that a table holds: wide (a column of labels an assay) or long (assay, smiles, label).

Where nothing is said, a table is long if one of its columns is named assay, assay_id, task or the like. Label columns
are those asked for; else every column whose values are all numbers or active/inactive words, but for identifiers:
columns named id, index, cas, ... or of more than ten whole numbers, all different and either consecutive or all 1000
and more. Where no column is such, the only one named label, activity, class, ... is taken, whatever it holds.
Other columns, such as free text, are ignored and kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.label_values import Direction, censored, is_missing, is_word, to_number, value_key
from molmeta.domains.molecules.labels import MAX_INTEGER_CLASSES, AssayLabels, LabelRule, read_labels
from molmeta.domains.molecules.tables import Table, missing_columns
from molmeta.errors import InputError, SupportError

_ASSAY_NAMES = {"assay", "assayid", "assayname", "assaychemblid", "task", "taskid", "taskname", "endpoint"}
_LABEL_NAMES = {"label", "labels", "y", "target", "activity", "active", "property", "outcome", "class", "value"}
_IDENTIFIER = re.compile(
    r"(^|[\W_])(id|ids|idx|index|no|nr|num|number|row|name|cas|casrn|cid|sid|inchi|inchikey|registry)$|ID$|^unnamed"
)
_SMALLEST_IDENTIFIER = 1000
_EMPTY = "is empty"
_LISTED = 20

Parts = Mapping[str, tuple[Sequence[int], Sequence[str]]]  # assay -> positions of its rows, labels of every row


@dataclass(frozen=True)
class LabelColumns:
    """Which columns hold labels, and why the others do not.

    Attributes:
        chosen: the label columns.
        ignored: the other columns that were looked at, each with the reason.
        assays: the column that says which assay a row belongs to (long layout).
    """

    chosen: tuple[str, ...]
    ignored: Mapping[str, str]
    assays: str | None = None

    @property
    def sentence(self) -> str:
        """The same in words."""
        assays = f'assays in "{self.assays}", ' if self.assays else ""
        labels = ", ".join(f'"{name}"' for name in self.chosen[:_LISTED]) + ", ..." * (len(self.chosen) > _LISTED)
        rest = "; ".join(f'"{name}" {why}' for name, why in list(self.ignored.items())[:_LISTED])
        return f"{assays}labels in {labels}" + (f" (not labels: {rest})" if rest else "")


def label_columns_of(table: Table, asked: Sequence[str] | None = None, not_labels: Sequence[str] = ()) -> LabelColumns:
    """Settle the label columns of a table by the rule above.

    Args:
        table: the table.
        asked: columns to take without asking further.
        not_labels: columns known to be something else.

    Raises:
        InputError: a column asked for is not there, or no column holds labels.
    """
    columns = [str(name) for name in table.data.columns if name not in (table.smiles_column, *not_labels)]
    if asked:
        if absent := [name for name in asked if name not in columns]:
            raise missing_columns(absent, columns, table.source)
        return LabelColumns(tuple(asked), {})
    reasons = {name: _why_not_labels(name, table.column(name), table.first_row) for name in columns}
    chosen = tuple(name for name, why in reasons.items() if not why)
    if not chosen:
        named = [name for name, why in reasons.items() if _plain(name) in _LABEL_NAMES and why != _EMPTY]
        chosen = tuple(named) if len(named) == 1 else ()
    ignored = {name: why for name, why in reasons.items() if name not in chosen}
    if not chosen:
        listed = "".join(f'\n  "{name}" {why}' for name, why in ignored.items())
        raise InputError(f"{table.source} has no column of labels.{listed}\n  Name it with --label")
    return LabelColumns(chosen, ignored)


def _why_not_labels(name: str, values: Sequence[str], first_row: int) -> str:
    given = {row: value.strip() for row, value in enumerate(values, first_row) if not is_missing(value)}
    if not given:
        return _EMPTY
    if _IDENTIFIER.search(name if name.endswith("ID") else name.casefold()):
        return "is named as an identifier"
    wrong = next((row for row, value in given.items() if not _may_be_label(value)), None)
    if wrong is not None:
        return f'holds text ("{given[wrong]:.30}", row {wrong})'
    return "holds identifiers" if _are_identifiers(list(given.values())) else ""


def _may_be_label(value: str) -> bool:
    return to_number(value) is not None or is_word(value_key(value)) or censored(value) is not None


def _are_identifiers(values: Sequence[str]) -> bool:
    if len(values) <= MAX_INTEGER_CLASSES or not all(map(str.isdecimal, values)) or len(set(values)) < len(values):
        return False
    numbers = [int(value) for value in values]
    consecutive = all(b - a == 1 for a, b in pairwise(numbers))
    return consecutive or min(numbers) >= _SMALLEST_IDENTIFIER


def columns_of(
    table: Table, label_columns: Sequence[str] | None = None, assay_column: str | None = None
) -> LabelColumns:
    """Settle the layout of a table, and its columns; those named are taken.

    Raises:
        InputError: a column is missing, or which one it is is not clear.
    """
    assay_column = assay_column or _assay_column(table, label_columns)
    if assay_column is None:
        return label_columns_of(table, label_columns)
    label, ignored = _long_label(table, label_columns, assay_column)
    return LabelColumns((label,), ignored, assay_column)


def assays_of(
    table: Table,
    label_columns: Sequence[str] | None = None,
    assay_column: str | None = None,
    kind: TaskKind | None = None,
    positive: str | None = None,
    threshold: float | None = None,
    active: Direction | None = None,
) -> list[AssayLabels]:
    """Read every assay of a table.

    Args:
        table: as read.
        label_columns: the columns of labels; None finds them.
        assay_column: the column that says which assay a row belongs to (long layout); None finds it.
        kind, positive, threshold, active: as in :class:`LabelRule`.

    Returns:
        The assays in the order of the columns (wide) or of first appearance (long).

    Raises:
        InputError: a column is missing, or labels cannot be read; all assays' problems at once.
        ConfigError: the settings contradict each other.
    """
    rule = LabelRule(kind=kind, positive=positive, threshold=threshold, active=active)
    columns = columns_of(table, label_columns, assay_column)
    if columns.assays is None:
        parts: Parts = {name: (range(len(table)), table.column(name)) for name in columns.chosen}
    else:
        texts = table.column(columns.chosen[0])
        parts = {name: (places, texts) for name, places in _groups(table, columns.assays).items()}
    return _read_all(table, parts, rule)


def _read_all(table: Table, parts: Parts, rule: LabelRule) -> list[AssayLabels]:
    assays: list[AssayLabels] = []
    errors: list[InputError] = []
    smiles = table.smiles
    for name, (places, texts) in parts.items():
        try:
            assays.append(read_labels(name, smiles, texts, places, rule, table.source, table.first_row))
        except InputError as error:
            errors.append(error)
    if errors:
        same = type(errors[0]) if len({type(error) for error in errors}) == 1 else InputError
        raise same("\n".join(map(str, errors)))
    return assays


def _assay_column(table: Table, label_columns: Sequence[str] | None) -> str | None:
    names = [str(name) for name in table.data.columns if _plain(str(name)) in _ASSAY_NAMES]
    names = [name for name in names if name not in (table.smiles_column, *(label_columns or ()))]
    if len(names) > 1:
        raise InputError(
            f"{table.source}: the column of assays may be {' or '.join(names)}. Name it with --assay-column"
        )
    return names[0] if names else None


def _long_label(table: Table, label_columns: Sequence[str] | None, assay_column: str) -> tuple[str, Mapping[str, str]]:
    if assay_column not in table.data.columns:
        raise missing_columns([assay_column], [str(name) for name in table.data.columns], table.source)
    columns = label_columns_of(table, label_columns, [assay_column])
    named = [name for name in columns.chosen if _plain(name) in _LABEL_NAMES]
    found = named if len(named) == 1 else columns.chosen
    if len(found) == 1:
        others = {name: f'gives way to "{found[0]}"' for name in columns.chosen if name not in found}
        return found[0], {**columns.ignored, **others}
    raise InputError(
        f'{table.source} is a long table (column "{assay_column}" says the assay), with one column of labels; '
        f"it may be {' or '.join(found)}. Name it with --label"
    )


def _groups(table: Table, assay_column: str) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(table.column(assay_column)):
        if not is_missing(name):
            groups.setdefault(name.strip(), []).append(i)
    if not groups:
        raise SupportError(f'{table.source} names no assay: its column "{assay_column}" is empty')
    return groups


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
