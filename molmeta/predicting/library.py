"""Predict a table of molecules, of any length, for one or more assays: what ``molmeta predict`` does.

Output rows are the input rows, in order, with their own columns first. The table streams in blocks, so that memory
stays flat; each molecule is featurised and encoded once for all assays; an interrupted job goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from molmeta.bundle import Bundle
from molmeta.devices import choose_device
from molmeta.domains.molecules.checks import Refused, check_molecules, refused_error
from molmeta.domains.molecules.featurise import Featurised
from molmeta.domains.molecules.formats import STDIN
from molmeta.domains.molecules.labels import LabelRule
from molmeta.domains.molecules.tables import Table, count_rows, iter_table
from molmeta.domains.molecules.workers import featurise_stream
from molmeta.errors import ConfigError
from molmeta.files import check_writable
from molmeta.predicting.assay import predict_molecules
from molmeta.predicting.columns import AssayColumns, check_clashes
from molmeta.predicting.partial import PartialTables, StreamTable, separator_of
from molmeta.predicting.support import Say, Support, check_priors, read_support, say_prior

OnInvalid = Literal["raise", "keep", "drop"]
BLOCK_ROWS = 2048
MOLECULE_COLUMNS = ("molmeta_flags", "molmeta_reason")

Advance = Callable[[int], None]
Counting = Callable[[str, int | None], AbstractContextManager[Advance]]


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """What to predict, and how.

    Attributes:
        support, query: files, or ``-`` for standard input; the query may be a single SMILES.
        out: where the table goes; None is standard output.
        model: a bundle's name or file.
        smiles_column, query_smiles_column: the column of structures in each table; None finds it.
        labels, assay_column: columns of the support; None finds them.
        rule: what is said of the labels.
        prior: expected share of actives in the query.
        on_invalid: what becomes of molecules that cannot be used. None: ``raise`` for the support, ``keep`` for the
            query.
        device: auto, cpu, cuda or cuda:N.
        force: overwrite ``out``.
        workers: processes that featurise; None takes every core for a long query.
    """

    support: str
    query: str
    out: Path | None = None
    model: str = "default"
    smiles_column: str | None = None
    query_smiles_column: str | None = None
    labels: Sequence[str] | None = None
    assay_column: str | None = None
    rule: LabelRule = field(default_factory=LabelRule)
    prior: float | None = None
    on_invalid: OnInvalid | None = None
    device: str = "auto"
    force: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.on_invalid not in (None, "raise", "keep", "drop"):
            raise ConfigError(f'--on-invalid is raise, keep or drop, not "{self.on_invalid}"')
        if not self.support.strip() or not self.query.strip():
            raise ConfigError("--support or --query is empty. Give each a file (the query may be one SMILES)")
        if self.support == STDIN and self.query == STDIN:
            raise ConfigError("support and query cannot both be standard input (-); give one of them as a file")
        if self.out is None and self.on_invalid == "drop":
            raise ConfigError("--on-invalid drop writes what it leaves out beside the output: name one with --out")
        if self.out is not None:
            check_writable(self.out, self.force)
            separator_of(self.out)
            if self.on_invalid == "drop":
                check_writable(dropped_path(self.out), self.force)


def dropped_path(out: Path) -> Path:
    """Where the rows go that ``drop`` leaves out: ``out.dropped.csv`` beside ``out.csv``."""
    name = out.name.removesuffix(".gz")
    stem, _, suffix = name.rpartition(".")
    return out.with_name(f"{stem}.dropped.{suffix}" + ".gz" * (name != out.name))


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
    device = choose_device(request.device)
    support = read_support(
        request.support,
        say,
        smiles_column=request.smiles_column,
        labels=request.labels,
        assay_column=request.assay_column,
        rule=request.rule,
        drop_invalid=request.on_invalid in ("keep", "drop"),
    )
    check_priors(request.prior, support.assays)
    bundle = Bundle.load(request.model).to(device)
    if bundle.transductive:
        raise ConfigError(
            f"model {request.model} is transductive: its predictions depend on which molecules are predicted together, "
            "and a table is read in blocks. Use another model, or FewShotClassifier in Python"
        )
    tables = _query(request)
    first = next(tables)
    if len(first.data.columns) > 1:
        say(f'{first.source}: structures in "{first.smiles_column}"')
    models = support.learn(bundle, request.prior)
    columns = [AssayColumns(assay, model) for assay, model in zip(support.assays, models, strict=True)]
    job = _Job(request, support, columns, list(first.data.columns), say)
    check_clashes(job.own, job.header[len(job.own) :], first.source)
    say_prior(support.assays, models, say)
    return job.run(chain([first], tables), _key(request, support, bundle), counting)


def _query(request: PredictRequest) -> Iterator[Table]:
    """The query in blocks; where molecules that cannot be used are to raise, all of it is looked at first."""
    tables = iter_table(request.query, BLOCK_ROWS, request.query_smiles_column)
    if request.on_invalid != "raise":
        return tables
    if request.query == STDIN:
        whole = list(tables)
        _raise_if_invalid(whole)
        return iter(whole)
    _raise_if_invalid(tables)
    return iter_table(request.query, BLOCK_ROWS, request.query_smiles_column)


def _raise_if_invalid(tables: Iterable[Table]) -> None:
    refused: list[Refused] = []
    total, source, column = 0, "", ""
    for table in tables:
        refused += check_molecules(table.smiles, table.rows, table.refusals)
        total, source, column = total + len(table), table.source, table.smiles_column
    if refused:
        raise refused_error(refused, total, source, column)


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
    settings = [request.query_smiles_column, request.prior, request.on_invalid, BLOCK_ROWS]
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
                for table, molecules in featurise_stream(rest, lambda t: t.smiles, workers):
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
        predicted = iter(self._cells(molecules))
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

    def _cells(self, molecules: Featurised) -> list[list[str]]:
        """The prediction columns of the molecules that can be used."""
        if not len(molecules.arrays):
            return []
        predictions = predict_molecules(self._models, molecules.arrays)
        self._counts["far"] += int(np.any([p.far for p in predictions], axis=0).sum())
        self._counts["in support"] += sum(text in self._structures for text in molecules.canonical)
        parts = [assay.cells(prediction) for assay, prediction in zip(self._assays, predictions, strict=True)]
        return [list(chain.from_iterable(row)) for row in zip(*parts, strict=True)]
