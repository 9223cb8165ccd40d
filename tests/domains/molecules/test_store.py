from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from molmeta.domains.molecules import store as module
from molmeta.domains.molecules.featurise import MoleculeArrays
from molmeta.domains.molecules.store import MoleculeStore, build, content_key, open_or_build, read, write
from molmeta.errors import DataError
from tests.bundles import DRUGS

SMILES = [*DRUGS, "C1CC", "C", "CCO", "OCC", "not a molecule"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(build(SMILES), tmp_path / "stores" / "one")
    return tmp_path / "stores" / "one"


def assert_same(left: MoleculeStore, right: MoleculeStore) -> None:
    for name in MoleculeArrays.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(left.arrays, name), getattr(right.arrays, name), err_msg=name)
    assert left.structure.tolist() == right.structure.tolist()
    assert (left.row_of, left.reasons) == (right.row_of, right.reasons)


def test_what_is_read_equals_what_was_written(folder: Path) -> None:
    assert_same(read(folder), build(SMILES))


def test_several_workers_build_what_one_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    done: list[int] = []
    assert_same(build(SMILES, workers=2, progress=done.append), build(SMILES, workers=1))
    assert sum(done) == len(set(SMILES))


def test_a_molecule_is_found_by_the_exact_text_and_known_by_its_structure(folder: Path) -> None:
    store = read(folder)
    assert store.row_of["CCO"] != store.row_of["OCC"]
    structure = {text: store.structure[row] for text, row in store.row_of.items()}
    assert structure["CCO"] == structure["OCC"]
    assert len(set(structure.values())) == len({Chem.CanonSmiles(text) for text in structure})
    assert "C(O)C" not in store.row_of


def test_rows_give_back_their_exact_texts(folder: Path) -> None:
    store = read(folder)
    texts = ["OCC", "CCO", DRUGS[3], "CCO"]
    assert store.smiles(np.array([store.row_of[text] for text in texts])) == texts
    assert store.smiles(np.array([], np.int64)) == []


def test_refused_molecules_have_reasons_and_no_row(folder: Path) -> None:
    store = read(folder)
    assert set(store.reasons) == {"C1CC", "not a molecule"}
    assert all(store.reasons.values())
    assert not set(store.reasons) & set(store.row_of)
    assert len(store) == len(store.row_of) == len(set(SMILES)) - 2


def test_a_repeated_molecule_is_kept_once_at_its_first_place() -> None:
    assert list(build(["CCO", "CC", "CCO", "C", "CC"]).row_of.items()) == [("CCO", 0), ("CC", 1), ("C", 2)]


@pytest.mark.parametrize("smiles", [[], ["C"], ["C1CC"], ["C", "[Na+].[Cl-]"]])
def test_a_store_without_molecules_or_without_bonds_is_read_back(smiles: list[str], tmp_path: Path) -> None:
    assert_same(open_or_build(smiles, tmp_path), build(smiles))
    assert len(open_or_build(smiles, tmp_path).gather(np.arange(0))) == 0


def test_a_text_with_a_line_break_is_one_molecule(tmp_path: Path) -> None:
    texts = ["CCO\nCCN", "CCO", '"CC', "C\r\nX", "\ud800"]
    assert content_key(texts[:1]) != content_key(["CCO", "CCN"])
    store = open_or_build(texts, tmp_path)
    assert_same(store, build(texts))
    assert set(store.row_of) >= {"CCO\nCCN", "CCO", "C\r\nX"}


def test_a_store_is_built_once_and_read_afterwards(tmp_path: Path) -> None:
    done: list[int] = []
    open_or_build(SMILES, tmp_path, progress=done.append)
    before = sum(done)
    assert_same(open_or_build(SMILES, tmp_path, progress=done.append), build(SMILES))
    assert sum(done) == before == len(set(SMILES))


