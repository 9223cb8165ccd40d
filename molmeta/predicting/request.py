"""What to predict, as a user asks for it; and that, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Literal

from molmeta.bundle import Bundle
from molmeta.devices import choose_device
from molmeta.domains.molecules.checks import Refused, check_molecules, refused_error
from molmeta.domains.molecules.descriptions import read_description
from molmeta.domains.molecules.formats import STDIN
from molmeta.domains.molecules.labels import LabelRule
from molmeta.domains.molecules.tables import Table, iter_table
from molmeta.errors import ConfigError
from molmeta.files import check_writable
from molmeta.predicting.assay import AssayModel
from molmeta.predicting.partial import separator_of
from molmeta.predicting.support import Say, Support, check_priors, no_support, read_support

OnInvalid = Literal["raise", "keep", "drop"]
BLOCK_ROWS = 2048


@dataclass(frozen=True, kw_only=True)
class SupportRequest:
    """What to learn from, and with which model.

    Attributes:
        support: a file, or ``-`` for standard input; empty: nothing is measured yet, and ``describe`` is all there is.
        model: a bundle's name or file.
        smiles_column: the column of structures; None finds it.
        labels, assay_column: columns of the support; None finds them.
        rule: what is said of the labels.
        prior: expected share of actives in the query.
        on_invalid: what becomes of molecules that cannot be used. None: ``raise`` for the support, ``keep`` for the
            query.
        device: auto, cpu, cuda or cuda:N.
        describe: what is known of the assay: ``target=..., ec=..., organism=..., type=...``; None: nothing.
    """

    support: str
    model: str = "default"
    smiles_column: str | None = None
    labels: Sequence[str] | None = None
    assay_column: str | None = None
    rule: LabelRule = field(default_factory=LabelRule)
    prior: float | None = None
    on_invalid: OnInvalid | None = None
    device: str = "auto"
    describe: str | None = None

    @property
    def description(self) -> dict[str, str] | None:
        """What ``describe`` says, by field; None where nothing is said."""
        return None if self.describe is None else read_description(self.describe)


@dataclass(frozen=True, kw_only=True)
class PredictRequest(SupportRequest):
    """What to predict, and how.

    Attributes:
        query: a file, ``-`` for standard input (one of support and query), or a single SMILES.
        out: where the table goes; None is standard output.
        query_smiles_column: the query's column of structures; None finds it.
        force: overwrite ``out``.
        workers: processes that featurise; None takes every core for a long query.
        reasons: support molecules to name for each prediction; 0: no reasons.
    """

    query: str
    out: Path | None = None
    query_smiles_column: str | None = None
    force: bool = False
    workers: int | None = None
    reasons: int = 0

    def __post_init__(self) -> None:
        if self.reasons < 0:
            raise ConfigError(f"--reasons is how many support molecules are named, 0 or more, not {self.reasons}")
        if self.on_invalid not in (None, "raise", "keep", "drop"):
            raise ConfigError(f'--on-invalid is raise, keep or drop, not "{self.on_invalid}"')
        if not self.query.strip() or not (self.support.strip() or self.describe):
            raise ConfigError(
                "--support or --query is empty. Give each a file (the query may be one SMILES); without labelled "
                'molecules, a model that reads descriptions predicts from --describe "target=..., type=..."'
            )
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


@dataclass(frozen=True, eq=False)
class Opened:
    """A request whose inputs are read and checked, and whose support is learned.

    Attributes:
        support: what was read.
        bundle: the model.
        models: it, adapted to each assay.
        first: the first block of the query.
        rest: the blocks that follow, to be read once.
    """

    support: Support
    bundle: Bundle
    models: Sequence[AssayModel]
    first: Table
    rest: Iterator[Table]

    @property
    def tables(self) -> Iterator[Table]:
        """The query in blocks."""
        return chain([self.first], self.rest)


def open_support(request: SupportRequest, say: Say) -> tuple[Support, Bundle]:
    """Read the support and the model that a request names, and say what was found.

    Raises:
        MolmetaError: something of it cannot be used.
    """
    device = choose_device(request.device)
    _ = request.description  # refused before anything is read
    if not request.support.strip():
        return no_support(), Bundle.load(request.model).to(device)
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
    return support, bundle


def open_request(request: PredictRequest, say: Say) -> Opened:
    """Read what a request names, and say what was found.

    Raises:
        MolmetaError: something of it cannot be used.
    """
    support, bundle = open_support(request, say)
    tables = _query(request)
    first = next(tables)
    if len(first.data.columns) > 1:
        say(f'{first.source}: structures in "{first.smiles_column}"')
    return Opened(support, bundle, support.learn(bundle, request.prior, request.description), first, tables)


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
