"""Each gradient-based method and option beside finite differences, closed forms and plain loops of torch.optim."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.episode import EpisodeBatch
from molmeta.core.task import TaskKind
from molmeta.domains.images.conv4 import Conv4, Conv4Config
from molmeta.methods.anil import ANIL
from molmeta.methods.finetune import FineTune
from molmeta.methods.maml import MAML
from molmeta.methods.meta_sgd import MetaSGD
from molmeta.methods.reptile import Reptile
from molmeta.methods.scratch import Scratch
from tests.oracle.slopes import assert_gradient_is_the_slope, gradients

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
Learners = Callable[..., Any]
Draw = Callable[..., EpisodeBatch]

SHAPES = {BINARY: [(4, 6, 2), (7, 3, 2)], MULTICLASS: [(3, 6, 3), (9, 4, 3)], REGRESSION: [(5, 6, 0), (8, 2, 0)]}
ADAM = "tests.oracle.slopes:smooth_adam"
FIXED = {"head": "fixed", "ways": 3}
LEARNED = {
    "per-step rates": (MAML, {"learn_rates": True}, ("step_sizes.head/weight", "step_sizes.backbone/layers/0/weight")),
    "multi-step loss": (MAML, {"multi_step": 10, "inner_steps": 3}, ()),
    "momentum": (MAML, {"optimiser": "momentum", "inner_steps": 3}, ()),
    "patterns": (MAML, {"adapt": "head, *.bias, backbone.layers.0"}, ("backbone.layers.4.weight",)),
    "meta-sgd": (MetaSGD, {}, ("alpha.head/weight", "alpha.backbone/layers/0/weight")),
    "meta-sgd, tensors": (MetaSGD, {"rates": "tensor"}, ("alpha.head/weight",)),
    "meta-sgd, adam": (MetaSGD, {"optimiser": ADAM}, ("alpha.head/weight",)),
    "anil": (ANIL, {}, ("backbone.layers.0.weight",)),
    "finetune": (FineTune, {"heads": 8}, ("heads", "backbone.layers.0.weight")),
}


@pytest.mark.parametrize("kind", list(TaskKind))
@pytest.mark.parametrize("name", LEARNED)
def test_the_meta_gradient_is_the_finite_difference_of_the_meta_objective(
    name: str, kind: TaskKind, learner: Learners, draw: Draw
) -> None:
    method, settings, must_move = LEARNED[name]
    model = learner(method=method, **{"inner_lr": 0.1, **settings})
    assert_gradient_is_the_slope(model, draw(kind, SHAPES[kind]), must_move=must_move)


@pytest.mark.parametrize(("method", "settings"), [(MAML, {"optimiser": ADAM}), (ANIL, {})])
def test_it_is_with_a_fixed_head(method: type[Any], settings: dict[str, Any], learner: Learners, draw: Draw) -> None:
    assert_gradient_is_the_slope(learner(method=method, **FIXED, **settings), draw(MULTICLASS, SHAPES[MULTICLASS]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("normalisation", ["batch", "frozen", "per_step"])
@pytest.mark.parametrize("method", [MAML, ANIL, MetaSGD])
def test_it_is_through_batch_norm(
    method: type[Any], normalisation: str, training: bool, learner: Learners, draw: Draw
) -> None:
    model = learner(method=method, norm=nn.BatchNorm1d, normalisation=normalisation).train(training)
    own = ("norms.affine.backbone/layers/1/weight",) if normalisation == "per_step" else ("backbone.layers.1.weight",)
    assert_gradient_is_the_slope(model, draw(BINARY, [(6, 6, 2), (4, 5, 2)]), must_move=own)


@pytest.mark.parametrize("normalisation", ["batch", "per_step"])
def test_it_is_through_the_convolutions_of_conv4(normalisation: str, learner: Learners, draw: Draw) -> None:
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(17, 1, 8, 8)))
    backbone = Conv4(Conv4Config(size=8, hidden=3, pools=2, downsample="stride"))
    model = learner(backbone, normalisation=normalisation, inner_lr=0.1)
    assert_gradient_is_the_slope(model, draw(BINARY, [(4, 4, 2), (6, 3, 2)], images), coordinates=8)


@pytest.mark.parametrize("first_order", [False, True])
def test_the_gradient_of_a_step_size_is_minus_the_product_of_the_two_gradients(
    first_order: bool, learner: Learners, draw: Draw
) -> None:
    model = learner(method=MetaSGD, inner_steps=1, first_order=first_order, **FIXED)
    batch = draw(MULTICLASS, [(6, 9, 3)])
    support, query = next(batch.episodes())
    there = copy.deepcopy(model)
    names = list(model.moving())
    weights = [there.get_parameter(name) for name in names]
    inner = torch.autograd.grad(F.cross_entropy(there(support.inputs), support.labels), weights)
    with torch.no_grad():
        for weight, g in zip(weights, inner, strict=True):
            weight.sub_(model.config.inner_lr * g)
    outer = torch.autograd.grad(F.cross_entropy(there(query.inputs), query.labels), weights)
    found = gradients(model, batch)
    for name, g, h in zip(names, inner, outer, strict=True):
        torch.testing.assert_close(found[f"alpha.{name.replace('.', '/')}"], -g * h)


@pytest.mark.parametrize("kind", list(TaskKind))
@pytest.mark.parametrize("settings", [{}, {"norm": nn.BatchNorm1d}, {"first_order": True, "optimiser": "momentum"}])
def test_anil_is_maml_that_adapts_the_head(
    kind: TaskKind, settings: dict[str, Any], learner: Learners, draw: Draw
) -> None:
    batch = draw(kind, SHAPES[kind])
    one, other = learner(method=ANIL, **settings), learner(adapt="head", **settings)
    assert one.laws.encodes == ("norm" not in settings)
    torch.testing.assert_close(one.meta_loss(batch)[0], other.meta_loss(batch)[0])
    torch.testing.assert_close(gradients(one, batch), gradients(other, batch))
    for a, b in zip(one.predict_episodes(batch), other.predict_episodes(batch), strict=True):
        torch.testing.assert_close(a.scores(), b.scores())


def test_anil_runs_the_backbone_once_for_a_whole_meta_batch(learner: Learners, draw: Draw) -> None:
    model, calls = learner(method=ANIL), []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    model.meta_backward(draw(BINARY, [(6, 4, 2)] * 5))
    model.eval().predict_episodes(draw(BINARY, [(6, 4, 2)] * 5))
    assert len(calls) == 2


def test_the_multi_step_loss_is_the_weighted_mean_of_the_losses_after_each_number_of_steps(
    learner: Learners, draw: Draw
) -> None:
    batch = draw(MULTICLASS, SHAPES[MULTICLASS])
    after = torch.stack([learner(inner_steps=s).meta_loss(batch)[0] for s in (1, 2, 3)])
    model = learner(inner_steps=3, multi_step=4)
    for updates, weights in ((0, (1 / 3, 1 / 3, 1 / 3)), (2, (1 / 6, 1 / 6, 2 / 3)), (4, (0, 0, 1)), (9, (0, 0, 1))):
        model.updates.fill_(updates)
        torch.testing.assert_close(model.meta_loss(batch)[0], after @ torch.tensor(weights, dtype=torch.float64))
    model.meta_backward(batch)
    assert model.state_dict()["updates"] == 10


def test_a_rate_of_a_step_and_layer_moves_that_step_and_layer(learner: Learners, draw: Draw) -> None:
    support, _ = next(draw(BINARY, [(6, 4, 2)]).episodes())
    model, plain = learner(learn_rates=True), learner()
    with torch.no_grad():
        model.step_sizes["head/weight"][1] = 0
    start, first, second = model.path(support, steps=2, first_order=True)
    _, plain_first, plain_second = plain.path(support, steps=2, first_order=True)
    torch.testing.assert_close(first, plain_first)
    assert torch.equal(second["head.weight"], first["head.weight"])
    assert not torch.equal(first["head.weight"], start["head.weight"])
    torch.testing.assert_close(second["head.bias"], plain_second["head.bias"])
    last = model.adapted(support, steps=3, first_order=True)  # a step beyond those trained has the last one's rate
    assert torch.equal(last["head.weight"], first["head.weight"])


def plain_steps(model: nn.Module, x: torch.Tensor, y: torch.Tensor, optimiser: torch.optim.Optimizer, n: int) -> None:
    for _ in range(n):
        optimiser.zero_grad()
        outputs = model(x)
        loss = F.mse_loss(outputs[:, 0], y) if y.is_floating_point() else F.cross_entropy(outputs, y)
        loss.backward()
        optimiser.step()


DESCENTS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adam": partial(torch.optim.Adam, eps=1e-5),
}


@pytest.mark.parametrize("descent", DESCENTS)
def test_reptile_writes_the_average_displacement(descent: str, learner: Learners, draw: Draw) -> None:
    batch = draw(MULTICLASS, [(6, 9, 3), (3, 5, 3)])
    model = learner(method=Reptile, inner_rows=0, inner_steps=4, optimiser=descent, inner_lr=0.1, **FIXED)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(2):
        there, rows = copy.deepcopy(model), batch.episode == i
        optimiser = DESCENTS[descent](there.parameters(), lr=0.1)
        plain_steps(there, batch.inputs[rows], batch.labels[rows], optimiser, 4)
        for (name, start), end in zip(model.named_parameters(), there.parameters(), strict=True):
            expected[name] += (start - end).detach() / 2
    torch.testing.assert_close(gradients(model, batch), expected)
    model.meta_backward(batch)  # it adds to what is there
    torch.testing.assert_close(model.head.weight.grad, 2 * expected["head.weight"])


def test_reptile_moves_the_tied_row_as_its_copies_do_on_average(learner: Learners, draw: Draw) -> None:
    batch = draw(MULTICLASS, [(6, 9, 3)])
    tied = learner(method=Reptile, inner_rows=0, inner_steps=4)
    fixed = learner(method=Reptile, inner_rows=0, inner_steps=4, **FIXED)
    with torch.no_grad():
        for name, p in fixed.named_parameters():
            p.copy_(tied.get_parameter(name))  # the tied row, broadcast
    moved, expected = gradients(tied, batch), gradients(fixed, batch)
    torch.testing.assert_close(moved["head.weight"], expected["head.weight"].mean(0, keepdim=True))
    torch.testing.assert_close(moved["backbone.layers.0.weight"], expected["backbone.layers.0.weight"])


def test_reptile_learns_from_a_few_rows_of_the_whole_episode_at_a_time(learner: Learners, draw: Draw) -> None:
    model, seen = learner(method=Reptile, inner_rows=5, inner_steps=3), []
    model.backbone.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    batch = draw(REGRESSION, [(6, 9, 0)])
    model.meta_backward(batch)
    assert [len(x) for x in seen] == [5, 5, 5, 9]  # three steps, then the queries for the log
    torch.testing.assert_close(torch.cat(seen[:3]).sort(0).values, batch.inputs.sort(0).values)


@pytest.mark.parametrize("kind", [MULTICLASS, REGRESSION])
def test_scratch_is_plain_training_on_the_support(kind: TaskKind, learner: Learners, draw: Draw) -> None:
    model = learner(
        method=Scratch, inner_steps=30, inner_lr=0.01, scale_labels=False, **(FIXED if kind is MULTICLASS else {})
    )
    support, query = next(draw(kind, [(6, 4, 3 if kind is MULTICLASS else 0)]).episodes())
    there = copy.deepcopy(model)
    plain_steps(there, support.inputs, support.labels, torch.optim.Adam(there.parameters(), 0.01, eps=1e-5), 30)
    found = model.adapt(support).predict(query.inputs)
    outputs = there(query.inputs).detach()
    if kind is MULTICLASS:
        torch.testing.assert_close(found.probabilities, outputs.softmax(1))
    else:
        torch.testing.assert_close(found.mean, outputs[:, 0])


def test_fine_tuning_fits_a_new_linear_head_on_embeddings_that_stay(learner: Learners, draw: Draw) -> None:
    model = learner(method=FineTune, heads=8, inner_steps=50, inner_lr=0.05)
    support, query = next(draw(MULTICLASS, [(6, 4, 3)]).episodes())
    head = nn.Linear(5, 3).double()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    there = model.backbone(support.inputs).detach()
    plain_steps(head, there, support.labels, torch.optim.Adam(head.parameters(), 0.05, eps=1e-5), 50)
    found = model.adapt(support).predict(query.inputs).probabilities
    torch.testing.assert_close(found, head(model.backbone(query.inputs)).softmax(1).detach())
