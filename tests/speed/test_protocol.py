"""What the FS-Mol protocol costs: embedding, heads and metrics apart, beside the same work done draw by draw.

    MOLMETA_DATA=... pytest tests/speed/test_protocol.py --benchmark-sort=name

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
from sklearn.model_selection import StratifiedShuffleSplit

from molmeta.core.episode import Episode, collate
from molmeta.core.learner import Learner
from molmeta.core.task import Split, Task
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
from molmeta.evaluation.fewshot import TaskResult, evaluate_task, predict_draws
from molmeta.evaluation.scores import TaskRecord, score_draws
from molmeta.recipe import make_learner
from tests.speed.conftest import Row

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


def whole(learner: Learner, source: FSMol, tasks: list[Task]) -> None:
    """Every draw, every metric over every part of the query."""
    for result in evaluated(learner, source, tasks):
        score_draws(TaskRecord.of(result.task, source), result.draws)


@torch.no_grad()
def least(learner: Learner, source: FSMol, results: list[TaskResult]) -> None:
    """Each molecule embedded once, one product with a prototype a class and draw, and a draw's scores sorted once."""
    for result in results:
        embedded = learner.encode(source.gather(result.task.rows)).values
        _ = embedded @ embedded.new_ones(embedded.shape[1], 2 * len(result.draws))
        for draw in result.draws:
            np.argsort(draw.predicted)


@torch.no_grad()
def draw_by_draw(learner: Learner, source: FSMol, results: list[TaskResult]) -> None:
    """As most code does it: scikit-learn draws, the draw is gathered, embedded, adapted to and predicted, and
    scikit-learn scores it: two metrics, over the whole query alone."""
    for task, known in ((result.task, draw) for result in results for draw in result.draws):
        order = np.argsort(-task.labels, kind="stable")
        size, seed = known.support_size, known.seed
        split = StratifiedShuffleSplit(1, train_size=size, test_size=len(task) - size, random_state=seed)
        support, query = (order[part] for part in next(split.split(order, 1 - task.labels[order])))
        ((examples, asked),) = collate(source, [Episode(task, support, query)]).episodes()
        said = learner.adapt(examples).predict(asked.inputs).scores().numpy()
        np.testing.assert_allclose(said, known.predicted, atol=1e-4)
        if 0 < task.labels[query].mean() < 1:
            sk.average_precision_score(task.labels[query], said)
            sk.roc_auc_score(task.labels[query], said)


def test_1_whole_protocol(
    row: Row, learner: Learner, source: FSMol, tasks: list[Task], results: list[TaskResult]
) -> None:
    row(
        f"FS-Mol's protocol on {len(tasks)} valid tasks ({sum(len(r.draws) for r in results)} draws), prototypes",
        lambda: least(learner, source, results),
        lambda: whole(learner, source, tasks),
        lambda: draw_by_draw(learner, source, results),
        repeats=3,
    )


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
