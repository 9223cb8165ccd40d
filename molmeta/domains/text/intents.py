"""The sources: CLINC150, HWU64, BANKING77, and any table of texts and labels with lists of classes.

CLINC150: Larson et al., 2019, EMNLP, "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction".
HWU64: Liu et al., 2019, arXiv:1903.05566. BANKING77: Casanueva et al., 2020, arXiv:2003.04807. Their class splits:
Dopierre et al., 2021, arXiv:2105.12995 (ProtAugment).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from molmeta.core.task import Split
from molmeta.domains.text.sources import TextSource
from molmeta.domains.text.tables import (
    SPLITS,
    Classes,
    LabelledTexts,
    classes_by_part,
    read_class_lists,
    read_table,
)
from molmeta.errors import ConfigError, DataError
from molmeta.paths import data_dir

SplitName = Literal["01", "02", "03", "04", "05"]
VALID_DOMAINS = ("travel", "utility")
TEST_DOMAINS = ("work", "small_talk", "meta")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clinc150Config:
    split: SplitName = "01"  # which of the five published class splits
    tasks: Literal["split", "domain"] = "split"  # domain: a domain of 15 intents is a task, whatever the class split
    ways: int = 5  # classes an episode, in draw()
    queries: int = 15  # query texts a class, in draw()
    root: str = ""  # the folder of data_full.json; empty: clinc150 under MOLMETA_DATA

    def __post_init__(self) -> None:
        _check_sizes(self.ways, self.queries)


class Clinc150(TextSource):
    """150 intents of 150 texts each; what is out of their scope is left out.

    With ``tasks="domain"`` the ten domains, in the file's order, are five tasks to train on, two to choose a model on
    (travel, utility) and three to test on (work, small talk, meta); no such split is published.

    Raises:
        DataError: a file is missing or damaged.
    """

    Config = Clinc150Config

    def __init__(self, config: Clinc150Config | None = None) -> None:
        self.config = config = config or Clinc150Config()
        root = _root(config.root, "clinc150")
        table = _clinc_table(root / "data_full.json")
        if config.tasks == "domain":
            groups = _domains(root / "domains.json")
        else:
            groups = _one_task_a_split("clinc150", config.split, root)
        super().__init__(table, groups, ways=config.ways, queries=config.queries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hwu64Config:
    split: SplitName = "01"  # which of the five published class splits
    ways: int = 5  # classes an episode, in draw()
    queries: int = 15  # query texts a class, in draw()
    root: str = ""  # the folder of full.jsonl; empty: hwu64 under MOLMETA_DATA

    def __post_init__(self) -> None:
        _check_sizes(self.ways, self.queries)


class Hwu64(TextSource):
    """64 intents of 38 to 194 texts each, 11,036 in all.

    Raises:
        DataError: a file is missing or damaged.
    """

    Config = Hwu64Config

    def __init__(self, config: Hwu64Config | None = None) -> None:
        self.config = config = config or Hwu64Config()
        root = _root(config.root, "hwu64")
        path = root / "full.jsonl"
        if not path.is_file():
            raise _missing(path, "hwu64")
        groups = _one_task_a_split("hwu64", config.split, root)
        super().__init__(read_table([path], "sentence", "label"), groups, ways=config.ways, queries=config.queries)


@dataclass(frozen=True, kw_only=True, slots=True)
class Banking77Config:
    split: SplitName = "01"  # which of the five published class splits
    ways: int = 5  # classes an episode, in draw()
    queries: int = 15  # query texts a class, in draw()
    root: str = ""  # the folder of train.csv and test.csv; empty: banking77 under MOLMETA_DATA

    def __post_init__(self) -> None:
        _check_sizes(self.ways, self.queries)


class Banking77(TextSource):
    """77 intents of a bank's customers, 13,083 texts: both published parts, since classes are split, not texts.

    Raises:
        DataError: a file is missing or damaged.
    """

    Config = Banking77Config

    def __init__(self, config: Banking77Config | None = None) -> None:
        self.config = config = config or Banking77Config()
        root = _root(config.root, "banking77")
        paths = [root / "train.csv", root / "test.csv"]
        if absent := [path for path in paths if not path.is_file()]:
            raise _missing(absent[0], "banking77")
        groups = _one_task_a_split("banking77", config.split, root)
        super().__init__(read_table(paths, "text", "category"), groups, ways=config.ways, queries=config.queries)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTableConfig:
    paths: tuple[str, ...] = ()  # CSV, TSV or JSONL files, read as one
    text: str = "text"  # the column, or key, of the texts
    label: str = "label"  # the column of the classes
    classes: str = ""  # a folder of labels.train.txt, labels.valid.txt and labels.test.txt, a class a line
    split: str = ""  # or: a column that says train, valid or test, the same for all rows of a class
    ways: int = 5  # classes an episode, in draw()
    queries: int = 15  # query texts a class, in draw()

    def __post_init__(self) -> None:
        _check_sizes(self.ways, self.queries)


class TextTable(TextSource):
    """Any files with a text and a class a row, such as BANKING77's; the tasks are ``train``, ``valid`` and ``test``.

    Raises:
        ConfigError: no files are named, or not what class is of which split.
        DataError: a file is missing or damaged, a row lacks its text or class, a class stands in two splits.
    """

    Config = TextTableConfig

    def __init__(self, config: TextTableConfig) -> None:
        self.config = config
        if not config.paths:
            raise ConfigError("[source].paths names the files to read: CSV, TSV or JSONL")
        if bool(config.classes) == bool(config.split):
            raise ConfigError(
                "which classes to train, validate and test on is told by [source].classes, a folder of "
                "labels.train.txt, labels.valid.txt and labels.test.txt, or by [source].split, a column: give one"
            )
        table = read_table([Path(path) for path in config.paths], config.text, config.label, config.split)
        if config.split:
            classes: Classes = classes_by_part(table.labels, table.parts)
        else:
            classes = read_class_lists(Path(config.classes))
        groups = {split: {str(split): names} for split, names in classes.items() if names}
        super().__init__(table, groups, ways=config.ways, queries=config.queries)


def _check_sizes(ways: int, queries: int) -> None:
    if ways < 2 or queries < 1:
        raise ConfigError(f"[source].ways is 2 or more and queries 1 or more, not {ways} and {queries}")


def _root(root: str, name: str) -> Path:
    return Path(root) if root else data_dir() / name


def _missing(path: Path, name: str) -> DataError:
    return DataError(
        f"there is no {path}. Set MOLMETA_DATA to the folder that holds {name}, name the folder in [source].root, or "
        f'fetch it with "molmeta data fetch {name}"'
    )


def _one_task_a_split(name: str, number: str, root: Path) -> dict[Split, dict[str, Sequence[str]]]:
    """The lists of a published class split, all three of which are needed."""
    folder = root / "few_shot" / number
    for split in SPLITS:
        if not (folder / f"labels.{split}.txt").is_file():
            raise _missing(folder / f"labels.{split}.txt", name)
    classes = read_class_lists(folder)
    return {split: {f"{name}/{number}/{split}": names} for split, names in classes.items()}


def _clinc_table(path: Path) -> LabelledTexts:
    """All texts that have an intent, in the file's order."""
    parts = _read_json(path, {"train", "val", "test"})
    try:
        pairs = [(str(text), str(label)) for part in ("train", "val", "test") for text, label in parts[part]]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: a part of it is no list of (text, intent). Fetch it again") from error
    return LabelledTexts([text for text, _ in pairs], [label for _, label in pairs], [])


def _domains(path: Path) -> dict[Split, dict[str, Sequence[str]]]:
    """The ten domains, each with its intents."""
    domains = _read_json(path, {*VALID_DOMAINS, *TEST_DOMAINS})
    chosen = {Split.VALID: VALID_DOMAINS, Split.TEST: TEST_DOMAINS}
    chosen[Split.TRAIN] = tuple(d for d in domains if d not in {*VALID_DOMAINS, *TEST_DOMAINS})
    return {split: {f"clinc150/{d}": domains[d] for d in chosen[split]} for split in SPLITS}


def _read_json(path: Path, keys: set[str]) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _missing(path, "clinc150") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}). Fetch it again") from error
    if not isinstance(record, dict) or not keys <= set(record):
        raise DataError(f"{path} is damaged: it has not all of {', '.join(sorted(keys))}. Fetch it again")
    return record
