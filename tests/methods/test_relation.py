from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.relation import RelationConfig, RelationNetwork
from tests.checks import assert_gradients_are_finite_differences, assert_ragged_is_one_at_a_time, fall_of_loss
from tests.toy import Net, NetConfig, Shapes, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS = TaskKind.BINARY, TaskKind.MULTICLASS
RAGGED: Shapes = [(9, 5, 3), (4, 7, 4), (2, 1, 2), (12, 5, 2)]
MAPS = {"map": (2, 4, 4)}


def made(width: int = 4, **settings: object) -> RelationNetwork:
    torch.manual_seed(0)
    config = RelationConfig(**settings)  # type: ignore[arg-type]
    return RelationNetwork(Net(NetConfig(width=width)), config).eval()


def encoded(shapes: Shapes, width: int = 4) -> EpisodeBatch:
    batch = episodes(MULTICLASS, shapes, width=width)
    return batch.with_inputs(Encoding(batch.inputs))  # type: ignore[arg-type]


def pooled(batch: EpisodeBatch, how: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Class features ``[k, d]`` and queries ``[m, d]`` of a single episode."""
    ((support, query),) = batch.episodes()
    assert isinstance(support.inputs, Encoding)
    assert isinstance(query.inputs, Encoding)
    rows = [support.inputs.values[support.labels == k] for k in range(support.num_classes)]
    return torch.stack([r.sum(0) if how == "sum" else r.mean(0) for r in rows]), query.inputs.values


@pytest.mark.parametrize("pool", ["mean", "sum"])
def test_a_relation_is_the_module_s_answer_to_the_two_embeddings_side_by_side(pool: str) -> None:
    batch = encoded([(9, 5, 3)])
    model = made(pool=pool)
    classes, query = pooled(batch, pool)
    with torch.no_grad():
        relations = torch.stack(
            [torch.cat([model.rest(model.first(torch.cat([c, q]))) for c in classes]).sigmoid() for q in query]
        )
        found = model.predict_episodes(batch)[0].probabilities
        loss = model.meta_loss(batch)[0]
    assert found is not None
    torch.testing.assert_close(found, relations / relations.sum(1, keepdim=True))
    wanted = F.one_hot(batch.labels[~batch.is_support], 3)
    torch.testing.assert_close(loss, (relations - wanted).square().sum(1).mean())


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_maps_are_convolved_as_if_stacked_by_channel(norm: str) -> None:
    batch = encoded([(6, 5, 3)], width=32)
    model = made(32, normalisation=norm, **MAPS)
    classes, query = pooled(batch, "mean")
    with torch.no_grad():
        found = model.predict_episodes(batch)[0].probabilities
        for i, q in enumerate(query):
            stacked = torch.stack([torch.cat([c.view(2, 4, 4), q.view(2, 4, 4)]) for c in classes])
            relations = model.rest(model.first(stacked))[:, 0].sigmoid()
            torch.testing.assert_close(found[i], relations / relations.sum())  # type: ignore[index]


def test_the_paper_s_module_for_omniglot_has_its_layers() -> None:
    model = made(64 * 5 * 5, map=(64, 5, 5), hidden=8, normalisation="batch", pool="sum")
    shapes = [tuple(p.shape) for p in (*model.first.parameters(), *model.rest.parameters())]
    norm = [(64,), (64,)]
    assert shapes == [(64, 128, 3, 3), (64,), *norm, (64, 64, 3, 3), (64,), *norm, (8, 64), (8,), (1, 8), (1,)]


def test_batch_statistics_are_those_of_the_pairs_in_training_and_stored_ones_afterwards() -> None:
    model = made(32, normalisation="batch", **MAPS)
    batch = encoded([(6, 5, 3)], width=32)
    before = model.meta_loss(batch)[0]
    model.train().meta_loss(batch)
    after = model.eval().meta_loss(batch)[0]
    assert not torch.isclose(before, after)
    assert_ragged_is_one_at_a_time(model, encoded(RAGGED, width=32))


@pytest.mark.parametrize("settings", [{}, {"loss": "cross_entropy"}, MAPS], ids=str)
def test_gradients_equal_finite_differences(settings: dict[str, object]) -> None:
    model = made(32 if settings == MAPS else 4, **settings)
    assert_gradients_are_finite_differences(model, episodes(MULTICLASS, [(5, 4, 3), (2, 2, 2)]), step=1e-7)


@pytest.mark.parametrize("settings", [{}, {"pool": "sum"}, {"loss": "cross_entropy"}, MAPS], ids=str)
def test_ragged_episodes_of_differing_ways_give_what_each_gives_alone(settings: dict[str, object]) -> None:
    model = made(32 if settings == MAPS else 4, **settings)
    assert_ragged_is_one_at_a_time(model, episodes(MULTICLASS, RAGGED))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("kind", [BINARY, MULTICLASS])
def test_the_loss_of_unseen_episodes_falls(kind: TaskKind, loss: str) -> None:
    assert fall_of_loss(made(loss=loss), kind) > 0.05


def test_a_map_that_is_none_or_of_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"map is \[2, 4, 5\], but the backbone's embedding has 32 numbers"):
        made(32, map=(2, 4, 5))
    for wrong in ((2, 4), (2, 2, 2), (0, 4, 4)):
        with pytest.raises(ConfigError, match="4 x 4 or larger"):
            RelationConfig(map=wrong)
    with pytest.raises(ConfigError, match="hidden is 1 or more"):
        RelationConfig(hidden=0)


def test_probabilities_stay_finite_where_every_relation_is_0() -> None:
    model = made()
    with torch.no_grad():
        model.rest[1].bias.fill_(-1e4)
    found = model.predict_episodes(encoded([(6, 5, 3)]))[0].probabilities
    assert found is not None
    np.testing.assert_allclose(found.sum(1).detach().numpy(), 1)
