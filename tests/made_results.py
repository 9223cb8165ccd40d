"""Results on disk from made-up predictions: a label seen through noise, for every kind of task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molmeta.core.sampling import stratified, uniform
from molmeta.core.task import Task, TaskKind
from molmeta.evaluation.fewshot import TaskResult
from molmeta.evaluation.results import Parts, finish, score_folder
from molmeta.evaluation.scores import DrawResult, TaskRecord
from tests.assays import MOLECULES

ROWS = 40
CLASSES = {TaskKind.BINARY: 2, TaskKind.MULTICLASS: 3, TaskKind.REGRESSION: 0}


def made_result(
    folder: Path,
    method: str = "ours",
    *,
    noise: float = 0.5,
    kind: TaskKind = TaskKind.BINARY,
    tasks: Sequence[str] = tuple(f"assay {i}" for i in range(8)),
    sizes: Sequence[int] = (8, 16),
    seeds: int = 2,
    description: dict[str, str] | None = None,
    smiles: Sequence[str] = tuple(MOLECULES),
    probable: bool = True,
    **header: Any,
) -> Path:
    """Write a finished result folder; less ``noise`` is better, and not ``probable`` gives scores alone."""
    folder.mkdir(parents=True)
    asked = {"name": "fsmol", "source": "fsmol", "split": "valid", "seeds": seeds, "sizes": list(sizes)}
    records = []
    for i, name in enumerate(tasks):
        record = _record(i, name, kind, description, smiles)
        task = Task(name, np.arange(ROWS), record.labels, kind, CLASSES[kind])
        draws = [_draw(task, size, seed, noise, i, probable) for size in sizes for seed in range(seeds)]
        Parts(folder).write(TaskResult(task, draws, [], encode_seconds=0.5))
        records.append(record)
    written = {"method": method, "protocol": {**asked, "kind": str(kind), **header.pop("protocol", {})}, **header}
    (folder / "result.json").write_text(json.dumps(written))
    finish(folder, method, records, score_folder(folder, records))
    return folder


def _record(i: int, name: str, kind: TaskKind, description: dict[str, str] | None, smiles: Sequence[str]) -> TaskRecord:
    rng = np.random.default_rng([i, 1])
    labels = {
        TaskKind.BINARY: rng.permutation(np.arange(ROWS) % 2),
        TaskKind.MULTICLASS: rng.permutation(np.arange(ROWS) % 3),
        TaskKind.REGRESSION: rng.normal(6.0, 1.0, ROWS),
    }[kind]
    told = {
        "target": f"protein {i}",
        "ec_super_class": str(1 + i % 2),
        "ec_super_class_name": ["oxido", "trans"][i % 2],
    }
    return TaskRecord(
        name,
        kind,
        CLASSES[kind],
        labels,
        [smiles[j % len(smiles)] for j in range(ROWS)],
        np.arange(ROWS, dtype=np.uint64) // 2 * (1 + i % 2),  # in every other task, molecules stand twice
        trained=rng.random(ROWS) < 0.3,
        similarity=np.full(ROWS, 0.3 + 0.05 * i, np.float32),
        description=told if description is None else description,
    )


def _draw(task: Task, size: int, seed: int, noise: float, i: int, probable: bool) -> DrawResult:
    rng = np.random.default_rng([seed, size, i])
    choose = stratified if task.kind.is_classification else uniform
    support, query = choose(task.labels, size, ROWS, rng)
    labels, error = task.labels[query], rng.normal(0, 1, len(query))
    deviation = None
    if task.kind is TaskKind.BINARY:
        odds = (2 * labels - 1 + noise * 2 * error) * 1.5
        predicted = 1 / (1 + np.exp(-odds)) if probable else odds
    elif task.kind is TaskKind.MULTICLASS:
        odds = np.eye(3)[labels] + noise * rng.random((len(query), 3))
        predicted = odds / odds.sum(1, keepdims=True)
    else:
        predicted, deviation = labels + noise * error, np.full(len(query), noise)
    return DrawResult(size, seed, support, query, predicted, deviation, seconds=0.01 * size)
