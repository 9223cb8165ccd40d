"""The data sets that molmeta knows: where they come from, what they must look like, where they stand on disk."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from molmeta.errors import ConfigError, DataError
from molmeta.paths import data_dir, datasets_dir

if TYPE_CHECKING:  # so that listing data sets loads neither torch nor RDKit
    from molmeta.domains.molecules.store import MoleculeStore, Progress

_THREADS = 8


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        path: its place under the data set's folder.
        sha256: "" where none is recorded.
        also: other names under which it may stand there, packed in another way.
    """

    path: str
    sha256: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: its folder under ``MOLMETA_DATA``.
        about: one line.
        licence: of the data.
        url: what a file's path is appended to.
        list_files: the files that it consists of.
        stores: opens its stores of molecules, building those that are not there: given the number of processes, and
            what is called with the number of molecules done since the last call.
    """

    name: str
    about: str
    licence: str
    url: str
    list_files: Callable[[], Sequence[DataFile]]
    stores: Callable[[int | None, Progress | None], Iterator[MoleculeStore]]

    def find(self) -> Path | None:
        """Its folder, if it is there."""
        folder = data_dir() / self.name
        return folder if folder.is_dir() else None


@lru_cache(maxsize=1)
def _fsmol_files() -> tuple[DataFile, ...]:
    with gzip.open(datasets_dir() / "fsmol" / "files.csv.gz", "rt", encoding="utf-8") as lines:
        return tuple(DataFile(f"{r['split']}/{r['task']}.jsonl.gz", r["sha256"]) for r in csv.DictReader(lines))


def _fsmol_stores(workers: int | None, progress: Progress | None) -> Iterator[MoleculeStore]:
    from molmeta.domains.molecules.fsmol import FSMol

    yield FSMol(workers=workers, progress=progress).store


def _moleculenet_files() -> tuple[DataFile, ...]:
    """DeepChem's files. Their checksums are not recorded: they arrive unverified, and are said to be."""
    others = {"toxcast_data.csv.gz": ("toxcast_data.csv", "toxcast.csv.gz", "toxcast.csv")}
    names = ("tox21.csv.gz", "sider.csv.gz", "muv.csv.gz", "toxcast_data.csv.gz")
    return tuple(DataFile(name, "", others.get(name, (name.removesuffix(".gz"),))) for name in names)


def _moleculenet_stores(workers: int | None, progress: Progress | None) -> Iterator[MoleculeStore]:
    from molmeta.domains.molecules.moleculenet import NAMES, MoleculeNet, MoleculeNetConfig

    for name in NAMES:
        yield MoleculeNet(MoleculeNetConfig(dataset=name), workers=workers, progress=progress).store


DATASETS = {
    "fs-mol": DataSet(
        "fs-mol",
        "FS-Mol 0.1: 5,135 assays of ChEMBL, split into train, valid and test",
        "CC BY-SA 3.0",
        "https://github.com/microsoft/FS-Mol/raw/ec58f4fbc840/datasets/",
        _fsmol_files,
        _fsmol_stores,
    ),
    "moleculenet": DataSet(
        "moleculenet",
        "MoleculeNet's Tox21, SIDER, MUV and ToxCast, as few-shot tasks",
        "MIT (chemprop's copies)",
        "https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/",
        _moleculenet_files,
        _moleculenet_stores,
    ),
}


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
    """The outcome for one file: ``problem`` is empty where it arrived; ``verified`` tells a checksum was compared."""

    file: DataFile
    problem: str
    verified: bool


def fetch(chosen: DataSet, url: str | None = None) -> Iterator[Fetched]:
    """Download the files that are not there yet, verified by SHA-256; one that does not match is not kept.

    Args:
        chosen: the data set.
        url: another place that serves the same files.

    Raises:
        DataError: the folder cannot be written.
    """
    folder = data_dir() / chosen.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write {folder} ({error.strerror}). Set MOLMETA_DATA to a folder of yours") from error
    base = url or chosen.url
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(lambda file: _fetch_file(file, folder, base), chosen.list_files())


def _fetch_file(file: DataFile, folder: Path, base: str) -> Fetched:
    target = folder / file.path
    try:
        pooch.retrieve(
            base.rstrip("/") + "/" + file.path,
            known_hash=f"sha256:{file.sha256}" if file.sha256 else None,
            path=target.parent,
            fname=target.name,
            downloader=pooch.HTTPDownloader(timeout=60),
        )
    except Exception as error:
        return Fetched(file, str(error).partition("\n")[0], verified=False)
    return Fetched(file, "", verified=bool(file.sha256))


@dataclass(frozen=True)
class Check:
    """What of a data set stands on disk: counts of files."""

    same: int
    different: int
    missing: int
    unverifiable: int


def check(chosen: DataSet) -> Check:
    """Compare every file on disk with its recorded checksum.

    Raises:
        DataError: the data set is not there at all.
    """
    folder = chosen.find()
    if folder is None:
        raise DataError(
            f"{chosen.name} is not in {data_dir()}. Set MOLMETA_DATA to the folder that holds it, or fetch it with "
            f'"molmeta data fetch {chosen.name}"'
        )
    counts = {"same": 0, "different": 0, "missing": 0, "unverifiable": 0}
    for file in chosen.list_files():
        path = next((folder / name for name in (file.path, *file.also) if (folder / name).is_file()), None)
        if path is None:
            counts["missing"] += 1
        elif not file.sha256:
            counts["unverifiable"] += 1
        else:
            counts["same" if pooch.file_hash(str(path)) == file.sha256 else "different"] += 1
    return Check(**counts)
