"""Whose a result folder is: the header that says what is evaluated, and nothing overwritten that is not ours."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from molmeta.errors import InputError
from molmeta.evaluation.results import FORMAT, Parts
from molmeta.files import write_whole
from molmeta.scoring.candidates import Candidate
from molmeta.scoring.protocols import Question

TABLES = (".csv", ".parquet")
_VERSIONS = ("molmeta", "torch", "rdkit", "scikit-learn", "numpy", "scipy")
_IDENTITY = ("method", "protocol", "model", "environment")


def make_header(method: str, asked: Question, candidate: Candidate, command: str) -> dict[str, Any]:
    """What ``result.json`` says before the first task: two evaluations are one if all but the command is equal."""
    return {
        "format": FORMAT,
        "method": method,
        "protocol": asked.as_json(),
        "model": json.loads(json.dumps(dict(candidate.about), default=str)),
        "command": command,
        "environment": _environment(),
    }


def check_free(folder: Path, header: Mapping[str, Any], force: bool) -> None:
    """Refuse, before any work, a folder that is not this evaluation's.

    Raises:
        InputError: it holds something else, or cannot be made.
    """
    if folder.is_dir() and any(p for p in folder.iterdir() if not p.name.endswith(".partial")):
        found = _read_header(folder)
        if found is None:
            raise InputError(f"{folder} exists and is not a result of molmeta evaluate; name another folder with --out")
        differs = [key for key in _IDENTITY if found[key] != header[key]]
        if differs and not force:
            raise InputError(
                f"{folder} holds another evaluation ({' and '.join(differs)} differ). Name another folder with --out, "
                "or give --force to overwrite it"
            )
    elif folder.is_file():
        raise InputError(f"{folder} is a file; name another folder with --out")
    if not folder.parent.is_dir():
        raise InputError(f"there is no folder {folder.parent}; make it first")


def claim(folder: Path, header: Mapping[str, Any], force: bool) -> None:
    """Make the folder this evaluation's; what the same evaluation finished is kept, unless ``force`` is given."""
    if force and _read_header(folder) is not None:
        Parts(folder).clear()
        for name in ("result.json", "tasks.parquet", *(f"scores{suffix}" for suffix in TABLES)):
            (folder / name).unlink(missing_ok=True)
    if not (folder / "result.json").is_file():
        folder.mkdir(exist_ok=True)
        write_whole(folder / "result.json", json.dumps(header, indent=1).encode())


def _read_header(folder: Path) -> dict[str, Any] | None:
    """A result's header; None where there is none, or another program's."""
    try:
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(found, dict) and {"format", *_IDENTITY} <= found.keys()
    return found if ours else None


def _environment() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "?"
    return found
