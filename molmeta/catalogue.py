"""The data sets that molmeta knows: where they come from, what they must look like, what of them stands on disk."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pooch

from molmeta.errors import ConfigError, DataError
from molmeta.paths import data_dir, datasets_dir

if TYPE_CHECKING:  # so that listing and fetching load neither torch nor RDKit
    from molmeta.domains.molecules.store import MoleculeStore, Progress

_THREADS = 8
_GIVE_UP = 10  # failures in a row: the server, the network or the disk is the cause, not a file
_TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        path: its place under the data set's folder.
        url: where it comes from.
        sha256: "" where none is recorded.
        also: other names under which it may stand there, perhaps packed in another way.
    """

    path: str
    url: str
    sha256: str = ""
    also: tuple[str, ...] = ()

    def find(self, folder: Path) -> Path | None:
        """Where it stands, if it does."""
        return next((folder / name for name in (self.path, *self.also) if (folder / name).is_file()), None)


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: its folder under ``MOLMETA_DATA``.
        about: one line.
        licence: of the data.
        list_files: the files that it consists of.
        use: what to type once they are there.
        stores: opens its stores of molecules, building those that are not there: given the number of processes, and
            what is called with the number of molecules done since the last call. None where nothing is to be built.
    """

    name: str
    about: str
    licence: str
    list_files: Callable[[], Sequence[DataFile]]
    use: str
    stores: Callable[[int | None, Progress | None], Iterator[MoleculeStore]] | None = None

    @property
    def folder(self) -> Path:
        """Where its files stand, or would."""
        return data_dir() / self.name

    def state(self) -> str:
        """What is there: ``here``, ``2 of 3 files`` or ``not here``."""
        files = self.list_files()
        found = sum(file.find(self.folder) is not None for file in files)
        return "here" if found == len(files) else f"{found:,} of {len(files):,} files" if found else "not here"


@lru_cache
def _listed(name: str) -> tuple[DataFile, ...]:
    """The files of ``datasets/<name>/files.csv``."""
    with (datasets_dir() / name / "files.csv").open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        return tuple(DataFile(r["path"], r["url"], r["sha256"], tuple(r["also"].split())) for r in rows)


@lru_cache
def _fsmol_files() -> tuple[DataFile, ...]:
    base = "https://github.com/microsoft/FS-Mol/raw/ec58f4fbc840/datasets/"
    with gzip.open(datasets_dir() / "fsmol" / "files.csv.gz", "rt", encoding="utf-8") as lines:
        paths = {f"{r['split']}/{r['task']}.jsonl.gz": r["sha256"] for r in csv.DictReader(lines)}
    return tuple(DataFile(path, base + path, sha256) for path, sha256 in paths.items())


def _fsmol_stores(workers: int | None, progress: Progress | None) -> Iterator[MoleculeStore]:
    from molmeta.domains.molecules.fsmol import FSMol

    yield FSMol(workers=workers, progress=progress).store


def _moleculenet_stores(workers: int | None, progress: Progress | None) -> Iterator[MoleculeStore]:
    from molmeta.domains.molecules.moleculenet import NAMES, MoleculeNet, MoleculeNetConfig

    for name in NAMES:
        yield MoleculeNet(MoleculeNetConfig(dataset=name), workers=workers, progress=progress).store


_ALL = (
    DataSet(
        "fs-mol",
        "FS-Mol 0.1: 5,135 assays of ChEMBL, split into train, valid and test",
        "CC BY-SA 3.0",
        _fsmol_files,
        "molmeta data prepare fs-mol",
        _fsmol_stores,
    ),
    DataSet(
        "moleculenet",
        "MoleculeNet's Tox21, SIDER, MUV and ToxCast, as few-shot tasks",
        "MIT (chemprop's copies)",
        partial(_listed, "moleculenet"),
        "molmeta data prepare moleculenet",
        _moleculenet_stores,
    ),
    DataSet(
        "omniglot",
        "Omniglot: 1,623 handwritten characters of 50 alphabets, and Lake's one-shot runs",
        "MIT",
        partial(_listed, "omniglot"),
        "molmeta train --config omniglot-protonet -o my-run",
    ),
    DataSet(
        "clinc150",
        "CLINC150: requests to an assistant, 150 intents in ten domains, five class splits",
        "CC BY 3.0; splits Apache-2.0",
        partial(_listed, "clinc150"),
        "molmeta train --config clinc150 -o my-run",
    ),
    DataSet(
        "hwu64",
        "HWU64: requests to a home robot, 64 intents, five class splits",
        "CC BY 4.0; splits Apache-2.0",
        partial(_listed, "hwu64"),
        "molmeta train --config hwu64 -o my-run",
    ),
    DataSet(
        "banking77",
        "BANKING77: questions to a bank, 77 intents, five class splits",
        "CC BY 4.0; splits Apache-2.0",
        partial(_listed, "banking77"),
        f"see {datasets_dir() / 'banking77' / 'README.md'}",
    ),
)
DATASETS = {each.name: each for each in _ALL}


def dataset(name: str) -> DataSet:
    """The data set of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in DATASETS:
        raise ConfigError(f'unknown data set "{name}". Known: {", ".join(DATASETS)}')
    return DATASETS[name]


