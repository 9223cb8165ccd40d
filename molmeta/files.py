"""Files that appear whole or not at all, and are never overwritten unasked."""

from __future__ import annotations

import os
from pathlib import Path

from molmeta.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, then rename: it appears whole or not at all, even across a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path, force: bool) -> None:
    """Refuse, before any work, an output that cannot be written or would overwrite something.

    Raises:
        InputError: says which, and the way out.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if path.exists() and not force:
        raise InputError(f"{path} exists. Name another file, or give --force to overwrite it")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder {path.parent} cannot be written to; name another with --out")
