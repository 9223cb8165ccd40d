"""What a model was trained on, of what it is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molmeta.bundle import Bundle
from molmeta.core.task import Split, TaskKind, TaskSource
from molmeta.evaluation.metrics import BoolArray
from molmeta.evaluation.scores import TaskRecord


@dataclass(frozen=True, eq=False)
class Training:
    """What a model was trained on.

    Attributes:
        tasks: names.
        structures: short hashes of the molecules (see :func:`short`), sorted; None where nobody knows.
    """

    tasks: frozenset[str]
    structures: NDArray[np.uint32] | None

    @classmethod
    def of(cls, bundle: Bundle | None, source: TaskSource) -> Training:
        """What a model file says; else, where the tasks that its card names are in this source, their molecules."""
        if bundle is None:
            return cls(frozenset(), None)
        tasks = frozenset(bundle.card.get("training_tasks", ()))
        structures = bundle.training_structures
        return cls(tasks, training_structures(source, tasks) if structures is None else structures)

    def saw(self, structures: NDArray[np.uint64]) -> BoolArray | None:
        """``[n]`` whether each molecule was trained on; None where nobody knows."""
        if self.structures is None or not len(structures):
            return None
        return np.isin(short(structures), self.structures)


def short(structures: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """32 bits of each structure's hash: of a million other molecules, about 50 look like one of 200,000."""
    return (structures >> np.uint64(32)).astype(np.uint32)


def training_structures(source: TaskSource, tasks: frozenset[str]) -> NDArray[np.uint32] | None:
    """The molecules of a source's tasks by name, as sorted short hashes; None where one of them is not there."""
    structures = getattr(source, "structures", None)
    if structures is None or not tasks:
        return None
    found = {task.name: task.rows for split in Split for kind in TaskKind for task in source.tasks(split, kind)}
    if not tasks <= found.keys():
        return None
    return np.unique(short(structures(np.unique(np.concatenate([found[name] for name in tasks])))))


def overlap(records: Sequence[TaskRecord], training: Training) -> dict[str, Any]:
    """How much of a benchmark stands in the training: for ``result.json``."""
    known: dict[int, bool] = {}
    for record in records:
        if record.trained is not None:
            known.update(zip(record.structure.tolist(), record.trained.tolist(), strict=True))
    return {
        "tasks": len(records),
        "trained_tasks": sorted(record.name for record in records if record.name in training.tasks),
        "molecules": len(known) if known else None,
        "trained_molecules": sum(known.values()) if known else None,
    }
