from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import sem
from sklearn.metrics import average_precision_score
from torch import nn

from molmeta.core.episode import Episode, collate
from molmeta.core.learner import Learner
from molmeta.core.sampling import Draw, ways_and_shots
from molmeta.core.shared import SharedEncoding
from molmeta.core.task import Inputs, IntArray, Split, Task, TaskKind
from molmeta.errors import InputError, SupportError
from molmeta.evaluation import fewshot
from molmeta.evaluation.fewshot import Support, default_draw, evaluate, predict_draws
from molmeta.evaluation.statistics import summarise
from molmeta.methods.gp import GaussianProcess
from molmeta.methods.maml import MAML, MAMLConfig
from molmeta.methods.protonet import ProtoNet
from tests.toy import Net, Source


class CountingNet(Net):
    """Counts the rows that it embeds."""

    rows = 0

    def forward(self, inputs: Inputs) -> torch.Tensor:
        self.rows += len(inputs)
        return super().forward(inputs)


def learner(method: type[Learner]) -> tuple[Learner, CountingNet]:
    torch.manual_seed(0)
    net = CountingNet()
    return (MAML(net, MAMLConfig(inner_steps=1)) if method is MAML else method(net)), net  # type: ignore[call-arg]


@pytest.mark.parametrize("method", [ProtoNet, GaussianProcess])
def test_a_protocol_of_many_draws_encodes_each_molecule_once(method: type[Learner]) -> None:
    model, net = learner(method)
    source = Source()
    tasks = source.tasks(Split.VALID)
    scores = evaluate(model, source, tasks, sizes=(4, 8, 16), seeds=range(10))
    assert len(scores) == len(tasks) * 30
    assert net.rows == source.gathered == sum(len(task) for task in tasks)


def test_what_adapts_the_network_itself_is_given_inputs_and_gathers_each_once() -> None:
    model, _ = learner(MAML)
    source = Source()
    tasks = source.tasks(Split.VALID)[:2]
    assert len(evaluate(model, source, tasks, sizes=(4,), seeds=range(2))) == 4
    assert source.gathered == sum(len(task) for task in tasks)


