"""A result on disk: what was asked, what was predicted of every draw, and the scores that follow from it.

A result is a folder:

    result.json        the method, the protocol, the model and the versions behind it
    draws/TASK.parquet a row a draw: support, query, prediction, seconds; a finished task is never done twice
    tasks.parquet      a row a task: labels, SMILES, structures, and what the model was trained on
    scores.parquet     a row a draw and part of the query (see ``scores.SUBSETS``): every metric
    scores.csv         the same

Predictions are what was measured; scores can be made again from them alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from molmeta.core.task import TaskKind
from molmeta.errors import InputError
from molmeta.evaluation.fewshot import Refusal, TaskResult
from molmeta.evaluation.scores import ALL, DrawResult, Score, TaskRecord, probable, score_draws
from molmeta.files import write_whole

FORMAT = 1
_KEYS = ("method", "task", "support_size", "seed", "subset")


@dataclass(frozen=True, eq=False)
class Result:
    """One method's scores.

    Attributes:
        method: its name.
        header: what ``result.json`` says; empty for a plain table of scores.
        scores: every draw, every part of its query.
        folder: where its predictions are, or None.
        known: its tasks, where they are at hand.
    """

    method: str
    header: Mapping[str, Any]
    scores: Sequence[Score]
    folder: Path | None = None
    known: Mapping[str, TaskRecord] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | str) -> Result:
        """Read a result folder, or a table of scores alone (``.csv`` or ``.parquet``).

        Raises:
            InputError: it is neither, or damaged, or not finished.
        """
        path = Path(path)
        try:
            if not path.is_dir():
                return _read_table(path)
            header = json.loads((path / "result.json").read_text(encoding="utf-8"))
            if not (path / "scores.parquet").is_file():
                raise InputError(f"{path} is a result that is not finished; run the same evaluation again to go on")
            return cls(header["method"], header, _scores(pa.parquet.read_table(path / "scores.parquet")), path)
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is not a result that molmeta evaluate wrote ({error})") from error

    @cached_property
    def tasks(self) -> dict[str, TaskRecord]:
        """What is known of each task; empty for a plain table."""
        if self.folder is None or self.known:
            return dict(self.known)
        rows = pa.parquet.read_table(self.folder / "tasks.parquet").to_pylist()
        return {row["name"]: _record(row) for row in rows}

    def draws(self, task: str) -> list[DrawResult]:
        """What was predicted of one task; empty for a plain table."""
        return [] if self.folder is None else Parts(self.folder).read(task)[0]

    @property
    def kind(self) -> TaskKind:
        """What the labels are, as far as the scores tell."""
        if self.header:
            return TaskKind(self.header["protocol"]["kind"])
        names = {name for score in self.scores for name in score.values}
        if "r2" in names:
            return TaskKind.REGRESSION
        return TaskKind.BINARY if "delta_auprc" in names else TaskKind.MULTICLASS

    @property
    def sizes(self) -> list[int]:
        """The support sizes that have a score."""
        return sorted({score.support_size for score in self.scores})


class Parts:
    """The finished tasks of a result folder, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "draws"

    def _path(self, task: str) -> Path:
        return self._folder / f"{quote(task, safe=' ')}.parquet"

    def holds(self, task: str, digest: str) -> bool:
        """Whether the task is finished, and was then what it is now (see :func:`task_digest`)."""
        try:
            known = pa.parquet.read_schema(self._path(task)).metadata or {}
            return bool(json.loads(known[b"molmeta"])["digest"] == digest)
        except (OSError, KeyError, ValueError, pa.ArrowException):
            return False

    def clear(self) -> None:
        """Take away every finished task, and nothing else."""
        for path in self._folder.glob("*.parquet"):
            path.unlink()

    def write(self, result: TaskResult, digest: str = "") -> None:
        """Keep what was predicted of a task; the file appears whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draws = result.draws
        table = pa.table(
            {
                "support_size": pa.array([d.support_size for d in draws], pa.int64()),
                "seed": pa.array([d.seed for d in draws], pa.int64()),
                "seconds": pa.array([d.seconds for d in draws], pa.float64()),
                "support": pa.array([d.support for d in draws], pa.list_(pa.int32())),
                "query": pa.array([d.query for d in draws], pa.list_(pa.int32())),
                "predicted": pa.array([d.predicted.ravel() for d in draws], pa.list_(pa.float64())),
                "deviation": pa.array([d.deviation for d in draws], pa.list_(pa.float64())),
                "tails": pa.array([d.tails for d in draws], pa.float64()),
                "classes": pa.array([d.classes for d in draws], pa.list_(pa.int32())),
            }
        )
        known = {
            "digest": digest,
            "encode_seconds": result.encode_seconds,
            "refused": [[r.support_size, r.seed, r.reason] for r in result.refused],
        }
        write_whole(self._path(result.task.name), _parquet(table, known))

    def read(self, task: str) -> tuple[list[DrawResult], list[Refusal], float]:
        """The draws of a finished task, those that were refused, and the seconds of embedding it.

        Raises:
            InputError: the file is damaged.
        """
        try:
            table = pa.parquet.read_table(self._path(task))
            known = json.loads(table.schema.metadata[b"molmeta"])
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise InputError(
                f"{self._path(task)} is damaged ({error}). Run the same evaluation again: this task alone is done anew"
            ) from error
        draws = [_draw(row) for row in table.to_batches() for row in _rows(row)]
        return draws, [Refusal(*refused) for refused in known["refused"]], known["encode_seconds"]


def _rows(batch: pa.RecordBatch) -> Iterable[dict[str, Any]]:
    """The rows of a batch, lists as arrays."""
    columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
    return ({name: column[i] for name, column in columns.items()} for i in range(len(batch)))


def _draw(row: Mapping[str, Any]) -> DrawResult:
    query, predicted = row["query"].astype(np.int64), row["predicted"]
    several, classes = len(predicted) != len(query), row.get("classes")
    return DrawResult(
        int(row["support_size"]),
        int(row["seed"]),
        row["support"].astype(np.int64),
        query,
        predicted.reshape(len(query), -1) if several else predicted,
        row["deviation"],
        float(row["seconds"]),
        None if classes is None else classes.astype(np.int64),
        float(row.get("tails", math.inf)),
    )


def task_digest(labels: np.ndarray[tuple[int], np.dtype[np.generic]], inputs: np.ndarray[Any, Any]) -> str:
    """A short hash of a task's labels and of what stands for its inputs: a task that changed is another."""
    return hashlib.sha256(labels.tobytes() + inputs.tobytes()).hexdigest()[:16]


