"""What the gradient-based methods do, and what they refuse."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from molmeta.core.episode import Episode, EpisodeBatch, collate_labels
from molmeta.core.task import Task, TaskKind
from molmeta.errors import ConfigError, InputError, SupportError
from molmeta.methods.anil import ANIL, ANILConfig
from molmeta.methods.finetune import FineTune, FineTuneConfig
from molmeta.methods.gradient import GradientLearner
from molmeta.methods.maml import MAML, MAMLConfig
from molmeta.methods.meta_sgd import MetaSGD, MetaSGDConfig
from molmeta.methods.reptile import Reptile, ReptileConfig
from molmeta.methods.scratch import Scratch
from molmeta.training.batches import EpisodeConfig, MetaBatches
from tests.toy import Source, sinusoids

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
Learners = Callable[..., Any]
Draw = Callable[..., EpisodeBatch]

TRAINED: dict[str, dict[str, Any]] = {
    "maml": {"method": MAML},
    "first order": {"method": MAML, "first_order": True},
    "maml++": {"method": MAML, "learn_rates": True, "multi_step": 30},
    "anil": {"method": ANIL},
    "meta_sgd": {"method": MetaSGD, "inner_steps": 1},
    "reptile": {"method": Reptile, "inner_steps": 8},
    "finetune": {"method": FineTune, "heads": 4096, "inner_steps": 30, "inner_lr": 0.05},
}


def train(model: GradientLearner, batches: Callable[[int], EpisodeBatch], steps: int, lr: float = 0.01) -> list[float]:
    """The loss of each step of plain Adam, or for Reptile of plain descent, which is what the paper's eps is."""
    chosen = torch.optim.SGD if isinstance(model, Reptile) else torch.optim.Adam
    optimiser = chosen(model.parameters(), lr=0.5 if isinstance(model, Reptile) else lr)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        optimiser.zero_grad()
        losses.append(model.meta_backward(batches(step))["loss"])
        optimiser.step()
    return losses


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_falls_on_a_toy_task(name: str, learner: Learners) -> None:
    batches = MetaBatches(Source(), EpisodeConfig(support_sizes=(10,), query_size=15), tasks_per_step=4)

    def doubled(step: int) -> EpisodeBatch:
        batch = batches(step)
        return replace(batch, inputs=batch.inputs.double())

    losses = train(learner(inputs=2, width=8, norm=nn.Identity, **TRAINED[name]), doubled, 60)
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def error(model: GradientLearner, batch: EpisodeBatch) -> float:
    """Mean squared error over the query rows."""
    found = torch.cat([p.scores() for p in model.predict_episodes(batch)])
    return float((found - batch.labels[~batch.is_support]).square().mean())


@pytest.mark.parametrize("name", TRAINED)
def test_on_sinusoids_adapting_helps_and_so_does_meta_training(name: str, learner: Learners) -> None:
    settings = {"inner_lr": 0.05, **TRAINED[name]}
    model = learner(inputs=1, width=24, norm=nn.Identity, scale_labels=False, **settings)
    test = sinusoids(40, seed=0)
    untrained = error(model, test)
    train(model, lambda step: sinusoids(4, seed=step % 40 + 1), 120)
    adapted = error(model, test)
    model.config = replace(model.config, test_inner_steps=0)
    assert adapted < 0.8 * error(model, test)
    assert adapted < 0.8 * untrained


@pytest.mark.parametrize("name", TRAINED)
def test_memory_is_flat_over_fifty_updates(name: str, learner: Learners, draw: Draw) -> None:
    model = learner(norm=nn.BatchNorm1d, **TRAINED[name])
    optimiser = torch.optim.SGD(model.parameters(), lr=0.001)
    batch = draw(BINARY, [(6, 4, 2), (4, 4, 2)])
    live = []
    gc.collect()
    gc.disable()  # what only the collector would free counts as kept
    try:
        for update in range(50):
            optimiser.zero_grad()
            model.meta_backward(batch)
            optimiser.step()
            if update in (4, 49):
                live.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))
    finally:
        gc.enable()
    assert live[0] == live[1]


