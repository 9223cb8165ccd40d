from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from molmeta.core.learner import Learner
from molmeta.core.task import Split, TaskKind
from molmeta.errors import InputError
from molmeta.evaluation.fewshot import TaskResult, default_draw, evaluate_task
from molmeta.evaluation.results import Parts, Result, finish, score_folder, write_scores
from molmeta.evaluation.scores import Score, TaskRecord, score_draws
from molmeta.methods.gp import GaussianProcess
from tests.toy import Net, Source

NAN = float("nan")


def evaluated(kind: TaskKind, name: str = "") -> tuple[TaskRecord, TaskResult]:
    torch.manual_seed(0)
    model: Learner = GaussianProcess(Net())
    source = Source()
    task = source.tasks(Split.VALID, kind)[0]
    result = evaluate_task(model, source, task, sizes=(6, 9, 39), seeds=range(2), draw=default_draw)
    record = TaskRecord(
        name or task.name,
        kind,
        task.num_classes,
        task.labels,
        ["C"] * len(task),
        np.arange(len(task), dtype=np.uint64) + np.uint64(2**63),
        trained=np.arange(len(task)) < 5,
        description={"target": 'a "kinase", perhaps'},
    )
    return record, result


@pytest.mark.parametrize("kind", TaskKind)
def test_what_was_predicted_comes_back_bit_for_bit(kind: TaskKind, tmp_path: Path) -> None:
    record, result = evaluated(kind)
    parts = Parts(tmp_path)
    assert not parts.holds(result.task.name, "d1")
    parts.write(result, "d1")
    assert parts.holds(result.task.name, "d1")
    assert not parts.holds(result.task.name, "d2")
    draws, refused, seconds = parts.read(result.task.name)
    assert (refused, seconds) == (result.refused, result.encode_seconds)
    for found, expected in zip(draws, result.draws, strict=True):
        assert (found.support_size, found.seed, found.seconds) == (
            expected.support_size,
            expected.seed,
            expected.seconds,
        )
        assert found.tails == expected.tails
        assert (found.tails < np.inf) == (kind is TaskKind.REGRESSION)
        for column in ("support", "query", "predicted", "deviation"):
            np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    again = {(s.support_size, s.seed, s.subset): s.values for s in score_draws(record, draws)}
    for score in score_draws(record, result.draws):
        np.testing.assert_equal(again[score.support_size, score.seed, score.subset], score.values)


def test_a_file_that_says_nothing_of_tails_is_of_normal_laws(tmp_path: Path) -> None:
    _, result = evaluated(TaskKind.REGRESSION)
    Parts(tmp_path).write(result)
    (path,) = (tmp_path / "draws").glob("*.parquet")
    pq.write_table(pq.read_table(path).drop_columns(["tails"]), path)
    draws, _, _ = Parts(tmp_path).read(result.task.name)
    assert {draw.tails for draw in draws} == {np.inf}


def test_a_finished_folder_holds_the_scores_as_csv_and_parquet_and_the_tasks(tmp_path: Path) -> None:
    record, result = evaluated(TaskKind.BINARY)
    Parts(tmp_path).write(result)
    scores = score_folder(tmp_path, [record])
    finish(tmp_path, "mine, all mine", [record], scores)
    (tmp_path / "result.json").write_text('{"method": "mine, all mine", "protocol": {"kind": "binary"}}')
    read = Result.read(tmp_path)
    assert (read.method, read.kind, read.sizes) == ("mine, all mine", TaskKind.BINARY, [6, 9])
    for found, expected in zip(read.scores, scores, strict=True):
        assert (found.task, found.support_size, found.seed, found.subset) == (
            expected.task,
            expected.support_size,
            expected.seed,
            expected.subset,
        )
        np.testing.assert_equal(found.values, expected.values)
    table, same = pd.read_csv(tmp_path / "scores.csv"), pd.read_parquet(tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(table, same, check_dtype=False)
    kept = read.tasks[record.name]
    assert (kept.smiles, dict(kept.description)) == (record.smiles, record.description)
    for column in ("labels", "structure", "trained", "exact"):
        np.testing.assert_array_equal(getattr(kept, column), getattr(record, column))
    assert [d.seed for d in read.draws(record.name)] == [d.seed for d in result.draws]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_scores_alone_is_a_result_too(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    scores = [Score("007", 16, 0, {"delta_auprc": 0.1, "nll": NAN}), Score("b", 16, 1, {"delta_auprc": NAN})]
    write_scores(path, "m", scores)
    read = Result.read(path)
    assert (read.method, read.kind, read.tasks, read.draws("b")) == ("m", TaskKind.BINARY, {}, [])
    assert [s.task for s in read.scores] == ["007", "b"]
    np.testing.assert_equal([s.values["delta_auprc"] for s in read.scores], [0.1, NAN])


def test_a_table_from_elsewhere_needs_task_size_and_seed_alone(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text("task,support_size,seed,delta_auprc\nA,16,0,0.25\n")
    read = Result.read(tmp_path / "theirs.csv")
    assert (read.method, read.scores) == ("theirs", [Score("A", 16, 0, {"delta_auprc": 0.25})])


@pytest.mark.parametrize("name", ["tox21/SR-p53", "Neoplasms, benign (incl cysts)", "..", "Ünïcode %2F"])
def test_a_task_s_name_is_a_file_s_name_whatever_it_holds(tmp_path: Path, name: str) -> None:
    _, result = evaluated(TaskKind.BINARY)
    object.__setattr__(result.task, "name", name)
    Parts(tmp_path).write(result, "d")
    assert Parts(tmp_path).holds(name, "d")
    assert len(list((tmp_path / "draws").iterdir())) == 1
    assert len(Parts(tmp_path).read(name)[0]) == len(result.draws)


def test_what_is_no_result_is_refused_by_name(tmp_path: Path) -> None:
    for name, text in {"a.csv": "smiles,label\nC,1\n", "b.csv": "", "c.parquet": "no"}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=name):
            Result.read(tmp_path / name)
    with pytest.raises(InputError, match=r"none\.csv"):
        Result.read(tmp_path / "none.csv")
    (tmp_path / "two.csv").write_text("method,task,support_size,seed,r2\na,t,16,0,1\nb,t,16,0,1\n")
    with pytest.raises(InputError, match="2 methods"):
        Result.read(tmp_path / "two.csv")
    (tmp_path / "half").mkdir()
    with pytest.raises(InputError, match="half"):
        Result.read(tmp_path / "half")
    (tmp_path / "half" / "result.json").write_text('{"method": "m"}')
    with pytest.raises(InputError, match="not finished"):
        Result.read(tmp_path / "half")


def test_a_damaged_task_is_named_with_the_way_out(tmp_path: Path) -> None:
    _, result = evaluated(TaskKind.BINARY)
    Parts(tmp_path).write(result, "d")
    (path,) = (tmp_path / "draws").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    assert not Parts(tmp_path).holds(result.task.name, "d")
    with pytest.raises(InputError, match="is damaged"):
        Parts(tmp_path).read(result.task.name)


def test_the_classes_of_an_n_way_episode_come_back(tmp_path: Path) -> None:
    record, result = evaluated(TaskKind.MULTICLASS)
    result.draws[0] = replace(result.draws[0], classes=np.array([2, 0, 1]))
    Parts(tmp_path).write(result)
    found = Parts(tmp_path).read(result.task.name)[0]
    assert found[0].classes is not None
    assert found[0].classes.tolist() == [2, 0, 1]
    assert found[1].classes is None
    first, again = score_draws(record, result.draws)[0], score_draws(record, found)[0]
    assert first == again
