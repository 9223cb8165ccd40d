"""Every method on every backbone is held to the laws that it states."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from molmeta.core.episode import Episode, EpisodeBatch, LabelledSet, collate_labels
from molmeta.core.learner import Learner, Prediction
from molmeta.core.task import Inputs, Task, TaskKind
from molmeta.domains import BACKBONES
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.text.inputs import TextBatch
from molmeta.errors import InputError, SupportError
from molmeta.methods import METHODS
from molmeta.recipe import make_learner
from tests import tabpfn_stand_in
from tests.bundles import DRUGS

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
Tables = Mapping[str, Any]

_STEPS = {"inner_lr": 0.3, "inner_steps": 2}
LEARNED: dict[str, Tables] = {
    "gp": {"name": "gp"},
    "gp without prior": {"name": "gp", "prior": False},
    "maml": {"name": "maml", **_STEPS},
    "maml, first order": {"name": "maml", "first_order": True, **_STEPS},
    "maml, fixed head": {"name": "maml", "head": "fixed", "ways": 3, **_STEPS},
    **{f"protonet, {d}": {"name": "protonet", "distance": d} for d in ("euclidean", "mahalanobis", "cosine")},
    "protonet, attention": {"name": "protonet", "distance": "cosine", "attention": True},
}
_GNN = {"width": 5, "hidden": 8, "layers": 2}
_MLP = {"width": 5, "hidden": 8}
NETWORKS: dict[str, Tables] = {
    "fingerprint": {"name": "fingerprint", **_MLP},
    "gnn": {"name": "gnn", **_GNN},
    "joint": {"name": "joint", "width": 6, "gnn": _GNN, "fingerprint": _MLP},
    "plain": {"name": "tests.toy:Net", "width": 5},
}
VARIANTS = ("maml, first order", "maml, fixed head", "gp without prior")  # one backbone shows what they change
CASES = {
    f"{m} on {b}": (LEARNED[m], NETWORKS[b]) for m in LEARNED for b in NETWORKS if m not in VARIANTS or b == "plain"
}
CASES["gp on joint, two views"] = (LEARNED["gp"], {**NETWORKS["joint"], "keep_counts": True})
METRIC: dict[str, Tables] = {
    "matching": {"name": "matching"},
    "r2d2": {"name": "r2d2"},
    "relation": {"name": "relation"},
    "zero_shot": {"name": "zero_shot"},
    "zero_shot, encoder of its own": {"name": "zero_shot", "task_backbone": {"name": "tests.toy:Net", "width": 4}},
}
_PLAIN = NETWORKS["plain"]
CASES["zero_shot, cosine on plain"] = ({"name": "zero_shot", "distance": "cosine"}, _PLAIN)
CASES.update({f"{m} on fingerprint": (METRIC[m], NETWORKS["fingerprint"]) for m in list(METRIC)[:4]})
CASES.update({f"{m} on plain": (METRIC[m], _PLAIN) for m in METRIC})
CASES["matching, full context on plain"] = ({"name": "matching", "full_context": True, "steps": 2}, _PLAIN)
CASES["logistic r2d2 on plain"] = ({"name": "r2d2", "solver": "logistic"}, _PLAIN)
CASES["relation, cross-entropy on plain"] = ({"name": "relation", "loss": "cross_entropy", "pool": "sum"}, _PLAIN)
CASES["relation of maps on plain"] = ({"name": "relation", "map": [2, 4, 4]}, {**_PLAIN, "width": 32})
CASES["centroid on plain"] = ({"name": "centroid", "centre": True}, _PLAIN)
_LONG = {"inner_steps": 10, "inner_lr": 0.1}
GRADIENT: dict[str, Tables] = {
    "anil": {"name": "anil", **_STEPS},
    "meta_sgd": {"name": "meta_sgd", **_STEPS},
    "reptile": {"name": "reptile", **_STEPS},
    "finetune": {"name": "finetune", "heads": 64, **_LONG},
    "finetune, all": {"name": "finetune", "heads": 64, "adapt": "all", **_LONG},
    "scratch": {"name": "scratch", **_LONG},
    "maml++": {"name": "maml", "learn_rates": True, "multi_step": 5, **_STEPS},
    "maml, inner momentum": {"name": "maml", "optimiser": "momentum", **_STEPS},
    "maml, inner adam": {"name": "maml", "optimiser": "adam", "inner_lr": 0.05, "inner_steps": 2},
    "maml, biases": {"name": "maml", "adapt": "head, *.bias", **_STEPS},
    "anil, fixed head": {"name": "anil", "head": "fixed", "ways": 3, **_STEPS},
}
CASES.update({f"{m} on plain": (GRADIENT[m], _PLAIN) for m in GRADIENT})
CASES.update({f"{m} on fingerprint": (GRADIENT[m], NETWORKS["fingerprint"]) for m in list(GRADIENT)[:4]})
CASES.update({f"{m} on gnn": (GRADIENT[m], NETWORKS["gnn"]) for m in list(GRADIENT)[:1]})
for _policy in ("batch", "frozen", "per_step"):
    for _method in ("maml", "anil"):
        CASES[f"{_method}, {_policy} on plain with batch norm"] = (
            {"name": _method, "normalisation": _policy, **_STEPS},
            {**_PLAIN, "batch_norm": True},
        )
BASELINES: tuple[Tables, ...] = (
    *({"name": name} for name in ("centroid", "knn", "logistic", "similarity", "tabpfn", "tanimoto_gp")),
    {"name": "gradient_boosting", "trees": 10},
    {"name": "random_forest", "trees": 20},
    {
        "name": "sklearn",
        "estimator": "sklearn.linear_model:SGDClassifier",
        "params": {"tol": 0.01, "learning_rate": "constant", "eta0": 0.1},
    },
)
CASES.update({f"{method['name']} on counts": (method, {"name": "counts"}) for method in BASELINES})

# Each other domain's backbones, under a method of each family.
ELSEWHERE: dict[str, Tables] = {
    "conv4": {"name": "conv4", "size": 8, "hidden": 8, "pools": 2, "normalisation": "group"},
    "mlp": {"name": "mlp", "inputs": 2, "hidden": [8]},
    "text_bag": {"name": "text_bag", "buckets": 64, "embedding": 8},
    "wordllama": {"name": "wordllama"},
}
FAMILIES = ("protonet, euclidean", "gp", "maml", "matching", "relation", "r2d2", "anil")
CASES.update(
    {
        f"{m} on {b}": ({**LEARNED, **METRIC, **GRADIENT}[m], ELSEWHERE[b])
        for m in FAMILIES
        for b in ELSEWHERE
        if not (b == "wordllama" and m == "maml")  # its table of vectors is too large to adapt in a test
    }
)

ROWS = 30
MOLECULES = [*DRUGS, *(f"{'C' * i}{end}" for i in range(1, 10) for end in ("O", "N(C)C"))]


class Case:
    """A learner of double precision, off its starting point, in evaluation mode; and episodes to try it on."""

    def __init__(self, method: Tables, backbone: Tables) -> None:
        self.method, self.backbone = method, backbone
        self.learner = self.make(seed=0)
        self.laws = self.learner.laws
        self.inputs = inputs_for(backbone["name"])

    def make(self, seed: int) -> Learner:
        torch.manual_seed(seed)
        learner = make_learner(self.method, self.backbone).double()
        with torch.no_grad():
            for parameter in learner.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return learner.eval()

    def classes(self, kind: TaskKind) -> int:
        return {BINARY: 2, MULTICLASS: 3, REGRESSION: 0}[kind]

    def batch(self, kind: TaskKind, sizes: list[tuple[int, int]], classes: int | None = None) -> EpisodeBatch:
        """Ragged episodes over the molecules; classes take turns, and two classes follow the chemistry."""
        k = self.classes(kind) if classes is None else classes
        rng = np.random.default_rng(0)
        made = []
        for i, (n, m) in enumerate(sizes):
            rows = np.stack([rng.permutation(ROWS // 2) * 2, rng.permutation(ROWS // 2) * 2 + 1], 1).ravel()[: n + m]
            labels = np.arange(n + m) % k if kind.is_classification else rng.normal(6, 2, n + m)
            made.append(Episode(Task(str(i), rows, labels, kind, k), np.arange(n), np.arange(n, n + m)))
        rows = np.concatenate([e.task.rows for e in made])
        described = self.inputs[torch.arange(k * len(sizes))] if self.laws.described else None
        return collate_labels(made, self.inputs[torch.from_numpy(rows)], described)

    def one(
        self, kind: TaskKind, n: int = 9, m: int = 7, classes: int | None = None
    ) -> tuple[LabelledSet, LabelledSet]:
        ((support, query),) = self.batch(kind, [(n, m)], classes).episodes()
        return support, query

    def predict(self, support: LabelledSet, inputs: Inputs) -> torch.Tensor:
        with torch.no_grad():
            return numbers(self.learner.adapt(support).predict(inputs))


def inputs_for(backbone: str) -> Inputs:
    """Rows of the domain that a backbone is for."""
    if ":" in backbone or backbone == "mlp":
        return torch.randn(ROWS, 2)
    if backbone == "conv4":
        return torch.randint(0, 256, (ROWS, 1, 8, 8), dtype=torch.uint8)
    if backbone in ("text_bag", "wordllama"):
        return TextBatch.of([f"{verb} my {noun} please" for verb in VERBS for noun in NOUNS])
    return MoleculeBatch.of(featurise(MOLECULES).arrays)


VERBS, NOUNS = ("book", "cancel", "show", "pay", "lose"), ("flight", "card", "bill", "table", "alarm", "list")


def numbers(prediction: Prediction) -> torch.Tensor:
    """All that a prediction says, ``[m, ...]``."""
    if prediction.probabilities is not None:
        return prediction.probabilities
    assert prediction.mean is not None
    if prediction.deviation is None:
        return prediction.mean[:, None]
    return torch.stack([prediction.mean, prediction.deviation.to(prediction.mean)], dim=1)


def shuffled(part: LabelledSet, order: torch.Tensor) -> LabelledSet:
    return replace(part, inputs=part.inputs[order], labels=part.labels[order])


def close(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.allclose(left.double(), right.double(), rtol=1e-4, atol=1e-6)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setitem(sys.modules, "tabpfn", tabpfn_stand_in)
    return Case(*CASES[request.param])


def test_every_registered_method_and_backbone_is_held_to_its_laws() -> None:
    assert {method["name"] for method, _ in CASES.values()} >= set(METHODS)
    assert {backbone["name"] for _, backbone in CASES.values()} >= set(BACKBONES)


def test_it_serves_the_kinds_that_it_states_and_refuses_the_others(case: Case) -> None:
    for kind in TaskKind:
        support, query = case.one(kind)
        if kind not in case.laws.kinds:
            with pytest.raises(SupportError, match=f"not {kind}"):
                case.learner.adapt(support)
            continue
        found = case.predict(support, query.inputs)
        assert found.shape in ([(7, case.classes(kind))] if kind.is_classification else [(7, 1), (7, 2)])
        assert torch.isfinite(found).all()
        assert np.ptp(found[:, 0].numpy()) > 1e-5  # the queries are told apart
        if kind.is_classification:
            torch.testing.assert_close(found.sum(1), torch.ones(7), check_dtype=False)
        else:
            assert (found[:, 1:] > 0).all()


def test_the_order_of_the_support_matters_only_where_it_is_said_to(case: Case) -> None:
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        order = torch.randperm(len(support))
        same = close(case.predict(shuffled(support, order), query.inputs), case.predict(support, query.inputs))
        assert same == case.laws.support_order_invariant


def test_renumbering_the_classes_renumbers_the_prediction_where_it_is_said_to(case: Case) -> None:
    holds = []
    for kind in case.laws.kinds - {REGRESSION}:
        support, query = case.one(kind)
        renumber = torch.arange(case.classes(kind)).roll(1)  # class c becomes renumber[c]
        other = replace(support, labels=renumber[support.labels])
        if support.task_inputs is not None:
            other = replace(other, task_inputs=support.task_inputs[renumber.argsort()])
        renumbered = case.predict(other, query.inputs)
        holds.append(close(renumbered[:, renumber], case.predict(support, query.inputs)))
    assert all(holds) == case.laws.class_equivariant


def test_one_learner_serves_any_number_of_ways_where_it_is_said_to(case: Case) -> None:
    if MULTICLASS not in case.laws.kinds:
        pytest.skip("serves no multiclass task")
    served = []
    for k in (2, 3, 5):
        support, query = case.one(MULTICLASS, n=2 * k, classes=k)
        try:
            assert case.predict(support, query.inputs).shape == (7, k)
            served.append(True)
        except SupportError:
            served.append(False)
    assert all(served) == case.laws.any_way


def test_a_prediction_depends_on_the_other_queries_only_where_it_is_said_to(case: Case) -> None:
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        together = case.predict(support, query.inputs)
        parts = torch.arange(len(query)).split([3, 4] if case.laws.transductive else 1)
        same = all(close(case.predict(support, query.inputs[rows]), together[rows]) for rows in parts)
        assert same != case.laws.transductive


def test_an_encoding_stands_for_its_inputs_where_it_is_said_to(case: Case) -> None:
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        with torch.no_grad():
            encodings = [case.learner.encode(part.inputs) for part in (support, query)]
        assert all(len(e) == len(part) for e, part in zip(encodings, (support, query), strict=True))
        encoded = replace(support, inputs=encodings[0])
        if case.laws.encodes:
            assert close(case.predict(encoded, encodings[1]), case.predict(support, query.inputs))
        else:
            with pytest.raises(InputError, match="not an Encoding"):
                case.predict(encoded, encodings[1])


def test_adapting_and_predicting_change_nothing_in_the_learner(case: Case) -> None:
    case.learner.train()
    next(case.learner.children()).eval()
    modes = [module.training for module in case.learner.modules()]
    before = copy.deepcopy(case.learner.state_dict())
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        case.learner.adapt(support).predict(query.inputs)
        with torch.no_grad():
            case.learner.predict_episodes(case.batch(kind, [(6, 3), (4, 2)]))
    torch.testing.assert_close(case.learner.state_dict(), before, rtol=0, atol=0)
    assert [module.training for module in case.learner.modules()] == modes
    assert all(p.grad is None for p in case.learner.parameters())


def test_an_episode_alone_equals_the_same_episode_in_a_ragged_batch(case: Case) -> None:
    for kind in case.laws.kinds:
        fewest = 1 + case.laws.transductive  # one row has no batch statistics
        batch = case.batch(kind, [(9, 7), (3, 2), (12, fewest), (5, 11)])
        with torch.no_grad():
            together = [numbers(p) for p in case.learner.predict_episodes(batch)]
        for (support, query), found in zip(batch.episodes(), together, strict=True):
            assert found.shape[0] == len(query)
            assert close(case.predict(support, query.inputs), found)


def test_saved_weights_predict_the_same_in_a_new_learner(case: Case) -> None:
    other = case.make(seed=1)
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        expected = case.predict(support, query.inputs)
        other.load_state_dict(case.learner.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(numbers(other.adapt(support).predict(query.inputs)), expected, rtol=0, atol=0)


def test_the_same_seed_gives_the_same_meta_gradient_and_all_of_it_is_finite(case: Case) -> None:
    if not case.laws.meta_trained:
        pytest.skip("nothing is meta-trained")
    for kind in case.laws.kinds:
        batch = case.batch(kind, [(6, 5), (4, 3)] if kind is not MULTICLASS else [(6, 5), (3, 3)])
        gradients = []
        for learner in (case.make(seed=0).train(), case.make(seed=0).train()):
            torch.manual_seed(7)
            logs = learner.meta_backward(batch)
            assert np.isfinite(logs["loss"])
            gradients.append({name: p.grad for name, p in learner.named_parameters() if p.grad is not None})
        torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
        assert all(torch.isfinite(g).all() for g in gradients[0].values())
        assert any(name.startswith("backbone.") and g.abs().sum() > 0 for name, g in gradients[0].items())


def test_one_example_a_class_gives_a_finite_loss_and_finite_gradients(case: Case) -> None:
    if not case.laws.meta_trained:
        pytest.skip("nothing is meta-trained")
    for kind in case.laws.kinds:
        n = case.classes(kind) or 1 + case.laws.transductive  # one row has no batch statistics
        logs = case.learner.meta_backward(case.batch(kind, [(n, 5), (n, 2)]))
        assert np.isfinite(list(logs.values())).all()
        assert all(torch.isfinite(p.grad).all() for p in case.learner.parameters() if p.grad is not None)
        case.learner.zero_grad()


def test_a_class_needs_no_example_where_descriptions_are_read(case: Case) -> None:
    if not case.laws.described:
        pytest.skip("reads no descriptions")
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        nothing = torch.arange(0)
        found = case.predict(replace(support, inputs=support.inputs[nothing], labels=support.labels[:0]), query.inputs)
        assert torch.isfinite(found).all()
        assert np.ptp(found[:, 0].numpy()) > 1e-5
        with pytest.raises(SupportError, match="reads a description of each class"):
            case.learner.adapt(replace(support, task_inputs=None))


def test_a_class_without_an_example_is_refused_before_any_work(case: Case) -> None:
    if case.laws.described:
        pytest.skip("a description is enough")
    support, _ = case.one(BINARY if BINARY in case.laws.kinds else MULTICLASS)
    with pytest.raises(SupportError, match="every class needs an example"):
        case.learner.adapt(replace(support, labels=torch.zeros_like(support.labels)))
