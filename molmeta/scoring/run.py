"""Running an evaluation: task by task, on several processes, resumable; the same numbers however it is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from molmeta.bundle import Bundle
from molmeta.core.learner import Learner
from molmeta.core.task import Task, TaskKind, TaskSource
from molmeta.domains.molecules.workers import start_worker
from molmeta.errors import ConfigError, MolmetaError
from molmeta.evaluation.calibration import calibrations, pooled
from molmeta.evaluation.fewshot import DrawRule, ScoreFunction, evaluate_task
from molmeta.evaluation.results import Parts, Result, finish, score_folder, task_digest, write_scores
from molmeta.evaluation.scores import TaskRecord
from molmeta.files import check_writable, write_whole
from molmeta.scoring.candidates import Candidate, load_candidate
from molmeta.scoring.claim import TABLES, check_free, claim, make_header
from molmeta.scoring.overlap import Training, overlap
from molmeta.scoring.protocols import Question, changed, question

Progress = Callable[[int, int], None]  # tasks done, of how many


def evaluate(
    model: str | Bundle | Learner | ScoreFunction = "default",
    protocol: str | Question = "fsmol",
    *,
    out: Path | str | None = None,
    name: str | None = None,
    workers: int = 1,
    device: str = "auto",
    force: bool = False,
    command: str = "",
    progress: Progress | None = None,
    settings: Sequence[str] = (),
    **changes: Any,
) -> Result:
    """Score a model on a benchmark.

    Args:
        model: see :func:`~molmeta.scoring.candidates.load_candidate`; a function ``(support, query SMILES) ->
            scores`` is given ``support.smiles`` and ``support.labels``, and returns a number a query.
        protocol: a benchmark's name (see ``PROTOCOLS``), or a question of one's own.
        out: a result folder, in which an interrupted evaluation goes on; or a ``.csv`` or ``.parquet`` for the table of
            scores alone; None keeps nothing.
        name: of the method in tables and reports; None: the model's own.
        workers: processes; a model is then given by name. The numbers do not depend on it.
        device: auto, cpu, cuda or cuda:N.
        force: overwrite ``out``.
        command: how this was called, for the result's header.
        progress: called with (tasks done, tasks).
        settings: as ``table.name=value``: of the ``source``, or of the ``method`` or ``backbone`` of a run or recipe.
        changes: other fields of :class:`~molmeta.scoring.protocols.Question`: ``split="heldout"``, ``sizes=(16,)``.

    Raises:
        ConfigError: something by a name that is not known, or a kind of task that the model does not serve.
        DataError: the tasks are not there.
        InputError: ``out`` holds something else.
    """
    of_model = [setting for setting in settings if setting.startswith(("method.", "backbone."))]
    of_source = tuple(setting for setting in settings if setting not in of_model)
    asked = changed(question(protocol) if isinstance(protocol, str) else protocol, settings=of_source, **changes)
    if workers > 1 and not isinstance(model, str):
        raise ConfigError("several workers need a model by name or file; or give workers=1")
    table = Path(out) if out is not None and Path(out).suffix in TABLES else None
    if table is not None:
        check_writable(table, force)
    load = partial(load_candidate, model, device, of_model)
    candidate = load()
    method = name or candidate.name
    _check_can(candidate, method, asked)
    with _folder(None if table is not None else out) as folder:
        header = make_header(method, asked, candidate, command)
        check_free(folder, header, force)
        source, tasks, draw = asked.open()
        claim(folder, header, force)
        todo = [task for task in tasks if not Parts(folder).holds(task.name, _digest(task, source))]
        finished = (
            _on_workers(load, asked, folder, [task.name for task in todo], workers)
            if workers > 1 and len(todo) > 1
            else (_evaluate(candidate, source, task, draw, asked, folder) for task in todo)
        )
        _until_done(finished, len(tasks) - len(todo), len(tasks), progress)
        training = Training.of(candidate.bundle, source)
        records = [_record(task, source, training) for task in tasks]
        result = complete(folder, method, records, overlap(records, training))
    if table is not None:
        write_scores(table, method, result.scores)
    return result if out is not None and table is None else replace(result, folder=None)


def _until_done(finished: Generator[str], done: int, tasks: int, progress: Progress | None) -> None:
    """Take tasks as they finish; an interruption ends their workers before the folder goes."""
    with closing(finished):
        for i, _ in enumerate(chain([""], finished), start=done):
            if progress is not None:
                progress(i, tasks)


def _check_can(candidate: Candidate, method: str, asked: Question) -> None:
    if not candidate.serves(TaskKind(asked.kind)):
        raise ConfigError(f"{method} does not serve {asked.kind} tasks")
    if 0 in asked.sizes and not candidate.needs_no_support(TaskKind(asked.kind)):
        raise ConfigError(f"{method} learns from examples alone: without any (support size 0) it can predict nothing")


@contextmanager
def _folder(out: Path | str | None) -> Iterator[Path]:
    """The result folder, or a passing one where only the scores are wanted."""
    if out is not None:
        yield Path(out)
        return
    with TemporaryDirectory(prefix="molmeta-") as passing:
        yield Path(passing)


def _evaluate(
    candidate: Candidate, source: TaskSource, task: Task, draw: DrawRule, asked: Question, folder: Path
) -> str:
    with _one_thread():
        found = evaluate_task(candidate.model, source, task, sizes=asked.sizes, seeds=range(asked.seeds), draw=draw)
    Parts(folder).write(found, _digest(task, source))
    return task.name


def _digest(task: Task, source: TaskSource) -> str:
    """Which data a task's predictions are of."""
    structures = getattr(source, "structures", None)
    return task_digest(task.labels, structures(task.rows) if structures else task.rows)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: sums are then the same in every process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class _Worker:
    candidate: Candidate
    source: TaskSource
    tasks: Mapping[str, Task]
    draw: DrawRule
    asked: Question
    folder: Path


