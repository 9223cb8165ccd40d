"""What a label means: decided by stated rules, and said in a sentence.

- Empty, NA, N/A, NaN, null and <NA> (any case): unlabelled.
- Two distinct values: binary. Otherwise texts, or whole numbers of at most ten values: multiclass. Otherwise:
  regression. One distinct value is read as what it can be: 0/1 or an active/inactive word is binary, another number
  regression. ``kind`` overrides.
- Class 1 is the active one: 1, true, active, yes or + against 0, false, inactive, no, - or -1; or ``positive``.
- ``threshold`` with ``active="above"`` makes a value active that is at or above it, ``"below"`` at or below it.
  A censored value such as >10 is used where its relation decides the class, and is unlabelled where it does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from molmeta.core.task import IntArray, TaskKind
from molmeta.domains.molecules.label_values import (
    ACTIVE_WORDS,
    INACTIVE_WORDS,
    Direction,
    censored,
    class_order,
    is_missing,
    is_word,
    side,
    to_number,
    value_key,
)
from molmeta.errors import ConfigError, InputError, SupportError

MAX_INTEGER_CLASSES = 10
_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class LabelRule:
    """What a user says of the labels; every field may be left open.

    Attributes:
        kind: binary, multiclass or regression; None decides by the values.
        positive: the value of the active class.
        threshold: where to cut numbers into inactive and active.
        active: which side of the threshold is active; there is no default.
    """

    kind: TaskKind | None = None
    positive: str | None = None
    threshold: float | None = None
    active: Direction | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in list(TaskKind):
            raise ConfigError(f'kind is {", ".join(TaskKind)}, not "{self.kind}"')
        if self.kind is not None:
            object.__setattr__(self, "kind", TaskKind(self.kind))  # a plain "binary" will do
        if (self.threshold is None) != (self.active is None):
            given = "threshold" if self.active is None else "active"
            raise ConfigError(
                f"{given} is given alone. Give both: --threshold 6.5 --active above (or below) says which side "
                "of the threshold is active; there is no default"
            )
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ConfigError(f"a threshold is a number, not {self.threshold}")
        if self.active not in (None, "above", "below"):
            raise ConfigError(f'active is "above" or "below", not "{self.active}"')
        if self.threshold is not None and self.kind not in (None, TaskKind.BINARY):
            raise ConfigError(f"a threshold makes binary labels, not {self.kind} ones. Leave out one of the two")


@dataclass(frozen=True, eq=False)
class AssayLabels:
    """The labelled rows of one assay; what is unlabelled is left out.

    Attributes:
        name: the assay.
        positions: ``[n]`` positions of the rows in their table, from 0.
        rows: ``[n]`` their row numbers, from 1.
        smiles: ``[n]`` structures as written.
        texts: ``[n]`` labels as written.
        labels: ``[n]`` class indices (int64), or values (float64).
        kind: what the labels are.
        classes: the classes' names, in the order of their indices; empty for regression.
        because: why the labels are of that kind.
        unlabelled: how many rows of the assay have no label.
    """

    name: str
    positions: IntArray
    rows: IntArray
    smiles: list[str]
    texts: list[str]
    labels: NDArray[np.int64] | NDArray[np.float64]
    kind: TaskKind
    classes: tuple[str, ...]
    because: str = ""
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """k; 0 for regression."""
        return len(self.classes)

    @property
    def sentence(self) -> str:
        """What was decided, for a person to read."""
        if self.kind is TaskKind.REGRESSION:
            what = f"{_rows(len(self))} from {self.labels.min():g} to {self.labels.max():g}"
        else:
            counts = np.bincount(self.labels.astype(np.int64), minlength=self.num_classes).tolist()
            shown = [f'"{name}" ({_rows(count)})' for name, count in zip(self.classes, counts, strict=True)]
            is_binary = self.kind is TaskKind.BINARY
            what = f"active is {shown[1]}, inactive {shown[0]}" if is_binary else ", ".join(shown)
        rest = f"; {_rows(self.unlabelled)} unlabelled" if self.unlabelled else ""
        return f"{self.name}: {self.kind} ({self.because}); {what}{rest}"


class Decided(NamedTuple):
    """Labels ``[n]`` (None: the threshold does not decide), their kind, the classes' names and the reason."""

    labels: list[float | None]
    kind: TaskKind
    classes: tuple[str, ...]
    because: str


