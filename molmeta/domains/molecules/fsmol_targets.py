"""What FS-Mol tells of each assay: ``targets/{train,valid,test}_proteins.csv`` in its folder, of its protein, and
``targets/target_info.csv.gz``, of its organism.

The latter also holds the share of actives and the sizes. Those are statistics of the labels: they are never read.
"""

from __future__ import annotations

import csv
from ast import literal_eval
from collections.abc import Mapping
from pathlib import Path

from molmeta.domains.molecules.formats import open_text
from molmeta.domains.molecules.fsmol_files import FOLDS
from molmeta.errors import DataError

# The description's key to the file's column.
_COLUMNS = {
    "target": "pref_name",
    "target_id": "target_id",
    "ec_number": "component_synonym",
    "ec_super_class": "EC_super_class",
    "ec_super_class_name": "EC_super_class_name",
    "protein_family": "protein_family",
    "protein_class": "protein_class_desc",
    "ec_name": "EC_name",
}


def read_targets(root: Path, fold: str) -> Mapping[str, Mapping[str, str]]:
    """What is known of the proteins of one fold: assay -> key -> value.

    Args:
        root: an FS-Mol folder; one without ``targets/`` tells nothing.
        fold: train, valid or test.

    Returns:
        For each assay, those of ``target`` (the protein's name), ``target_id`` (ChEMBL's number), ``ec_number``,
        ``ec_name``, ``ec_super_class`` ("2"), ``ec_super_class_name`` ("transferase"), ``protein_family``,
        ``protein_class`` (from the broadest to its own, as words) and ``organism`` that are known. Where an assay has
        several proteins, their distinct values stand in order, joined with "; ".

    Raises:
        DataError: the file cannot be read, or has no column ``chembl_id``.
    """
    path = root / "targets" / f"{fold}_proteins.csv"
    if fold not in FOLDS or not path.is_file():
        return {}
    try:
        with open_text(path) as lines:
            known = {row["chembl_id"]: _known(row) for row in csv.DictReader(lines)}
        organisms = root / "targets" / "target_info.csv.gz"
        if organisms.is_file():
            with open_text(organisms) as lines:
                for row in csv.DictReader(lines):
                    if row["chembl_id"] in known and row.get("assay_organism"):
                        known[row["chembl_id"]]["organism"] = row["assay_organism"]
        return known
    except KeyError as error:
        raise DataError(f"{path} has no column chembl_id. Fetch it again, or remove it") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}). Fetch it again, or remove it") from error


def _known(row: Mapping[str, str | None]) -> dict[str, str]:
    values = {key: _joined(row.get(column) or "") for key, column in _COLUMNS.items()}
    return {key: value for key, value in values.items() if value}


def _joined(cell: str) -> str:
    """A cell as text; a tuple, as FS-Mol writes the values of several proteins, as its distinct members."""
    if not (cell.startswith("('") or cell.startswith('("')):
        return cell
    try:
        members = literal_eval(cell)
    except (ValueError, SyntaxError):
        return cell
    return "; ".join(dict.fromkeys(map(str, members)))
