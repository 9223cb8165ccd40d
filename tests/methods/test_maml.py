from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError, InputError, SupportError
from molmeta.methods.maml import MAML, MAMLConfig
from tests.toy import sinusoids

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
Learners = Callable[..., MAML]
Draw = Callable[..., EpisodeBatch]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("normalisation", ["batch", "frozen"])
def test_adapt_changes_nothing_in_the_learner_in_any_grad_mode(
    mode: Callable[[], Any], normalisation: str, learner: Learners, draw: Draw
) -> None:
    model = learner(norm=nn.BatchNorm1d, dropout=0.5, normalisation=normalisation)
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    with mode():
        support, query = next(draw(BINARY, [(6, 4, 2)]).episodes())
        first = model.adapt(support).predict(query.inputs).probabilities
        again = model.adapt(support).predict(query.inputs).probabilities
    torch.testing.assert_close(first, again, rtol=0, atol=0)  # dropout is off, though the learner is training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


def test_meta_training_leaves_batch_norm_statistics_alone(learner: Learners, draw: Draw) -> None:
    model = learner(norm=nn.BatchNorm1d, normalisation="batch")
    before = {n: b.clone() for n, b in model.named_buffers()}
    model.meta_backward(draw(BINARY, [(6, 4, 2), (4, 4, 2)]))
    torch.testing.assert_close(dict(model.named_buffers()), before, rtol=0, atol=0)


def test_a_predictor_stands_by_itself_when_the_learner_changes(learner: Learners, draw: Draw) -> None:
    model = learner(norm=nn.BatchNorm1d, dropout=0.5).eval()
    support, query = next(draw(REGRESSION, [(6, 4, 0)]).episodes())
    predictor = model.adapt(support)
    before = predictor.predict(query.inputs)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    model.train()
    after = predictor.predict(query.inputs)
    torch.testing.assert_close(after.mean, before.mean, rtol=0, atol=0)
    torch.testing.assert_close(after.deviation, before.deviation, rtol=0, atol=0)


def probabilities(model: MAML, support: LabelledSet, query: LabelledSet) -> torch.Tensor:
    found = model.adapt(support).predict(query.inputs).probabilities
    assert found is not None
    return found


@pytest.mark.parametrize("head", ["tied", "fixed"])
def test_only_the_tied_head_is_class_equivariant(head: str, learner: Learners, draw: Draw) -> None:
    model = learner(head=head, ways=3)
    support, query = next(draw(MULTICLASS, [(9, 5, 3)]).episodes())
    renumber = torch.tensor([2, 0, 1])  # class c becomes renumber[c]
    plain = probabilities(model, support, query)
    renumbered = probabilities(model, replace(support, labels=renumber[support.labels]), query)
    assert torch.allclose(renumbered[:, renumber], plain) == model.laws.class_equivariant == (head == "tied")


def test_the_tied_head_serves_any_number_of_ways_and_every_kind(learner: Learners, draw: Draw) -> None:
    model = learner()
    for kind, k in ((BINARY, 2), (MULTICLASS, 3), (MULTICLASS, 7)):
        support, query = next(draw(kind, [(k, 4, k)]).episodes())  # one example a class
        found = probabilities(model, support, query)
        assert found.shape == (4, k)
        torch.testing.assert_close(found.sum(dim=1), torch.ones(4, dtype=torch.float64))
    assert model.laws.any_way
    assert model.laws.kinds == set(TaskKind)


def test_the_tied_row_cancels_so_that_classes_start_equal_and_the_first_step_moves_the_head_alone(
    learner: Learners, draw: Draw
) -> None:
    support, query = next(draw(MULTICLASS, [(6, 4, 3)]).episodes())
    untouched = probabilities(learner(test_inner_steps=0), support, query)
    torch.testing.assert_close(untouched, torch.full_like(untouched, 1 / 3))
    model = learner()
    for steps, moved in ((1, False), (2, True)):
        after = model.adapted(support, steps=steps, first_order=True)
        assert torch.allclose(after["backbone.layers.0.weight"], model.backbone.layers[0].weight, atol=1e-12) != moved


def test_the_fixed_head_refuses_other_tasks_and_names_the_way_out(learner: Learners, draw: Draw) -> None:
    model = learner(head="fixed", ways=3)
    support, _ = next(draw(MULTICLASS, [(4, 4, 4)]).episodes())
    with pytest.raises(SupportError, match=r'has 3 classes, but the support set has 4; .*head to "tied"'):
        model.adapt(support)
    with pytest.raises(SupportError, match="serves multiclass tasks, not binary"):
        model.meta_backward(draw(BINARY, [(4, 4, 2)]))


