"""Any set of images with classes, in mini-ImageNet's form (Ravi & Larochelle, 2017): a folder, and CSV files that split
its classes. All of these stand in the one folder; every class belongs to one split.

    train.csv, val.csv, test.csv    filename,label    a row an image: FILE, images/FILE, LABEL/FILE or images/LABEL/FILE
    train.csv, val.csv, test.csv    label             a row a class: every image in the folder LABEL or images/LABEL
    split.csv                       label,split       likewise for all splits in one file

``valid`` may be said for ``val``; a split may be absent. Images are stretched to a square by Lanczos's filter.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from molmeta.core.task import Split
from molmeta.domains.images.decode import LANCZOS, Images, Progress, cached_images, read_image
from molmeta.domains.images.source import ImageSource, class_task
from molmeta.errors import ConfigError, DataError

Classes = dict[str, list[Path]]  # class -> its image files
_SPLITS = {"train": Split.TRAIN, "val": Split.VALID, "valid": Split.VALID, "test": Split.TEST}
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
_FORMAT = 1  # of the cached array: raise it where the same files would give another
_SHOWN = 10  # problems


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFolderConfig:
    root: str = ""  # the folder
    size: int = 84  # height and width
    channels: Literal[1, 3] = 3  # grey or RGB
    ways: int = 5  # classes of an evaluation episode
    queries: int = 15  # its query images a class

    def __post_init__(self) -> None:
        for name in ("ways", "queries", "size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"[source].{name} is 1 or more, not {getattr(self, name)}")


class ImageFolder(ImageSource):
    """A folder of images over one array of all of them, memory-mapped from the cache: a task a split.

    The array is made anew where a file's name, size or time of change differs, or another size or colour is asked for.

    Args:
        config: the folder, and what its images become.
        workers: not used.
        progress: called with the number of images decoded since the last call.

    Raises:
        ConfigError: no folder is named.
        DataError: all problems of the folder, by file and row.
    """

    Config = ImageFolderConfig

    def __init__(
        self, config: ImageFolderConfig | None = None, *, workers: int | None = None, progress: Progress | None = None
    ) -> None:
        self.config = config = config or ImageFolderConfig()
        if not config.root:
            raise ConfigError("name the folder of images: --set source.root=my-images")
        root = Path(config.root)
        self._classes = read_splits(root)
        files = [f for classes in self._classes.values() for each in classes.values() for f in each]
        images = _open_or_decode(root, files, config, progress)
        tasks, start = {}, 0
        for split, classes in self._classes.items():
            ends = start + np.cumsum([len(each) for each in classes.values()])
            rows = np.split(np.arange(start, ends[-1]), ends[:-1] - start)
            tasks[split] = [class_task(f"{root.name}/{split}", rows, dataset=root.name)]
            start = int(ends[-1])
        super().__init__(images, tasks, config.ways, config.queries)

    def classes(self, split: Split) -> list[str]:
        """The classes of the split's task, in its numbering."""
        return list(self._classes.get(split, {}))


def read_splits(root: Path) -> Mapping[Split, Classes]:
    """The images of each class of each split, as the CSV files in ``root`` say.

    Raises:
        DataError: lists all problems, by file and row.
    """
    found: dict[Split, Classes] = {}
    home: dict[str, Split] = {}
    problems: list[str] = []
    for where, split, label, filename in _rows(root, problems):
        if home.setdefault(label, split) is not split:
            problems.append(f'{where}: class "{label}" stands in {home[label]} and in {split}')
            continue
        files = found.setdefault(split, {}).setdefault(label, [])
        if filename is None:
            files.extend(_folder_of(root, label, where, problems))
        elif (path := _file_of(root, label, filename)) is not None:
            files.append(path)
        else:
            problems.append(f"{where}: there is no {filename} in {root}, images, or a folder {label} of these")
    for classes in found.values():
        for label, files in classes.items():
            if len(set(files)) < len(files):
                problems.append(f'class "{label}" names {len(files) - len(set(files))} of its images twice')
    if problems:
        more = [f"  ... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise DataError(
            "\n".join([f"{root} has {len(problems)} problems:", *(f"  {p}" for p in problems[:_SHOWN]), *more])
        )
    return found


def _rows(root: Path, problems: list[str]) -> Iterator[tuple[str, Split, str, str | None]]:
    """Of every CSV row: its place, split, label, and file name where it has one."""
    names = [name for name in (*(f"{s}.csv" for s in _SPLITS), "split.csv") if (root / name).is_file()]
    if not names:
        raise DataError(f"{root} has no train.csv, val.csv, test.csv or split.csv that splits its classes")
    for name in names:
        fixed = _SPLITS.get(name.removesuffix(".csv"))
        try:
            with (root / name).open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, skipinitialspace=True)
                wanted = ["label"] if fixed else ["label", "split"]
                if lacking := [column for column in wanted if column not in (reader.fieldnames or [])]:
                    problems.append(f"{name} has no column {' and '.join(lacking)}; its first row names the columns")
                    continue
                for i, row in enumerate(reader, start=2):
                    where, label = f"{name} row {i}", (row["label"] or "").strip()
                    split = fixed or _SPLITS.get((row["split"] or "").strip())
                    filename = (row["filename"] or "").strip() if fixed and "filename" in row else None
                    if not label or filename == "":
                        problems.append(f"{where}: a cell is empty")
                    elif split is None:
                        problems.append(f"{where}: the split is one of {', '.join(_SPLITS)}, not {row['split']!r}")
                    else:
                        yield where, split, label, filename
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            problems.append(f"{name} cannot be read ({error})")


def _file_of(root: Path, label: str, filename: str) -> Path | None:
    places = (root, root / "images", root / label, root / "images" / label)
    return next((folder / filename for folder in places if (folder / filename).is_file()), None)


def _folder_of(root: Path, label: str, where: str, problems: list[str]) -> list[Path]:
    folder = next((f for f in (root / label, root / "images" / label) if f.is_dir()), None)
    if folder is None:
        problems.append(f"{where}: there is no folder {label} in {root} or in its images")
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not files:
        problems.append(f"{where}: {folder} holds no images ({', '.join(sorted(_SUFFIXES))})")
    return files


def _open_or_decode(root: Path, files: list[Path], config: ImageFolderConfig, progress: Progress | None) -> Images:
    if not files:
        raise DataError(f"the CSV files of {root} name no images")
    digest = hashlib.sha256(f"folder {_FORMAT} {config.size} {config.channels}".encode())
    for path in files:
        state = path.stat()
        digest.update(f"{path.relative_to(root)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())

    def fill(images: Images) -> None:
        problems = []
        for i, path in enumerate(files):
            try:
                images[i] = read_image(path.read_bytes(), str(path), config.size, config.channels, LANCZOS)
            except (DataError, OSError) as error:
                problems.append(str(error))
            if progress is not None:
                progress(1)
        if problems:
            more = [f"  ... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
            head = f"{len(problems)} of {len(files)} images in {root} cannot be used:"
            raise DataError("\n".join([head, *(f"  {p}" for p in problems[:_SHOWN]), *more]))

    shape = (len(files), config.channels, config.size, config.size)
    return cached_images(f"folder-{digest.hexdigest()[:20]}", shape, fill)
