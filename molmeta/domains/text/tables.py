"""Reading labelled texts and lists of classes; whatever is wrong with a file is said at once, by line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from molmeta.core.task import Split
from molmeta.errors import DataError

SPLITS = (Split.TRAIN, Split.VALID, Split.TEST)
Classes = Mapping[Split, Sequence[str]]
_SHOWN = 5


@dataclass(frozen=True)
class LabelledTexts:
    """``n`` texts in the order of their files.

    Attributes:
        texts: as written.
        labels: the class of each.
        parts: the further column that was asked for, or empty.
    """

    texts: list[str]
    labels: list[str]
    parts: list[str]


def read_table(paths: Sequence[Path], text: str, label: str, part: str = "") -> LabelledTexts:
    """The rows of CSV, TSV or JSONL files (told by their ending), one file after another.

    Args:
        paths: the files.
        text: the column (or key) of the texts.
        label: the column of the classes.
        part: a further column to read; empty: none.

    Raises:
        DataError: a file is missing, of another form or damaged, lacks a column, or has a row without text or label.
    """
    wanted = [text, label, *([part] if part else [])]
    columns: dict[str, list[str]] = {name: [] for name in wanted}
    problems: list[str] = []
    for path in paths:
        for where, row in _rows(path):
            empty = [name for name in wanted if not _text_of(row, name)]
            if empty:
                problems.append(f"{path}, {where}: no {' and no '.join(empty)}")
            for name in wanted:
                columns[name].append(_text_of(row, name))
    if problems:
        raise DataError(listed(problems) + f"\nEvery row needs {', '.join(wanted)}; name the columns in [source]")
    return LabelledTexts(columns[text], columns[label], columns[part] if part else [])


def _text_of(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value).strip()


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    readers: dict[str, Callable[[Iterable[str]], Iterator[tuple[str, Mapping[str, object]]]]] = {
        ".csv": lambda lines: _delimited(lines, ","),
        ".tsv": lambda lines: _delimited(lines, "\t"),
        ".jsonl": _json_lines,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path} is read by its ending, which is one of {', '.join(readers)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from readers[path.suffix.lower()](lines)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError, json.JSONDecodeError, TypeError) as error:
        raise DataError(f"{path} is damaged, or not {path.suffix[1:]} in UTF-8: {error}") from error


def _delimited(lines: Iterable[str], delimiter: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    reader = csv.DictReader(lines, delimiter=delimiter)
    for row in reader:
        yield f"line {reader.line_num}", row


def _json_lines(lines: Iterable[str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise TypeError(f"line {number} is not an object")
            yield f"line {number}", row


def read_class_lists(folder: Path) -> dict[Split, list[str]]:
    """The classes of each split: ``labels.train.txt``, ``labels.valid.txt`` and ``labels.test.txt``, a class a line.

    A file that is missing stands for a split without classes.

    Raises:
        DataError: none of the files is there.
    """
    files = {split: folder / f"labels.{split}.txt" for split in SPLITS}
    found = {split: path for split, path in files.items() if path.is_file()}
    if not found:
        raise DataError(f"{folder} has none of {', '.join(path.name for path in files.values())}, a class a line")
    return {s: [line.strip() for line in p.read_text("utf-8").splitlines() if line.strip()] for s, p in found.items()}


def classes_by_part(labels: Sequence[str], parts: Sequence[str]) -> dict[Split, list[str]]:
    """The classes of each split, where each row's part names its split.

    Raises:
        DataError: a part is no split.
    """
    foreign = sorted(set(parts) - set(SPLITS))
    if foreign:
        raise DataError(f"a row's split is one of {', '.join(SPLITS)}, not {', '.join(map(repr, foreign[:_SHOWN]))}")
    pairs = set(zip(parts, labels, strict=True))
    return {split: sorted(label for part, label in pairs if part == split) for split in SPLITS}


def check_classes(classes: Classes, labels: Iterable[str]) -> None:
    """Refuse class lists that a benchmark of new classes cannot have.

    Raises:
        DataError: a class stands twice, or has no text.
    """
    listed_classes = [name for names in classes.values() for name in names]
    twice = sorted({name for name in listed_classes if listed_classes.count(name) > 1})
    without = sorted(set(listed_classes) - set(labels))
    problems = [f'class "{name}" stands in the lists more than once: its split must be one' for name in twice]
    problems += [f'class "{name}" has no text' for name in without]
    if problems:
        raise DataError(listed(problems))


def listed(problems: Sequence[str]) -> str:
    """The first few problems, a line each."""
    more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "\n".join(problems[:_SHOWN]) + more
