"""Opening a table's file: what form it has, gzip or not, which encoding; damaged files by name.

Standard input and pipes are copied to a temporary file first, so that every form can be looked at before it is read.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

from molmeta.errors import InputError

STDIN = "-"
_GZIP = b"\x1f\x8b"
_HEAD = 1 << 16
_SAMPLE = 1 << 22
_SDF_SUFFIXES = (".sdf", ".sd", ".mol")
_SMI_SUFFIXES = (".smi", ".ism")
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".pq", *_SDF_SUFFIXES, *_SMI_SUFFIXES)
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
}


class Form(StrEnum):
    """The forms that a table can have."""

    DELIMITED = "delimited text"
    SMI = "SMILES, then a name"
    SDF = "SDF"
    PARQUET = "Parquet"


@dataclass(frozen=True)
class Source:
    """A regular file that has been looked at.

    Attributes:
        path: where its bytes are.
        name: what messages call it.
        form: what it holds.
    """

    path: Path
    name: str
    form: Form


@contextmanager
def open_source(given: str) -> Iterator[Source]:
    """Look at a file (``-`` is standard input) and say what it is.

    Raises:
        InputError: it is missing, a directory, unreadable, empty, damaged, or not a table.
    """
    name = "standard input" if given == STDIN else given
    with _regular_file(given, name) as path:
        try:
            with open_bytes(path) as stream, damage_named(name):
                head = stream.read(_HEAD)
        except OSError as error:
            raise InputError(f"{name} cannot be read: {error.strerror or error}") from error
        if not head.strip(b"\xef\xbb\xbf \t\r\n"):
            raise InputError(f"{name} is empty. Give a table with a header and at least one row")
        yield Source(path, name, _form(name, head))


@contextmanager
def _regular_file(given: str, name: str) -> Iterator[Path]:
    if given == STDIN:
        with _copied(sys.stdin.buffer) as path:
            yield path
        return
    path = Path(given)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise InputError(f"there is no file {name}.{near_names(path)}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{name:.200} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{name} is a directory. Give the file in it that holds the table")
    if stat.S_ISREG(mode):
        yield path
        return
    with path.open("rb") as pipe, _copied(pipe) as copy:
        yield copy


@contextmanager
def _copied(stream: BinaryIO) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="molmeta-") as folder:
        path = Path(folder) / "input"
        with path.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
        yield path


def is_table_name(name: str) -> bool:
    """Whether a name ends as a table's does."""
    return Path(name.lower().removesuffix(".gz")).suffix in _TABLE_SUFFIXES


def near_names(path: Path) -> str:
    """A hint at files that a missing one may be mistaken for."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        return f" Nor is there a folder {path.parent!s:.200}."
    near = difflib.get_close_matches(path.name, names, n=3)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def open_bytes(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked where it begins as gzip does, whatever its name."""
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn what a damaged gzip or encoding raises into an InputError that names the file."""
    try:
        yield
    except EOFError as error:
        raise InputError(f"{name} is a truncated gzip file: its end is missing. Copy or download it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{name} is a damaged gzip file ({error}). Copy or download it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name} begins as UTF-16 does, but is not. Save it as UTF-8") from error


def _form(name: str, head: bytes) -> Form:
    suffix = Path(name.lower().removesuffix(".gz")).suffix
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise InputError(f"{name} is {what}, which is not read. Save the table as CSV")
    if head.startswith(b"PAR1"):
        return Form.PARQUET
    if suffix in (".parquet", ".pq"):
        raise InputError(f"{name} is not a Parquet file, whatever its name: it does not begin with PAR1")
    if b"\0" in head and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{name} is not a text table: it holds bytes 0. Give CSV, TSV, SMI, SDF or Parquet")
    if suffix in _SDF_SUFFIXES or _looks_like_sdf(head):
        return Form.SDF
    return Form.SMI if suffix in _SMI_SUFFIXES else Form.DELIMITED


def _looks_like_sdf(head: bytes) -> bool:
    counts_line = head.splitlines()[3:4]
    return bool(counts_line) and counts_line[0].rstrip().endswith((b"V2000", b"V3000"))


def open_text(path: Path, newline: str | None = "") -> io.TextIOWrapper:
    """The text of a file: UTF-8 (UTF-16 with a byte order mark); bytes that are not UTF-8 are read as Latin-1."""
    with open_bytes(path) as stream:
        mark = stream.read(2)
    encoding = "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, errors=_LATIN_1, newline=newline)


_LATIN_1 = "molmeta-latin-1"


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError) and error.encoding.startswith("utf-8"):
        return error.object[error.start : error.end].decode("latin-1"), error.end
    raise error


codecs.register_error(_LATIN_1, _as_latin_1)


def count_rows(given: str) -> int | None:
    """About how many rows a table has, from its first megabytes; None for standard input and what cannot be read."""
    path = Path(given)
    try:
        if given == STDIN or not path.is_file():
            return None
        with open_source(given) as source:
            return _parquet_rows(path) if source.form is Form.PARQUET else _estimate(source)
    except (InputError, OSError, ValueError):  # among them a SMILES that is too long for a file's name
        return None


def _parquet_rows(path: Path) -> int:
    from molmeta.domains.molecules.parquet import count

    return count(path)


def _estimate(source: Source) -> int:
    with source.path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
        with damage_named(source.name):
            sample = stream.read(_SAMPLE)
        consumed = raw.tell()
    whole = len(sample) < _SAMPLE
    share = 1.0 if whole else source.path.stat().st_size / consumed
    if source.form is Form.SDF:
        return round(sample.count(b"$$$$") * share) or 1
    lines = sample.strip(b"\r\n").splitlines()
    return max(1, round((len(lines) - (source.form is Form.DELIMITED)) * share))
