"""Lake's one-shot classification runs (brendenlake/omniglot, ``one-shot-classification/all_runs.zip``).

20 runs of 20-way one-shot classification within an alphabet of ``images_evaluation``: ``runNN/training/classMM.png`` is
the one example of a class, ``runNN/test/itemMM.png`` are the queries, and ``runNN/class_labels.txt`` has a line a
query: its file, then its class's. Train on the background alphabets alone (``omniglot`` with ``split = "lake"``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

import numpy as np

from molmeta.core.episode import Episode
from molmeta.core.task import IntArray, Split, Task, TaskKind
from molmeta.domains.images.decode import NEAREST, Images, Progress, read_image
from molmeta.domains.images.source import ImageSource
from molmeta.errors import DataError, SupportError
from molmeta.paths import data_dir


@dataclass(frozen=True, kw_only=True, slots=True)
class LakeRunsConfig:
    path: str = ""  # all_runs.zip; empty: looked for in omniglot under MOLMETA_DATA
    size: int = 28  # height and width


class LakeRuns(ImageSource):
    """The runs as test tasks ``run01``, ``run02``, ...; each has one draw, the official one.

    Args:
        config: where the zip is, and how large its images become (as Omniglot's: nearest pixel, ink 255).
        workers, progress: not used.

    Raises:
        DataError: the zip is missing or damaged, or a run's labels and images do not match.
    """

    Config = LakeRunsConfig

    def __init__(
        self, config: LakeRunsConfig | None = None, *, workers: int | None = None, progress: Progress | None = None
    ) -> None:
        self.config = config = config or LakeRunsConfig()
        runs = _read(_find(config.path), config.size)
        tasks, start = [], 0
        for name, support, query, answers in runs:
            rows = np.arange(start, start + len(support) + len(query))
            labels = np.concatenate([np.arange(len(support)), answers])
            tasks.append(Task(f"omniglot/{name}", rows, labels, TaskKind.MULTICLASS, len(support)))
            start += len(rows)
        images = np.concatenate([part for _, support, query, _ in runs for part in (support, query)])
        super().__init__(images, {Split.TEST: tasks}, ways=20, queries=1)

    def draw(self, task: Task, n_support: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
        """The official draw of a run, whatever the seed: one example of each class, and its queries.

        Raises:
            SupportError: another number of shots than 1 is asked for.
        """
        if n_support != 1:
            raise SupportError(f"Lake's runs are one-shot: ask for 1 example a class, not {n_support}")
        positions = np.arange(len(task))
        return positions[: task.num_classes], positions[task.num_classes :], np.arange(task.num_classes)

    def episodes(self) -> list[Episode]:
        """Every run as an episode, ready to be collated."""
        return [Episode(task, *self.draw(task, 1, 0)) for task in self.tasks(Split.TEST, TaskKind.MULTICLASS)]


def _find(path: str) -> Path:
    if path:
        places = [Path(path)]
    else:
        folder = data_dir() / "omniglot"
        places = [folder / "all_runs.zip", folder / "one-shot-classification" / "all_runs.zip"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataError(
            f"there is no {' or '.join(map(str, places))}. Set MOLMETA_DATA to the folder that holds omniglot, name "
            'the file in [source].path, or fetch it with "molmeta data fetch omniglot"'
        )
    return found


Run = tuple[str, Images, Images, IntArray]  # its name, examples a class, queries, the class of each query


def _read(path: Path, size: int) -> list[Run]:
    try:
        with ZipFile(path) as file:
            entries = {PurePosixPath(name) for name in file.namelist()}
            # Wherever the runs' folders stand in the zip; macOS's own folder repeats each name with "._" before it.
            lists = sorted(p for p in entries if p.name == "class_labels.txt" and p.parts[0] != "__MACOSX")
            if not lists:
                raise DataError(f"{path} holds no runNN/class_labels.txt: it is not Lake's all_runs.zip")
            return [_read_run(file, path, entry, entries, size) for entry in lists]
    except (BadZipFile, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}). Remove it and fetch it again") from error


def _read_run(file: ZipFile, path: Path, labels: PurePosixPath, entries: set[PurePosixPath], size: int) -> Run:
    """One run; a line's files are ``run01/test/item01.png run01/training/class15.png``, in the run's own folder."""
    folder = labels.parent
    lines = [line.split() for line in file.read(str(labels)).decode().splitlines() if line.strip()]
    pairs = [tuple(folder.joinpath(*PurePosixPath(each).parts[-2:]) for each in line) for line in lines]
    problems = [f"line {i} names {len(pair)} files, not 2" for i, pair in enumerate(pairs, 1) if len(pair) != 2]
    problems += [
        f"line {i}: there is no {name}" for i, pair in enumerate(pairs, 1) for name in pair if name not in entries
    ]
    if problems or not pairs:
        raise DataError(f"{path}: {labels} {'; '.join(problems[:5]) or 'is empty'}. Remove it and fetch it again")
    classes = sorted(p for p in entries if p.parent == pairs[0][1].parent and p.suffix == ".png")
    number = {name: i for i, name in enumerate(classes)}
    queries = sorted(pairs)

    def images(names: Sequence[PurePosixPath]) -> Images:
        read = [read_image(file.read(str(name)), f"{path}: {name}", size, 1, NEAREST) for name in names]
        return 255 - np.stack(read)

    answers = np.array([number[answer] for _, answer in queries])
    return folder.name, images(classes), images([query for query, _ in queries]), answers
