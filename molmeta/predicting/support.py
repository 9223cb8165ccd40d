"""Support tables: read, checked before any work, and learned by a bundle."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from molmeta.bundle import Bundle
from molmeta.core.task import TaskKind
from molmeta.domains.molecules.assays import assays_of, columns_of
from molmeta.domains.molecules.checks import Refused, check_support, refused_error, report_duplicates
from molmeta.domains.molecules.featurise import Featurised
from molmeta.domains.molecules.labels import AssayLabels, LabelRule
from molmeta.domains.molecules.tables import Table, read_table
from molmeta.domains.molecules.workers import featurise_distinct
from molmeta.errors import ConfigError, SupportError
from molmeta.predicting.assay import AssayModel, check_prior

Say = Callable[[str], None]
_LISTED = 10
_WAY_OUT = "Fix these rows, or rerun with --on-invalid drop (leave them out of the support)"


@dataclass(frozen=True, eq=False)
class Support:
    """The labelled molecules of one or more assays.

    Attributes:
        assays: what was read, without rows that cannot be used.
        molecules: the distinct molecules of all assays.
        row_of: SMILES -> its row in ``molecules.arrays``.
    """

    assays: Sequence[AssayLabels]
    molecules: Featurised
    row_of: dict[str, int]

    @property
    def structures(self) -> set[str]:
        """The canonical SMILES of all support molecules."""
        return {text for text in self.molecules.canonical if text}

    @property
    def digest(self) -> str:
        """A hash of everything that was read."""
        read = [[a.name, a.kind, a.classes, a.smiles, a.labels.tolist()] for a in self.assays]
        return hashlib.sha256(json.dumps(read).encode()).hexdigest()

    def learn(
        self, bundle: Bundle, prior: float | None = None, description: Mapping[str, str] | None = None
    ) -> list[AssayModel]:
        """Adapt the bundle to each assay.

        Raises:
            ConfigError: a description is given of several assays.
        """
        if description is not None and len(self.assays) > 1:
            held = ", ".join(assay.name for assay in self.assays)
            raise ConfigError(f"--describe is of one assay; the support has {held}. Name one: --label")
        structures = [text for text in self.molecules.canonical if text]
        models = []
        for assay in self.assays:
            rows = [self.row_of[text] for text in assay.smiles]
            molecules = self.molecules.arrays.take(np.array(rows, np.int64))
            texts = [structures[i] for i in rows]
            models.append(AssayModel.fit(bundle, assay, molecules, texts, prior=prior, description=description))
        return models


def no_support() -> Support:
    """One binary assay of which nothing is measured, yet to be described."""
    none = np.empty(0, np.int64)
    assay = AssayLabels("assay", none, none, [], [], none, TaskKind.BINARY, ("inactive", "active"))
    return Support([assay], featurise_distinct([]), {})


def read_support(
    source: str,
    say: Say,
    *,
    smiles_column: str | None = None,
    labels: Sequence[str] | None = None,
    assay_column: str | None = None,
    rule: LabelRule | None = None,
    drop_invalid: bool = False,
) -> Support:
    """Read the assays of a table, and say what the labels were taken to mean.

    Args:
        source: a file, or ``-`` for standard input.
        say: takes each sentence that a user should read.
        smiles_column, labels, assay_column: columns; None finds them.
        rule: what the user says of the labels.
        drop_invalid: leave molecules that cannot be used out instead of raising.

    Raises:
        InputError: the table, its molecules or its labels cannot be used; all rows are listed.
        SupportError: an assay has too few labelled molecules, or one class only.
    """
    table = read_table(source, smiles_column)
    rule = rule or LabelRule()
    columns = columns_of(table, labels, assay_column)
    say(f'{table.source}: structures in "{table.smiles_column}", {columns.sentence}')
    assays = assays_of(table, columns.chosen, columns.assays, rule.kind, rule.positive, rule.threshold, rule.active)
    positions = sorted({int(p) for assay in assays for p in assay.positions})
    molecules = featurise_distinct([table.smiles[p] for p in positions])
    refused = _refused(table, positions, molecules)
    if refused:
        error = refused_error(refused, len(positions), table.source, table.smiles_column, way_out=_WAY_OUT)
        if not drop_invalid:
            raise error
        say(f"Left out of the support: {str(error).rpartition(chr(10))[0]}")
    bad = {one.row for one in refused}
    usable = [_without(assay, bad) for assay in assays]
    _check_all(usable, is_wide=columns.assays is None)
    return _support(table, usable, positions, molecules, say)


def _refused(table: Table, positions: Sequence[int], molecules: Featurised) -> list[Refused]:
    reasons = [table.refusals.get(p) or why for p, why in zip(positions, molecules.reasons, strict=True)]
    return [Refused(table.rows[p], table.smiles[p], why) for p, why in zip(positions, reasons, strict=True) if why]


def _without(assay: AssayLabels, rows: set[int]) -> AssayLabels:
    kept = [i for i, row in enumerate(assay.rows.tolist()) if row not in rows]
    labels, classes = assay.labels[kept], assay.classes
    if assay.kind is TaskKind.MULTICLASS:  # a class may have lost its only molecule
        present, labels = np.unique(labels, return_inverse=True)
        classes = tuple(classes[int(i)] for i in present)
    return replace(
        assay,
        positions=assay.positions[kept],
        rows=assay.rows[kept],
        smiles=[assay.smiles[i] for i in kept],
        texts=[assay.texts[i] for i in kept],
        labels=labels,
        classes=classes,
    )


def _check_all(assays: Sequence[AssayLabels], *, is_wide: bool) -> None:
    problems, good = [], []
    for assay in assays:
        try:
            check_support(assay)
            good.append(assay.name)
        except SupportError as error:
            problems.append(str(error))
    if problems and good:
        others = " ".join(f"--label {shlex.quote(name)}" for name in good[:_LISTED]) + " ..." * (len(good) > _LISTED)
        problems.append(f"  Or leave such assays out: {others if is_wide else 'remove their rows'}")
    if problems:
        raise SupportError("\n".join(problems))


def _support(
    table: Table, assays: Sequence[AssayLabels], positions: Sequence[int], molecules: Featurised, say: Say
) -> Support:
    texts = [table.smiles[p] for p in positions]
    canonical = dict(zip(texts, molecules.canonical, strict=True))
    rows = np.cumsum(molecules.valid) - 1
    row_of = {text: int(row) for text, row, ok in zip(texts, rows, molecules.valid, strict=True) if ok}
    for assay in assays:
        say(assay.sentence)
        if repeated := report_duplicates(assay, [canonical[text] for text in assay.smiles]).sentence:
            say(repeated)
    flagged: dict[str, list[str]] = {}
    for position, flags in zip(positions, molecules.flags, strict=True):
        if flags:
            flagged.setdefault(flags, []).append(str(table.rows[position]))
    if flagged:
        say(f"Used as written, though flagged: {'; '.join(_with_rows(*item) for item in sorted(flagged.items()))}")
    return Support(assays, molecules, row_of)


def _with_rows(flags: str, rows: Sequence[str]) -> str:
    more = ", ..." * (len(rows) > _LISTED)
    return f"row{'s' * (len(rows) > 1)} {', '.join(rows[:_LISTED])}{more} ({flags})"


def say_prior(models: Sequence[AssayModel], say: Say) -> None:
    """Say which share of actives the probabilities of each binary assay assume."""
    for model in models:
        if model.assay.kind is TaskKind.BINARY:
            own = model.specialised.labelled.shares[1]
            whose = "the support's share" if len(model.assay.labels) else "one half, for want of labels"
            share = f"{whose}, {own:.3g}" if model.prior is None else f"{model.prior:g}, as given"
            rest = " (--prior says how rare actives are in the query)" if model.prior is None else ""
            say(f"{model.assay.name}: probabilities assume that the share of actives in the query is {share}{rest}")


def check_priors(prior: float | None, assays: Sequence[AssayLabels]) -> None:
    """Refuse a prior that no assay, or not every assay, can use, before a model is loaded."""
    for assay in assays:
        check_prior(prior, assay.kind)
