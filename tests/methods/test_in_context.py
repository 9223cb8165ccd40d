from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from molmeta.core.episode import Episode, EpisodeBatch, collate_labels
from molmeta.core.learner import Beforehand
from molmeta.core.task import Task, TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.in_context import InContext, InContextConfig, Layer
from molmeta.methods.matching import MatchingNetwork
from tests.checks import assert_gradients_are_finite_differences, assert_ragged_is_one_at_a_time, fall_of_loss, numbers
from tests.toy import Net, NetConfig, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
CLASSES = {BINARY: 2, MULTICLASS: 3, REGRESSION: 0}


def made(perturbed: bool = True, **settings: object) -> InContext:
    """A small one; ``perturbed``, its layers are not the identity."""
    torch.manual_seed(0)
    config = InContextConfig(**{"width": 8, "heads": 2, **settings})  # type: ignore[arg-type]
    model = InContext(Net(NetConfig(width=4, dropout=0.0)), config).eval()
    with torch.no_grad():
        for parameter in model.parameters() if perturbed else ():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def test_a_layer_is_torch_s_encoder_layer_under_the_mask_that_hides_queries_from_all_but_themselves() -> None:
    torch.manual_seed(0)
    layer, oracle = Layer(8, 2), nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    mine, its = layer.state_dict(), {}
    for part in ("weight", "bias"):
        its[f"self_attn.in_proj_{part}"] = torch.cat([mine[f"ask.{part}"], mine[f"answer.{part}"]])
        for name, own in (("self_attn.out_proj", "out"), ("linear1", "mlp.0"), ("linear2", "mlp.2")):
            its[f"{name}.{part}"] = mine[f"{own}.{part}"]
        its.update({f"norm1.{part}": mine[f"norm.{part}"], f"norm2.{part}": mine[f"second_norm.{part}"]})
    oracle.load_state_dict(its)
    support, query, mask = torch.randn(3, 5, 8), torch.randn(3, 4, 8), torch.ones(3, 5, dtype=torch.bool)
    hidden = torch.eye(9, dtype=torch.bool).logical_not()
    hidden[:, :5] = False
    expected = oracle(torch.cat([support, query], dim=1), src_mask=hidden)
    torch.testing.assert_close(layer(support, support, mask, itself=False), expected[:, :5])
    torch.testing.assert_close(layer(query, support, mask, itself=True), expected[:, 5:])


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("kind", list(TaskKind))
def test_before_training_and_without_labels_in_its_tokens_it_is_a_matching_network(kind: TaskKind, prior: bool) -> None:
    model = made(perturbed=False, prior=prior, width=4)  # as wide as an embedding
    oracle = MatchingNetwork(model.backbone).eval()
    with torch.no_grad():
        model.marks.zero_()
        model.embed = nn.Identity()
        batch = episodes(kind, [(9, 5, CLASSES[kind]), (4, 7, CLASSES[kind])])
        for one, other in zip(model.predict_episodes(batch), oracle.predict_episodes(batch), strict=True):
            torch.testing.assert_close(numbers(one), numbers(other))


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("kind", list(TaskKind))
def test_gradients_equal_finite_differences(kind: TaskKind, prior: bool) -> None:
    k = CLASSES[kind]
    assert_gradients_are_finite_differences(made(prior=prior), episodes(kind, [(6, 4, k), (max(k, 1), 3, k)]))


@pytest.mark.parametrize("kind", list(TaskKind))
def test_ragged_episodes_give_what_each_gives_alone(kind: TaskKind) -> None:
    shapes = [(9, 5, 3), (4, 7, 4), (2, 1, 2)] if kind is MULTICLASS else [(9, 5, 2), (4, 7, 2), (2, 1, 2)]
    assert_ragged_is_one_at_a_time(made(), episodes(kind, shapes))


@pytest.mark.parametrize("kind", list(TaskKind))
def test_the_loss_of_unseen_episodes_falls(kind: TaskKind) -> None:
    assert fall_of_loss(made(perturbed=False), kind) > 0.05


def test_a_query_is_read_beside_the_labels_of_the_support() -> None:
    ((support, query),) = episodes(REGRESSION, [(9, 5, 0)]).episodes()
    model = made()
    means = [
        model.adapt(part).predict(query.inputs).mean for part in (support, replace(support, labels=-support.labels))
    ]
    assert means[0] is not None
    assert means[1] is not None
    assert not torch.allclose(means[0], -means[1])  # a matching network's would be


def frequent(tasks: int, seed: int) -> EpisodeBatch:
    """Tasks of a single rule, the sign of the first input: what there is to know is known beforehand."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(tasks * 40, 2))
    inputs[:, 0] = np.abs(inputs[:, 0]) * np.tile([-1, 1, *np.sign(rng.normal(size=38))], tasks)  # one of each to see
    labels = (inputs[:, 0] > 0).astype(np.int64)
    made = []
    for i in range(tasks):
        rows = np.arange(40 * i, 40 * (i + 1))
        made.append(Episode(Task(f"{i}", rows, labels[rows], BINARY, 2), np.arange(8), np.arange(8, 40)))
    return collate_labels(made, torch.from_numpy(inputs))


def test_what_holds_in_every_task_is_known_beforehand_whatever_the_support_s_rows() -> None:
    model = made(perturbed=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(40):
        optimizer.zero_grad()
        model.train().meta_backward(frequent(4, step))
        optimizer.step()
    support, query = next(iter(frequent(1, 10**6).episodes()))
    predictor = model.adapt(support)
    before = predictor.beforehand(query.inputs)
    assert isinstance(before, Beforehand)
    informed, uninformed = before.informed.probabilities, before.uninformed.probabilities
    assert informed is not None
    assert uninformed is not None
    assert ((informed[:, 1] > 0.5) == (query.labels == 1)).double().mean() > 0.85
    shares = torch.bincount(support.labels, minlength=2) / len(support)
    torch.testing.assert_close(uninformed, shares.expand_as(uninformed), check_dtype=False)
    rolled = replace(support, inputs=support.inputs[torch.arange(len(support)).roll(3)])  # as many of each, other rows
    other = model.adapt(rolled).beforehand(query.inputs)
    assert other is not None
    torch.testing.assert_close(other.informed.probabilities, informed)


@pytest.mark.parametrize(("prior", "kind"), [(False, BINARY), (True, MULTICLASS), (True, REGRESSION)])
def test_where_nothing_was_learned_beforehand_nothing_is_said(prior: bool, kind: TaskKind) -> None:
    ((support, query),) = episodes(kind, [(9, 5, CLASSES[kind])]).episodes()
    assert made(prior=prior).adapt(support).beforehand(query.inputs) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 10, "heads": 4}, "multiple of heads"),
        ({"layers": -1}, "layers is 0 or more"),
        ({"temperature": 0.0}, "temperature is positive"),
        ({"alone": -1.0}, "alone is 0 or more"),
    ],
)
def test_settings_without_a_meaning_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        InContextConfig(**wrong)  # type: ignore[arg-type]