@dataclass(frozen=True)
class Fetched:
    """What became of one file.

    Attributes:
        file: which.
        outcome: ``there``: it stood there, and matches its checksum if one is recorded. ``replaced``: one stood there
            that did not match.
        problem: why it failed, else empty.
        url: where it was asked for; empty if it was not.
    """

    file: DataFile
    outcome: Literal["there", "fetched", "replaced", "failed"]
    problem: str = ""
    url: str = ""


def fetch(chosen: DataSet, url: str | None = None) -> Generator[Fetched, None, None]:
    """Download the files that are not there, or do not match their checksum; what arrives otherwise is not kept.

    A file appears whole or not at all, and what stood in its place stays until then. Ends early after many failures in
    a row.

    Args:
        chosen: the data set.
        url: another place that serves the same files, each under its path.

    Raises:
        DataError: the folder cannot be written.
    """
    folders = sorted({chosen.folder / each for file in chosen.list_files() for each in Path(file.path).parents})
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        place = f"{chosen.folder} ({error.strerror})"
        raise DataError(f"cannot write {place}. Set MOLMETA_DATA to a folder of yours") from error
    pool = ThreadPoolExecutor(_THREADS)
    try:
        in_a_row = 0
        for outcome in pool.map(partial(_fetch_file, folder=chosen.folder, mirror=url), chosen.list_files()):
            yield outcome
            in_a_row = in_a_row + 1 if outcome.outcome == "failed" else 0
            if in_a_row == _GIVE_UP:
                break
    finally:
        pool.shutdown(cancel_futures=True)
        for folder in reversed(folders):
            with suppress(OSError):  # it holds something
                folder.rmdir()


def _fetch_file(file: DataFile, folder: Path, mirror: str | None) -> Fetched:
    found = file.find(folder)
    if found and (not file.sha256 or _sha256(found) == file.sha256):
        return Fetched(file, "there")
    target = folder / file.path
    # One name a file, so that what a killed download left is overwritten by the next, and never mistaken for data.
    partial_file = target.with_name(f".{target.name}.partial")
    url = f"{mirror.rstrip('/')}/{file.path}" if mirror else file.url
    try:
        pooch.HTTPDownloader(timeout=_TIMEOUT)(url, str(partial_file), None)
        if file.sha256 and _sha256(partial_file) != file.sha256:
            return Fetched(file, "failed", "what the server sends does not match the recorded checksum; not kept", url)
        partial_file.replace(target)
    except Exception as error:
        return Fetched(file, "failed", _reason(error), url)
    finally:
        with suppress(OSError):
            partial_file.unlink()
    return Fetched(file, "replaced" if found == target else "fetched", "", url)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: BaseException) -> str:
    """The innermost cause, in the system's words: those around it repeat it at length."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    said = (isinstance(error, OSError) and error.strerror) or str(error).partition("\n")[0] or type(error).__name__
    return said.partition(" for url: ")[0]


@dataclass(frozen=True)
class Check:
    """What of a data set stands on disk, by path."""

    same: tuple[str, ...]
    different: tuple[str, ...]
    missing: tuple[str, ...]
    unverifiable: tuple[str, ...]


def check(chosen: DataSet) -> Check:
    """Compare every file on disk with its recorded checksum.

    Raises:
        DataError: the data set is not there at all.
    """
    found: dict[str, list[str]] = {"same": [], "different": [], "missing": [], "unverifiable": []}
    for file in chosen.list_files():
        path = file.find(chosen.folder)
        if path is None:
            found["missing"].append(file.path)
        elif not file.sha256:
            found["unverifiable"].append(file.path)
        else:
            found["same" if _sha256(path) == file.sha256 else "different"].append(file.path)
    if len(found["missing"]) == len(chosen.list_files()):
        raise DataError(
            f"{chosen.name} is not in {data_dir()}. Set MOLMETA_DATA to the folder that holds it, or fetch it with "
            f'"molmeta data fetch {chosen.name}"'
        )
    return Check(**{kind: tuple(paths) for kind, paths in found.items()})