@pytest.mark.parametrize("method", [MAML, ANIL])
def test_statistics_per_step_are_averages_of_that_steps_rows(method: Any, learner: Learners, draw: Draw) -> None:
    model = learner(method=method, norm=nn.BatchNorm1d, normalisation="per_step", first_order=True)
    batch = draw(BINARY, [(6, 4, 2)])
    support, query = next(batch.episodes())
    rows = (support.inputs, support.inputs, query.inputs)  # before the first update, after it, after the second
    _, first, second = model.path(support, steps=2, first_order=True)
    model.norms.load_state_dict(
        learner(method=method, norm=nn.BatchNorm1d, normalisation="per_step").norms.state_dict()
    )
    own = copy_of(model.backbone)
    model.meta_backward(batch)
    found = dict(model.norms.named_buffers())["backbone/layers/1/running_mean"]
    for step, (params, x) in enumerate(zip((dict(model.named_parameters()), first, second), rows, strict=True)):
        before = x @ params["backbone.layers.0.weight"].T + params["backbone.layers.0.bias"]
        torch.testing.assert_close(found[step], 0.1 * before.mean(0).detach())
    torch.testing.assert_close(copy_of(model.backbone), own, rtol=0, atol=0)
    model.eval().meta_backward(batch)
    torch.testing.assert_close(dict(model.norms.named_buffers())["backbone/layers/1/running_mean"], found)


def copy_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_batch_statistics_are_of_one_episode_and_of_one_part_of_it(learner: Learners, draw: Draw) -> None:
    for method in (MAML, ANIL, MetaSGD, Reptile):
        model, seen = learner(method=method, norm=nn.BatchNorm1d), []
        model.backbone.layers[1].register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(len(inputs[0])))
        model.meta_loss(draw(BINARY, [(6, 4, 2), (5, 3, 2)]))
        assert [n for n, _ in groupby(seen)] == [6, 4, 5, 3]  # the inner steps, then the queries


def test_the_laws_speak_of_batch_norm_only_where_there_is_some(learner: Learners) -> None:
    for norm, normalisation, transductive in (
        (nn.LayerNorm, "batch", False),
        (nn.BatchNorm1d, "batch", True),
        (nn.BatchNorm1d, "frozen", False),
        (nn.BatchNorm1d, "per_step", False),
    ):
        assert learner(norm=norm, normalisation=normalisation).laws.transductive == transductive
        encodes = norm is nn.LayerNorm or normalisation == "frozen"
        assert learner(method=ANIL, norm=norm, normalisation=normalisation).laws.encodes == encodes


def test_batch_norm_that_a_policy_cannot_serve_is_refused_by_name(learner: Learners, draw: Draw) -> None:
    with pytest.raises(
        ConfigError, match=r'"none", but the backbone has batch-norm layers \(layers.1\); choose "batch"'
    ):
        learner(norm=nn.BatchNorm1d, normalisation="none")
    learner(norm=nn.LayerNorm, normalisation="none")
    for policy in ("frozen", "per_step"):
        with pytest.raises(ConfigError, match=r"layers.1 stores no statistics"):
            learner(norm=lambda n: nn.BatchNorm1d(n, track_running_stats=False), normalisation=policy)
    support, query = next(draw(BINARY, [(4, 4, 2)]).episodes())
    predictor = learner(norm=nn.BatchNorm1d).adapt(support)
    with pytest.raises(SupportError, match="one row alone has no statistics"):
        predictor.predict(query.inputs[:1])


def test_parts_that_adapt_may_be_patterns_and_each_must_name_something(learner: Learners, draw: Draw) -> None:
    support, _ = next(draw(BINARY, [(6, 4, 2)]).episodes())
    model = learner(adapt="head, backbone.*.bias")
    before, *_, after = model.path(support, steps=2, first_order=True)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head.weight", *(n for n, _ in model.named_parameters() if n.endswith("bias"))}
    with pytest.raises(ConfigError, match=r"no parameter is named backbone.layer or \*.scale"):
        learner(adapt="head, backbone.layer, *.scale")
    with pytest.raises(ConfigError, match="no parameter is named so"):
        learner(adapt=" ")