def test_a_changed_featuriser_never_reads_an_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_or_build(SMILES, tmp_path)
    (old,) = (tmp_path / "stores").iterdir()
    monkeypatch.setattr(module, "FEATURISER_VERSION", module.FEATURISER_VERSION + 1)
    done: list[int] = []
    open_or_build(SMILES, tmp_path, progress=done.append)
    assert done
    assert len(list((tmp_path / "stores").iterdir())) == 2
    with pytest.raises(DataError, match=rf"{old} was written as .*Delete the folder: it is built again"):
        read(old)


def test_a_store_of_a_newer_format_is_refused(folder: Path) -> None:
    header = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(DataError, match=rf"{folder} was written as format 99.*reads format 1.*Delete the folder"):
        read(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', "null", "\xff"])
def test_a_foreign_header_is_refused_with_folder_and_way_out(folder: Path, text: str) -> None:
    (folder / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=rf"the store {folder} is damaged .*Delete the folder"):
        read(folder)


@pytest.mark.parametrize("left", [0, 10, 100, -1])
@pytest.mark.parametrize("name", ["atoms", "bonds", "bin_offsets", "structure"])
def test_a_truncated_array_is_refused_with_folder_and_way_out(folder: Path, name: str, left: int) -> None:
    path = folder / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DataError, match=rf"the store {folder} is damaged .*Delete the folder"):
        read(folder)


@pytest.mark.parametrize("name", ["smiles.txt", "counts.npy", "store.json"])
def test_a_store_with_a_part_missing_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"the store {folder} is damaged"):
        read(folder)


def test_a_store_that_lost_lines_is_refused(folder: Path) -> None:
    lines = (folder / "smiles.txt").read_text().split("\n")
    (folder / "smiles.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match="its parts differ in length"):
        read(folder)


def test_a_folder_that_stands_in_the_way_is_named(folder: Path) -> None:
    (folder / "store.json").unlink()
    with pytest.raises(DataError, match=rf"cannot write the store {folder} .*Delete the folder"):
        write(build(["C"]), folder)


def test_another_process_that_was_faster_is_no_error_and_nothing_is_left_over(folder: Path) -> None:
    write(build(SMILES), folder)
    assert [p.name for p in folder.parent.iterdir()] == ["one"]


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that builds a store of these molecules, slowly, on two workers."""
    code = (
        "import sys, time; from pathlib import Path; from molmeta.domains.molecules import store; "
        "from tests.domains.molecules.test_store import MANY; store.CHUNK = 10; "
        "store.open_or_build(MANY, Path(sys.argv[1]), 2, lambda n: (print('done', flush=True), time.sleep(0.1)))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    yield process
    process.kill()
    process.wait()


MANY = [f"{'C' * n}O" for n in range(1, 200)]


def test_killed_while_it_builds_it_leaves_no_store_no_workers_and_a_rerun_succeeds(
    builder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert builder.stdout is not None
    assert builder.stdout.readline() == b"done\n"
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert not list(tmp_path.rglob("store.json"))
    assert_same(open_or_build(MANY, tmp_path), build(MANY))
    for _ in range(100):  # the workers notice that the parent is gone
        try:
            os.killpg(builder.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("workers outlived their parent by ten seconds")


@pytest.mark.parametrize("at", ["atoms.npy", "smiles.txt", "store.json"])
def test_killed_while_it_writes_it_leaves_no_readable_half(at: str, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; import numpy as np;"
        "from molmeta.domains.molecules import store;"
        "kill = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL);"
        "save, text = np.save, Path.write_text;"
        "np.save = lambda p, a: kill() if Path(p).name == sys.argv[2] else save(p, a);"
        "Path.write_text = lambda p, t, **k: (p.write_bytes(t[:9].encode()), kill()) if p.name == sys.argv[2]"
        " else text(p, t, **k);"
        "store.open_or_build(['CCO', 'C'], Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), at], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "stores" / content_key(["CCO", "C"])).exists()
    assert_same(open_or_build(["CCO", "C"], tmp_path), build(["CCO", "C"]))
