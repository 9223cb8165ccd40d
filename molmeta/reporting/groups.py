"""Tasks in groups: by enzyme class, by size, and by how near their molecules lie to the training molecules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from molmeta.evaluation.scores import TaskRecord

Groups = dict[str, list[str]]  # a group's name to its tasks
NO_CLASS = "no enzyme class"
_MANY = 6  # tasks from which thirds are made


@dataclass(frozen=True)
class Breakdown:
    """One way to group tasks.

    Attributes:
        name: of its figure's files.
        title: what the groups are by.
        groups: group to tasks, in the order to show.
    """

    name: str
    title: str
    groups: Groups


def breakdowns(tasks: Mapping[str, TaskRecord]) -> list[Breakdown]:
    """Every way to group these tasks that makes at least two groups."""
    ways = [
        Breakdown("enzyme-class", "by EC super-class of the target", _by_class(tasks)),
        Breakdown("task-size", "by molecules in the task", _thirds(tasks, lambda t: float(len(t)), "{:.0f}")),
        Breakdown("similarity", "by similarity to the training molecules", _thirds(tasks, _similarity, "{:.2f}")),
    ]
    return [way for way in ways if len(way.groups) > 1]


def _by_class(tasks: Mapping[str, TaskRecord]) -> Groups:
    groups = defaultdict(list)
    for name, task in tasks.items():
        number = task.description.get("ec_super_class", "")
        title = task.description.get("ec_super_class_name", "")
        groups[" ".join(filter(None, (number, title))) or NO_CLASS].append(name)
    if set(groups) == {NO_CLASS}:
        return {}
    return {group: groups[group] for group in sorted(groups, key=lambda g: (g == NO_CLASS, g))}


def _similarity(task: TaskRecord) -> float:
    """Mean Tanimoto similarity of a task's molecules to their nearest training molecule; NaN where not known."""
    return float(np.mean(task.similarity)) if len(task.similarity) else float("nan")


def _thirds(tasks: Mapping[str, TaskRecord], value: Callable[[TaskRecord], float], form: str) -> Groups:
    """The lowest, the middle and the highest third; none where there are few tasks, or all alike."""
    values = {name: value(task) for name, task in tasks.items()}
    known = {name: v for name, v in values.items() if np.isfinite(v)}
    if len(known) < _MANY:
        return {}
    edges = np.quantile(list(known.values()), [1 / 3, 2 / 3])
    found: list[list[str]] = [[], [], []]
    for name, v in known.items():
        found[int(np.searchsorted(edges, v, side="left"))].append(name)
    return {_range([known[name] for name in part], form): part for part in found if part}


def _range(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"
