"""Any network is a backbone; its width is known, or asked for."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from torch import nn

from molmeta import METHODS, LabelledSet, TaskKind, as_backbone
from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Learner
from molmeta.errors import ConfigError
from tests.toy import Net, NetConfig, episodes

BINARY, MULTICLASS = TaskKind.BINARY, TaskKind.MULTICLASS
NOT_ALONE = {"known_assays", "tabpfn", "zero_shot"}  # they need a backbone, package or source of their own
COUNTS_ALONE = {"knn", "similarity", "tanimoto_gp"}  # they compare counts, and refuse other embeddings in words


class Mean(nn.Module):
    """The mean over time, ``[n, channels, time]`` to ``[n, channels]``: no width to be seen."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(-1)


def of_images() -> nn.Module:
    convolutions = [nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2)]
    return nn.Sequential(*convolutions, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8))


def of_sequences() -> nn.Module:
    return as_backbone(nn.Sequential(nn.Conv1d(4, 6, 5), nn.ReLU(), Mean()), width=6)


NETS = {
    "pixels": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 16)), (1, 28, 28)),
    "images": (of_images, (1, 28, 28)),
    "vectors": (lambda: nn.Sequential(nn.Linear(20, 16), nn.LayerNorm(16), nn.ReLU(), nn.Dropout(0.1)), (20,)),
    "sequences": (of_sequences, (4, 30)),
}


def drawn(shape: tuple[int, ...], kind: TaskKind = MULTICLASS) -> EpisodeBatch:
    """Two episodes of three classes that their inputs tell apart, as float32."""
    k = {BINARY: 2, MULTICLASS: 3}.get(kind, 0)
    batch = episodes(kind, [(6, 6, k), (9, 6, k)])
    centres = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    means = centres[batch.labels] if k else batch.labels.view(-1, *[1] * len(shape)).expand(-1, *shape)
    return batch.with_inputs(means + 0.1 * torch.randn(len(means), *shape))


def predicted(learner: Learner, support: LabelledSet, query: LabelledSet) -> torch.Tensor:
    found = learner.adapt(support).predict(query.inputs)
    return found.probabilities if found.probabilities is not None else found.scores()


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("method", [m for m in METHODS if m not in {*COUNTS_ALONE, *NOT_ALONE}])
def test_every_method_takes_a_plain_network(method: str, net: str) -> None:
    torch.manual_seed(0)
    make, shape = NETS[net]
    network = make()
    learner, batch = METHODS[method](network), drawn(shape)
    if learner.laws.meta_trained:
        optimizer = torch.optim.Adam(learner.parameters())
        for _ in range(2):
            optimizer.zero_grad()
            assert np.isfinite(learner.meta_backward(batch)["loss"])
            optimizer.step()
    support, query = next(batch.episodes())
    found = predicted(learner, support, query)
    assert found.shape == (6, 3)
    assert found.numpy().argmax(1).shape == (6,)  # no gradient hangs on it
    kept = io.BytesIO()
    torch.save(learner.state_dict(), kept)
    other = METHODS[method](make())
    other.load_state_dict(torch.load(io.BytesIO(kept.getvalue())))
    for same in (other, copy.deepcopy(learner)):
        torch.testing.assert_close(predicted(same, support, query), found)


def test_a_network_may_serve_one_method_after_the_other() -> None:
    network = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8))
    before = {name: p.requires_grad for name, p in network.named_parameters()}
    per_step = METHODS["maml"].Config(normalisation="per_step")
    for learner in (METHODS["centroid"](network), METHODS["scratch"](network), METHODS["maml"](network, per_step)):
        assert learner.backbone.net is network
    assert {name: p.requires_grad for name, p in network.named_parameters()} == before
    assert METHODS["protonet"](network).meta_backward(drawn((20,)))["loss"] > 0


