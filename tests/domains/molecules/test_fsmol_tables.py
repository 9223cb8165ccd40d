"""An FS-Mol folder opened from what was kept of it: equal to reading its files, and never older than they are."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from molmeta.core.task import Split, Task, TaskKind
from molmeta.domains.molecules import fsmol_tables as module
from molmeta.domains.molecules import store
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
from molmeta.domains.molecules.fsmol_files import FSMolRows, read_task_file, write_folder, write_task_file
from molmeta.errors import DataError
from tests.bundles import DRUGS

SMILES = ["C1CC", *DRUGS[:6], "not a molecule", *DRUGS[4:]]  # two are refused, two stand twice


def rows(seed: int, relations: tuple[str, ...] = ("=", ">", "<=", "")) -> FSMolRows:
    rng = np.random.default_rng(seed)
    n = len(SMILES)
    texts = [SMILES[i] for i in rng.permutation(n)]
    values = np.where(rng.random(n) < 0.2 * (seed % 2), np.nan, rng.random(n) * 1e4)
    signs = [relations[i] for i in rng.integers(len(relations), size=n)]
    return FSMolRows(
        texts,
        rng.integers(2, size=n) * 1.0,
        values,
        9 - np.log10(values),
        signs,
        [["B", "", "F"][i % 3] for i in range(n)],
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folds = {
        "train": {f"T{i}": rows(seed) for seed, i in enumerate((3, 1, 2, 10, "1-b"))},
        "valid": {"V1": rows(4), "V2": rows(5, ("~",))},
    }
    write_folder(tmp_path / "data" / "fs-mol", folds)
    path = tmp_path / "data" / "fs-mol" / "train" / "T1.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0, mtime=0))
    return tmp_path / "data" / "fs-mol"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, that trusts files however new they are."""
    monkeypatch.setenv("MOLMETA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED", -60.0)
    return tmp_path / "cache"


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files are read from now on."""
    found: list[str] = []
    monkeypatch.setattr(module, "read_task_file", lambda path: found.append(path.name) or read_task_file(path))
    return found


def opened(folder: Path) -> FSMol:
    return FSMol(FSMolConfig(root=str(folder), on_invalid="drop", hold_out=False), workers=1)


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("stores/*/tasks-*"))


def simply(source: FSMol, folder: Path, kind: TaskKind) -> Iterator[Task]:
    """The tasks of a fold by the simple path: each file read, each text looked up."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        read = read_task_file(path)
        if kind is TaskKind.REGRESSION and not np.isfinite(read.log_values).all():
            continue
        known = [i for i, text in enumerate(read.smiles) if text in source.store.row_of]
        labels = read.labels.astype(np.int64) if kind is TaskKind.BINARY else read.log_values
        yield Task(
            name=path.name.removesuffix(".jsonl.gz"),
            rows=np.array([source.store.row_of[read.smiles[i]] for i in known]),
            labels=labels[known],
            kind=kind,
            num_classes=2 if kind is TaskKind.BINARY else 0,
            description={"assay_type": "; ".join(dict.fromkeys(filter(None, read.assay_types)))},
            columns={"value": read.values[known], "relation": np.array(read.relations)[known]},
        )


def assert_as_the_files_say(source: FSMol, folder: Path) -> None:
    for split in (Split.TRAIN, Split.VALID):
        for kind in TaskKind:
            found = source.tasks(split, kind)
            expected = [] if kind is TaskKind.MULTICLASS else list(simply(source, folder / split, kind))
            assert [task.name for task in found] == [task.name for task in expected]
            for left, right in zip(found, expected, strict=True):
                assert (left.kind, left.num_classes, left.description) == (kind, right.num_classes, right.description)
                assert (left.rows.dtype, left.labels.dtype) == (right.rows.dtype, right.labels.dtype)
                np.testing.assert_array_equal(left.rows, right.rows)
                np.testing.assert_array_equal(left.labels, right.labels)
                np.testing.assert_array_equal(left.columns["value"], right.columns["value"])
                assert left.columns["relation"].tolist() == right.columns["relation"].tolist()


def test_tasks_are_what_the_files_say_whether_read_or_kept_and_the_files_are_read_once(
    folder: Path, read_files: list[str]
) -> None:
    assert_as_the_files_say(opened(folder), folder)
    assert len(read_files) == 7
    assert_as_the_files_say(opened(folder), folder)
    assert len(read_files) == 7


def test_refused_molecules_are_named_alike_whether_read_or_kept(folder: Path) -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot be used") as caught:
            FSMol(FSMolConfig(root=str(folder)), workers=1)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    for path in sorted(folder.glob("*/*.jsonl.gz")):
        for i, text in enumerate(read_task_file(path).smiles, start=1):
            line = f"  {path.parent.name}/{path.name.removesuffix('.jsonl.gz')} row {i}: '{text}' "
            assert (line in messages[0]) == (text in ("C1CC", "not a molecule"))


def _change_a_label(folder: Path) -> None:
    """The same name, size and time of change: only the contents differ."""
    path = folder / "train" / "T1.jsonl.gz"
    before, lines = path.stat(), gzip.decompress(path.read_bytes())
    was, now = (b'"Property": "1.0"', b'"Property": "0.0"')
    assert was in lines
    path.write_bytes(gzip.compress(lines.replace(was, now, 1), compresslevel=0, mtime=0))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


