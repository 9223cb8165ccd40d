"""What a meta-update costs, beside the same update done as a user of other libraries does it.

    MOLMETA_DATA=... pytest tests/speed/test_training_steps.py

ProtoNet: 16 tasks x (16 + 32) molecules. The peer is fed by torch_geometric: `Data` objects prepared beforehand, a
`Batch` of one episode at a time, its loss by class means.
MAML: 16 tasks x (16 + 16) molecules, 5 inner steps, second order. The peers are `higher`, and a loop over tasks with
`functional_call` and `autograd.grad`, as learn2learn does it.
Either stands beside the same network, of the same weights, in torch's and torch_geometric's own layers ("plain"), and
beside molmeta's own backbone driven in these ways ("ours"). The gradients are compared.
The floor is molmeta's matrix products alone, as products of an episode's size. Nothing here is asserted about time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GINEConv, global_add_pool, global_max_pool, global_mean_pool

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Learner
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.methods.gradient import GradientLearner
from molmeta.recipe import make_learner
from molmeta.training.batches import EpisodeConfig, MetaBatches
from tests.speed.conftest import Row

pytestmark = pytest.mark.data
GRAPH = {"name": "gnn", "dropout": 0.0}
FINGERPRINT = {"name": "fingerprint", "input_dropout": 0.0, "dropout": 0.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, fsmol: Path) -> FSMol:
    """The valid fold, as training tasks."""
    root = tmp_path_factory.mktemp("fs-mol")
    (root / "train").symlink_to(fsmol / "valid")
    return FSMol(FSMolConfig(root=str(root)))


def drawn(source: FSMol, queries: int) -> EpisodeBatch:
    return MetaBatches(source, EpisodeConfig(support_sizes=(16,), query_size=queries), tasks_per_step=16)(0)


def products(multiplied: int) -> None:
    """So many multiplications and additions, as matrix products of an episode's size."""
    a, b = torch.randn(400, 128), torch.randn(128, 128)
    for _ in range(multiplied // (2 * a.numel() * b.shape[1])):
        a @ b


def counted(step: Callable[[], object]) -> int:
    """Multiplications and additions in the matrix products of ``step``."""
    with FlopCounterMode(display=False) as count:
        step()
    return int(count.get_total_flops())


def updated(learner: Learner, batch: EpisodeBatch) -> None:
    learner.zero_grad()
    learner.meta_backward(batch)


@pytest.mark.parametrize("backbone", [FINGERPRINT, GRAPH], ids=lambda b: b["name"])
@pytest.mark.parametrize("network", ["plain", "ours"])
def test_protonet(row: Row, source: FSMol, network: str, backbone: dict[str, object]) -> None:
    torch.manual_seed(0)
    batch, learner = drawn(source, 32), make_learner({"name": "protonet"}, backbone)
    prepared = [_data(batch.inputs[torch.tensor([row])]) for row in range(len(batch.labels))]  # type: ignore[arg-type]
    plain = Dense if backbone is FINGERPRINT else Geometric
    net = (plain if network == "plain" else _Fed)(learner.backbone)

    def by_episode() -> None:
        learner.zero_grad()
        for i in range(len(batch)):
            rows = torch.nonzero(batch.episode == i).flatten()
            encoded = net(Batch.from_data_list([prepared[row] for row in rows.tolist()]))
            support, labels = batch.is_support[rows], batch.labels[rows]
            centres = torch.stack([encoded[support & (labels == k)].mean(0) for k in range(2)])
            logits = -torch.cdist(encoded[~support], centres).square()
            (F.cross_entropy(logits, labels[~support]) / len(batch)).backward()  # type: ignore[no-untyped-call]

    expected = _gradient(learner, by_episode)
    torch.testing.assert_close(_gradient(learner, lambda: updated(learner, batch)), expected, rtol=1e-3, atol=1e-5)
    work = counted(lambda: updated(learner, batch))
    if backbone is FINGERPRINT:  # the first layer's products, both ways, are with the bins that are set alone
        work += 4 * learner.backbone.bins.shape[1] * len(batch.inputs.bins)  # type: ignore[attr-defined,union-attr]
    row(
        f"ProtoNet meta-step, {backbone['name']}; torch_geometric an episode at a time, {network}",
        floor=lambda: products(work),
        molmeta=lambda: updated(learner, _gathered_anew(batch)),
        peer=by_episode,
    )


@pytest.mark.parametrize("network", ["plain", "ours"])
@pytest.mark.parametrize("peer", ["loop", "higher"])
def test_maml(row: Row, source: FSMol, peer: str, network: str) -> None:
    torch.manual_seed(0)
    batch, learner = drawn(source, 16), make_learner({"name": "maml"}, GRAPH)
    assert isinstance(learner, GradientLearner)
    net, lr = (Geometric if network == "plain" else _Fed)(learner.backbone), learner.config.inner_lr
    episodes = [[(part.inputs, part.labels) for part in both] for both in batch.episodes()]
    if network == "plain":
        episodes = [[(_collated(inputs), labels) for inputs, labels in both] for both in episodes]

    def functional() -> None:
        learner.zero_grad()
        for support, query in episodes:
            params = dict(net.named_parameters())
            params |= {"w": learner.head.weight.repeat(2, 1), "b": learner.head.bias.repeat(2)}

            def loss(inputs: object, labels: torch.Tensor, params: dict[str, torch.Tensor] = params) -> torch.Tensor:
                inner = {name: p for name, p in params.items() if name not in ("w", "b")}
                return F.cross_entropy(
                    F.linear(functional_call(net, inner, (inputs,)), params["w"], params["b"]), labels
                )

            for _ in range(learner.config.inner_steps):
                grads = torch.autograd.grad(loss(*support, params), list(params.values()), create_graph=True)
                params = {name: p - lr * g for (name, p), g in zip(params.items(), grads, strict=True)}
            (loss(*query, params) / len(episodes)).backward()  # type: ignore[no-untyped-call]

    tied = nn.Sequential(net, nn.Linear(learner.backbone.width, 2))

    def by_higher() -> None:
        higher = pytest.importorskip("higher")
        learner.zero_grad()
        with torch.no_grad():
            tied[1].weight.copy_(learner.head.weight.repeat(2, 1))
            tied[1].bias.copy_(learner.head.bias.repeat(2))
        optimiser = torch.optim.SGD(tied.parameters(), lr=lr)
        for (support, labels), (query, truth) in episodes:
            with higher.innerloop_ctx(tied, optimiser, copy_initial_weights=False) as (model, inner):
                for _ in range(learner.config.inner_steps):
                    inner.step(F.cross_entropy(model(support), labels))
                (F.cross_entropy(model(query), truth) / len(episodes)).backward()  # type: ignore[no-untyped-call]

    expected = _gradient(learner, functional)
    torch.testing.assert_close(_gradient(learner, lambda: updated(learner, batch)), expected, rtol=1e-3, atol=1e-5)
    work = counted(lambda: updated(learner, batch))
    row(
        f"MAML meta-step, second order, gnn; {peer}, {network}",
        floor=lambda: products(work),
        molmeta=lambda: updated(learner, _gathered_anew(batch)),
        peer={"loop": functional, "higher": by_higher}[peer],
        repeats=5,
    )


class Dense(nn.Module):
    """The fingerprint network in torch's layers, on dense fingerprints; its weights are those of ``ours``."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.bins, self.bias, self.net = ours.bins, ours.bias, ours.net

    def forward(self, molecules: Batch) -> torch.Tensor:
        return self.net(torch.addmm(self.bias, molecules.fingerprint.log1p(), self.bins))


class Geometric(nn.Module):
    """The graph network in torch_geometric's layers; its weights are those of ``ours``."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.atoms = _Sums(ours.atom_embedding)
        self.bonds = nn.ModuleList(_Sums(table) for table in ours.bond_embeddings)
        self.norms = nn.ModuleList(nn.LayerNorm(len(norm.weight)) for norm in ours.norms)
        self.convs = nn.ModuleList(GINEConv(nn.Sequential(*mix), train_eps=True) for mix in ours.mixes)
        self.readout = nn.Linear(ours.readout.in_features, ours.readout.out_features)
        pairs = [(self.readout, ours.readout), *zip(self.norms, ours.norms, strict=True)]
        for mine, other in pairs:
            mine.weight, mine.bias = other.weight, other.bias
        for conv, other in zip(self.convs, ours.convs, strict=True):
            conv.eps = other.eps

    def forward(self, graphs: Batch) -> torch.Tensor:
        h = self.atoms(graphs.x)
        for bonds, norm, conv in zip(self.bonds, self.norms, self.convs, strict=False):
            h = h + conv(norm(h), graphs.edge_index, bonds(graphs.edge_attr))
        h = F.relu(self.norms[-1](h))
        mean, total = (pool(h, graphs.batch, len(graphs)) for pool in (global_mean_pool, global_add_pool))
        return self.readout(torch.cat([mean, global_max_pool(h, graphs.batch, len(graphs)), total / 10], dim=1))


class _Sums(nn.Module):
    """The sum of an embedding for each feature, as OGB's encoders have it."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.table, self.shift = ours.table, ours.shift

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.embedding(features + self.shift, self.table).sum(1)


class _Fed(nn.Module):
    """molmeta's backbone, which torch_geometric may feed, as a plain class: higher takes no abstract one."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        plain = type(
            "Plain", (nn.Module,), {name: value for name, value in vars(type(ours)).items() if callable(value)}
        )
        self.ours = plain.__new__(plain)
        self.ours.__dict__.update(ours.__dict__)

    def forward(self, graphs: Batch | MoleculeBatch) -> torch.Tensor:
        return self.ours(graphs if isinstance(graphs, MoleculeBatch) else _molecules(graphs))