def test_an_unknown_optimiser_is_refused_at_once(learner: Learners) -> None:
    with pytest.raises(ConfigError, match=r'unknown inner optimiser "adm". Did you mean "adam"\?'):
        learner(optimiser="adm")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: ANILConfig(adapt="head, backbone"), "ANIL adapts the head alone; for more there is maml"),
        (lambda: MAMLConfig(multi_step=-1), "multi_step is -1"),
        (lambda: MetaSGDConfig(rates="layer"), r'rates is "layer"; choose "element" or "tensor"'),
        (lambda: ReptileConfig(first_order=False), "Reptile takes no second derivatives"),
        (lambda: ReptileConfig(inner_rows=-1), "inner_rows is -1"),
        (lambda: FineTuneConfig(normalisation="per_step"), "no inner step is meta-trained"),
        (lambda: FineTuneConfig(heads=0), "heads is 0"),
        (lambda: MAMLConfig(normalisation="running"), "choose one of batch, frozen, per_step, none"),
    ],
)
def test_settings_that_mean_nothing_are_refused(config: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config()


def test_reptile_refuses_weights_that_it_cannot_learn(learner: Learners) -> None:
    with pytest.raises(ConfigError, match="whose weights Reptile cannot learn"):
        learner(method=Reptile, norm=nn.BatchNorm1d, normalisation="per_step")


def renamed(order: list[int]) -> EpisodeBatch:
    """One task of four classes, and an episode of it that numbers its classes in ``order``."""
    labels = np.arange(16) % 4
    task = Task("t", np.arange(16), labels, MULTICLASS, 4)
    rows = np.flatnonzero(np.isin(labels, order))
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(16, 3)))[torch.from_numpy(rows)]
    return collate_labels([Episode(task, rows[:-2], rows[-2:], np.array(order))], inputs)


def test_a_class_keeps_its_training_head_whatever_an_episode_calls_it(learner: Learners) -> None:
    model = learner(method=FineTune, heads=4)
    one, other = model.meta_loss(renamed([3, 0]))[0], model.meta_loss(renamed([0, 3]))[0]
    torch.testing.assert_close(one, other)
    assert (model.ids >= 0).tolist() == [True, True, False, False]
    assert not torch.isclose(model.meta_loss(renamed([1, 3]))[0], one)
    restored = learner(method=FineTune, heads=4)
    restored.load_state_dict(model.state_dict())
    torch.testing.assert_close(restored.meta_loss(renamed([0, 3]))[0], one)


def test_training_heads_run_out_in_words_and_serve_no_new_task(learner: Learners, draw: Draw) -> None:
    model = learner(method=FineTune, heads=4)
    support, query = next(draw(MULTICLASS, [(6, 4, 3)]).episodes())
    before = model.adapt(support).predict(query.inputs).probabilities
    with pytest.raises(ConfigError, match=r"more than 4 classes; raise \[method\].heads"):
        model.meta_backward(draw(MULTICLASS, [(5, 5, 5)]))
    with torch.no_grad():
        model.heads.zero_()
    torch.testing.assert_close(model.adapt(support).predict(query.inputs).probabilities, before)
    with pytest.raises(InputError, match="do not say of which task they are"):
        model.meta_loss(replace(renamed([0, 1]), class_ids=None))


def test_pre_training_keeps_running_statistics_that_a_support_then_uses(learner: Learners, draw: Draw) -> None:
    model = learner(method=FineTune, heads=8, norm=nn.BatchNorm1d)
    layer = model.backbone.layers[1]
    model.meta_backward(draw(BINARY, [(6, 4, 2)]))
    assert layer.running_mean.abs().sum() > 0
    before = copy_of(model)
    support, query = next(draw(BINARY, [(6, 4, 2)], seed=1).episodes())
    found = model.adapt(support).predict(query.inputs).probabilities
    torch.testing.assert_close(copy_of(model), before, rtol=0, atol=0)
    torch.testing.assert_close(model.adapt(support).predict(query.inputs[:2]).probabilities, found[:2])


def test_scratch_has_nothing_to_meta_train(learner: Learners, draw: Draw) -> None:
    model = learner(method=Scratch)
    with pytest.raises(ConfigError, match="there is nothing to meta-train"):
        model.meta_backward(draw(BINARY, [(4, 4, 2)]))


def test_any_learners_backbone_can_be_fine_tuned(learner: Learners, draw: Draw) -> None:
    trained = learner(method=ANIL).eval()
    tuned = FineTune(trained.backbone, FineTuneConfig(heads=4, inner_steps=60, inner_lr=0.1)).double().eval()
    support, _ = next(draw(BINARY, [(6, 4, 2)]).episodes())
    found = tuned.adapt(support).predict(support.inputs).probabilities
    assert found is not None
    assert (found.argmax(1) == support.labels).float().mean() > 0.6
    for a, b in zip(tuned.backbone.parameters(), trained.backbone.parameters(), strict=True):
        assert torch.equal(a, b)
