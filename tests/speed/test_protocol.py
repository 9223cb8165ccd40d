"""What the FS-Mol protocol costs: embedding, heads and metrics apart, beside the same work done draw by draw.

    MOLMETA_DATA=... pytest tests/speed --benchmark-sort=name

A prototypical network over fingerprints, with fresh weights (their values do not change the cost); twelve valid tasks
(or MOLMETA_SPEED_TASKS), every support size, ten seeds. Nothing here is asserted about time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from molmeta.core.episode import Episode, collate
from molmeta.core.learner import Learner
from molmeta.core.task import Split, Task
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
from molmeta.evaluation.fewshot import TaskResult, evaluate_task, predict_draws
from molmeta.evaluation.scores import TaskRecord, score_draws
from molmeta.recipe import make_learner

SIZES, SEEDS = (16, 32, 64, 128, 256), range(10)
TASKS = int(os.environ.get("MOLMETA_SPEED_TASKS", "12"))
Benchmark = Callable[..., Any]
pytestmark = [pytest.mark.data, pytest.mark.benchmark(min_rounds=3, warmup=True, warmup_iterations=1)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, fsmol: Path) -> FSMol:
    """The valid fold alone: the train fold takes minutes to featurise."""
    root = tmp_path_factory.mktemp("fs-mol")
    (root / "valid").symlink_to(fsmol / "valid")
    return FSMol(FSMolConfig(root=str(root)))


@pytest.fixture(scope="module")
def learner() -> Learner:
    torch.manual_seed(0)
    return make_learner({"name": "protonet", "distance": "cosine"}, {"name": "fingerprint"}).eval()


@pytest.fixture(scope="module")
def tasks(source: FSMol) -> list[Task]:
    return list(source.tasks(Split.VALID))[:TASKS]


def evaluated(learner: Learner, source: FSMol, tasks: list[Task]) -> list[TaskResult]:
    return [evaluate_task(learner, source, task, sizes=SIZES, seeds=SEEDS, draw=source.draw) for task in tasks]


@pytest.fixture(scope="module")
def results(learner: Learner, source: FSMol, tasks: list[Task]) -> list[TaskResult]:
    return evaluated(learner, source, tasks)


def test_1_whole_protocol(benchmark: Benchmark, learner: Learner, source: FSMol, tasks: list[Task]) -> None:
    def whole() -> None:
        for result in evaluated(learner, source, tasks):
            score_draws(TaskRecord.of(result.task, source), result.draws)

    benchmark(whole)


def test_2_drawing_alone(benchmark: Benchmark, source: FSMol, results: list[TaskResult]) -> None:
    asked = [(result.task, draw.support_size, draw.seed) for result in results for draw in result.draws]
    benchmark(lambda: [source.draw(*each) for each in asked])


@torch.no_grad()
def test_3_embedding_alone(benchmark: Benchmark, learner: Learner, source: FSMol, tasks: list[Task]) -> None:
    benchmark(lambda: [learner.encode(source.gather(task.rows)) for task in tasks])


def test_4_embedding_and_heads(
    benchmark: Benchmark, learner: Learner, source: FSMol, results: list[TaskResult]
) -> None:
    drawn = [[Episode(r.task, d.support, d.query) for d in r.draws] for r in results]
    benchmark(lambda: [predict_draws(learner, source, episodes) for episodes in drawn])


def test_5_metrics_alone(benchmark: Benchmark, source: FSMol, results: list[TaskResult]) -> None:
    benchmark(lambda: [score_draws(TaskRecord.of(r.task, source), r.draws) for r in results])


def test_6_scikit_learn_s_metrics_draw_by_draw(benchmark: Benchmark, results: list[TaskResult]) -> None:
    """Seven of the metrics, over the whole query alone: less than is scored above."""

    def one_by_one() -> None:
        for result in results:
            for draw in result.draws:
                truth, called = result.task.labels[draw.query], draw.predicted >= 0.5
                if 0 < truth.mean() < 1:
                    sk.average_precision_score(truth, draw.predicted)
                    sk.roc_auc_score(truth, draw.predicted)
                    sk.log_loss(truth, np.clip(draw.predicted, 1e-7, 1 - 1e-7))
                    sk.brier_score_loss(truth, draw.predicted)
                    for metric in (sk.balanced_accuracy_score, sk.f1_score, sk.cohen_kappa_score):
                        metric(truth, called)

    benchmark(one_by_one)


@torch.no_grad()
def test_7_draw_by_draw(
    benchmark: Benchmark, learner: Learner, source: FSMol, tasks: list[Task], results: list[TaskResult]
) -> None:
    """As most code does it: each draw gathers, embeds, adapts, predicts, and is scored by scikit-learn."""

    def one_by_one() -> None:
        for result in results:
            for known in result.draws:
                support, query = source.draw(result.task, known.support_size, known.seed)
                ((examples, asked),) = collate(source, [Episode(result.task, support, query)]).episodes()
                said = learner.adapt(examples).predict(asked.inputs).scores().numpy()
                truth = result.task.labels[query]
                if 0 < truth.mean() < 1:
                    sk.average_precision_score(truth, said)
                    sk.roc_auc_score(truth, said)

    benchmark(one_by_one)
