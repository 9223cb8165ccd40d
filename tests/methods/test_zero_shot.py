from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from molmeta.config import to_toml
from molmeta.core.backbone import Backbone
from molmeta.core.episode import Episode, EpisodeBatch, LabelledSet, collate
from molmeta.core.learner import Encoding
from molmeta.core.sampling import ways_and_shots
from molmeta.core.task import IntArray, Task, TaskKind
from molmeta.errors import ConfigError, SupportError
from molmeta.methods.protonet import ProtoNet
from molmeta.methods.zero_shot import ZeroShot, ZeroShotConfig
from molmeta.recipe import Recipe, make_learner
from tests.checks import assert_gradients_are_finite_differences, assert_ragged_is_one_at_a_time
from tests.toy import Net, NetConfig, Shapes, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS = TaskKind.BINARY, TaskKind.MULTICLASS
NAMED = {"name": "zero_shot", "task_backbone": {"name": "tests.toy:Net", "inputs": 3, "width": 5}}


def made(describer: Backbone | None = None, **settings: object) -> ZeroShot:
    torch.manual_seed(0)
    net = Net(NetConfig(width=4, dropout=0.0))
    return ZeroShot(net, ZeroShotConfig(**settings), describer).eval()  # type: ignore[arg-type]


def describer() -> Net:
    return Net(NetConfig(inputs=3, width=5, dropout=0.0))


def described(kind: TaskKind, shapes: Shapes, width: int = 2) -> EpisodeBatch:
    """Ragged episodes whose classes have descriptions ``[k, width]``."""
    torch.manual_seed(1)
    return replace(episodes(kind, shapes), task_inputs=torch.randn(sum(k for _, _, k in shapes), width))


def probabilities(model: ZeroShot | ProtoNet, batch: EpisodeBatch) -> list[torch.Tensor]:
    found = [p.probabilities for p in model.predict_episodes(batch)]
    return [p.detach() for p in found if p is not None]


def test_a_prototype_is_the_posterior_mean_of_examples_and_a_description() -> None:
    model = made(describer(), weight=2.5)
    batch = described(MULTICLASS, [(7, 4, 3)], width=3)
    ((support, query),) = batch.episodes()
    with torch.no_grad():
        z, q = (model.encode(part.inputs).values for part in (support, query))
        g = model.describe(support.task_inputs)  # type: ignore[arg-type]
    logits = torch.empty(4, 3)
    for k in range(3):
        rows = z[support.labels == k]
        # The precision-weighted mean of a normal prior of variance t2 at g, and n normal examples of variance s2.
        s2, t2 = 5.0, 2.0
        precision = len(rows) / s2 + 1 / t2
        centre = (rows.sum(0) / s2 + g[k] / t2) / precision
        logits[:, k] = -(q - centre).square().sum(1)
    torch.testing.assert_close(probabilities(model, batch)[0], logits.softmax(1))


def test_a_cosine_prototype_is_the_direction_of_examples_and_weighted_description() -> None:
    model = made(describer(), distance="cosine", weight=2.5, temperature=7.0)
    batch = described(MULTICLASS, [(7, 4, 3)], width=3)
    ((support, query),) = batch.episodes()
    with torch.no_grad():
        z, q = (model.encode(part.inputs).values for part in (support, query))
        g = model.project(model.task_backbone(support.task_inputs))  # type: ignore[misc]
    units = [rows / rows.norm(dim=1, keepdim=True) for rows in (z, q, g)]
    centres = [units[0][support.labels == k].sum(0) + 2.5 * units[2][k] for k in range(3)]
    cosines = torch.stack([torch.cosine_similarity(q, c[None]) for c in centres], dim=1)
    torch.testing.assert_close(probabilities(model, batch)[0], (7 * cosines).softmax(1))


