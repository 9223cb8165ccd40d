"""Intents as few-shot tasks: a split's classes are one task, out of which N-way episodes are drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch

from molmeta.core.random import keyed_rng
from molmeta.core.sampling import ways_and_shots
from molmeta.core.task import IntArray, Split, Task, TaskKind
from molmeta.domains.text.inputs import TextBatch
from molmeta.domains.text.tables import LabelledTexts, check_classes

Groups = Mapping[Split, Mapping[str, Sequence[str]]]  # split -> task name -> its classes


class TextSource:
    """Tasks over labelled texts: a task is a group of classes, with all texts of these.

    Args:
        table: the texts; those whose class stands in no task are never drawn.
        groups: the tasks of each split, and the classes of each.
        ways: classes an episode.
        queries: query texts a class.

    Raises:
        DataError: a class stands in two tasks, or has no text.
    """

    def __init__(self, table: LabelledTexts, groups: Groups, *, ways: int, queries: int) -> None:
        self._ways, self._queries = ways, queries
        self._classes = {name: tuple(classes) for tasks in groups.values() for name, classes in tasks.items()}
        check_classes({s: [c for classes in g.values() for c in classes] for s, g in groups.items()}, table.labels)
        self._texts = table.texts
        self._inputs = TextBatch.of(table.texts)
        labels = np.array(table.labels)
        self._tasks = {s: [self._task(name, labels) for name in tasks] for s, tasks in groups.items()}

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> Sequence[Task]:
        """The tasks of one split; all are of several classes."""
        return self._tasks.get(split, []) if kind is TaskKind.MULTICLASS else []

    def gather(self, rows: IntArray) -> TextBatch:
        """The texts at ``rows``."""
        return self._inputs[_tensor(rows)]

    def texts(self, rows: IntArray) -> list[str]:
        """The texts at ``rows``, as written."""
        return [self._texts[row] for row in rows.tolist()]

    def class_names(self, task: Task) -> tuple[str, ...]:
        """The name of each class of a task of this source, by its number."""
        return self._classes[task.name]

    def describe(self, task: Task, classes: IntArray) -> TextBatch:
        """The names of ``classes`` (the task's own numbers) as words, a text each: ``book_flight`` is "book flight"."""
        names = self.class_names(task)
        return TextBatch.of([words_of(names[c]) for c in classes.tolist()])

    def draw(self, task: Task, n_support: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
        """An episode of ``ways`` classes, ``n_support`` shots and ``queries`` query texts of each.

        Raises:
            SupportError: too few classes have that many texts.
        """
        rng = keyed_rng(seed, f"draw {task.name}", n_support, self._ways)
        return ways_and_shots(task.labels, self._ways, n_support, self._queries, rng)

    def _task(self, name: str, labels: np.ndarray[tuple[int], np.dtype[np.str_]]) -> Task:
        classes = self._classes[name]
        number = {label: i for i, label in enumerate(classes)}
        rows = np.flatnonzero(np.isin(labels, classes)).astype(np.int64)
        return Task(
            name=name,
            rows=rows,
            labels=np.array([number[label] for label in labels[rows]], np.int64),
            kind=TaskKind.MULTICLASS,
            num_classes=len(classes),
            description=MappingProxyType({"classes": ", ".join(classes)}),
        )


def words_of(name: str) -> str:
    """A class's name as words: ``alarm/remove`` is "alarm remove", ``bookFlight`` is "book flight"."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", spaced).strip().lower()


def _tensor(rows: IntArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, np.int64))
