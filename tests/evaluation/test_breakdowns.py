"""Tasks in groups."""

from __future__ import annotations

import numpy as np

from molmeta.core.task import TaskKind
from molmeta.evaluation.breakdowns import NO_CLASS, breakdowns
from molmeta.evaluation.scores import TaskRecord


def task(name: str, rows: int, similarity: float | None = None, **description: str) -> TaskRecord:
    known = np.zeros(0, np.float32) if similarity is None else np.full(rows, similarity, np.float32)
    labels = np.zeros(rows, np.int64)
    return TaskRecord(name, TaskKind.BINARY, 2, labels, similarity=known, description=description)


def test_every_task_stands_in_one_group_of_its_size_and_of_its_similarity() -> None:
    tasks = {f"t{i}": task(f"t{i}", 10 * (i + 1), similarity=0.95 - 0.1 * i) for i in range(6)}
    size, near = breakdowns(tasks)
    assert size.groups == {"10 to 20": ["t0", "t1"], "30 to 40": ["t2", "t3"], "50 to 60": ["t4", "t5"]}
    assert near.groups == {
        "below 0.5": ["t5"],
        "0.5 to 0.7": ["t3", "t4"],
        "0.7 to 0.9": ["t1", "t2"],
        "0.9 or more": ["t0"],
    }


def test_tasks_without_an_enzyme_class_come_last() -> None:
    tasks = {
        "a": task("a", 5),
        "b": task("b", 5, ec_super_class="2", ec_super_class_name="transferase"),
        "c": task("c", 5, ec_super_class="1", ec_super_class_name="oxidoreductase"),
    }
    (only,) = breakdowns(tasks)
    assert only.groups == {"1 oxidoreductase": ["c"], "2 transferase": ["b"], NO_CLASS: ["a"]}


def test_what_is_alike_or_not_known_makes_no_groups() -> None:
    assert breakdowns({f"t{i}": task(f"t{i}", 20) for i in range(9)}) == []
    assert breakdowns({}) == []