def test_methods_that_compare_counts_and_networks_that_learn_nothing_are_refused_in_words() -> None:
    for method in COUNTS_ALONE:
        support, _ = next(drawn((20,), BINARY).episodes())
        with pytest.raises(ConfigError, match="compares counts"):
            METHODS[method](nn.Linear(20, 8)).adapt(support).predict(support.inputs)
    with pytest.raises(ConfigError, match="no parameter of the learner requires a gradient"):
        METHODS["protonet"](as_backbone(nn.Flatten(), width=20)).meta_backward(drawn((20,)))


@pytest.mark.parametrize(
    ("net", "width"),
    [
        (nn.Linear(5, 7), 7),
        (nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Dropout()), 7),
        (nn.Sequential(nn.Linear(5, 6), nn.Sequential(nn.Linear(6, 7), nn.Tanh()), nn.Identity()), 7),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(7)), 7),
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(7)), 7),
        (nn.Sequential(nn.Linear(5, 7), nn.Softmax(1)), 7),
        (Net(NetConfig(width=7)), 7),
    ],
)
def test_the_width_is_read_from_the_last_layer_where_that_is_certain(net: nn.Module, width: int) -> None:
    backbone = as_backbone(net)
    assert backbone.width == width
    assert backbone.views == (width,)


class OwnOrder(nn.Sequential):
    """A sequence that is run in another order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize(
    "net",
    [
        nn.Conv2d(1, 3, 3),
        nn.Sequential(nn.Linear(5, 7), nn.Flatten()),
        nn.Sequential(nn.Linear(5, 7), nn.GLU()),
        nn.Sequential(nn.LayerNorm((3, 7))),
        OwnOrder(nn.Linear(5, 7)),
        nn.GRU(5, 7),
        nn.Sequential(),
    ],
)
def test_a_width_that_is_not_certain_is_asked_for(net: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"say it, as_backbone\(net, width=64\), or set net.width"):
        METHODS["protonet"](net)
    net.width = 7
    assert as_backbone(net).width == 7


def test_a_backbone_is_returned_itself_and_lacks_nothing() -> None:
    net = Net()
    del net.views
    assert as_backbone(net) is net
    assert net.views == (net.width,)
    METHODS["gp"](net)


def test_what_is_no_network_and_lazy_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"a backbone is an nn\.Module, not 3"):
        as_backbone(3)  # type: ignore[arg-type]
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(7))
    with pytest.raises(ConfigError, match="give it a batch of inputs first"):
        as_backbone(lazy)
    lazy(torch.zeros(1, 5))
    assert as_backbone(lazy).width == 7


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (as_backbone(nn.Linear(20, 7), width=8), r"gives \[\d+, 7\] .* say as_backbone\(net, width=7\)"),
        (as_backbone(nn.Unflatten(1, (4, 5)), width=5), r"gives \[\d+, 4, 5\] .* end it in nn.Flatten\(\) or a mean"),
        (as_backbone(nn.GRU(20, 7), width=7), "gives a tuple, not a tensor"),
    ],
)
@pytest.mark.parametrize("method", ["protonet", "maml"])
def test_embeddings_of_another_shape_are_refused_with_the_way_out(net: nn.Module, message: str, method: str) -> None:
    with pytest.raises(ConfigError, match=message):
        METHODS[method](net).meta_backward(drawn((20,)))


def test_images_in_bytes_are_scaled_as_conv4_scales_them() -> None:
    images = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    net = as_backbone(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    torch.testing.assert_close(net(images), net(images.float() / 255))
    assert as_backbone(nn.Embedding(256, 3), width=3)(torch.zeros(5, dtype=torch.uint8).int()).shape == (5, 3)


def test_the_inner_loop_names_a_plain_networks_layers() -> None:
    maml = METHODS["maml"]
    with pytest.raises(ConfigError, match=r'try "all", "head", "backbone.net.0", "backbone.net.2"'):
        maml(nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 8)), maml.Config(adapt="backbone.2"))
