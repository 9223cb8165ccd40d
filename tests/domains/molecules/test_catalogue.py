"""Fetching from a server of our own: verified, resumable, and plain about what did not arrive."""

import hashlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from molmeta.domains.molecules.catalogue import DataFile, DataSet, check, dataset, fetch
from molmeta.domains.molecules.store import MoleculeStore
from molmeta.errors import ConfigError, DataError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def no_stores(*_: object) -> Iterator[MoleculeStore]:
    yield from ()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataSet]:
    """Three files, of which the server alters one and lacks one."""
    origin = tmp_path / "origin" / "train"
    origin.mkdir(parents=True)
    (origin / "good.txt").write_text("good")
    (origin / "altered.txt").write_text("altered on the way")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("good", "altered", "absent")}
    files = [DataFile(f"train/{name}.txt", digest) for name, digest in digests.items()]
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "origin")))
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MOLMETA_DATA", str(tmp_path / "data"))
    yield DataSet("toy", "a toy", "none", f"http://127.0.0.1:{server.server_port}/", lambda: files, no_stores)
    server.shutdown()


def test_what_does_not_match_its_checksum_is_not_kept(served: DataSet, tmp_path: Path) -> None:
    outcomes = {Path(o.file.path).stem: o for o in fetch(served)}
    assert outcomes["good"].verified
    assert not outcomes["good"].problem
    assert "hash" in outcomes["altered"].problem
    assert "404" in outcomes["absent"].problem
    assert [p.name for p in (tmp_path / "data" / "toy" / "train").iterdir()] == ["good.txt"]


def test_fetching_again_takes_only_what_is_missing(served: DataSet, tmp_path: Path) -> None:
    list(fetch(served))
    (tmp_path / "origin" / "train" / "good.txt").unlink()
    (tmp_path / "origin" / "train" / "altered.txt").write_text("altered")
    outcomes = {Path(o.file.path).stem: o.problem for o in fetch(served)}
    assert outcomes["good"] == ""
    assert outcomes["altered"] == ""


def test_check_counts_files_that_differ_or_are_missing(served: DataSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="molmeta data fetch toy"):
        check(served)
    list(fetch(served))
    (tmp_path / "data" / "toy" / "train" / "altered.txt").write_text("something else")
    found = check(served)
    assert (found.same, found.different, found.missing) == (1, 1, 1)


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="fs-mol"):
        dataset("fs-mole")


def test_the_official_list_has_every_task_and_no_checksum_for_four() -> None:
    files = dataset("fs-mol").list_files()
    folds = [file.path.split("/")[0] for file in files]
    assert {fold: folds.count(fold) for fold in set(folds)} == {"train": 4938, "valid": 40, "test": 157}
    assert sum(not file.sha256 for file in files) == 4


def test_a_file_packed_otherwise_is_there_but_not_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLMETA_DATA", str(tmp_path))
    (tmp_path / "moleculenet").mkdir()
    for name in ("tox21.csv", "muv.csv.gz", "toxcast.csv.gz"):
        (tmp_path / "moleculenet" / name).write_text("")
    found = check(dataset("moleculenet"))
    assert (found.same, found.different, found.missing, found.unverifiable) == (0, 0, 1, 3)


def test_moleculenet_s_files_come_from_deepchem_s_bucket_without_a_checksum() -> None:
    moleculenet = dataset("moleculenet")
    assert moleculenet.url.startswith("https://deepchemdata.s3")
    assert [file.path for file in moleculenet.list_files()] == [
        "tox21.csv.gz",
        "sider.csv.gz",
        "muv.csv.gz",
        "toxcast_data.csv.gz",
    ]
    assert not any(file.sha256 for file in moleculenet.list_files())
