from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from molmeta.core.episode import Episode, collate
from molmeta.core.task import Split, TaskKind
from molmeta.domains.images.folder import ImageFolder, ImageFolderConfig
from molmeta.errors import ConfigError, DataError
from tests.domains.images.made import photo

MULTICLASS = TaskKind.MULTICLASS
SPLIT = {"train": ["fox", "owl", "elk"], "val": ["bee"], "test": ["cod", "ant"]}
SPLITS = {"train": Split.TRAIN, "val": Split.VALID, "test": Split.TEST}
NUMBER = {label: i for i, label in enumerate(label for labels in SPLIT.values() for label in labels)}
EACH = 6


def seed_of(label: str, i: int) -> int:
    return 10 * NUMBER[label] + i


def write_images(folder: Path, name: str = "{label}/{i}.png") -> None:
    for label in NUMBER:
        for i in range(EACH):
            path = folder / name.format(label=label, i=i)
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(seed_of(label, i)).save(path)


def write_csv(path: Path, header: list[str], rows: Iterable[Iterable[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def by_row(root: Path, images: str, name: str, written: str) -> None:
    """A row an image."""
    write_images(root / images, name)
    for split, labels in SPLIT.items():
        rows = ((written.format(label=label, i=i), label) for label in labels for i in range(EACH))
        write_csv(root / f"{split}.csv", ["filename", "label"], rows)


def by_class(root: Path, images: str = "") -> None:
    """A row a class, a file a split."""
    write_images(root / images)
    (root / images / "fox" / "notes.txt").write_text("no image")
    for split, labels in SPLIT.items():
        write_csv(root / f"{split}.csv", ["label"], ([label] for label in labels))


def in_one_file(root: Path) -> None:
    """A row a class, one file."""
    write_images(root)
    rows = [(label, split) for split, labels in SPLIT.items() for label in labels]
    write_csv(root / "split.csv", ["label", "split"], rows)


FORMS = {
    "images beside the files": lambda root: by_row(root, "", "{label}{i}.png", "{label}{i}.png"),
    "images in their folder": lambda root: by_row(root, "images", "{label}{i}.png", "{label}{i}.png"),
    "images in a folder a class": lambda root: by_row(root, "images", "{label}/{i}.png", "{i}.png"),
    "paths from the root": lambda root: by_row(root, "pictures", "{label}/{i}.png", "pictures/{label}/{i}.png"),
    "a row a class": by_class,
    "a row a class, in images": lambda root: by_class(root, "images"),
    "one file": in_one_file,
}


def source(root: Path, **settings: int) -> ImageFolder:
    return ImageFolder(ImageFolderConfig(root=str(root), **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_classes_and_images(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path)
    found = source(tmp_path, size=12)
    for name, split in SPLITS.items():
        (task,) = found.tasks(split, MULTICLASS)
        assert found.classes(split) == SPLIT[name]
        assert (task.num_classes, len(task)) == (len(SPLIT[name]), EACH * len(SPLIT[name]))
        images = found.gather(task.rows).numpy()
        for i, label in enumerate(task.labels):
            image = photo(seed_of(SPLIT[name][label], i % EACH)).resize((12, 12), Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(images[i], np.asarray(image).transpose(2, 0, 1))


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    by_class(tmp_path)
    found = source(tmp_path, size=12, channels=1)
    (task,) = found.tasks(Split.VALID, MULTICLASS)
    expected = photo(seed_of("bee", 0)).convert("L").resize((12, 12), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(found.gather(task.rows[:1])[0, 0].numpy(), np.asarray(expected))


def test_episodes_are_drawn_from_it(tmp_path: Path) -> None:
    by_class(tmp_path)
    found = source(tmp_path, size=12, ways=2, queries=3)
    (task,) = found.tasks(Split.TEST, MULTICLASS)
    batch = collate(found, [Episode(task, *found.draw(task, 2, seed)) for seed in range(3)])
    assert batch.inputs.shape == (3 * 2 * 5, 3, 12, 12)
    assert batch.num_classes.tolist() == [2, 2, 2]


def test_images_are_decoded_anew_where_one_changes_or_another_size_is_asked_for(tmp_path: Path) -> None:
    by_class(tmp_path)
    counted: list[int] = []

    def decoded(size: int) -> int:
        counted.clear()
        ImageFolder(ImageFolderConfig(root=str(tmp_path), size=size), progress=counted.append)
        return len(counted)

    assert [decoded(12), decoded(12), decoded(10)] == [36, 0, 36]
    changed = tmp_path / "owl" / "0.png"
    photo(99).save(changed)
    os.utime(changed, ns=(1, 1))
    assert decoded(12) == 36


def test_all_problems_of_the_csv_files_are_listed_by_row(tmp_path: Path) -> None:
    by_row(tmp_path, "images", "{label}{i}.png", "{label}{i}.png")
    (tmp_path / "images" / "fox2.png").unlink()
    with (tmp_path / "val.csv").open("a") as file:
        file.write("owl0.png,owl\n,bee\nbee1.png,bee\n")
    write_csv(tmp_path / "test.csv", ["file", "class"], [])
    with pytest.raises(DataError) as caught:
        source(tmp_path)
    assert str(caught.value).splitlines() == [
        f"{tmp_path} has 5 problems:",
        f"  train.csv row 4: there is no fox2.png in {tmp_path}, images, or a folder fox of these",
        '  val.csv row 8: class "owl" stands in train and in valid',
        "  val.csv row 9: a cell is empty",
        "  test.csv has no column label; its first row names the columns",
        '  class "bee" names 1 of its images twice',
    ]


def test_missing_or_empty_class_folders_and_unknown_splits_are_listed(tmp_path: Path) -> None:
    in_one_file(tmp_path)
    (tmp_path / "yak").mkdir()
    with (tmp_path / "split.csv").open("a") as file:
        file.write("gnu,train\nyak,test\nfox,dev\n")
    with pytest.raises(DataError) as caught:
        source(tmp_path)
    text = str(caught.value)
    assert "split.csv row 8: there is no folder gnu" in text
    assert f"split.csv row 9: {tmp_path / 'yak'} holds no images" in text
    assert "split.csv row 10: the split is one of train, val, valid, test, not 'dev'" in text


def test_images_that_cannot_be_read_are_listed_and_nothing_is_cached(tmp_path: Path) -> None:
    by_class(tmp_path)
    (tmp_path / "ant" / "1.png").write_text("not an image")
    damaged = tmp_path / "elk" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    for _ in range(2):
        with pytest.raises(DataError, match="2 of 36 images") as caught:
            source(tmp_path)
        assert f"{damaged} is a damaged image" in str(caught.value)
        assert f"{tmp_path / 'ant' / '1.png'} is not an image that Pillow can read" in str(caught.value)


def test_a_folder_without_csv_files_or_name_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no train\.csv, val\.csv, test\.csv or split\.csv"):
        source(tmp_path)
    with pytest.raises(ConfigError, match=r"--set source\.root="):
        ImageFolder()