def test_a_row_depends_on_its_neighbours_only_where_the_laws_say_so(learner: Learners, draw: Draw) -> None:
    for normalisation in ("frozen", "batch"):
        model = learner(norm=nn.BatchNorm1d, normalisation=normalisation)  # in training mode
        outputs = model(next(draw(BINARY, [(6, 4, 2)]).episodes())[1].inputs)
        alone = model(next(draw(BINARY, [(6, 4, 2)]).episodes())[1].inputs[:2])
        assert torch.allclose(outputs[:2], alone) != model.laws.transductive == (normalisation == "batch")


def test_only_the_chosen_parameters_that_require_a_gradient_adapt(learner: Learners, draw: Draw) -> None:
    support, _ = next(draw(REGRESSION, [(6, 4, 0)]).episodes())
    for part, moved in (("head", {"head"}), ("backbone", {"backbone"}), ("all", {"head", "backbone"})):
        model = learner(adapt=part)
        model.get_parameter("backbone.layers.0.weight").requires_grad_(False)
        before = dict(model.named_parameters())
        after = model.adapted(support, steps=1, first_order=True)
        changed = {name for name, p in after.items() if not torch.equal(p, before[name])}
        assert {name.split(".")[0] for name in changed} == moved
        assert "backbone.layers.0.weight" not in changed


def test_the_unit_of_the_labels_does_not_change_the_meta_objective(learner: Learners, draw: Draw) -> None:
    model, batch = learner(inner_lr=0.1), draw(REGRESSION, [(6, 4, 0), (3, 4, 0)])
    other = replace(batch, labels=batch.labels * 1000 - 7)
    torch.testing.assert_close(model.meta_loss(other)[0], model.meta_loss(batch)[0], rtol=1e-5, atol=1e-6)


def test_regression_predictions_follow_the_unit_of_the_labels(learner: Learners, draw: Draw) -> None:
    model = learner(inner_lr=0.1)
    support, query = next(draw(REGRESSION, [(6, 4, 0)]).episodes())
    plain = model.adapt(support).predict(query.inputs)
    other = model.adapt(replace(support, labels=support.labels * 1000 - 7)).predict(query.inputs)
    assert plain.mean is not None
    assert plain.deviation is not None
    torch.testing.assert_close(other.mean, plain.mean * 1000 - 7, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(other.deviation, plain.deviation * 1000, rtol=1e-5, atol=1e-3)


def test_a_constant_regression_support_gives_finite_predictions_near_it(learner: Learners, draw: Draw) -> None:
    support, query = next(draw(REGRESSION, [(5, 4, 0)]).episodes())
    found = learner(inner_lr=0.1).adapt(replace(support, labels=torch.full((5,), 0.1))).predict(query.inputs)
    assert found.mean is not None
    assert ((found.mean - 0.1).abs() < 3).all()


def error(model: MAML, batch: EpisodeBatch) -> float:
    """Mean squared error over the query rows."""
    found = torch.cat([p.scores() for p in model.predict_episodes(batch)])
    return float((found - batch.labels[~batch.is_support]).square().mean())


def test_meta_training_on_sinusoids_beats_no_adaptation_and_no_meta_training(learner: Learners) -> None:
    model = learner(inputs=1, width=24, norm=nn.Identity, inner_lr=0.05, scale_labels=False)
    test = sinusoids(40, seed=0)
    untrained = error(model, test)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for i in range(120):
        optimiser.zero_grad()
        model.meta_backward(sinusoids(4, seed=i + 1))
        optimiser.step()
    adapted = error(model, test)
    model.config = replace(model.config, test_inner_steps=0)
    assert adapted < 0.5 * untrained
    assert adapted < 0.5 * error(model, test)


def test_an_encoding_is_refused_in_words(learner: Learners, draw: Draw) -> None:
    support, query = next(draw(BINARY, [(4, 4, 2)]).episodes())
    model = learner()
    with pytest.raises(InputError, match="give raw inputs, not an Encoding"):
        model.adapt(replace(support, inputs=Encoding(support.inputs)))
    with pytest.raises(InputError, match="give raw inputs, not an Encoding"):
        model.adapt(support).predict(Encoding(query.inputs))


def test_settings_out_of_range_are_refused_all_at_once(learner: Learners) -> None:
    with pytest.raises(ConfigError, match=r"inner_steps is -1.*inner_lr is nan.*head is \"tide\".*ways is 1"):
        MAMLConfig(inner_steps=-1, inner_lr=float("nan"), head="tide", ways=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'adapt is "haed".*try "all", "head", "backbone.layers.0"'):
        learner(adapt="haed")
