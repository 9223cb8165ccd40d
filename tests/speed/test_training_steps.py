"""What a meta-update costs, beside the same update done as a user of other libraries does it.

    MOLMETA_DATA=... pytest tests/speed/test_training_steps.py

ProtoNet: 16 tasks x (16 + 32) molecules. The peer is the same backbone fed by torch_geometric: `Data` objects prepared
beforehand, a `Batch` of one episode at a time, its loss by class means.
MAML: 16 tasks x (16 + 16) molecules, 5 inner steps, second order. The peers are `higher`, and a loop over tasks with
`functional_call` and `autograd.grad`, as learn2learn does it, around the same backbone; the gradients are compared.
The floor is molmeta's matrix products alone, as products of an episode's size. Nothing here is asserted about time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Batch, Data

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


@pytest.mark.parametrize("backbone", [GRAPH, FINGERPRINT], ids=lambda b: b["name"])
def test_protonet(row: Row, source: FSMol, backbone: dict[str, object]) -> None:
    torch.manual_seed(0)
    batch, learner = drawn(source, 32), make_learner({"name": "protonet"}, backbone)
    prepared = [_data(batch.inputs[torch.tensor([row])]) for row in range(len(batch.labels))]  # type: ignore[arg-type]

    def by_episode() -> None:
        learner.zero_grad()
        for i in range(len(batch)):
            rows = torch.nonzero(batch.episode == i).flatten()
            collated = Batch.from_data_list([prepared[row] for row in rows.tolist()])
            encoded = learner.backbone(_molecules(collated))
            support, labels = batch.is_support[rows], batch.labels[rows]
            centres = torch.stack([encoded[support & (labels == k)].mean(0) for k in range(2)])
            logits = -torch.cdist(encoded[~support], centres).square()
            (F.cross_entropy(logits, labels[~support]) / len(batch)).backward()  # type: ignore[no-untyped-call]

    expected = _gradient(learner, by_episode)
    torch.testing.assert_close(_gradient(learner, lambda: updated(learner, batch)), expected, rtol=1e-3, atol=1e-5)
    work = counted(lambda: updated(learner, batch))
    if backbone is FINGERPRINT:  # the first layer's products, both ways, are with the bins that are set alone
        hidden = learner.backbone.bins.shape[1]  # type: ignore[union-attr]
        work += 4 * hidden * (len(batch.inputs.bins) - batch.inputs.fingerprints().numel())  # type: ignore[attr-defined]
    row(
        f"ProtoNet meta-step, {backbone['name']}; torch_geometric an episode at a time",
        floor=lambda: products(work),
        molmeta=lambda: updated(learner, _gathered_anew(batch)),
        peer=by_episode,
    )


@pytest.mark.parametrize("peer", ["loop", "higher"])
def test_maml(row: Row, source: FSMol, peer: str) -> None:
    torch.manual_seed(0)
    batch, learner = drawn(source, 16), make_learner({"name": "maml"}, GRAPH)
    assert isinstance(learner, GradientLearner)
    episodes = list(batch.episodes())

    def functional() -> None:
        learner.zero_grad()
        for support, query in episodes:
            params = learner.initial(support)
            for _ in range(learner.config.inner_steps):
                loss = F.cross_entropy(learner.outputs(params, support.inputs), support.labels)
                grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
                params = {n: p - learner.config.inner_lr * g for (n, p), g in zip(params.items(), grads, strict=True)}
            loss = F.cross_entropy(learner.outputs(params, query.inputs), query.labels)
            (loss / len(episodes)).backward()  # type: ignore[no-untyped-call]

    # higher takes no abstract class, and of a class its forward alone.
    plain = type("Plain", (nn.Module,), {"forward": type(learner.backbone)._embed})()
    plain.__dict__.update(learner.backbone.__dict__)
    tied = nn.Sequential(plain, nn.Linear(learner.backbone.width, 2))

    def by_higher() -> None:
        higher = pytest.importorskip("higher")
        learner.zero_grad()
        with torch.no_grad():
            tied[1].weight.copy_(learner.head.weight.repeat(2, 1))
            tied[1].bias.copy_(learner.head.bias.repeat(2))
        optimiser = torch.optim.SGD(tied.parameters(), lr=learner.config.inner_lr)
        for support, query in episodes:
            with higher.innerloop_ctx(tied, optimiser, copy_initial_weights=False) as (model, inner):
                for _ in range(learner.config.inner_steps):
                    inner.step(F.cross_entropy(model(support.inputs), support.labels))
                (F.cross_entropy(model(query.inputs), query.labels) / len(episodes)).backward()  # type: ignore[no-untyped-call]

    expected = _gradient(learner, functional)
    torch.testing.assert_close(_gradient(learner, lambda: updated(learner, batch)), expected, rtol=1e-3, atol=1e-5)
    work = counted(lambda: updated(learner, batch))
    row(
        f"MAML meta-step, second order, gnn; {peer}",
        floor=lambda: products(work),
        molmeta=lambda: updated(learner, batch),
        peer={"loop": functional, "higher": by_higher}[peer],
        repeats=5,
    )


def _gradient(learner: Learner, step: Callable[[], None]) -> list[torch.Tensor]:
    step()
    return [p.grad.clone() for p in learner.parameters() if p.grad is not None]


def _gathered_anew(batch: EpisodeBatch) -> EpisodeBatch:
    """The same episodes, gathered from the molecules as a training step gathers them."""
    return batch.with_inputs(batch.inputs[torch.arange(len(batch.labels))])


def _data(molecule: MoleculeBatch) -> Data:
    """One molecule as a user of torch_geometric keeps it, its fingerprint beside it."""
    return Data(
        x=molecule.atoms,
        edge_index=molecule.bonds.T.contiguous(),
        edge_attr=molecule.bond_features,
        bins=molecule.bins,
        counts=molecule.counts,
        sizes=torch.tensor([[len(molecule.atoms), len(molecule.bonds), len(molecule.bins)]]),
    )


def _molecules(collated: Batch) -> MoleculeBatch:
    """A torch_geometric batch as the backbones read it: bonds' atoms are counted within the molecule again."""
    offsets = F.pad(collated.sizes.cumsum(0), (0, 0, 1, 0))
    start = torch.repeat_interleave(offsets[:-1, 0], collated.sizes[:, 1])
    return MoleculeBatch(
        atoms=collated.x,
        atom_offsets=offsets[:, 0],
        bonds=collated.edge_index.T - start[:, None],
        bond_features=collated.edge_attr,
        bond_offsets=offsets[:, 1],
        bins=collated.bins,
        counts=collated.counts,
        bin_offsets=offsets[:, 2].contiguous(),
    )
