"""One label as written: missing, a number, a censored number, or a word."""

from __future__ import annotations

import math
import re
from typing import Literal

Direction = Literal["above", "below"]

MISSING = frozenset({"", "na", "n/a", "nan", "null", "<na>"})
ACTIVE_WORDS = frozenset({"1", "true", "active", "yes", "+"})
INACTIVE_WORDS = frozenset({"0", "false", "inactive", "no", "-", "-1"})
_CENSORED = re.compile(r"(?P<relation><=|>=|<<|>>|<|>|=|≤|≥)?\s*(?P<number>.+)")


def is_missing(text: str) -> bool:
    """Whether a label cell is empty, or a word that stands for nothing."""
    return text.strip().casefold() in MISSING


def side(relation: str, number: float, threshold: float, active: Direction) -> float | None:
    """1.0 or 0.0 where every value that ``relation number`` allows stands on one side of the threshold, else None."""
    if active == "below":  # mirror: value <= threshold is -value >= -threshold
        mirrored = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}[relation]
        return side(mirrored, -number, -threshold, "above")
    if relation == "=":
        return float(number >= threshold)
    if relation in (">", ">="):
        return 1.0 if number >= threshold else None
    if number < threshold or (relation == "<" and number == threshold):
        return 0.0
    return None


def censored(text: str) -> tuple[str, float | None] | None:
    """``>10`` as (">", 10.0); None where no relation stands before a number."""
    match = _CENSORED.fullmatch(text)
    if match is None or match["relation"] is None or to_number(match["number"]) is None:
        return None
    relation = {"≤": "<=", "≥": ">=", "<<": "<", ">>": ">"}.get(match["relation"], match["relation"])
    return relation, to_number(match["number"])


def to_number(text: str) -> float | None:
    """The finite number that a text writes, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def value_key(text: str) -> str:
    """One spelling for one value: 1.0 and 1 are the same, as are Active and active."""
    number = to_number(text)
    if number is None:
        folded = text.strip().casefold()
        return folded if folded in ACTIVE_WORDS | INACTIVE_WORDS else text.strip()
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def is_word(value: str) -> bool:
    """Whether a value's key stands for active or inactive."""
    return value in ACTIVE_WORDS | INACTIVE_WORDS


def class_order(value: str) -> tuple[bool, float, str]:
    """Sorts numbers by size, then texts by alphabet."""
    number = to_number(value)
    return number is None, number or 0.0, value