@pytest.mark.parametrize("method", [ProtoNet, GaussianProcess, MAML])
@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.MULTICLASS])
def test_draws_predicted_together_equal_each_adapted_alone(
    method: type[Learner], kind: TaskKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = learner(method)
    model.eval()
    source = Source()
    task = source.tasks(Split.VALID, kind)[0]
    drawn = [Episode(task, *default_draw(task, size, seed)) for size in (6, 9) for seed in range(3)]
    expected = []
    for episode in drawn:
        ((support, query),) = collate(source, [episode]).episodes()
        with torch.no_grad():
            expected.append(model.adapt(support).predict(query.inputs).probabilities)
    for rows_at_once in (1, 90, 10_000):
        monkeypatch.setattr(fewshot, "_DRAW_ROWS", rows_at_once)
        monkeypatch.setattr(fewshot, "_DRAW_PAIRS", 10 * rows_at_once)
        monkeypatch.setattr(fewshot, "_ENCODE_ROWS", max(7, rows_at_once))
        found = [p.probabilities for p in predict_draws(model, source, drawn).predictions]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "queries", "shared"), [(ProtoNet, 34, True), (ProtoNet, 5, False), (MAML, 34, False)]
)
def test_draws_share_a_task_s_rows_where_the_method_can_and_each_takes_many(
    method: type[Learner], queries: int, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = learner(method)
    seen, predict = [], type(model).predict_episodes
    monkeypatch.setattr(type(model), "predict_episodes", lambda m, batch: seen.append(batch) or predict(m, batch))
    task = Source().tasks(Split.VALID)[0]
    drawn = [default_draw(task, size, seed) for size in (4, 6) for seed in range(3)]
    predict_draws(model.eval(), Source(), [Episode(task, support, query[:queries]) for support, query in drawn])
    assert {isinstance(batch.inputs, SharedEncoding) for batch in seen} == {shared}


def test_scores_stand_by_task_size_and_seed_and_equal_a_loop() -> None:
    model, _ = learner(ProtoNet)
    model.eval()
    source = Source()
    tasks = source.tasks(Split.VALID)[:2]
    scores = evaluate(model, source, tasks, sizes=(4, 8), seeds=(3, 5))
    assert [(s.task, s.support_size, s.seed) for s in scores] == [
        (task.name, size, seed) for task in tasks for size in (4, 8) for seed in (3, 5)
    ]
    task = tasks[1]
    support, query = default_draw(task, 8, 5)
    ((examples, asked),) = collate(source, [Episode(task, support, query)]).episodes()
    with torch.no_grad():
        ranked = model.adapt(examples).predict(asked.inputs).scores()
    truth = task.labels[query]
    expected = average_precision_score(truth, ranked) - truth.mean()
    assert scores[-1].values["delta_auprc"] == pytest.approx(expected, abs=1e-6)


def test_a_refused_draw_is_left_out_and_the_rest_is_scored() -> None:
    def draw(task: Task, size: int, seed: int) -> Draw:
        if seed == 1 or task.name.endswith("0"):
            raise SupportError("no")
        return default_draw(task, size, seed)

    model, _ = learner(ProtoNet)
    source, seen = Source(), []
    tasks = source.tasks(Split.VALID)[:2]
    scores = evaluate(model, source, tasks, sizes=(4,), seeds=range(3), draw=draw, progress=seen.append)
    assert [(s.task, s.seed) for s in scores] == [(tasks[1].name, 0), (tasks[1].name, 2)]
    assert seen == tasks


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_s_mode_is_left_as_it_was_found(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, net = learner(ProtoNet)
    model.train()
    next(m for m in net.modules() if isinstance(m, nn.Dropout)).eval()
    modes = [module.training for module in model.modules()]
    seen = []

    def encode(inputs: Inputs) -> torch.Tensor:
        seen.append(model.training)
        if fails:
            raise RuntimeError("stop")
        return Net.forward(net, inputs)

    monkeypatch.setattr(net, "forward", encode)
    source = Source()
    try:
        evaluate(model, source, source.tasks(Split.VALID)[:1], sizes=(4,), seeds=range(1))
    except RuntimeError:
        assert fails
    assert seen == [False]
    assert [module.training for module in model.modules()] == modes


def test_the_default_draw_is_keyed_by_task_size_and_seed() -> None:
    tasks = Source().tasks(Split.VALID)
    draws = [default_draw(t, size, seed) for t in tasks[:2] for size in (8, 9) for seed in (0, 1)]
    assert len({tuple(support) for support, _ in draws}) == len(draws)
    again = default_draw(tasks[1], 9, 1)
    assert [p.tolist() for p in again] == [p.tolist() for p in draws[-1]]
    assert all(sorted([*s, *q]) == list(range(40)) for s, q in draws)


FACTS = {"queries", "seconds", "failed", "trained_task"}


def test_each_kind_has_its_metrics() -> None:
    source = Source()
    names = {}
    for kind in TaskKind:
        model, _ = learner(GaussianProcess)
        (found,) = evaluate(model, source, source.tasks(Split.VALID, kind)[:1], sizes=(9,), seeds=range(1))
        names[kind] = set(found.values)
    assert {"accuracy", "nll", "delta_auprc", "roc_auc", "brier", "ece", "ef1"} < names[TaskKind.BINARY]
    assert names[TaskKind.MULTICLASS] == {"accuracy", "nll"} | FACTS
    assert names[TaskKind.REGRESSION] == {"r2", "rmse", "mse", "spearman", "coverage_90"} | FACTS


class Written(Source):
    """Rows as SMILES: a chain of carbons a row."""

    def smiles(self, rows: IntArray) -> list[str]:
        return ["C" * (int(row) + 1) for row in rows]


def test_a_function_is_given_smiles_and_labels_and_scored_as_a_learner_is() -> None:
    source = Written()
    (task,) = source.tasks(Split.VALID)[:1]
    asked = []

    def heavier(support: Support, query: list[str]) -> list[float]:
        asked.append((support, query))
        return [len(smiles) for smiles in query]

    (found,) = evaluate(heavier, source, [task], sizes=(8,), seeds=(4,))
    ((support, query),) = asked
    drawn = default_draw(task, 8, 4)
    assert support.smiles == source.smiles(task.rows[drawn[0]])
    assert support.labels.tolist() == task.labels[drawn[0]].tolist()
    truth = task.labels[drawn[1]]
    expected = average_precision_score(truth, [len(smiles) for smiles in query]) - truth.mean()
    assert found.values["delta_auprc"] == pytest.approx(expected)
    assert np.isnan(found.values["nll"])  # a length is no probability


def test_a_function_that_ranks_at_random_scores_chance_and_one_that_leaks_everything() -> None:
    source = Written()
    tasks = source.tasks(Split.VALID)
    rng = np.random.default_rng(0)
    at_random = evaluate(lambda _, query: rng.random(len(query)), source, tasks, sizes=(8,), seeds=range(60))
    gap = summarise(at_random, "delta_auprc", 8).mean - summarise(at_random, "chance", 8).mean
    assert abs(gap) < 0.015
    one = tasks[:1]  # rows stand in several tasks with other labels
    truth = dict(zip(source.smiles(one[0].rows), one[0].labels, strict=True))
    leaked = evaluate(lambda _, query: [float(truth[s]) for s in query], source, one, sizes=(8,))
    assert {round(s.values["roc_auc"], 9) for s in leaked} == {1.0}
    assert all(s.values["delta_auprc"] == pytest.approx(1 - s.values["query_share"]) for s in leaked)


def test_a_function_that_returns_something_else_is_refused_by_task() -> None:
    source = Written()
    task = source.tasks(Split.VALID)[0]
    with pytest.raises(InputError, match=rf"{task.name}.*one score a molecule"):
        evaluate(lambda _, query: np.zeros((len(query), 2)), source, [task], sizes=(8,))
    with pytest.raises(InputError, match=rf"{task.name}.*scores are not finite"):
        evaluate(lambda _, query: [float("nan")] * len(query), source, [task], sizes=(8,))
    with pytest.raises(InputError, match=rf"{task.name}.*ZeroDivisionError"):
        evaluate(lambda _, query: [1 / 0 for _ in query], source, [task], sizes=(8,))
    tensors = evaluate(lambda _, query: torch.rand(len(query), requires_grad=True), source, [task], sizes=(8,))
    assert all(np.isfinite(s.values["roc_auc"]) for s in tensors)


def test_n_way_episodes_of_one_large_task_are_numbered_by_their_own_classes() -> None:
    model, _ = learner(ProtoNet)
    source = Source()
    (task,) = source.tasks(Split.VALID, TaskKind.MULTICLASS)[:1]

    def draw(task: Task, shots: int, seed: int) -> tuple[IntArray, IntArray, IntArray]:
        return ways_and_shots(task.labels, 2, shots, 3, np.random.default_rng(seed))

    found = evaluate(model, source, [task], sizes=(1, 2), seeds=range(20), draw=draw)
    for score in found:
        drawn = Episode(task, *draw(task, score.support_size, score.seed))
        ((examples, asked),) = collate(source, [drawn]).episodes()
        with torch.no_grad():
            right = model.eval().adapt(examples).predict(asked.inputs).probabilities
        assert right is not None
        assert score.values["accuracy"] == (right.argmax(1) == asked.labels).double().mean()
    accuracies = [s.values["accuracy"] for s in found if s.support_size == 2]
    assert summarise(found, "accuracy", 2).error == pytest.approx(sem(accuracies))
