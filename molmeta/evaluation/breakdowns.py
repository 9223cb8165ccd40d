"""Tasks in groups: by enzyme class, by size, and by how near their molecules lie to the training fold's."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from molmeta.evaluation.scores import TaskRecord

Groups = dict[str, list[str]]  # a group's name to its tasks
NO_CLASS = "no enzyme class"
_MANY = 6  # tasks from which thirds are made
_NEAR = (0.5, 0.7, 0.9)  # Tanimoto similarities between the groups


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
        Breakdown("task-size", "by molecules in the task", _thirds({n: len(task) for n, task in tasks.items()})),
        Breakdown("similarity", "by mean similarity to the training fold's nearest molecules", _by_similarity(tasks)),
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


def _by_similarity(tasks: Mapping[str, TaskRecord]) -> Groups:
    """By the mean Tanimoto similarity of a task's molecules to the training fold's nearest, where it is known."""
    titles = [f"below {_NEAR[0]}", *(f"{low} to {high}" for low, high in pairwise(_NEAR)), f"{_NEAR[-1]} or more"]
    found: Groups = {title: [] for title in titles}
    for name, task in tasks.items():
        if len(task.similarity):
            found[titles[bisect_right(_NEAR, float(np.mean(task.similarity)))]].append(name)
    return {title: names for title, names in found.items() if names}


def _thirds(sizes: Mapping[str, int]) -> Groups:
    """The smallest, the middle and the largest third; none where there are few tasks, or all alike."""
    if len(sizes) < _MANY:
        return {}
    edges = np.quantile(list(sizes.values()), [1 / 3, 2 / 3])
    found: list[list[str]] = [[], [], []]
    for name, size in sizes.items():
        found[int(np.searchsorted(edges, size, side="left"))].append(name)
    return {_range([sizes[name] for name in part]): part for part in found if part}


def _range(sizes: Sequence[int]) -> str:
    return str(min(sizes)) if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
