from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from molmeta.core.episode import collate
from molmeta.core.task import Split, TaskKind
from molmeta.domains.images.lake_runs import LakeRuns, LakeRunsConfig
from molmeta.errors import DataError, SupportError
from tests.domains.images.made import drawing, png, zipped

RUNS, WAYS = 20, 20
ANSWERS = [np.random.default_rng(run).permutation(WAYS) for run in range(RUNS)]  # of item i: its class


def character(run: int, c: int) -> int:
    return 100 * run + c


def files(top: str = "") -> list[tuple[str, bytes]]:
    """The official layout: ``run01/training/class01.png``, ``run01/test/item01.png``, ``run01/class_labels.txt``."""
    made: list[tuple[str, bytes]] = []
    for run in range(RUNS):
        name = f"run{run + 1:02}"
        for i, answer in enumerate(ANSWERS[run].tolist()):
            made.append((f"{top}{name}/training/class{i + 1:02}.png", png(drawing(character(run, i), 0))))
            made.append((f"{top}{name}/test/item{i + 1:02}.png", png(drawing(character(run, answer), 1))))
        lines = [
            f"{name}/test/item{i + 1:02}.png {name}/training/class{a + 1:02}.png" for i, a in enumerate(ANSWERS[run])
        ]
        made.append((f"{top}{name}/class_labels.txt", ("\n".join(lines) + "\n").encode()))
    return made


def runs(path: Path) -> LakeRuns:
    return LakeRuns(LakeRunsConfig(path=str(path)))


@pytest.mark.parametrize("top", ["", "all_runs/"])
def test_twenty_episodes_hold_one_example_of_twenty_classes_and_their_queries(top: str, tmp_path: Path) -> None:
    junk = [("__MACOSX/run01/._class_labels.txt", b"?"), ("__MACOSX/run01/class_labels.txt", b"?"), ("run01/", b"")]
    found = runs(zipped(tmp_path / "all_runs.zip", [*files(top), *junk]))
    episodes = found.episodes()
    assert [episode.task.name for episode in episodes] == [f"omniglot/run{i:02}" for i in range(1, 21)]
    for run, episode in enumerate(episodes):
        ((support, query),) = collate(found, [episode]).episodes()
        assert (support.num_classes, support.labels.tolist()) == (WAYS, list(range(WAYS)))
        assert query.labels.tolist() == ANSWERS[run].tolist()
        for part, i, labels in ((support, 0, range(WAYS)), (query, 1, ANSWERS[run])):
            expected = [255 * (1 - np.asarray(drawing(character(run, c), i).resize((28, 28)), int)) for c in labels]
            np.testing.assert_array_equal(part.inputs[:, 0].numpy(), np.stack(expected))


def test_episodes_of_all_runs_collate_into_one_batch(tmp_path: Path) -> None:
    found = runs(zipped(tmp_path / "all_runs.zip", files()))
    batch = collate(found, found.episodes())
    assert (len(batch), len(batch.inputs)) == (20, 20 * 40)
    assert batch.inputs.dtype is torch.uint8


def test_runs_are_test_tasks_with_one_draw_whatever_the_seed(tmp_path: Path) -> None:
    found = runs(zipped(tmp_path / "all_runs.zip", files()))
    assert found.tasks(Split.TRAIN, TaskKind.MULTICLASS) == found.tasks(Split.TEST) == []
    task = found.tasks(Split.TEST, TaskKind.MULTICLASS)[3]
    for left, right in zip(found.draw(task, 1, 0), found.draw(task, 1, 7), strict=True):
        np.testing.assert_array_equal(left, right)
    with pytest.raises(SupportError, match="one-shot: ask for 1 example a class, not 5"):
        found.draw(task, 5, 0)


def test_what_is_wrong_with_a_zip_is_said(tmp_path: Path) -> None:
    lacking = [file for file in files() if file[0] != "run07/training/class03.png"]
    line = ANSWERS[6].tolist().index(2) + 1
    with pytest.raises(
        DataError, match=rf"run07/class_labels\.txt line {line}: there is no run07/training/class03\.png"
    ):
        runs(zipped(tmp_path / "lacking.zip", lacking))
    with pytest.raises(DataError, match=r"it is not Lake's all_runs\.zip"):
        runs(zipped(tmp_path / "other.zip", [("a.txt", b"")]))
    with pytest.raises(DataError, match=r"no .*nowhere\.zip\. Set MOLMETA_DATA .* data fetch omniglot"):
        runs(tmp_path / "nowhere.zip")
    short = zipped(tmp_path / "short.zip", files())
    short.write_bytes(short.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"short\.zip cannot be read .* Remove it and fetch it again"):
        runs(short)


def test_the_zip_is_found_where_data_sets_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "omniglot" / "one-shot-classification"
    folder.mkdir(parents=True)
    path = zipped(folder / "all_runs.zip", files())
    assert len(ZipFile(path).namelist()) == RUNS * (2 * WAYS + 1)
    monkeypatch.setenv("MOLMETA_DATA", str(tmp_path))
    assert len(LakeRuns().episodes()) == RUNS
