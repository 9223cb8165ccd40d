"""What is drawn of reasons: a row of tiles for each molecule, a tile of texts, boxes and one molecule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np

from molmeta.predicting.reasons import VALUE, Reasons

INK, GREY, RULE, WASH = "#1c1c1c", "#5d5d5d", "#d9d9d9", "#f4f6f8"
UP, DOWN, BASE = "#0b5a8a", "#c2500a", "#9a9a9a"  # told apart by all common kinds of colour vision
WIDTH, HEIGHT, EDGE = 240, 272, 14
TOP = 26  # where the molecule is drawn
_BAR = (112, 114)  # where the bars of a query begin, and how long their axis is


@dataclass(frozen=True)
class Text:
    x: float
    y: float  # of the base line
    text: str
    size: int = 12
    colour: str = INK
    bold: bool = False
    anchor: str = "start"


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float
    colour: str


@dataclass(frozen=True)
class Tile:
    """One molecule and what is said of it.

    Attributes:
        smiles: the molecule, as written.
        marks: what stands on it, in pixels from its upper left corner.
        wash: whether it is set apart: the molecule in question.
    """

    smiles: str
    marks: Sequence[Text | Box]
    wash: bool = False


def row_of(reasons: Reasons, i: int, count: int) -> list[Tile]:
    """The molecule in question, and its support molecules: the strongest, then the most similar if it is not there."""
    if reasons.refused[i]:
        why = _wrapped(214, reasons.refused[i])
        return [Tile(reasons.smiles[i], [_heading(f"row {i + 1}"), Text(EDGE, 196, "no prediction", 13), *why], True)]
    shown = [int(j) for j in reasons.strongest(count)[i] if j >= 0]
    nearest = int(reasons.copies[reasons.similarity[i].argmax()]) if len(reasons.copies) else -1
    if nearest not in (-1, *shown):
        shown.append(nearest)
    largest = float(np.nanmax(np.abs(reasons.influence[i, shown]), initial=0)) or 1.0
    return [_asked(reasons, i), *(_moved(reasons, i, j, largest, j == nearest) for j in shown)]


def _asked(reasons: Reasons, i: int) -> Tile:
    """The molecule in question: its prediction, the parts of it, and how far it lies from the training chemistry."""
    marks: list[Text | Box] = [_heading(f"row {i + 1}")]
    if reasons.far[i]:
        marks.append(Text(WIDTH - EDGE, 18, "far: trust it less", 11, DOWN, bold=True, anchor="end"))
    number = _number(reasons.prediction[i], reasons.what[i] != VALUE)
    marks.append(Text(EDGE, 196, f"{_short(reasons.what[i], 23)}: {number}", 13, bold=True))
    seen = reasons.training_similarity[i]
    known = f"nearest training molecule: {seen:.2f}" if np.isfinite(seen) else "training chemistry: not kept"
    return Tile(reasons.smiles[i], [*marks, *_bars(reasons, i), Text(EDGE, 261, known, 11, GREY)], True)


def _bars(reasons: Reasons, i: int) -> list[Text | Box]:
    """Base, prior and support as bars, each beginning where the one before ends.

    A probability's axis is 0 to 1. A value's is as long as prior and support reach; its base is a mark.
    """
    parts = {"base": reasons.base[i], "prior": reasons.prior_part[i], "support": reasons.support_part[i]}
    ends = np.cumsum([0.0, *parts.values()])
    bounded = reasons.what[i] != VALUE
    low, high = (0.0, 1.0) if bounded else (ends[1:].min(), ends[1:].max())
    left, length = _BAR
    unit = length / ((high - low) or 1.0)
    marks: list[Text | Box] = [Box(left, 248, length, 1, RULE)]
    for place, (name, part) in enumerate(parts.items()):
        y = 204 + 15 * place
        begin, end = sorted((ends[place] if place or bounded else ends[1], ends[place + 1]))
        number = _number(part, bounded) if place == 0 else _signed(part, bounded)
        marks += [
            Text(EDGE, y + 9, name, 11, GREY),
            Text(left - 8, y + 9, number, 11, anchor="end"),
            Box(left + unit * (begin - low), y, max(1.5, unit * (end - begin)), 10, _colour(part) if place else BASE),
        ]
    return marks


def _moved(reasons: Reasons, i: int, j: int, largest: float, most_similar: bool) -> Tile:
    """A support molecule: its label, its influence as a bar from the middle, and its similarity."""
    influence = float(reasons.influence[i, j])
    copies = int((reasons.copies == reasons.copies[j]).sum())
    marks: list[Text | Box] = [_heading(f"measured: {_short(_labels(reasons, j), 22 if copies == 1 else 11)}")]
    if copies > 1:
        marks.append(Text(WIDTH - EDGE, 18, f"in {copies} rows", 11, GREY, anchor="end"))
    if np.isnan(influence):
        marks.append(Text(EDGE, 196, "cannot be left out", 13, bold=True))
        marks += _wrapped(212, "too few others are left, or none of its class")
    else:
        middle, reach = WIDTH / 2, WIDTH / 2 - EDGE
        width = reach * abs(influence) / largest
        colour, number = _colour(influence), _signed(influence, reasons.what[i] != VALUE)
        marks += [
            Text(EDGE, 196, f"{'raises' if influence >= 0 else 'lowers'} it by {number[1:]}", 13, colour, bold=True),
            Box(EDGE, 211, 2 * reach, 1, RULE),
            Box(middle if influence >= 0 else middle - width, 206, max(1.5, width), 11, colour),
            Box(middle - 0.5, 203, 1, 17, GREY),
        ]
    similar = f"similarity {reasons.similarity[i, j]:.2f}{' (the most similar)' * most_similar}"
    return Tile(reasons.support[j], [*marks, Text(EDGE, 248, similar)])


def _heading(text: str) -> Text:
    return Text(EDGE, 18, text, bold=True)


def _colour(part: float) -> str:
    return UP if part >= 0 else DOWN


def _number(value: float, bounded: bool) -> str:
    return f"{value:.3f}" if bounded else f"{value:.3g}"


def _signed(part: float, bounded: bool) -> str:
    return f"{'-' if part < 0 else '+'}{_number(abs(part), bounded)}"


def _labels(reasons: Reasons, j: int) -> str:
    """The label of a support molecule, all of them where its copies differ."""
    own = [label for label, first in zip(reasons.labels, reasons.copies, strict=True) if first == reasons.copies[j]]
    return ", ".join(dict.fromkeys(own))


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _wrapped(y: float, text: str) -> list[Text]:
    return [Text(EDGE, y + 14 * n, line, 11, GREY) for n, line in enumerate(wrap(text, 34)[:4])]
