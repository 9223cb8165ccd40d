"""SDF: each record's structure becomes a SMILES, its title the column ``name``, its data items further columns.

A record that RDKit refuses keeps its row, with an empty SMILES and the chemical reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rdkit import Chem, rdBase

from molmeta.domains.molecules.formats import Source, damage_named, open_text
from molmeta.domains.molecules.parse import NO_STRUCTURE
from molmeta.domains.molecules.raw import RawTable, Row
from molmeta.domains.molecules.refusals import chemistry_reason

_ITEM = re.compile(r">.*?<(?P<name>[^<>]*)>")
_END_OF_RECORD = "$$$$"
_ALL_BUT_VALENCE = Chem.SanitizeFlags.SANITIZE_ALL ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES


def read(source: Source) -> RawTable:
    """The columns (every data item that occurs in the file) and rows of an SDF.

    Raises:
        InputError: the file is damaged.
    """
    items = _item_names(source)
    smiles, name = _free("smiles", items), _free("name", items)
    return RawTable([smiles, name, *items], _rows(source, items), smiles)


def _item_names(source: Source) -> dict[str, None]:
    with open_text(source.path, newline=None) as text, damage_named(source.name):
        found = (_ITEM.match(line) for line in text if line.startswith(">"))
        return dict.fromkeys(match["name"] for match in found if match)


def _free(name: str, taken: dict[str, None]) -> str:
    while name in taken:
        name = f"sdf_{name}"
    return name


def _rows(source: Source, items: dict[str, None]) -> Iterator[Row]:
    with open_text(source.path, newline=None) as text, damage_named(source.name):
        record: list[str] = []
        for line in text:
            if not line.startswith(_END_OF_RECORD):
                record.append(line)
                continue
            yield _row(record, items)
            record = []
        if "".join(record).strip():
            yield _row(record, items)


def _row(record: list[str], items: dict[str, None]) -> Row:
    end = next((i + 1 for i, line in enumerate(record) if line.startswith("M  END")), len(record))
    smiles, reason = _smiles("".join(record[:end]))
    values = _items(record[end:])
    title = record[0].strip() if record else ""
    return Row([smiles, title, *(values.get(name, "") for name in items)], reason)


def _items(lines: list[str]) -> dict[str, str]:
    """Data items: a line ``> <name>``, then lines of text up to an empty one."""
    values: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines:
        match = _ITEM.match(line)
        if current is None and match:
            current = values.setdefault(match["name"], [])
        elif not line.strip():
            current = None
        elif current is not None:
            current.append(line.rstrip("\n"))
    return {name: "\n".join(text) for name, text in values.items()}


def _smiles(block: str) -> tuple[str, str]:
    """The SMILES of a molblock, or the reason why there is none. Valences are left to the parser of the SMILES."""
    with rdBase.BlockLogs():
        try:
            molecule: Any = Chem.MolFromMolBlock(block) or _without_valence_check(block)
            if molecule is None:
                return "", "not a molblock that can be read (check its counts line and atom lines)"
            return (Chem.MolToSmiles(molecule), "") if molecule.GetNumAtoms() else ("", NO_STRUCTURE)
        except (ValueError, RuntimeError) as error:
            return "", str(error).strip().partition("\n")[0]


def _without_valence_check(block: str) -> Any:
    molecule: Any = Chem.MolFromMolBlock(block, sanitize=False)
    if molecule is None:
        return None
    untouched = Chem.Mol(molecule)
    try:
        Chem.SanitizeMol(molecule, sanitizeOps=_ALL_BUT_VALENCE)
    except ValueError as error:
        raise ValueError(chemistry_reason(untouched) or str(error)) from error
    molecule.UpdatePropertyCache(strict=False)
    Chem.AssignChiralTypesFromBondDirs(molecule)
    Chem.AssignStereochemistry(molecule, cleanIt=True, force=True)
    return molecule
