"""The text sources: on made files of the same layout, and on the real ones."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from molmeta.core.episode import Episode, collate
from molmeta.core.task import Split, Task, TaskKind
from molmeta.domains.text.intents import (
    TEST_DOMAINS,
    VALID_DOMAINS,
    Clinc150,
    Clinc150Config,
    Hwu64,
    Hwu64Config,
    SplitName,
    TextTable,
    TextTableConfig,
)
from molmeta.domains.text.sources import TextSource, words_of
from molmeta.errors import ConfigError, DataError, SupportError
from molmeta.paths import data_dir, datasets_dir

SPLITS = (Split.TRAIN, Split.VALID, Split.TEST)
MULTICLASS = TaskKind.MULTICLASS


def the_task(source: TextSource, split: Split) -> Task:
    (task,) = source.tasks(split, MULTICLASS)
    return task


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Nine classes of seven texts each: a CSV with a column of splits, and lists of the classes."""
    rows = [(f"say {k} time {i}", f"class_{k}", SPLITS[k // 3]) for i in range(7) for k in range(9)]
    (tmp_path / "all.csv").write_text("text,label,fold\n" + "".join(f"{t},{c},{s}\n" for t, c, s in rows))
    for split in SPLITS:
        names = sorted({c for _, c, s in rows if s is split})
        (tmp_path / f"labels.{split}.txt").write_text("\n".join(names))
    return tmp_path


def test_a_table_is_the_same_by_lists_of_classes_and_by_a_column(table: Path) -> None:
    paths = (str(table / "all.csv"),)
    by_lists = TextTable(TextTableConfig(paths=paths, classes=str(table)))
    by_column = TextTable(TextTableConfig(paths=paths, split="fold"))
    for split in SPLITS:
        a, b = the_task(by_lists, split), the_task(by_column, split)
        assert a.num_classes == 3
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_a_tasks_rows_and_labels_are_the_texts_of_its_classes(table: Path) -> None:
    source = TextTable(TextTableConfig(paths=(str(table / "all.csv"),), split="fold"))
    task = the_task(source, Split.VALID)
    assert source.class_names(task) == ("class_3", "class_4", "class_5")
    assert source.texts(task.rows) == source.gather(task.rows).texts()
    for text, label in zip(source.texts(task.rows), task.labels, strict=True):
        assert f"class_{text.split()[1]}" == source.class_names(task)[label]
    assert Counter(task.labels.tolist()) == {0: 7, 1: 7, 2: 7}


def test_an_episode_carries_its_classes_names_in_its_own_order(table: Path) -> None:
    source = TextTable(TextTableConfig(paths=(str(table / "all.csv"),), split="fold", ways=3, queries=2))
    task = the_task(source, Split.TEST)
    episodes = [Episode(task, *source.draw(task, 1, seed)) for seed in range(4)]
    assert len({tuple(e.classes.tolist()) for e in episodes if e.classes is not None}) > 1
    batch = collate(source, episodes)
    for support, _ in batch.episodes():
        described = support.task_inputs.texts()
        assert described == [f"class {text.split()[1]}" for text in support.inputs.texts()]


def test_draws_are_keyed_by_seed_and_refused_where_rows_run_out(table: Path) -> None:
    source = TextTable(TextTableConfig(paths=(str(table / "all.csv"),), split="fold", ways=2, queries=4))
    task = the_task(source, Split.TEST)
    first, again, other = (source.draw(task, 3, seed) for seed in (0, 0, 1))
    assert [len(part) for part in first] == [6, 8, 2]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))
    with pytest.raises(SupportError, match="8 rows or more"):
        source.draw(task, 4, 0)


def test_a_class_in_two_splits_or_without_texts_is_refused_by_name(table: Path) -> None:
    (table / "labels.test.txt").write_text("class_0\nclass_8\nclass_9")
    with pytest.raises(DataError, match=r'(?s)"class_0" stands in the lists more than once.*"class_9" has no text'):
        TextTable(TextTableConfig(paths=(str(table / "all.csv"),), classes=str(table)))


def test_settings_that_leave_the_classes_open_are_refused() -> None:
    with pytest.raises(ConfigError, match="names the files"):
        TextTable(TextTableConfig(split="fold"))
    for both in ({}, {"classes": "a", "split": "b"}):
        with pytest.raises(ConfigError, match="give one"):
            TextTable(TextTableConfig(paths=("a.csv",), **both))
    with pytest.raises(ConfigError, match="ways is 2 or more"):
        Clinc150Config(ways=1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("book_flight", "book flight"),
        ("alarm/remove", "alarm remove"),
        ("Refund_not_showing_up", "refund not showing up"),
        ("PlayMusic", "play music"),
        ("get_physical_card?", "get physical card"),
    ],
)
def test_a_classs_name_is_read_as_words(name: str, words: str) -> None:
    assert words_of(name) == words


def made_clinc(root: Path) -> Path:
    domains = {d: [f"{d}_{i}" for i in range(2)] for d in ("banking", *VALID_DOMAINS, *TEST_DOMAINS)}
    intents = [name for names in domains.values() for name in names]
    parts = {part: [[f"{part} {name}", name] for name in intents] for part in ("train", "val", "test")}
    (root / "data_full.json").write_text(json.dumps({**parts, "oos_train": [["what?", "oos"]]}))
    (root / "domains.json").write_text(json.dumps(domains))
    return root


