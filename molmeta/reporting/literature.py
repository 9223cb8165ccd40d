"""Published results beside the measured ones, set apart, with their sources."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from molmeta.errors import ConfigError
from molmeta.evaluation.published import PublishedScore, published
from molmeta.reporting.blocks import Block, Tabular, Text
from molmeta.reporting.study import Study
from molmeta.reporting.tables import Cell, Row, Table
from molmeta.reporting.words import CHOSEN_ON_TEST, PUBLISHED, metric, number

_SHOTS = re.compile(r"\d+-shot")  # a note that the column tells already


def literature(study: Study) -> list[Block]:
    """What papers report on the same benchmark, by the same metric; with a warning where it is of another fold."""
    asked: Mapping[str, Any] = next((m.header.get("protocol") or {} for m in study.methods if m.header), {})
    source = str(asked.get("source", ""))
    try:
        rows = published(source)
    except ConfigError:
        return []
    dataset = "fsmol" if source == "fsmol" else asked.get("name")
    rows = [r for r in rows if (r.dataset, r.kind, r.metric) == (dataset, str(study.kind), study.metric)]
    if not rows:
        return []
    folds = " and ".join(sorted({row.fold for row in rows}))
    blocks: list[Block] = []
    if asked.get("split") != folds:
        warning = (
            f"The published results are of the {folds} fold; the scores above are of the "
            f"{asked.get('split', 'unnamed')} fold, which holds other assays. The two are not to be compared."
        )
        blocks.append(Text(warning, warning=True))
    if source == "moleculenet":
        blocks.append(Text(CHOSEN_ON_TEST, warning=True))
    return [*blocks, Tabular(_table(study, rows, folds), apart=True)]


def _table(study: Study, rows: Sequence[PublishedScore], folds: str) -> Table:
    sizes = sorted({row.support_size for row in rows})
    body = []
    for name, source in dict.fromkeys((row.method, row.source) for row in rows):
        own = {row.support_size: row for row in rows if (row.method, row.source) == (name, source)}
        cells = [*(_cell(own.get(size)) for size in sizes), Cell(source, _notes(list(own.values())))]
        tasks = sorted({row.tasks for row in own.values() if row.tasks})
        told = f"{' or '.join(map(str, tasks))} tasks" if tasks else "tasks not told"
        body.append(Row(name, cells, note=f"{next(iter(own.values())).fold} fold, {told}"))
    head = [Cell("published"), *(Cell(str(size)) for size in sizes), Cell("source")]
    caption = f"Published {metric(study.metric).title}, {PUBLISHED.format(folds=folds)}"
    return Table(caption, head, body, words=[len(sizes)])


def _notes(rows: Sequence[PublishedScore]) -> str:
    """What a reader must know of the numbers of one source, each thing once."""
    notes = [part for row in rows for part in row.note.split("; ") if not _SHOTS.fullmatch(part)]
    if not all(row.confirmed for row in rows) and not any("not checked" in note for note in notes):
        notes.insert(0, "not checked against the source")
    return "; ".join(dict.fromkeys(filter(None, notes)))


def _cell(row: PublishedScore | None) -> Cell:
    if row is None:
        return Cell("–", mark="quiet")
    error = "" if row.error is None else f"± {number(row.error)} {row.error_kind}".strip()
    return Cell(number(row.mean), error)
