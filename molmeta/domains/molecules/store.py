"""The flat store: every distinct molecule featurised once, memory-mapped from disk.

A store is a folder of ``.npy`` files and a ``store.json``; it appears whole or not at all (written beside, then
renamed) and is named by its content and the featuriser's version, so that a changed featuriser never reads an old one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molmeta.domains.molecules.featurise import FEATURISER_VERSION, MoleculeArrays, featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.workers import featurise_stream
from molmeta.errors import DataError, InputError

FORMAT = 1
CHUNK = 512

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class MoleculeStore:
    """Featurised molecules, in memory or memory-mapped.

    Attributes:
        arrays: the molecules.
        structure: ``[n]`` uint64 hash of the canonical isomeric SMILES: equal for the same structure.
        lines: the exact SMILES as given, one a line; those with line breaks stand in JSON's quotes.
        reasons: the exact SMILES of each refused molecule to its reason.
    """

    arrays: MoleculeArrays
    structure: NDArray[np.uint64]
    lines: str
    reasons: dict[str, str]

    def __len__(self) -> int:
        return len(self.arrays)

    def gather(self, rows: NDArray[np.int64]) -> MoleculeBatch:
        """The molecules at ``rows`` as one batch of tensors."""
        return MoleculeBatch.of(self.arrays.take(rows), copy=False)

    def smiles(self, rows: NDArray[np.int64]) -> list[str]:
        """The exact SMILES, as given, of the molecules at ``rows`` (``[n]``)."""
        return [self._texts[row] for row in rows.tolist()]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The exact SMILES as given to its row; refused molecules are not in it."""
        return {text: row for row, text in enumerate(self._texts)}

    @cached_property
    def _texts(self) -> list[str]:
        return [_text(line) for line in self.lines.split("\n")] if len(self) else []