@pytest.mark.parametrize(("weight", "limit"), [(1e-12, "protonet"), (1e12, "description")])
def test_the_blend_s_limits_are_protonet_and_the_description_alone(weight: float, limit: str) -> None:
    model = made(weight=weight)
    batch = described(MULTICLASS, [(7, 4, 3), (4, 5, 2)])
    if limit == "protonet":
        expected = probabilities(ProtoNet(model.backbone), batch)
    else:
        none = torch.arange(0)
        expected = []
        for support, query in batch.episodes():
            empty = replace(support, inputs=support.inputs[none], labels=support.labels[none])
            found = model.adapt(empty).predict(query.inputs).probabilities
            assert found is not None
            expected.append(found.detach())
    for found, wanted in zip(probabilities(model, batch), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_weight_is_learned() -> None:
    model = made(alone=0.0)
    model.meta_backward(described(MULTICLASS, [(7, 4, 3)]))
    assert model.log_weight.grad is not None
    assert model.log_weight.grad.abs() > 0


@pytest.mark.parametrize("alone", [0.0, 0.5, 1.0])
def test_the_loss_is_shared_between_the_blend_and_descriptions_alone(alone: float) -> None:
    batch = described(MULTICLASS, [(7, 4, 3)])
    labels = batch.labels[~batch.is_support]
    blend = probabilities(made(), batch)[0]
    zero = probabilities(made(weight=1e12), batch)[0]
    parts = [-p[torch.arange(4), labels].log().mean() for p in (blend, zero)]
    found = made(alone=alone).meta_loss(batch)[0]
    torch.testing.assert_close(found.detach(), (1 - alone) * parts[0] + alone * parts[1])


@pytest.mark.parametrize("settings", [{}, {"unit_length": True}, {"distance": "cosine"}], ids=str)
@pytest.mark.parametrize("kind", [BINARY, MULTICLASS])
def test_gradients_equal_finite_differences(kind: TaskKind, settings: dict[str, object]) -> None:
    k = {BINARY: 2, MULTICLASS: 3}[kind]
    batch = described(kind, [(5, 4, k), (3, 2, k)], width=3)
    assert_gradients_are_finite_differences(made(describer(), **settings), batch)


def test_ragged_episodes_give_what_each_gives_alone_and_so_do_those_without_a_support() -> None:
    for model in (made(), made(distance="cosine")):
        assert_ragged_is_one_at_a_time(model, described(MULTICLASS, [(9, 5, 3), (4, 7, 4), (0, 3, 3), (2, 1, 2)]))
        assert_ragged_is_one_at_a_time(model, described(MULTICLASS, [(0, 5, 3), (0, 2, 4)]))


def test_a_class_that_has_a_description_alone_is_predicted_beside_those_with_examples() -> None:
    batch = described(MULTICLASS, [(7, 4, 3)])
    ((support, query),) = batch.episodes()
    rows = torch.nonzero(support.labels != 1).flatten()
    part = replace(support, inputs=support.inputs[rows], labels=support.labels[rows])
    found = made().adapt(part).predict(query.inputs).probabilities
    assert found is not None
    assert found.shape == (4, 3)
    assert torch.isfinite(found).all()


def test_descriptions_that_are_missing_or_too_few_are_refused() -> None:
    model = made()
    with pytest.raises(SupportError, match="reads a description of each class, task_inputs: 2 rows are needed, none"):
        model.adapt(LabelledSet(torch.zeros(3, 2), torch.tensor([0, 1, 1]), BINARY, 2))
    with pytest.raises(SupportError, match="3 rows are needed, 2 given"):
        model.adapt(LabelledSet(torch.zeros(0, 2), torch.zeros(0).long(), MULTICLASS, 3, torch.zeros(2, 2)))
    with pytest.raises(SupportError, match="5 rows are needed, none given"):
        model.meta_loss(episodes(MULTICLASS, [(7, 4, 3), (4, 5, 2)]))


def test_a_description_may_be_given_encoded() -> None:
    model = made(describer())
    batch = described(MULTICLASS, [(7, 4, 3)], width=3)
    assert isinstance(model.task_backbone, Net)
    encoded = replace(batch, task_inputs=Encoding(model.task_backbone(batch.task_inputs)))  # type: ignore[arg-type]
    torch.testing.assert_close(probabilities(model, encoded), probabilities(model, batch))


def test_adapting_copies_neither_encoder() -> None:
    model = made(describer())
    batch = described(MULTICLASS, [(7, 4, 3)], width=3)
    ((support, _),) = batch.episodes()
    adapted = model.adapt(support)._learner
    assert isinstance(adapted, ZeroShot)
    assert adapted.backbone is model.backbone
    assert adapted.task_backbone is model.task_backbone
    assert adapted.project is not model.project


def test_without_an_encoder_of_their_own_descriptions_start_where_inputs_do() -> None:
    model = made()
    rows = torch.randn(5, 2)
    torch.testing.assert_close(model.describe(rows), model.encode(rows).values)


def test_a_recipe_names_the_description_encoder_and_its_file_gives_the_same_learner(tmp_path: Path) -> None:
    tables = {"method": NAMED, "backbone": {"name": "tests.toy:Net"}}
    recipe = Recipe.of(tables)
    (tmp_path / "run.toml").write_text(to_toml(recipe.tables()))
    again = Recipe.of(Recipe.read(tmp_path / "run.toml"))
    batch = described(MULTICLASS, [(7, 4, 3)], width=3)
    learners = [make_learner(r.method, r.backbone).eval() for r in (recipe, again)]
    learners[1].load_state_dict(learners[0].state_dict())
    assert learners[0].task_backbone.width == 5  # type: ignore[union-attr]
    torch.testing.assert_close(*(probabilities(m, batch) for m in learners), rtol=0, atol=0)  # type: ignore[arg-type]


def test_a_description_encoder_that_is_unknown_or_was_not_built_is_refused() -> None:
    for wrong, message in (
        ({"name": "nett"}, 'unknown backbone "nett"'),
        ({"width": 3}, r"\[method.task_backbone\] needs a name"),
        ({"name": "tests.toy:Net", "widht": 3}, r'"widht" in \[method.task_backbone\]. Did you mean "width"'),
    ):
        with pytest.raises(ConfigError, match=message):
            Recipe.of({"method": {"name": "zero_shot", "task_backbone": wrong}})
    with pytest.raises(ConfigError, match="pass it as task_backbone"):
        ZeroShot(Net(), ZeroShotConfig(task_backbone={"name": "tests.toy:Net"}))
    for settings in ({"weight": 0.0}, {"temperature": 0.0}, {"alone": 1.5}):
        with pytest.raises(ConfigError, match="weight and temperature are positive and alone lies in"):
            ZeroShotConfig(**settings)  # type: ignore[arg-type]


class Described:
    """Points scatter about their class, and classes about ``A v``, where attributes ``v`` describe a class."""

    def __init__(self, classes: int = 60, each: int = 20) -> None:
        rng = np.random.default_rng(0)
        self.attributes = rng.normal(size=(classes, 3))
        centres = self.attributes @ rng.normal(size=(3, 2)) * 2 + rng.normal(size=(classes, 2)) * 0.8
        self.labels = np.repeat(np.arange(classes), each)
        self.points = centres[self.labels] + rng.normal(size=(classes * each, 2))

    def task(self, first: int, last: int) -> Task:
        rows = np.flatnonzero((self.labels >= first) & (self.labels < last))
        return Task(f"{first}", rows, self.labels[rows] - first, MULTICLASS, last - first, {"first": str(first)})

    def draw(self, task: Task, shots: int, seed: int) -> Episode:
        support, query, classes = ways_and_shots(task.labels, 5, 5, 8, np.random.default_rng(seed))
        labels = task.labels[support]
        kept = [p for c in classes for p in support[labels == c][:shots]]
        return Episode(task, np.array(kept, dtype=np.int64), query, classes)

    def gather(self, rows: IntArray) -> torch.Tensor:
        return torch.from_numpy(self.points[rows])

    def describe(self, task: Task, classes: IntArray) -> torch.Tensor:
        return torch.from_numpy(self.attributes[int(task.description["first"]) + classes])


def accuracy(model: ZeroShot | ProtoNet, source: Described, task: Task, shots: int) -> float:
    batch = collate(source, [source.draw(task, shots, 10**6 + i) for i in range(60)])  # type: ignore[arg-type]
    found = torch.cat([p.argmax(1) for p in probabilities(model.eval(), batch)])
    return float((found == batch.labels[~batch.is_support]).double().mean())


def test_unseen_classes_are_recognised_by_their_description_and_examples_add_to_it() -> None:
    source, model = Described(), made(describer())
    seen, unseen = source.task(0, 45), source.task(45, 60)
    before = accuracy(model, source, unseen, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for step in range(150):
        batch = collate(source, [source.draw(seen, 1, 8 * step + i) for i in range(4)])  # type: ignore[arg-type]
        optimizer.zero_grad()
        losses.append(model.train().meta_backward(batch)["loss"])
        optimizer.step()
    assert np.mean(losses[-20:]) < np.mean(losses[:5]) - 0.5
    alone, blend = accuracy(model, source, unseen, 0), accuracy(model, source, unseen, 1)
    assert alone > before + 0.3
    assert blend > alone
    assert blend > accuracy(ProtoNet(model.backbone), source, unseen, 1)