def read_labels(
    name: str,
    smiles: Sequence[str],
    texts: Sequence[str],
    positions: Sequence[int],
    rule: LabelRule,
    source: str,
    first_row: int = 1,
) -> AssayLabels:
    """Read the labels of one assay.

    Args:
        name: the assay's name.
        smiles, texts: structure, and label as written, of every row of the table.
        positions: the rows that belong to the assay, from 0.
        rule: what the user said.
        source: what messages call the table.
        first_row: the row number of position 0.

    Raises:
        InputError: a label does not fit its kind, or the active class is not clear.
        SupportError: no row is labelled.
    """
    labelled = [i for i in positions if not is_missing(texts[i])]
    if not labelled:
        raise SupportError(f"assay {name} in {source} has no labelled row. Fill in the label of two rows or more")
    problem = _Problem(name, [texts[i].strip() for i in labelled], [first_row + i for i in labelled], source)
    decided = decide(problem, rule)
    kept = [i for i, label in zip(labelled, decided.labels, strict=True) if label is not None]
    values = np.array([label for label in decided.labels if label is not None], np.float64)
    return AssayLabels(
        name=name,
        positions=np.array(kept, np.int64),
        rows=np.array(kept, np.int64) + first_row,
        smiles=[smiles[i] for i in kept],
        texts=[texts[i] for i in kept],
        labels=values.astype(np.int64) if decided.kind.is_classification else values,
        kind=decided.kind,
        classes=decided.classes,
        because=decided.because,
        unlabelled=len(positions) - len(labelled),
    )


@dataclass(frozen=True)
class _Problem:
    """Labels as written, and where: what an error must name."""

    name: str
    texts: list[str]
    rows: list[int]
    source: str

    def error(self, wrong: Sequence[int], what: str, way_out: str) -> InputError:
        listed = [f"  {self.rows[i]:5d}  {self.texts[i]:.60}" for i in wrong[:_LISTED]]
        more = [f"  ... and {len(wrong) - _LISTED} more"] if len(wrong) > _LISTED else []
        head = f"{len(wrong)} of {len(self.texts)} labels of assay {self.name} in {self.source} {what}."
        return InputError("\n".join([head, "    row  label", *listed, *more, f"  {way_out}"]))


def decide(problem: _Problem, rule: LabelRule) -> Decided:
    """Settle the kind of the labels, and read them so."""
    if rule.threshold is not None and rule.active is not None:
        return _cut(problem, rule.threshold, rule.active)
    values = [value_key(text) for text in problem.texts]
    kind = rule.kind or _kind(problem, values, rule)
    forced = "asked for" if rule.kind else ""
    if kind is TaskKind.REGRESSION:
        return _regression(problem, forced or "numbers, not whole or of more than ten values")
    if kind is TaskKind.BINARY:
        how_many = "two distinct values" if len(set(values)) == 2 else "one value"
        return _classes(values, kind, _binary_classes(problem, values, rule.positive), forced or how_many)
    if rule.positive is not None:
        raise ConfigError(f"assay {problem.name} has {len(set(values))} classes: a positive class has no meaning there")
    classes = tuple(sorted(set(values), key=class_order))
    return _classes(values, kind, classes, forced or "texts, or up to ten whole numbers")