def names(results: Sequence[Result]) -> list[str]:
    """A name a result; where a method stands twice, its folder tells which."""
    times = Counter(result.method for result in results)
    found: list[str] = []
    for result in results:
        folder = result.folder.absolute().name if result.folder else ""
        name = f"{result.method} ({folder})" if times[result.method] > 1 and folder else result.method
        alike = sum(other == name or other.startswith(f"{name} #") for other in found)
        found.append(f"{name} #{alike + 1}" if alike else name)
    return found


def score_folder(folder: Path, records: Sequence[TaskRecord]) -> list[Score]:
    """Score every task of a folder from what was predicted of it."""
    parts = {record.name: Parts(folder).read(record.name) for record in records}
    certain = probable(draw for draws, _, _ in parts.values() for draw in draws)
    return [
        _timed(score, parts[record.name][2])
        for record in records
        for score in score_draws(record, parts[record.name][0], certain)
    ]


def finish(folder: Path, method: str, records: Sequence[TaskRecord], scores: Sequence[Score]) -> None:
    """Write a folder's tables, ``scores.parquet`` last: with it, the folder is a whole result."""
    write_whole(folder / "tasks.parquet", _parquet(pa.Table.from_pylist([_record_row(r) for r in records], _TASKS)))
    write_scores(folder / "scores.csv", method, scores)
    write_scores(folder / "scores.parquet", method, scores)


def _timed(score: Score, encode_seconds: float) -> Score:
    return Score(
        score.task,
        score.support_size,
        score.seed,
        {**score.values, "encode_seconds": encode_seconds},
        score.subset,
    )


