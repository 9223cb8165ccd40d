"""Checks before any work: molecules that cannot be used, supports that nothing can be learned from, duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.labels import AssayLabels
from molmeta.domains.molecules.parse import parse
from molmeta.errors import InputError, SupportError

_LISTED = 20
_WIDTH = 40
_WAY_OUT = "Fix these rows, or rerun with --on-invalid keep (leave their prediction blank, with the reason)"


class Refused(NamedTuple):
    """A molecule that cannot be used: its row number, what stands there, and the chemical reason."""

    row: int
    smiles: str
    reason: str


def check_molecules(
    smiles: Sequence[str], rows: Sequence[int], refusals: Mapping[int, str] = MappingProxyType({})
) -> list[Refused]:
    """The molecules that cannot be used, in order.

    Args:
        smiles: ``[n]`` structures as written.
        rows: ``[n]`` their row numbers.
        refusals: positions refused before, with the reason (:attr:`Table.refusals`).
    """
    reasons = (refusals.get(i) or parse(text).reason for i, text in enumerate(smiles))
    return [Refused(row, text, why) for row, text, why in zip(rows, smiles, reasons, strict=True) if why]


def refused_error(
    refused: Sequence[Refused], total: int, source: str, column: str = "", way_out: str = _WAY_OUT
) -> InputError:
    """The error that lists molecules that cannot be used, and ends with what to do about them."""
    shown = refused[:_LISTED]
    texts = [_short(one.smiles) for one in shown]
    width = max(map(len, [*texts, "smiles"]))
    where = f' (column "{column}")' if column else ""
    lines = [f"{len(refused)} of {total} molecules in {source} cannot be used{where}."]
    lines.append(f"  {'row':>5s}  {'smiles':{width}s}  reason")
    lines += [f"  {one.row:5d}  {text:{width}s}  {one.reason}" for one, text in zip(shown, texts, strict=True)]
    if len(refused) > _LISTED:
        lines.append(f"  ... and {len(refused) - _LISTED} more")
    lines.append(f"  {way_out}")
    return InputError("\n".join(lines))


def _short(smiles: str) -> str:
    text = smiles.strip() or "(empty)"
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def check_support(assay: AssayLabels) -> None:
    """Refuse a support set that nothing can be learned from.

    Raises:
        SupportError: fewer than two labelled rows, or one class only.
    """
    if len(assay) < 2:
        raise SupportError(
            f"assay {assay.name} has {len(assay)} labelled row{'s' * (len(assay) != 1)} in its support set; "
            "two or more are needed. Add labelled rows"
        )
    if not assay.kind.is_classification:
        return
    counts = np.bincount(assay.labels.astype(np.int64), minlength=assay.num_classes)
    if np.count_nonzero(counts) > 1:
        return
    if assay.kind is TaskKind.BINARY:
        missing = "inactive" if counts[1] else "active"
        raise SupportError(
            f"assay {assay.name} has {counts[1]} actives and {counts[0]} inactives in its support set.\n"
            f"  Binary prediction needs one of each. Add a measured {missing}, or derive classes with --threshold."
        )
    raise SupportError(
        f'assay {assay.name} has one class only ("{assay.classes[int(counts.argmax())]}") in its support set. '
        "Add rows of another class"
    )


@dataclass(frozen=True)
class Duplicates:
    """Molecules that stand more than once in an assay.

    Attributes:
        molecules: how many stand more than once.
        repeats: rows beyond the first of each.
        conflicting: row numbers of each molecule whose labels differ.
        sentence: the same in words; empty where nothing repeats.
    """

    molecules: int
    repeats: int
    conflicting: tuple[tuple[int, ...], ...]
    sentence: str


def report_duplicates(assay: AssayLabels, keys: Sequence[str]) -> Duplicates:
    """Count the molecules that stand more than once. Every row is kept, as FS-Mol does, conflicting ones too.

    Args:
        assay: the labelled rows.
        keys: ``[n]`` canonical form of each row's molecule, or its hash.
    """
    places: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        places.setdefault(key, []).append(i)
    repeated = [group for group in places.values() if len(group) > 1]
    conflicts = [group for group in repeated if len(set(assay.labels[group].tolist())) > 1]
    conflicting = tuple(tuple(int(assay.rows[i]) for i in group) for group in conflicts)
    repeats = sum(map(len, repeated)) - len(repeated)
    return Duplicates(len(repeated), repeats, conflicting, _duplicate_sentence(assay.name, repeated, conflicting))


def _duplicate_sentence(name: str, repeated: list[list[int]], conflicting: tuple[tuple[int, ...], ...]) -> str:
    if not repeated:
        return ""
    text = f"{name}: {len(repeated)} molecule{'s' * (len(repeated) > 1)} repeated; all rows are used"
    if not conflicting:
        return f"{text}; their labels agree"
    groups = "; ".join("rows " + ", ".join(map(str, group)) for group in conflicting[:_LISTED])
    return f"{text}; {len(conflicting)} with different labels ({groups}{'; ...' * (len(conflicting) > _LISTED)})"