_worker: list[_Worker] = []  # what this process evaluates, once it was told


def _start(load: Callable[[], Candidate], asked: Question, folder: Path) -> None:
    start_worker()
    source, tasks, draw = asked.open()
    _worker[:] = [_Worker(load(), source, {t.name: t for t in tasks}, draw, asked, folder)]


def _work(task: str) -> str:
    (own,) = _worker
    return _evaluate(own.candidate, own.source, own.tasks[task], own.draw, own.asked, own.folder)


def _on_workers(
    load: Callable[[], Candidate], asked: Question, folder: Path, todo: list[str], workers: int
) -> Generator[str]:
    """Evaluate tasks by name on several processes; yields each as it is done."""
    # Spawned, not forked: torch's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        min(workers, len(todo)),
        mp_context=get_context("spawn"),
        initializer=_start,
        initargs=(load, asked, folder),
    )
    try:
        for future in as_completed([pool.submit(_work, name) for name in todo]):
            yield future.result()
    except BrokenProcessPool as error:
        raise MolmetaError(
            "a worker process ended before its work (out of memory, perhaps; or, in a script, the call does not stand "
            'under "if __name__ == "__main__":"). Finished tasks are kept: run it again with fewer workers'
        ) from error
    except BaseException:
        # What is at work is lost and done anew; a task can take hours, and nobody waits for it after Ctrl-C.
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def complete(folder: Path, method: str, records: list[TaskRecord], seen: Mapping[str, Any]) -> Result:
    """Score what was predicted and write the tables.

    Args:
        folder: a result folder whose draws are all there.
        method: its name.
        records: its tasks.
        seen: what the model was trained on of them (see ``scoring.overlap``).
    """
    scores = score_folder(folder, records)
    header = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    refused = [refusal for record in records for refusal in Parts(folder).read(record.name)[1]]
    header |= {
        "overlap": dict(seen),
        "refused": {str(n): sum(r.support_size == n for r in refused) for n in header["protocol"]["sizes"]},
        "refused_because": {str(r.support_size): r.reason for r in reversed(refused)},  # the first of each size
    }
    result = Result(method, header, scores, folder, {record.name: record for record in records})
    header |= pooled(calibrations(result.kind, result))
    write_whole(folder / "result.json", json.dumps(header, indent=1).encode())
    finish(folder, method, records, scores)
    return result


def _record(task: Task, source: TaskSource, training: Training) -> TaskRecord:
    record, nearest = TaskRecord.of(task, source), getattr(source, "similarity_to_train", None)
    similarity = nearest(task) if nearest else record.similarity
    return replace(
        record,
        trained=training.saw(record.structure),
        similarity=similarity,
        trained_task=task.name in training.tasks,
    )