def _gradient(learner: Learner, step: Callable[[], None]) -> list[torch.Tensor]:
    step()
    return [p.grad.clone() for p in learner.parameters() if p.grad is not None]


def _gathered_anew(batch: EpisodeBatch) -> EpisodeBatch:
    """The same episodes, gathered from the molecules as a training step gathers them."""
    return batch.with_inputs(batch.inputs[torch.arange(len(batch.labels))])


def _collated(molecules: MoleculeBatch) -> Batch:
    """Molecules as torch_geometric batches them."""
    return Batch.from_data_list([_data(molecules[torch.tensor([row])]) for row in range(len(molecules))])


def _data(molecule: MoleculeBatch) -> Data:
    """One molecule as a user of torch_geometric keeps it, its fingerprint beside it."""
    return Data(
        x=molecule.atoms,
        edge_index=molecule.edge_index(),
        edge_attr=molecule.bond_features.repeat(2, 1),
        bins=molecule.bins,
        counts=molecule.counts,
        fingerprint=molecule.fingerprints(),
        sizes=torch.tensor([[len(molecule.atoms), len(molecule.bonds), len(molecule.bins)]]),
    )


def _molecules(collated: Batch) -> MoleculeBatch:
    """A torch_geometric batch as the backbones read it: a bond once, its atoms counted within the molecule."""
    offsets = F.pad(collated.sizes.cumsum(0), (0, 0, 1, 0))
    owner = torch.repeat_interleave(collated.sizes[:, 1])
    # Edges stand molecule by molecule, in each every bond forward, then every bond backward.
    bond = torch.arange(len(owner)) + offsets[owner, 1]
    return MoleculeBatch(
        atoms=collated.x,
        atom_offsets=offsets[:, 0],
        bonds=collated.edge_index.T[bond] - offsets[owner, :1],
        bond_features=collated.edge_attr[bond],
        bond_offsets=offsets[:, 1],
        bins=collated.bins,
        counts=collated.counts,
        bin_offsets=offsets[:, 2].contiguous(),
    )