def write_scores(path: Path, method: str, scores: Sequence[Score]) -> None:
    """Write scores as CSV or Parquet (by the name), whole or not at all; what is not defined stays empty."""
    names = list(dict.fromkeys(name for s in scores for name in s.values))
    keys = {
        "method": pa.array([method] * len(scores), pa.string()),
        "task": pa.array([s.task for s in scores], pa.string()),
        "support_size": pa.array([s.support_size for s in scores], pa.int64()),
        "seed": pa.array([s.seed for s in scores], pa.int64()),
        "subset": pa.array([s.subset for s in scores], pa.string()),
    }
    missing = float("nan")
    table = pa.table(
        keys | {n: pa.array([s.values.get(n, missing) for s in scores], pa.float64(), from_pandas=True) for n in names}
    )
    if path.suffix == ".csv":
        text = BytesIO()
        pa.csv.write_csv(table, text, pa.csv.WriteOptions(quoting_style="needed"))
        write_whole(path, text.getvalue())
    else:
        write_whole(path, _parquet(table))


def _read_table(path: Path) -> Result:
    options = pa.csv.ConvertOptions(column_types={"task": pa.string(), "method": pa.string(), "subset": pa.string()})
    is_csv = path.suffix == ".csv"
    table = pa.csv.read_csv(path, convert_options=options) if is_csv else pa.parquet.read_table(path)
    methods = set(table["method"].to_pylist()) if "method" in table.column_names else {path.stem}
    if len(methods) > 1:
        raise InputError(f"{path} holds the scores of {len(methods)} methods; give each a table of its own")
    return Result(methods.pop() if methods else path.stem, {}, _scores(table))


def _scores(table: pa.Table) -> list[Score]:
    names = [name for name in table.column_names if name not in _KEYS]
    columns = [np.asarray(table[name].to_numpy(), np.float64) for name in names]
    subsets = table["subset"].to_pylist() if "subset" in table.column_names else [ALL] * len(table)
    keys = zip(
        table["task"].to_pylist(), table["support_size"].to_pylist(), table["seed"].to_pylist(), subsets, strict=True
    )
    rows = np.stack(columns, axis=1).tolist() if columns else [[] for _ in range(len(table))]
    return [
        Score(task, size, seed, dict(zip(names, values, strict=True)), subset)
        for (task, size, seed, subset), values in zip(keys, rows, strict=True)
    ]


_TASKS = pa.schema(
    [
        ("name", pa.string()),
        ("kind", pa.string()),
        ("num_classes", pa.int64()),
        ("labels", pa.list_(pa.float64())),
        ("smiles", pa.list_(pa.string())),
        ("structure", pa.list_(pa.uint64())),
        ("trained", pa.list_(pa.bool_())),
        ("exact", pa.list_(pa.bool_())),
        ("similarity", pa.list_(pa.float32())),
        ("description", pa.string()),
    ]
)


def _record_row(record: TaskRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "kind": str(record.kind),
        "num_classes": record.num_classes,
        "labels": record.labels.astype(np.float64),
        "smiles": record.smiles,
        "structure": record.structure,
        "trained": record.trained,
        "exact": record.exact,
        "similarity": record.similarity,
        "description": json.dumps(dict(record.description)),
    }


def _record(row: Mapping[str, Any]) -> TaskRecord:
    kind = TaskKind(row["kind"])
    flags = {name: None if row[name] is None else np.array(row[name], bool) for name in ("trained", "exact")}
    return TaskRecord(
        row["name"],
        kind,
        row["num_classes"],
        np.array(row["labels"], np.int64 if kind.is_classification else np.float64),
        row["smiles"],
        np.array(row["structure"], np.uint64),
        flags["trained"],
        flags["exact"],
        np.array(row["similarity"], np.float32),
        json.loads(row["description"]),
    )


def _parquet(table: pa.Table, known: Mapping[str, Any] | None = None) -> bytes:
    if known is not None:
        table = table.replace_schema_metadata({"molmeta": json.dumps(known)})
    buffer = BytesIO()
    pa.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