def test_a_domain_can_be_a_task(tmp_path: Path) -> None:
    source = Clinc150(Clinc150Config(root=str(made_clinc(tmp_path)), tasks="domain"))
    names = {split: [task.name for task in source.tasks(split, MULTICLASS)] for split in SPLITS}
    assert names[Split.TRAIN] == ["clinc150/banking"]
    assert names[Split.VALID] == [f"clinc150/{d}" for d in VALID_DOMAINS]
    assert names[Split.TEST] == [f"clinc150/{d}" for d in TEST_DOMAINS]
    task = source.tasks(Split.TEST, MULTICLASS)[0]
    assert sorted(source.texts(task.rows)) == sorted(f"{p} work_{i}" for p in ("train", "val", "test") for i in (0, 1))


def test_missing_and_damaged_files_are_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data_full.json. Set MOLMETA_DATA .* data fetch clinc150"):
        Clinc150(Clinc150Config(root=str(tmp_path)))
    with pytest.raises(DataError, match=r"full.jsonl. Set MOLMETA_DATA .* data fetch hwu64"):
        Hwu64(Hwu64Config(root=str(tmp_path)))
    folder = made_clinc(tmp_path) / "few_shot" / "01"
    folder.mkdir(parents=True)
    for split in SPLITS[:2]:
        (folder / f"labels.{split}.txt").write_text("banking_0")
    with pytest.raises(DataError, match=r"01/labels.test.txt. Set MOLMETA_DATA .* data fetch clinc150"):
        Clinc150(Clinc150Config(root=str(tmp_path)))
    for content in ("{", "[]", '{"train": [1], "val": [], "test": []}'):
        (tmp_path / "data_full.json").write_text(content)
        with pytest.raises(DataError, match=r"data_full.json is damaged.*Fetch it again"):
            Clinc150(Clinc150Config(root=str(tmp_path)))


@pytest.mark.data
@pytest.mark.parametrize("split", get_args(SplitName))
def test_clinc150_has_fifty_classes_of_150_texts_a_split(split: SplitName) -> None:
    source = Clinc150(Clinc150Config(split=split))
    names = [source.class_names(the_task(source, s)) for s in SPLITS]
    assert [len(n) for n in names] == [50, 50, 50]
    assert len(set().union(*names)) == 150
    for s in SPLITS:
        assert np.bincount(the_task(source, s).labels).tolist() == [150] * 50
    assert len(np.unique(np.concatenate([the_task(source, s).rows for s in SPLITS]))) == 22_500


@pytest.mark.data
def test_clinc150s_texts_stand_with_the_intents_of_its_file() -> None:
    source = Clinc150()
    record = json.loads((data_dir() / "clinc150" / "data_full.json").read_text())
    pairs = Counter((text.strip(), label) for part in ("train", "val", "test") for text, label in record[part])
    found: Counter[tuple[str, str]] = Counter()
    for split in SPLITS:
        task = the_task(source, split)
        names = source.class_names(task)
        found.update(zip(source.texts(task.rows), (names[i] for i in task.labels), strict=True))
    assert Counter({(t.strip(), n): c for (t, n), c in found.items()}) == pairs


@pytest.mark.data
def test_clinc150s_ten_domains_share_no_intent() -> None:
    source = Clinc150(Clinc150Config(tasks="domain"))
    tasks = [task for split in SPLITS for task in source.tasks(split, MULTICLASS)]
    assert [len(source.tasks(split, MULTICLASS)) for split in SPLITS] == [5, 2, 3]
    assert [(task.num_classes, len(task)) for task in tasks] == [(15, 2250)] * 10
    assert len({name for task in tasks for name in source.class_names(task)}) == 150


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "sizes"),
    [("01", (16, 23, 25)), ("02", (30, 15, 19)), ("03", (24, 18, 22)), ("04", (20, 15, 29)), ("05", (25, 11, 28))],
)
def test_hwu64s_splits_are_disjoint_and_of_the_published_sizes(split: SplitName, sizes: tuple[int, ...]) -> None:
    source = Hwu64(Hwu64Config(split=split))
    names = [source.class_names(the_task(source, s)) for s in SPLITS]
    assert tuple(len(n) for n in names) == sizes
    assert len(set().union(*names)) == 64
    tasks = [the_task(source, s) for s in SPLITS]
    counts = np.concatenate([np.bincount(task.labels) for task in tasks])
    assert (counts.min(), counts.max(), counts.sum()) == (38, 194, 11_036)


@pytest.mark.data
@pytest.mark.parametrize("name", ["clinc150", "hwu64"])
def test_the_files_are_those_whose_checksums_are_recorded(name: str) -> None:
    with (datasets_dir() / name / "files.csv").open(encoding="utf-8") as lines:
        recorded = {row["path"]: row["sha256"] for row in csv.DictReader(lines)}
    assert len(recorded) >= 16
    for path, sha256 in recorded.items():
        assert hashlib.sha256((data_dir() / name / path).read_bytes()).hexdigest() == sha256


@pytest.mark.data
def test_the_generic_table_reads_hwu64_as_its_own_source_does() -> None:
    folder = data_dir() / "hwu64"
    config = TextTableConfig(
        paths=(str(folder / "full.jsonl"),), text="sentence", classes=str(folder / "few_shot" / "03")
    )
    generic, own = TextTable(config), Hwu64(Hwu64Config(split="03"))
    for split in SPLITS:
        a, b = the_task(generic, split), the_task(own, split)
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.labels, b.labels)
        torch.testing.assert_close(generic.gather(a.rows[:9]).ids, own.gather(b.rows[:9]).ids)
