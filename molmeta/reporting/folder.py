"""The report on disk: a folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from molmeta.errors import InputError

PAGE, FIGURES = "index.html", "figures"


def check_folder(folder: Path, force: bool) -> None:
    """Refuse a place that holds something already.

    Raises:
        InputError: there is a report and no ``force``, or there is something that is not a report.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the report")
    found = {path.name for path in folder.iterdir()}
    if foreign := sorted(found - {PAGE, FIGURES}):
        raise InputError(f"{folder} holds other things than a report ({', '.join(foreign[:3])}); name another folder")
    if found and not force:
        raise InputError(f"{folder} holds a report already; name another folder, or replace it with --force")


def write_folder(folder: Path, page: str, figures: Mapping[str, bytes], *, force: bool = False) -> Path:
    """Write the page and its figures beside their place, then rename; returns the page's path."""
    check_folder(folder, force)
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, former = (folder.with_name(f".{folder.name}.{os.getpid()}.{part}") for part in ("partial", "former"))
    try:
        (partial / FIGURES).mkdir(parents=True)
        (partial / PAGE).write_text(page, encoding="utf-8")
        for name, content in figures.items():
            (partial / FIGURES / name).write_bytes(content)
        if folder.exists():
            folder.rename(former)
        partial.rename(folder)
    finally:
        if former.exists() and not folder.exists():
            former.rename(folder)
        for rest in (partial, former):
            shutil.rmtree(rest, ignore_errors=True)
    return folder / PAGE
