"""Predict a table of molecules, of any length, for one or more assays: what ``molmeta predict`` does.

Output rows are the input rows, in order, with their own columns first. The table streams in blocks, so that memory
stays flat; each molecule is featurised and encoded once for all assays; an interrupted job goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import chain

import numpy as np

from molmeta.bundle import Bundle
from molmeta.domains.molecules.featurise import Featurised
from molmeta.domains.molecules.formats import STDIN
from molmeta.domains.molecules.tables import Table, count_rows
from molmeta.domains.molecules.workers import featurise_distinct, featurise_stream
from molmeta.predicting.assay import AssayPrediction, predict_molecules
from molmeta.predicting.columns import AssayColumns, check_clashes
from molmeta.predicting.partial import PartialTables, StreamTable
from molmeta.predicting.reasons import Reasons, explain_molecules
from molmeta.predicting.request import BLOCK_ROWS, PredictRequest, dropped_path, open_request
from molmeta.predicting.support import Say, Support, say_prior

MOLECULE_COLUMNS = ("molmeta_flags", "molmeta_reason")

Advance = Callable[[int], None]
Counting = Callable[[str, int | None], AbstractContextManager[Advance]]


def predict_library(request: PredictRequest, say: Say, counting: Counting) -> Counter[str]:
    """Predict every molecule of the query.

    Args:
        request: what to do.
        say: takes each sentence that a user should read.
        counting: ``with counting("molecules", total) as advance`` shows how far the job is.

    Returns:
        Counts: ``rows``, ``invalid``, ``far`` (from everything, for any assay), ``in support``, ``dropped``.

    Raises:
        MolmetaError: before any work where the inputs show it; nothing is then written.
        KeyboardInterrupt: says what remains.
    """
    opened = open_request(request, say)
    columns = [AssayColumns(model, request.reasons) for model in opened.models]
    job = _Job(request, opened.support, columns, list(opened.first.data.columns), say)
    check_clashes(job.own, job.header[len(job.own) :], opened.first.source)
    say_prior(opened.models, say)
    return job.run(opened.tables, _key(request, opened.support, opened.bundle), counting)


def explain_first(request: PredictRequest, most: int, say: Say) -> list[Reasons]:
    """Explain the first molecules of the query, up to ``most`` of them, for each assay; refused ones have their place.

    Raises:
        MolmetaError: something of the request cannot be used.
    """
    opened = open_request(request, say)
    say_prior(opened.models, say)
    table = opened.first
    smiles = table.smiles[:most]
    molecules = featurise_distinct(smiles)
    refused = [table.refusals.get(i) or reason for i, reason in enumerate(molecules.reasons)]
    if (total := count_rows(request.query) or len(table)) > len(smiles):
        say(f"Only the first {len(smiles)} of {total:,} molecules are drawn; a table (-o reasons.csv) has all of them.")
    usable = [text for text in molecules.canonical if text]
    if not usable:
        return [Reasons.blank(model).among(smiles, refused) for model in opened.models]
    told = explain_molecules(opened.models, usable, molecules.arrays)
    return [reasons.among(smiles, refused) for _, reasons in told]


def _key(request: PredictRequest, support: Support, bundle: Bundle) -> str:
    """What must be equal for a job to go on: inputs, model and settings; standard input is never equal."""
    if request.query == STDIN:
        query: object = os.urandom(16).hex()
    else:
        try:
            stat = os.stat(request.query)
            query = [os.path.realpath(request.query), stat.st_size, stat.st_mtime_ns]
        except OSError:  # a single SMILES
            query = request.query
    settings = [request.query_smiles_column, request.prior, request.on_invalid, request.reasons, BLOCK_ROWS]
    settings += [request.describe] * (request.describe is not None)
    parts = [bundle.digest, support.digest, query, settings]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Job:
    """One pass over the query.

    Attributes:
        own: the query's own columns.
        header: all columns of the output.
    """

    def __init__(
        self,
        request: PredictRequest,
        support: Support,
        assays: Sequence[AssayColumns],
        own: Sequence[str],
        say: Say,
    ) -> None:
        self.own = own
        self.header = [*own, *(name for assay in assays for name in assay.names), *MOLECULE_COLUMNS]
        self._request = request
        self._assays = assays
        self._models = [assay.model for assay in assays]
        self._structures = support.structures
        self._say = say
        self._counts: Counter[str] = Counter()

    def run(self, tables: Iterable[Table], key: str, counting: Counting) -> Counter[str]:
        """Predict block by block; returns the counts."""
        query, workers = self._request.query, self._request.workers
        wanted = {"canonical": self._request.reasons > 0, "graphs": self._models[0].bundle.reads_graphs}
        with self._open(key) as sink, counting("molecules", count_rows(query)) as advance:
            self._counts = sink.counts
            if sink.started_over:
                self._say("An unfinished output of another command stood there; it is replaced.")
            if sink.went_on:
                self._say(f"Going on after row {sink.rows:,}, where this command was interrupted.")
            done = sink.rows
            advance(done)
            rest = (table for table in tables if table.first_row > done)
            try:
                for table, molecules in featurise_stream(rest, lambda t: t.smiles, workers, **wanted):
                    kept, dropped = self._rows(table, molecules)
                    self._counts["rows"] += len(table)
                    self._counts["dropped"] += len(dropped)
                    sink.write([kept, dropped][: len(sink)], len(table))
                    advance(len(table))
            except KeyboardInterrupt:
                raise KeyboardInterrupt(self._what_remains(sink.rows)) from None
            sink.finish()
        return self._counts

    def _open(self, key: str) -> PartialTables | StreamTable:
        out = self._request.out
        if out is None:
            return StreamTable(self.header)
        if self._request.on_invalid != "drop":
            return PartialTables([out], [self.header], key)
        return PartialTables([out, dropped_path(out)], [self.header, ["row", *self.own, "molmeta_reason"]], key)

    def _what_remains(self, rows: int) -> str:
        if self._request.out is None or not rows or self._request.query == STDIN:
            return "Interrupted; nothing is kept of it."
        return f"Interrupted after row {rows:,}. The same command goes on from there ({self._request.out}.partial)."

    def _rows(self, table: Table, molecules: Featurised) -> tuple[list[list[str]], list[list[str]]]:
        """The output rows of one block, and the rows that are dropped."""
        predicted = iter(
            self._cells([text for text, usable in zip(table.smiles, molecules.valid, strict=True) if usable], molecules)
        )
        blank = [""] * (len(self.header) - len(self.own) - len(MOLECULE_COLUMNS))
        kept, dropped = [], []
        for i, own in enumerate(table.data.to_numpy().tolist()):
            reason = table.refusals.get(i) or molecules.reasons[i]
            if reason:
                self._counts["invalid"] += 1
            if reason and self._request.on_invalid == "drop":
                dropped.append([str(table.rows[i]), *own, reason])
            else:
                kept.append([*own, *(blank if reason else next(predicted)), molecules.flags[i], reason])
        return kept, dropped

    def _cells(self, smiles: list[str], molecules: Featurised) -> list[list[str]]:
        """The prediction columns of the molecules that can be used, as written in ``smiles``."""
        if not len(molecules.arrays):
            return []
        told: list[tuple[AssayPrediction, Reasons | None]]
        if self._request.reasons:
            usable = [text for text in molecules.canonical if text]
            told = [*explain_molecules(self._models, usable, molecules.arrays)]
        else:
            told = [(prediction, None) for prediction in predict_molecules(self._models, molecules.arrays)]
        self._counts["far"] += int(np.any([prediction.far for prediction, _ in told], axis=0).sum())
        # Only a molecule of the same fingerprint can be the same.
        alike = np.max([prediction.similarity for prediction, _ in told], axis=0) > 1 - 1e-6
        again = featurise_distinct([smiles[i] for i in np.flatnonzero(alike)], graphs=False).canonical
        self._counts["in support"] += sum(text in self._structures for text in again)
        parts = [assay.cells(*each) for assay, each in zip(self._assays, told, strict=True)]
        return [list(chain.from_iterable(row)) for row in zip(*parts, strict=True)]
