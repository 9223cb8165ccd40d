"""A person's own assays as an FS-Mol-style folder, to train and evaluate on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from molmeta.core.random import keyed_rng
from molmeta.domains.molecules.assays import assays_of
from molmeta.domains.molecules.checks import check_molecules, check_support, refused_error
from molmeta.domains.molecules.fsmol_files import FOLDS, rows_of, write_folder
from molmeta.domains.molecules.labels import AssayLabels, LabelRule
from molmeta.domains.molecules.tables import Table, read_table
from molmeta.errors import ConfigError, InputError


def convert(
    source: str,
    out: Path,
    *,
    smiles_column: str | None = None,
    labels: Sequence[str] | None = None,
    assay_column: str | None = None,
    rule: LabelRule | None = None,
    shares: tuple[float, float, float] = (0.8, 0.2, 0.0),
    seed: int = 0,
    force: bool = False,
) -> dict[str, list[AssayLabels]]:
    """Write the binary assays of a table as ``train/ valid/ test/`` with task lists.

    Args:
        source: a table in any form that is read.
        out: the folder.
        smiles_column, labels, assay_column: columns; None finds them.
        rule: what is said of the labels.
        shares: of the assays, for train, valid and test; each assay goes to one fold, at random by ``seed``.
        seed: see ``shares``.
        force: replace a folder of this form.

    Returns:
        The assays of each fold.

    Raises:
        InputError: the table, its molecules or labels cannot be used; all rows are listed.
        SupportError: an assay has one class only.
        ConfigError: the shares do not sum to 1.
        DataError: the folder is not empty or cannot be written.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"the shares of train, valid and test sum to 1 and are not negative: {shares}")
    table = read_table(source, smiles_column)
    rule = rule or LabelRule()
    assays = assays_of(table, labels, assay_column, rule.kind, rule.positive, rule.threshold, rule.active)
    _check(table, assays)
    for assay in assays:
        check_support(assay)
    order = keyed_rng(seed, "convert").permutation(len(assays))
    ends = np.round(np.cumsum(shares) * len(assays)).astype(int)
    parts = np.split(order, ends[:2])
    folds = {fold: [assays[i] for i in sorted(part)] for fold, part in zip(FOLDS, parts, strict=True)}
    rows = {fold: {assay.name: rows_of(assay) for assay in members} for fold, members in folds.items()}
    write_folder(out, rows, force=force)
    return folds


def _check(table: Table, assays: Sequence[AssayLabels]) -> None:
    if not assays:
        raise InputError(f"{table.source} has no column of labels; name one with --label")
    used = sorted({int(p) for assay in assays for p in assay.positions})
    refusals = {i: table.refusals[p] for i, p in enumerate(used) if p in table.refusals}
    refused = check_molecules([table.smiles[p] for p in used], [table.rows[p] for p in used], refusals)
    if refused:
        way_out = "Fix or remove these rows"
        raise refused_error(refused, len(used), table.source, table.smiles_column, way_out=way_out)
