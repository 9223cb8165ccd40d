"""Choose from a table which molecules to measure next: what ``molmeta plan`` does with a library."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence

import numpy as np

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.featurise import I64, MoleculeArrays
from molmeta.domains.molecules.formats import STDIN
from molmeta.domains.molecules.tables import Table, iter_table
from molmeta.domains.molecules.workers import featurise_stream
from molmeta.errors import ConfigError, InputError
from molmeta.files import write_whole
from molmeta.predicting.columns import check_clashes
from molmeta.predicting.partial import separator_of, table_text
from molmeta.predicting.request import BLOCK_ROWS, Opened, PredictRequest
from molmeta.predicting.selection import Goal, Suggestions, check_goal, suggest
from molmeta.predicting.support import Say


def plan_library(request: PredictRequest, opened: Opened, n: int, goal: Goal, say: Say) -> Suggestions:
    """Choose ``n`` molecules of the query; with ``out``, their rows are written, in the order of choice.

    Molecules that cannot be read are not chosen; how many there are is said.

    Raises:
        InputError: the library has too few molecules, is standard input, or has columns of the output's names.
        ConfigError: there are several assays, or the goal has no meaning for this one.
    """
    if len(opened.models) > 1:
        held = ", ".join(model.assay.name for model in opened.models)
        raise ConfigError(f"what to measure next is chosen for one assay; the support has {held}. Name one: --label")
    if request.query == STDIN:
        raise InputError("the library is read twice, so it cannot be standard input (-). Give it as a file")
    model = opened.models[0]
    check_goal(n, goal, model.assay.kind)
    names = _columns(model.assay.name, model.assay.kind)
    check_clashes(list(opened.first.data.columns), names, opened.first.source)
    refused: list[int] = []
    found = suggest(model, _blocks(request, opened, refused), n, goal)
    if refused:
        say(f"{sum(refused):,} molecules of the library cannot be read, and are not chosen from.")
    if request.out is not None:
        _write(request, found, [*opened.first.data.columns, *names])
    return found


def _blocks(
    request: PredictRequest, opened: Opened, refused: list[int]
) -> Iterator[tuple[I64, Sequence[str], MoleculeArrays]]:
    """The molecules that can be read, block by block; ``refused`` is told of the others."""
    graphs = opened.bundle.reads_graphs
    for table, done in featurise_stream(opened.tables, lambda t: t.smiles, request.workers, False, graphs):
        if not done.valid.all():
            refused.append(int((~done.valid).sum()))
        if done.valid.any():
            rows = np.flatnonzero(done.valid)
            yield rows + table.first_row - 1, [table.smiles[i] for i in rows], done.arrays


def _columns(assay: str, kind: TaskKind) -> list[str]:
    predicted = "prediction" if kind is TaskKind.REGRESSION else "probability"
    return [f"{assay}_molmeta_{name}" for name in ("rank", predicted, "similarity", "settles", "why")]


def _write(request: PredictRequest, found: Suggestions, header: Sequence[str]) -> None:
    """The chosen rows with their own columns; they are read again, so that no other row need be kept."""
    assert request.out is not None
    own = _rows(iter_table(request.query, BLOCK_ROWS, request.query_smiles_column), found.positions)
    cells = zip(found.positions.tolist(), found.prediction, found.similarity, found.settles, found.reasons, strict=True)
    rows = [
        [*own[row], str(rank), f"{predicted:.6g}", f"{similarity:.3f}", f"{settles:.4f}", why]
        for rank, (row, predicted, similarity, settles, why) in enumerate(cells, 1)
    ]
    text = table_text([header, *rows], separator_of(request.out)).encode()
    write_whole(request.out, gzip.compress(text, mtime=0) if request.out.suffix.lower() == ".gz" else text)


def _rows(tables: Iterator[Table], positions: I64) -> dict[int, list[str]]:
    """The cells of some rows, by their position."""
    own: dict[int, list[str]] = {}
    for table in tables:
        here = positions - (table.first_row - 1)
        for i in here[(here >= 0) & (here < len(table))].tolist():
            own[i + table.first_row - 1] = list(table.data.iloc[i])
    return own
