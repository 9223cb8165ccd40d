"""What a section of the page is made of; the template knows how each kind looks."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from molmeta.reporting.canvas import Panel
from molmeta.reporting.tables import Cell, Table

__all__ = ["Block", "Card", "Cards", "Drawing", "Fold", "Gallery", "Section", "Tabular", "Terms", "Text", "data_uri"]


@dataclass(frozen=True)
class Text:
    """A paragraph; ``warning`` sets it apart."""

    kind: ClassVar[str] = "text"
    text: str
    warning: bool = False


@dataclass(frozen=True)
class Terms:
    """Terms and their descriptions."""

    kind: ClassVar[str] = "terms"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Tabular:
    """A table; ``apart`` sets it off from what was measured here."""

    kind: ClassVar[str] = "table"
    table: Table
    apart: bool = False


@dataclass(frozen=True)
class Gallery:
    """Panels that share one caption."""

    kind: ClassVar[str] = "gallery"
    caption: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Drawing:
    """A drawn molecule: ``svg`` is None where it could not be drawn."""

    svg: bytes | None
    smiles: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Card:
    """An assay: its name, what is known of it, scores, and molecules."""

    title: str
    facts: Sequence[str]
    scores: Sequence[tuple[int, str, Cell]]  # place, method, score
    drawings: Sequence[Drawing]


@dataclass(frozen=True)
class Cards:
    """Assays under one heading."""

    kind: ClassVar[str] = "cards"
    title: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Fold:
    """Blocks that are shown on request."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence[Block]


Block = Text | Terms | Tabular | Gallery | Cards | Fold


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading."""

    key: str
    title: str
    blocks: Sequence[Block]

    def panels(self) -> list[Panel]:
        """Every figure in it."""
        return _panels(self.blocks)


def _panels(blocks: Sequence[Block]) -> list[Panel]:
    found: list[Panel] = []
    for block in blocks:
        if isinstance(block, Gallery):
            found += block.panels
        elif isinstance(block, Fold):
            found += _panels(block.blocks)
    return found


def data_uri(svg: bytes) -> str:
    """An SVG as the address of an image: whatever it holds, it is drawn and never run."""
    return f"data:image/svg+xml;base64,{b64encode(svg).decode()}"