class StoreSource:
    """What every task source over a store has: its rows as inputs, as SMILES and as structures."""

    store: MoleculeStore

    def gather(self, rows: NDArray[np.int64]) -> MoleculeBatch:
        """The molecules at ``rows`` of the store."""
        return self.store.gather(rows)

    def smiles(self, rows: NDArray[np.int64]) -> list[str]:
        """The SMILES at ``rows`` of the store, exactly as the files write them."""
        return self.store.smiles(rows)

    def structures(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """A hash of the canonical isomeric SMILES of each of ``rows``: equal for the same structure."""
        found: NDArray[np.uint64] = self.store.structure[rows]
        return found


def structure_hash(canonical: str) -> int:
    """64 bits that stand for a structure."""
    return int.from_bytes(hashlib.blake2b(canonical.encode(), digest_size=8).digest(), "little")


def build(smiles: Sequence[str], workers: int | None = None, progress: Progress | None = None) -> MoleculeStore:
    """Featurise each distinct SMILES once, in parallel.

    Args:
        smiles: exact strings; repeated ones are featurised once, at the place of their first appearance.
        workers: processes; None takes every core for more than a thousand molecules.
        progress: called with the number of molecules done since the last call.
    """
    distinct = list(dict.fromkeys(smiles))
    chunks = [distinct[i : i + CHUNK] for i in range(0, len(distinct), CHUNK)]
    arrays: list[MoleculeArrays] = []
    structure: list[int] = []
    lines: list[str] = []
    reasons: dict[str, str] = {}
    for chunk, done in featurise_stream(chunks, list, workers):
        arrays.append(done.arrays)
        for text, valid, reason, canonical in zip(chunk, done.valid, done.reasons, done.canonical, strict=True):
            if valid:
                lines.append(_line(text))
                structure.append(structure_hash(canonical))
            else:
                reasons[text] = reason
        if progress is not None:
            progress(len(chunk))
    blocks = arrays or [featurise([]).arrays]
    joined = "\n".join(lines)
    return MoleculeStore(MoleculeArrays.concatenate(blocks), np.array(structure, np.uint64), joined, reasons)


def version() -> str:
    """What a store's name depends on besides its content."""
    return f"molmeta store {FORMAT} featuriser {FEATURISER_VERSION}"


def content_key(smiles: Sequence[str]) -> str:
    """The name of the store of these molecules under this featuriser."""
    digest = hashlib.sha256(f"{version()}\n".encode())
    digest.update("\n".join(map(_line, dict.fromkeys(smiles))).encode())
    return digest.hexdigest()[:20]


def open_or_build(
    smiles: Sequence[str], cache: Path, workers: int | None = None, progress: Progress | None = None
) -> MoleculeStore:
    """The store of these molecules: read from ``cache`` if it is there, else built and written."""
    return read(prepare(smiles, cache, workers, progress))


def prepare(smiles: Sequence[str], cache: Path, workers: int | None = None, progress: Progress | None = None) -> Path:
    """The folder in ``cache`` of the store of these molecules, built and written if it is not there."""
    folder = cache / "stores" / content_key(smiles)
    if not (folder / "store.json").exists():
        _require_writable(folder.parent)  # before minutes of work
        write(build(smiles, workers, progress), folder)
    return folder


def write(store: MoleculeStore, folder: Path) -> None:
    """Write a store; the folder appears whole, under its name, or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for column in fields(MoleculeArrays):
            np.save(partial / f"{column.name}.npy", getattr(store.arrays, column.name))
        np.save(partial / "structure.npy", store.structure)
        (partial / "smiles.txt").write_text(store.lines, encoding="utf-8", newline="\n")
        header = {"format": FORMAT, "featuriser": FEATURISER_VERSION, "rows": len(store), "refused": store.reasons}
        (partial / "store.json").write_text(json.dumps(header), encoding="utf-8")
        try:
            partial.rename(folder)
        except OSError as error:
            # Where another process was faster, its store has the same content.
            if not (folder / "store.json").exists():
                raise DataError(
                    f"cannot write the store {folder} ({error}). Delete the folder if it is there"
                ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _require_writable(stores: Path) -> None:
    try:
        stores.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=stores):
            pass
    except OSError as error:
        raise DataError(
            f"the cache {stores} cannot be written to ({error}). Set MOLMETA_CACHE to a folder that can"
        ) from error


def read(folder: Path) -> MoleculeStore:
    """Open a store, memory-mapped.

    Raises:
        DataError: it is damaged, or was written by another version.
    """
    try:
        header = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        found = (header["format"], header["featuriser"])
        if found != (FORMAT, FEATURISER_VERSION):
            raise DataError(
                f"{folder} was written as format {found[0]}, featuriser {found[1]}; this molmeta reads format "
                f"{FORMAT}, featuriser {FEATURISER_VERSION}. Delete the folder: it is built again"
            )
        # As plain arrays: numpy's memmap class makes each access slower.
        arrays = MoleculeArrays(
            **{c.name: np.asarray(np.load(folder / f"{c.name}.npy", mmap_mode="r")) for c in fields(MoleculeArrays)}
        )
        structure = np.load(folder / "structure.npy")
        lines = (folder / "smiles.txt").read_bytes().decode()
        count = lines.count("\n") + 1 if lines else 0
        reasons = dict(header["refused"])
        if not count == len(arrays) == len(structure) == header["rows"]:
            raise ValueError("its parts differ in length")
    except DataError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the store {folder} is damaged ({error}). Delete the folder: it is built again") from error
    return MoleculeStore(arrays, structure, lines, reasons)


def refused_rows(bad: Sequence[tuple[str, int, str]], total: int, reasons: Mapping[str, str], root: Path) -> InputError:
    """The error for data whose molecules may not be dropped.

    Args:
        bad: file, row number and SMILES of every row that cannot be used.
        total: rows in all.
        reasons: SMILES that were refused -> why.
        root: where the files are.
    """
    lines = [f"  {where} row {i}: {text!r:.60} {reasons[text]}" for where, i, text in bad[:20]]
    more = [f"  ... and {len(bad) - 20} more"] if len(bad) > 20 else []
    way_out = "  Fix these rows, or leave them out with --set source.on_invalid=drop"
    head = f"{len(bad)} of {total} rows in {root} cannot be used."
    return InputError("\n".join([head, *lines, *more, way_out]))


def _line(text: str) -> str:
    """A SMILES as one line of a file: as it is, or in JSON's quotes where it holds a line break or the like."""
    return text if text.isprintable() and not text.startswith('"') else json.dumps(text)


def _text(line: str) -> str:
    return str(json.loads(line)) if line.startswith('"') else line
