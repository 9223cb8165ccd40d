"""Fetching from servers of our own: whole or not at all, verified, and plain about what did not arrive."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from molmeta.catalogue import DATASETS, DataFile, DataSet, check, dataset, fetch
from molmeta.cli import main
from molmeta.core.task import Split, TaskKind, TaskSource
from molmeta.domains.images.lake_runs import LakeRuns
from molmeta.domains.images.omniglot import Omniglot
from molmeta.domains.text.intents import Banking77, Clinc150, Hwu64
from molmeta.errors import ConfigError, DataError
from molmeta.paths import data_dir
from tests.domains.images.made import drawing, png, zipped

OFFICIAL = {
    "fs-mol": ["https://github.com/microsoft/FS-Mol/"],
    "moleculenet": ["https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/"],
    "omniglot": ["https://github.com/brendenlake/omniglot/raw/master/python/"],
    "clinc150": ["https://github.com/clinc/oos-eval/", "https://github.com/tdopierre/ProtAugment/"],
    "hwu64": ["https://github.com/tdopierre/ProtAugment/"],
    "banking77": ["https://github.com/PolyAI-LDN/task-specific-datasets/", "https://github.com/tdopierre/ProtAugment/"],
}


class _Handler(SimpleHTTPRequestHandler):
    """Files of a folder; one named ``cut`` ends halfway."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.endswith("cut.txt"):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"the first half")
        return None


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a folder; returns its URL."""
    servers = []

    def start(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))))
        Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ``MOLMETA_DATA``."""
    monkeypatch.setenv("MOLMETA_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def toy(url: str, **contents: str) -> DataSet:
    """Files ``train/NAME.txt``, each with the checksum of what it should contain; empty: none recorded."""
    files = [
        DataFile(f"train/{name}.txt", f"{url}train/{name}.txt", text and hashlib.sha256(text.encode()).hexdigest())
        for name, text in contents.items()
    ]
    return DataSet("toy", "a toy", "none", lambda: files, "nothing")


@pytest.fixture
def served(tmp_path: Path, data: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """Six files, of which the server alters one, lacks one and breaks off in two."""
    origin = tmp_path / "origin" / "train"
    origin.mkdir(parents=True)
    for name, text in (("good", "good"), ("altered", "on the way"), ("plain", "unrecorded")):
        (origin / f"{name}.txt").write_text(text)
    contents = {"good": "good", "altered": "altered", "absent": "absent", "cut": "cut", "plaincut": "", "plain": ""}
    made = toy(serve(origin.parent), **contents)
    monkeypatch.setitem(DATASETS, "toy", made)
    return made


def fetched(chosen: DataSet, url: str | None = None) -> dict[str, tuple[str, str]]:
    return {Path(each.file.path).stem: (each.outcome, each.problem) for each in fetch(chosen, url)}


def test_only_whole_files_that_match_are_kept_and_each_other_says_why(served: DataSet, data: Path) -> None:
    outcomes = fetched(served)
    assert outcomes["good"] == outcomes["plain"] == ("fetched", "")
    assert "does not match the recorded checksum" in outcomes["altered"][1]
    assert "404" in outcomes["absent"][1]
    assert "IncompleteRead" in outcomes["cut"][1]
    assert "IncompleteRead" in outcomes["plaincut"][1]
    assert files_in(data) == ["toy/train/good.txt", "toy/train/plain.txt"]


def test_fetching_again_takes_only_what_is_missing(served: DataSet, tmp_path: Path) -> None:
    fetched(served)
    for name in ("good", "plain"):
        (tmp_path / "origin" / "train" / f"{name}.txt").unlink()
    (tmp_path / "origin" / "train" / "altered.txt").write_text("altered")
    outcomes = fetched(served)
    assert outcomes["good"] == outcomes["plain"] == ("there", "")
    assert outcomes["altered"] == ("fetched", "")


def test_a_damaged_file_stays_until_a_matching_one_replaces_it(served: DataSet, data: Path) -> None:
    folder = data / "toy" / "train"
    folder.mkdir(parents=True)
    for name in ("good", "altered"):
        (folder / f"{name}.txt").write_text("mine")
    outcomes = fetched(served)
    assert outcomes["good"] == ("replaced", "")
    assert outcomes["altered"][0] == "failed"
    assert ((folder / "good.txt").read_text(), (folder / "altered.txt").read_text()) == ("good", "mine")


def test_what_a_killed_download_left_is_cleared_away(served: DataSet, data: Path) -> None:
    folder = data / "toy" / "train"
    folder.mkdir(parents=True)
    for name in ("good", "absent"):
        (folder / f".{name}.txt.partial").write_text("hal")
    assert served.state() == "not here"
    fetched(served)
    assert files_in(folder) == ["good.txt", "plain.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_named_and_leaves_nothing(served: DataSet, data: Path) -> None:
    folder = data / "toy" / "train"
    folder.mkdir(parents=True)
    (folder / ".good.txt.partial").symlink_to("/dev/full")
    assert "No space left on device" in fetched(served)["good"][1]
    assert files_in(folder) == ["plain.txt"]


def test_a_server_that_is_down_is_named_once_and_leaves_no_folder(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    down = toy("http://127.0.0.1:9/", **{f"file{i}": "x" for i in range(100)})
    monkeypatch.setitem(DATASETS, "toy", down)
    assert main(["data", "fetch", "toy"]) == 1
    said = capsys.readouterr().err
    assert "train/file4.txt and 5 more: Connection refused (http://127.0.0.1:9/train/file0.txt)\n" in said
    assert said.count("refused") == 1  # it gave up after the first ten
    assert "100 of 100 files did not arrive" in said
    assert files_in(data) == []
    assert not (data / "toy").exists()


def test_a_folder_that_cannot_be_written_is_refused_with_the_way_out(served: DataSet, data: Path) -> None:
    data.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot write .*toy.* Set MOLMETA_DATA to a folder of yours"):
        next(fetch(served))


def test_check_names_files_that_differ_or_are_missing(
    served: DataSet, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="molmeta data fetch toy"):
        check(served)
    fetched(served)
    (data / "toy" / "train" / "altered.txt").write_text("something else")
    found = check(served)
    assert (found.same, found.different) == (("train/good.txt",), ("train/altered.txt",))
    assert found.missing == ("train/absent.txt", "train/cut.txt", "train/plaincut.txt")
    assert found.unverifiable == ("train/plain.txt",)
    assert main(["data", "check", "toy"]) == 1
    assert "differ: train/altered.txt\n" in capsys.readouterr().out


def test_list_says_what_is_there_in_part_and_not_at_all(
    served: DataSet, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched(served)
    assert served.state() == "2 of 6 files"
    assert main(["data", "list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert str(data) in lines["In"]
    assert "2 of 6 files" in lines["toy"]
    assert all("not here" in lines[name] for name in OFFICIAL)


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="fs-mol"):
        dataset("fs-mole")


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_file_comes_from_the_official_place_and_has_one_of_its_own(name: str) -> None:
    files = dataset(name).list_files()
    places = [place for file in files for place in OFFICIAL[name] if file.url.startswith(place)]
    assert len(places) == len(files)
    assert set(places) == set(OFFICIAL[name])
    assert all(file.url.endswith("/" + file.path) and len(file.sha256) in (0, 64) for file in files)
    assert len({file.path for file in files}) == len({file.url for file in files}) == len(files)


@pytest.mark.parametrize(
    ("name", "unverified"),
    [("fs-mol", 4), ("moleculenet", 4), ("omniglot", 1), ("clinc150", 0), ("hwu64", 0), ("banking77", 17)],
)
def test_files_without_a_recorded_checksum_are_as_many_as_the_cards_say(name: str, unverified: int) -> None:
    assert sum(not file.sha256 for file in dataset(name).list_files()) == unverified


def test_the_official_list_has_every_task_of_fs_mol() -> None:
    folds = [file.path.split("/")[0] for file in dataset("fs-mol").list_files()]
    assert {fold: folds.count(fold) for fold in set(folds)} == {"train": 4938, "valid": 40, "test": 157}


def test_a_file_packed_otherwise_is_there_but_not_verified(data: Path, serve: Callable[[Path], str]) -> None:
    (data / "moleculenet").mkdir(parents=True)
    for name in ("tox21.csv", "muv.csv.gz", "toxcast.csv.gz"):
        (data / "moleculenet" / name).write_text("")
    found = check(dataset("moleculenet"))
    assert [len(part) for part in (found.same, found.different, found.missing, found.unverifiable)] == [0, 0, 1, 3]
    outcomes = fetched(dataset("moleculenet"), serve(data))
    assert {stem.split(".")[0]: outcome for stem, (outcome, _) in outcomes.items()} == {
        "tox21": "there",
        "sider": "failed",
        "muv": "there",
        "toxcast_data": "there",
    }


@pytest.mark.parametrize("verb", [["list"], ["fetch", "hwu64", "--url", "http://127.0.0.1:9"]])
def test_listing_and_fetching_load_nothing_heavy(verb: list[str], data: Path) -> None:
    heavy = ("torch", "rdkit", "pandas", "numpy", "PIL")
    code = f"import sys; from molmeta.cli import main; main({['data', *verb]}); "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def opened(source: TaskSource) -> TaskSource:
    """A source that has tasks to test on, and reads their inputs."""
    task = source.tasks(Split.TEST, TaskKind.MULTICLASS)[0]
    source.gather(task.rows[:5])
    return source


def test_lakes_runs_open_from_what_was_fetched(tmp_path: Path, data: Path, serve: Callable[[Path], str]) -> None:
    folder = tmp_path / "origin" / "one-shot-classification"
    folder.mkdir(parents=True)
    images = [f"run01/{part}.png" for part in ("training/class01", "training/class02", "test/item01", "test/item02")]
    labels = "run01/test/item01.png run01/training/class02.png\nrun01/test/item02.png run01/training/class01.png\n"
    zipped(
        folder / "all_runs.zip",
        [("run01/class_labels.txt", labels.encode()), *((name, png(drawing(i))) for i, name in enumerate(images))],
    )
    outcomes = fetched(dataset("omniglot"), serve(tmp_path / "origin"))
    assert outcomes["all_runs"] == ("fetched", "")
    assert outcomes["images_background"][0] == "failed"
    opened(LakeRuns())


def test_banking77_opens_from_what_was_fetched(tmp_path: Path, data: Path, serve: Callable[[Path], str]) -> None:
    origin = tmp_path / "origin"
    for number in range(1, 6):
        (origin / "few_shot" / f"{number:02}").mkdir(parents=True)
        for part, label in (("train", "card_arrival"), ("valid", "age_limit"), ("test", "reverted_card_payment?")):
            (origin / "few_shot" / f"{number:02}" / f"labels.{part}.txt").write_text(label + "\n")
    rows = 'Where, then?,card_arrival\n"How old, at least?",age_limit\nGiven back!,reverted_card_payment?\n'
    for name in ("train.csv", "test.csv"):
        (origin / name).write_text("text,category\n" + rows.replace("Where, then?", '"Where, then?"'))
    assert {outcome for outcome, _ in fetched(dataset("banking77"), serve(origin)).values()} == {"fetched"}
    opened(Banking77())


@pytest.mark.data
@pytest.mark.parametrize(("name", "source"), [("clinc150", Clinc150), ("hwu64", Hwu64)])
def test_a_text_source_opens_from_what_fetch_wrote(
    name: str,
    source: Callable[[], TaskSource],
    tmp_path: Path,
    serve: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = data_dir() / name
    if not real.is_dir():
        pytest.skip(f"there is no {real}")
    monkeypatch.setenv("MOLMETA_DATA", str(tmp_path))
    assert main(["data", "fetch", name, "--url", serve(real)]) == 0
    assert dataset(name).state() == "here"
    assert main(["data", "check", name]) == 0
    opened(source())


@pytest.mark.data
def test_omniglot_opens_from_what_fetch_wrote(
    tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksums are taken from the zips that are served: those may have been packed anew."""
    real = data_dir() / "omniglot"
    names = ("images_background.zip", "images_evaluation.zip")
    if not all((real / name).is_file() for name in names):
        pytest.skip(f"the zips are not in {real}")
    digests = [hashlib.sha256((real / name).read_bytes()).hexdigest() for name in names]
    url = serve(real)
    files = [DataFile(name, url + name, digest) for name, digest in zip(names, digests, strict=True)]
    monkeypatch.setenv("MOLMETA_DATA", str(tmp_path))
    assert {each.outcome for each in fetch(DataSet("omniglot", "", "", lambda: files, ""))} == {"fetched"}
    opened(Omniglot())