CHANGES = {
    "a label was changed and the file's time set back": _change_a_label,
    "a file was added": lambda folder: write_task_file(folder / "valid" / "V0.jsonl.gz", rows(7)),
    "a file was removed": lambda folder: (folder / "train" / "T2.jsonl.gz").unlink(),
    "a file was renamed": lambda folder: (folder / "train" / "T2.jsonl.gz").rename(folder / "train" / "A.jsonl.gz"),
    "a file went to another fold": lambda folder: (folder / "train" / "T2.jsonl.gz").rename(
        folder / "valid" / "T2.jsonl.gz"
    ),
    "two files were exchanged": lambda folder: [
        (folder / "train" / left).rename(folder / "train" / right)
        for left, right in (("T1.jsonl.gz", "x"), ("T2.jsonl.gz", "T1.jsonl.gz"), ("x", "T2.jsonl.gz"))
    ],
    "a fold was removed": lambda folder: shutil.rmtree(folder / "valid"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_folder_that_changed_is_read_anew(change: str, folder: Path, read_files: list[str]) -> None:
    opened(folder)
    CHANGES[change](folder)
    read_files.clear()
    assert_as_the_files_say(opened(folder), folder)
    assert len(read_files) == len(list(folder.glob("*/*.jsonl.gz")))


def test_files_so_new_that_a_change_would_not_show_are_not_trusted(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTLED", 2.0)
    assert_as_the_files_say(opened(folder), folder)
    assert not kept(cache)


def test_another_folder_of_the_same_names_and_molecules_has_tables_of_its_own(folder: Path, cache: Path) -> None:
    other = folder.parent / "other"
    shutil.copytree(folder, other)
    _change_a_label(other)
    for each in (folder, other, folder, other):
        assert_as_the_files_say(opened(each), each)
    assert len(kept(cache)) == 2
    assert len({path.parent for path in kept(cache)}) == 1


@pytest.mark.parametrize("left", [0, 1, 100, 1000, -1, -40])
def test_a_truncated_table_is_written_anew(left: int, folder: Path, cache: Path) -> None:
    opened(folder)
    (path,) = kept(cache)
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    assert_as_the_files_say(opened(folder), folder)
    assert path.read_bytes() == whole


def test_any_damaged_byte_is_noticed_or_means_nothing(folder: Path, cache: Path) -> None:
    opened(folder)
    (path,) = kept(cache)
    whole, tables = path.read_bytes(), module._load(path)
    assert tables is not None
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        found = module._load(path)
        for name in module.FSMolTables.__dataclass_fields__ if found else ():
            np.testing.assert_array_equal(getattr(found, name), getattr(tables, name))


def test_tables_go_with_the_store_whose_rows_they_name(folder: Path, cache: Path, read_files: list[str]) -> None:
    opened(folder)
    read_files.clear()
    shutil.rmtree(cache / "stores")
    assert_as_the_files_say(opened(folder), folder)
    assert len(read_files) == 7


def test_a_changed_featuriser_never_uses_older_tables(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(folder)
    monkeypatch.setattr(store, "FEATURISER_VERSION", store.FEATURISER_VERSION + 1)
    assert_as_the_files_say(opened(folder), folder)
    assert len({path.parent for path in kept(cache)}) == 2


def test_a_damaged_store_is_refused_by_name_though_its_tables_are_whole(folder: Path, cache: Path) -> None:
    opened(folder)
    (path,) = kept(cache)
    (path.parent / "atoms.npy").unlink()
    with pytest.raises(DataError, match=rf"the store {path.parent} is damaged .*Delete the folder"):
        opened(folder)


def test_a_cache_with_a_store_that_cannot_be_written_to_serves(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(module, "write_whole", refuse)
    for _ in range(2):
        assert_as_the_files_say(opened(folder), folder)
    assert not kept(cache)


def test_a_cache_that_cannot_be_made_is_refused_before_any_work(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file stands in the way")
    monkeypatch.setattr(store, "build", lambda *_: pytest.fail("molecules were featurised"))
    with pytest.raises(DataError, match=rf"the cache {cache}/stores cannot be written to .*Set MOLMETA_CACHE"):
        opened(folder)


def test_a_task_file_that_leads_nowhere_is_refused_by_name(folder: Path) -> None:
    (folder / "valid" / "V3.jsonl.gz").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"V3\.jsonl\.gz cannot be read .*Fetch it again"):
        opened(folder)


_OPEN = (
    "import sys; from molmeta.domains.molecules import fsmol_tables; fsmol_tables._SETTLED = -60.0;"
    "from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig; from molmeta.core.task import Split;"
    "made = FSMol(FSMolConfig(root=sys.argv[1], on_invalid='drop', hold_out=False), workers=1);"
    "print([(t.name, t.labels.tolist(), made.smiles(t.rows)) for t in made.tasks(Split.TRAIN)])"
)


def test_processes_that_open_it_at_once_see_the_same_and_leave_one_table(folder: Path, cache: Path) -> None:
    opening = [
        subprocess.Popen([sys.executable, "-c", _OPEN, str(folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate()[0] for process in opening]
    assert [process.returncode for process in opening] == [0, 0, 0]
    made = opened(folder)
    expected = [(t.name, t.labels.tolist(), made.smiles(t.rows)) for t in made.tasks(Split.TRAIN)]
    assert said == [f"{expected}\n"] * 3
    assert [path.suffix for path in kept(cache)] == [".npz"]
    assert len(list((cache / "stores").iterdir())) == 1
