from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.episode import Episode, LabelledSet, collate_labels
from molmeta.core.task import Task, TaskKind
from molmeta.domains.images.conv4 import Conv4, Conv4Config
from molmeta.errors import ConfigError, InputError
from molmeta.methods import METHODS
from molmeta.recipe import make_learner


def images(n: int, channels: int = 1, size: int = 28, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8))


@pytest.mark.parametrize(
    ("settings", "shape", "width"),
    [
        ({}, (64, 1, 1), 64),
        ({"size": 84, "channels": 3}, (64, 5, 5), 1600),
        ({"size": 84, "channels": 3, "hidden": 32}, (32, 5, 5), 800),
        ({"pools": 2}, (64, 7, 7), 3136),
        ({"pools": 0, "size": 5}, (64, 5, 5), 1600),
        ({"downsample": "stride"}, (64, 2, 2), 256),
        ({"downsample": "stride", "flatten": False}, (64, 2, 2), 64),
        ({"normalisation": "group", "hidden": 12}, (12, 1, 1), 12),
        ({"normalisation": "none"}, (64, 1, 1), 64),
    ],
)
def test_an_embedding_is_as_wide_as_is_said(settings: dict[str, Any], shape: tuple[int, ...], width: int) -> None:
    config = Conv4Config(**settings)
    net = Conv4(config).eval()
    maps = net.blocks(images(2, config.channels, config.size).float())
    assert (net.map_shape, net.width, net.views) == (shape, width, (width,))
    assert tuple(maps.shape[1:]) == shape
    assert net(images(2, config.channels, config.size)).shape == (2, width)


@pytest.mark.parametrize(("channels", "published"), [(1, 111_936), (3, 113_088)])
def test_it_has_the_published_number_of_weights(channels: int, published: int) -> None:
    assert sum(p.numel() for p in Conv4(Conv4Config(channels=channels)).parameters()) == published


@pytest.mark.parametrize("pools", [2, 4])
def test_it_is_convolution_normalisation_relu_pooling_four_times(pools: int) -> None:
    """Written out, in the papers' order, with the batch's own statistics."""
    torch.manual_seed(0)
    net = Conv4(Conv4Config(hidden=8, pools=pools)).train()
    x = images(6)
    expected = x / 255
    for i, block in enumerate(net.blocks):
        convolution, norm = block[0], block[1]
        with torch.no_grad():
            norm.weight.copy_(torch.randn(8))
            norm.bias.copy_(torch.randn(8))
        expected = F.conv2d(expected, convolution.weight, convolution.bias, padding=1)
        mean, variance = expected.mean((0, 2, 3)), expected.var((0, 2, 3), correction=0)
        standard = (expected - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        expected = (standard * norm.weight[:, None, None] + norm.bias[:, None, None]).relu()
        expected = F.max_pool2d(expected, 2) if i < pools else expected
    torch.testing.assert_close(net(x), expected.flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("normalisation", ["batch", "group", "none"])
def test_a_row_depends_on_itself_alone_but_on_its_batch_where_batch_norm_trains(normalisation: str) -> None:
    torch.manual_seed(0)
    net = Conv4(Conv4Config(hidden=8, normalisation=normalisation))  # type: ignore[arg-type]
    x = images(5)
    for mode in (True, False):
        net.train(mode)
        with torch.no_grad():
            alone, together = net(x[:2]), net(x)[:2]
        assert torch.allclose(alone, together) == (not mode or normalisation != "batch")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("downsample", ["max", "stride"])
def test_its_first_and_second_derivatives_equal_finite_differences(downsample: str) -> None:
    torch.manual_seed(0)
    config = Conv4Config(size=4, hidden=2, pools=2, downsample=downsample, normalisation="group")  # type: ignore[arg-type]
    net = Conv4(config)
    x = torch.randn(2, 1, 4, 4, requires_grad=True)
    assert torch.autograd.gradcheck(net, (x,))
    assert torch.autograd.gradgradcheck(net, (x,))


def test_bytes_are_scaled_and_floats_are_taken_as_they_are() -> None:
    net, x = Conv4(Conv4Config(hidden=8)).eval(), images(3)
    torch.testing.assert_close(net(x), net(x.float() / 255))
    assert not torch.allclose(net(x), net(x.float()))
    assert net.double()(x).dtype is torch.float64


@pytest.mark.parametrize("wrong", [torch.zeros(2, 28, 28), torch.zeros(2, 3, 28, 28), torch.zeros(2, 1, 32, 32)])
def test_images_of_another_shape_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"= \[1, 28, 28\], not \[.*; set backbone\.channels and backbone\.size"):
        Conv4()(wrong)


def test_settings_that_make_no_network_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"hidden is 1 or more, not 0; an image of size 8 is too small"):
        Conv4Config(hidden=0, size=8)
    with pytest.raises(ConfigError, match="pools lies in 0 to 4, not 5"):
        Conv4Config(pools=5)


def episode(ways: int = 3, shots: int = 2, queries: int = 4) -> tuple[LabelledSet, LabelledSet]:
    n = ways * (shots + queries)
    task = Task("t", np.arange(n), np.arange(n) % ways, TaskKind.MULTICLASS, ways)
    batch = collate_labels([Episode(task, np.arange(ways * shots), np.arange(ways * shots, n))], images(n))
    ((support, query),) = batch.episodes()
    return support, query


@pytest.mark.parametrize("name", sorted({"protonet", "matching", "relation", "maml"} & set(METHODS)))
@pytest.mark.parametrize("normalisation", ["batch", "group"])
def test_methods_embed_images_with_it(name: str, normalisation: str) -> None:
    torch.manual_seed(0)
    learner = make_learner({"name": name}, {"name": "conv4", "hidden": 8, "normalisation": normalisation}).eval()
    assert isinstance(learner.backbone, nn.Module)
    support, query = episode()
    found = learner.adapt(support).predict(query.inputs).probabilities
    assert found is not None
    assert found.shape == (12, 3)
    torch.testing.assert_close(found.sum(1), torch.ones(12))


def test_a_relation_network_compares_its_feature_maps() -> None:
    if "relation" not in METHODS:
        pytest.skip("needs relation networks")
    backbone = {"name": "conv4", "hidden": 8, "pools": 2}
    learner = make_learner({"name": "relation", "map": [8, 7, 7]}, backbone).eval()
    support, query = episode()
    found = learner.adapt(support).predict(query.inputs).probabilities
    assert found is not None
    assert found.shape == (12, 3)


def test_a_map_is_flattened_channel_by_channel_whatever_the_memory_format() -> None:
    backbone, images = Conv4(Conv4Config(pools=2)).eval(), torch.rand(3, 1, 28, 28)
    expected = backbone.blocks(images).flatten(1)
    assert torch.allclose(backbone(images), expected, atol=1e-5)
    assert torch.allclose(backbone(images.to(memory_format=torch.channels_last)), expected, atol=1e-5)
