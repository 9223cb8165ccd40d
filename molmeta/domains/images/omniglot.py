"""Omniglot (Lake et al., 2015, Science 350, 1332) as a source: 1,623 characters in 50 alphabets, 20 drawings of each.

The official zips are read as few-shot work reads them (jakesnell/prototypical-networks): each drawing turned by 0, 90,
180 and 270 degrees, each turn a class of its own; then 105x105 -> 28x28 by the nearest pixel (Pillow's only filter for
these black-and-white files, whatever is asked for); then inverted: ink is 255, paper 0.

Two splits, see ``datasets/omniglot``. ``vinyals``: the usual one, by character. ``lake``: by alphabet, as the authors
of the data set split it; Lake's one-shot runs are asked of a model that was trained under this one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from zipfile import BadZipFile, ZipFile

import numpy as np

from molmeta.core.task import IntArray, Split, Task
from molmeta.domains.images.decode import NEAREST, Images, Progress, cached_images, read_image
from molmeta.domains.images.source import ImageSource, class_task
from molmeta.errors import ConfigError, DataError
from molmeta.paths import data_dir, datasets_dir

Character = tuple[str, int]  # alphabet, number from 1
ZIPS = ("images_background.zip", "images_evaluation.zip")
DRAWINGS, TURNS = 20, 4
_FORMAT = 1  # of the cached array: raise it where the same zips would give another
_ENTRY = re.compile(r"images_(?:background|evaluation)/([^/]+)/character(\d+)/[^/]+\.png")


@dataclass(frozen=True, kw_only=True, slots=True)
class OmniglotConfig:
    ways: int = 5  # classes of an evaluation episode
    queries: int = 15  # its query drawings a class
    root: str = ""  # the folder of the two zips; empty: omniglot under MOLMETA_DATA
    split: Literal["vinyals", "lake"] = "vinyals"
    rotations: bool = True  # quarter turns as classes of their own; false: upright characters alone
    within_alphabet: bool = False  # a task an alphabet (and turn); false: one task a split
    size: int = 28  # height and width

    def __post_init__(self) -> None:
        for name in ("ways", "queries", "size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"[source].{name} is 1 or more, not {getattr(self, name)}")


class Omniglot(ImageSource):
    """Omniglot over one array of all drawings, in every turn: 102 MB, memory-mapped from the cache.

    Args:
        config: where the zips are, and how classes and tasks are made.
        workers: not used; decoding takes seconds, once.
        progress: called with the number of drawings decoded since the last call.

    Raises:
        DataError: a zip is missing or damaged, or lacks drawings.
    """

    Config = OmniglotConfig

    def __init__(
        self, config: OmniglotConfig | None = None, *, workers: int | None = None, progress: Progress | None = None
    ) -> None:
        self.config = config = config or OmniglotConfig()
        root = Path(config.root) if config.root else data_dir() / "omniglot"
        self._split = published_splits()[config.split]
        everyone = sorted({c for part in published_splits().values() for cs in part.values() for c in cs})
        self._number = {character: i for i, character in enumerate(everyone)}
        images = _open_or_decode(root, everyone, config.size, progress)
        super().__init__(images, {s: self._tasks_of(s) for s in self._split}, config.ways, config.queries)

    def classes(self, split: Split) -> list[str]:
        """The classes of the split's one task, in its numbering, such as ``Angelic/character01/rot090``."""
        return [_name(c, turn) for c in self._split[split] for turn in self._turns]

    @property
    def _turns(self) -> range:
        return range(TURNS if self.config.rotations else 1)

    def _tasks_of(self, split: Split) -> list[Task]:
        characters = self._split[split]
        if not self.config.within_alphabet:
            rows = [self._rows(c, turn) for c in characters for turn in self._turns]
            return [class_task(f"omniglot/{split}", rows, dataset="omniglot")]
        return [
            class_task(
                f"omniglot/{alphabet}/rot{90 * turn:03}",
                [self._rows(c, turn) for c in characters if c[0] == alphabet],
                dataset="omniglot",
                alphabet=alphabet,
                rotation=f"{90 * turn}",
            )
            for alphabet in dict.fromkeys(alphabet for alphabet, _ in characters)
            for turn in self._turns
        ]

    def _rows(self, character: Character, turn: int) -> IntArray:
        return (self._number[character] * TURNS + turn) * DRAWINGS + np.arange(DRAWINGS)


@lru_cache(maxsize=1)
def published_splits() -> Mapping[str, Mapping[Split, tuple[Character, ...]]]:
    """``vinyals`` and ``lake`` -> train, valid and test -> characters; see ``datasets/omniglot/README.md``."""
    record = json.loads((datasets_dir() / "omniglot" / "splits.json").read_text(encoding="utf-8"))
    return {
        name: MappingProxyType(
            {
                split: tuple((a, n) for a, (first, last) in record[name][split].items() for n in range(first, last + 1))
                for split in (Split.TRAIN, Split.VALID, Split.TEST)
            }
        )
        for name in ("vinyals", "lake")
    }


def _name(character: Character, turn: int) -> str:
    return f"{character[0]}/character{character[1]:02}/rot{90 * turn:03}"


def _open_or_decode(root: Path, characters: Sequence[Character], size: int, progress: Progress | None) -> Images:
    """``[len(characters) * TURNS * DRAWINGS, 1, size, size]``, named by the zips' content."""
    digest = hashlib.sha256(f"omniglot {_FORMAT} {size} {characters}".encode())
    for name in ZIPS:
        path = root / name
        if not path.is_file():
            raise DataError(
                f"there is no {path}. Set MOLMETA_DATA to the folder that holds omniglot, or fetch it with "
                '"molmeta data fetch omniglot"'
            )
        digest.update(hashlib.sha256(path.read_bytes()).digest())

    def fill(images: Images) -> None:
        by_character = images.reshape(len(characters), TURNS, DRAWINGS, size, size)
        _decode(root, characters, by_character, progress)

    shape = (len(characters) * TURNS * DRAWINGS, 1, size, size)
    return cached_images(f"omniglot-{digest.hexdigest()[:20]}", shape, fill)


def _decode(root: Path, characters: Sequence[Character], images: Images, progress: Progress | None) -> None:
    """Fill ``images [character, turn, drawing, size, size]`` from the zips."""
    number = {character: i for i, character in enumerate(characters)}
    found = np.zeros(len(characters), np.int64)
    for name in ZIPS:
        try:
            with ZipFile(root / name) as file:
                for entry in sorted(file.namelist()):
                    match = _ENTRY.fullmatch(entry)
                    i = number.get((match[1], int(match[2]))) if match else None
                    if i is None:
                        continue
                    if found[i] < DRAWINGS:
                        where = f"{root / name}: {entry}"
                        ink = 255 - read_image(file.read(entry), where, images.shape[-1], 1, NEAREST)[0]
                        # Turning commutes with taking the nearest pixel of a square: turned here, they need one read.
                        images[i, :, found[i]] = [np.rot90(ink, turn) for turn in range(TURNS)]
                    found[i] += 1
                    if progress is not None:
                        progress(1)
        except (BadZipFile, OSError, EOFError) as error:
            raise DataError(f"{root / name} cannot be read ({error}). Fetch it again") from error
    wrong = [f"{_name(c, 0).rpartition('/')[0]}: {n}" for c, n in zip(characters, found, strict=True) if n != DRAWINGS]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise DataError(
            f"{len(wrong)} of {len(characters)} characters do not have {DRAWINGS} drawings in the zips of {root} "
            f"({', '.join(wrong[:5])}{more}). Fetch them again"
        )