def _kind(problem: _Problem, values: list[str], rule: LabelRule) -> TaskKind:
    distinct = set(values)
    numbers = {value: to_number(value) for value in distinct}
    if len(distinct) == 2 or rule.positive is not None or (len(distinct) == 1 and is_word(values[0])):
        return TaskKind.BINARY
    texts = [i for i, value in enumerate(values) if numbers[value] is None]
    if not texts:
        whole = all(number is not None and number.is_integer() for number in numbers.values())
        few = 1 < len(distinct) <= MAX_INTEGER_CLASSES
        return TaskKind.MULTICLASS if whole and few else TaskKind.REGRESSION
    if len(texts) < len(values):
        raise problem.error(texts, "are not numbers, though the others are", _way_out(problem, texts))
    if len(distinct) == 1:
        one = f'assay {problem.name} has one label only, "{problem.texts[0]}": nothing can be learned from one class'
        raise SupportError(f"{one}. Add labelled rows of another class")
    if 2 * len(distinct) > len(values):
        what = f"are neither numbers nor classes: {len(distinct)} different texts"
        raise problem.error(texts, what, _way_out(problem, texts))
    return TaskKind.MULTICLASS


def _regression(problem: _Problem, because: str) -> Decided:
    numbers = [to_number(text) for text in problem.texts]
    wrong = [i for i, number in enumerate(numbers) if number is None]
    if wrong:
        raise problem.error(wrong, "are not numbers", _way_out(problem, wrong))
    return Decided([*numbers], TaskKind.REGRESSION, (), because)


def _way_out(problem: _Problem, wrong: Sequence[int]) -> str:
    texts = [problem.texts[i] for i in wrong]
    if any(map(censored, texts)):
        return (
            "A censored value (>10) is no number: strip its relation, empty it, or derive classes from all values "
            "with --threshold 6.5 --active above|below"
        )
    if any(to_number(text.replace(",", ".", 1)) is not None for text in texts):
        return "Write decimals with a point: 6.5, not 6,5"
    return "Correct or empty them (an empty label is unlabelled), or rerun with --kind multiclass if each is a class"


def _binary_classes(problem: _Problem, values: list[str], positive: str | None) -> tuple[str, ...]:
    distinct = sorted(set(values), key=class_order)
    listed = " and ".join(f'"{value}"' for value in distinct[:_LISTED])
    if len(distinct) > 2:
        raise InputError(
            f"binary labels have two values; assay {problem.name} in {problem.source} has {len(distinct)}: {listed}. "
            "Derive classes with --threshold, or use --kind multiclass"
        )
    if positive is not None:
        active = value_key(positive)
        if active not in distinct:
            raise InputError(f'no label of assay {problem.name} is "{positive}"; its labels are {listed}')
        others = [value for value in distinct if value != active] or [f"not {active}"]
        return (others[0], active)
    if len(distinct) == 1:
        distinct = [*distinct, "1" if distinct[0] in INACTIVE_WORDS else "0"]
    for active, other in (distinct, distinct[::-1]):
        if active in ACTIVE_WORDS and other in INACTIVE_WORDS:
            return (other, active)
    raise InputError(
        f"assay {problem.name} in {problem.source} has the labels {listed}: which one is active? "
        f'Say so with --positive, for example --positive "{distinct[-1]}"'
    )


def _classes(values: list[str], kind: TaskKind, classes: tuple[str, ...], because: str) -> Decided:
    index = {value: float(i) for i, value in enumerate(classes)}
    return Decided([index[value] for value in values], kind, classes, because)


def _cut(problem: _Problem, threshold: float, active: Direction) -> Decided:
    read = [censored(text) or ("=", to_number(text)) for text in problem.texts]
    wrong = [i for i, (_, number) in enumerate(read) if number is None]
    if wrong:
        raise problem.error(wrong, "are not numbers, which --threshold needs", "Correct or empty them")
    labels = [side(relation, number or 0.0, threshold, active) for relation, number in read]
    open_rows = [str(row) for row, label in zip(problem.rows, labels, strict=True) if label is None]
    because = f"active is {active} {threshold:g}, or equal to it"
    if open_rows:
        listed = ", ".join(open_rows[:_LISTED]) + ", ..." * (len(open_rows) > _LISTED)
        because += f"; censored values that it does not decide are unlabelled (rows {listed})"
    return Decided(labels, TaskKind.BINARY, ("inactive", "active"), because)


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"
