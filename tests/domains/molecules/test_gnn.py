from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from rdkit import Chem
from torch.nn import functional as F

from molmeta.core.backbone import Backbone
from molmeta.domains.molecules import gnn
from molmeta.domains.molecules.featurise import ATOM_SIZES, featurise
from molmeta.domains.molecules.fingerprints import FingerprintConfig, FingerprintNet
from molmeta.domains.molecules.gnn import GNN, Categories, GNNConfig, Joint, JointConfig
from molmeta.domains.molecules.inputs import MoleculeBatch
from tests.bundles import DRUGS

pytestmark = pytest.mark.usefixtures("float64")

SMALL_GNN = GNNConfig(width=6, hidden=8, layers=2)
SMALL_MLP = FingerprintConfig(width=5, hidden=8)
MAKERS: dict[str, Callable[[], Backbone]] = {
    "gine": lambda: GNN(SMALL_GNN),
    "gatv2": lambda: GNN(GNNConfig(width=6, hidden=8, layers=2, conv="gatv2")),
    "pna": lambda: GNN(GNNConfig(width=6, hidden=8, layers=2, conv="pna")),
    "fingerprint": lambda: FingerprintNet(SMALL_MLP),
    "fingerprint with counts": lambda: FingerprintNet(FingerprintConfig(width=5, hidden=8, keep_counts=True)),
    "joint": lambda: Joint(JointConfig(width=7, gnn=SMALL_GNN, fingerprint=SMALL_MLP)),
    "joint with counts": lambda: Joint(JointConfig(width=7, gnn=SMALL_GNN, fingerprint=SMALL_MLP, keep_counts=True)),
}
STEREO = [
    "N[C@@H](C)C(=O)O",
    "C[C@H](O)[C@@H](N)C(=O)O",
    "C/C=C\\[C@H](F)Cl",
    "O[C@H]1CC[C@@H](N)CC1",
    "C[C@]12CCC[C@H]1CCC2=O",
]


def inputs(smiles: list[str]) -> MoleculeBatch:
    done = featurise(smiles)
    assert done.valid.all(), done.reasons
    return MoleculeBatch.of(done.arrays)


@pytest.fixture(params=MAKERS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return MAKERS[request.param]().eval()


@torch.no_grad()
def test_an_embedding_does_not_depend_on_the_order_of_the_atoms(backbone: Backbone) -> None:
    shuffled = []
    texts = [*DRUGS, *STEREO]
    for seed, text in enumerate(texts):
        known = Chem.MolFromSmiles(text)
        order = torch.randperm(known.GetNumAtoms(), generator=torch.Generator().manual_seed(seed)).tolist()
        shuffled.append(Chem.MolToSmiles(Chem.RenumberAtoms(known, order), canonical=False))
    assert sum(a != b for a, b in zip(shuffled, texts, strict=True)) > 12
    torch.testing.assert_close(backbone(inputs(shuffled)), backbone(inputs(texts)), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_molecule_alone_equals_its_row_in_a_batch_one_atom_and_200_atoms_among_them(backbone: Backbone) -> None:
    texts = ["C", *DRUGS, "C" * 200, "[Na+].[Cl-]"]
    together = backbone(inputs(texts))
    assert together.shape == (len(texts), backbone.width)
    assert torch.isfinite(together).all()
    for i, text in enumerate(texts):
        torch.testing.assert_close(backbone(inputs([text]))[0], together[i], rtol=1e-9, atol=1e-10)


@torch.no_grad()
def test_different_molecules_have_different_embeddings(backbone: Backbone) -> None:
    embedding = backbone(inputs(DRUGS))
    assert torch.cdist(embedding, embedding).add(torch.eye(len(DRUGS))).min() > 1e-4


def test_the_views_of_an_embedding_sum_to_its_width(backbone: Backbone) -> None:
    assert sum(backbone.views) == backbone.width == backbone(inputs(DRUGS[:2])).shape[1]


def test_every_parameter_has_a_gradient(backbone: Backbone) -> None:
    backbone(inputs([*DRUGS, "C"])).square().sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["gine", "gatv2", "pna", "joint"])
@torch.no_grad()
def test_a_graph_backbone_tells_stereoisomers_apart(name: str) -> None:
    torch.manual_seed(0)
    texts = ["C/C=C/C(=O)N[C@@H](C)O", "C/C=C\\C(=O)N[C@@H](C)O", "C/C=C/C(=O)N[C@H](C)O"]
    embedding = MAKERS[name]().eval()(inputs(texts))
    assert torch.pdist(embedding, p=torch.inf).min() > 1e-4


@torch.no_grad()
def test_the_second_view_is_the_unit_log_count_fingerprint() -> None:
    batch = inputs(DRUGS)
    for name in ("joint with counts", "fingerprint with counts"):
        backbone = MAKERS[name]().eval()
        view = backbone(batch).split(backbone.views, dim=1)[1]
        expected = torch.log(1 + batch.fingerprints(torch.float64))
        torch.testing.assert_close(view, expected / expected.norm(dim=1, keepdim=True))


@torch.no_grad()
def test_gine_equals_its_formula_written_as_a_loop_over_atoms() -> None:
    torch.manual_seed(0)
    model = GNN(GNNConfig(width=6, hidden=8, layers=1)).eval()
    batch = inputs(["CC(=O)Oc1ccccc1C(=O)O"])
    mix, conv, norm = model.mixes[0], model.convs[0], model.norms[0]
    h = model.atom_embedding(batch.atoms)
    edges = model.bond_embeddings[0](batch.bond_features)
    new = []
    for v in range(len(h)):
        total = (1 + conv.eps) * norm(h)[v]
        for (a, b), edge in zip(batch.bonds.tolist(), edges, strict=True):
            if v in (a, b):
                total = total + F.relu(norm(h)[b if v == a else a] + edge)
        new.append(h[v] + mix(total))
    states = F.relu(model.norms[1](torch.stack(new)))
    pooled = torch.cat([states.mean(0), states.amax(0), states.sum(0) / 10])
    torch.testing.assert_close(model(batch)[0], model.readout(pooled), rtol=1e-9, atol=1e-9)


def test_categories_sum_one_row_a_feature() -> None:
    table = Categories(ATOM_SIZES, 3)
    features = inputs(DRUGS).atoms
    naive = []
    for row in features.tolist():
        start, total = 0, torch.zeros(3)
        for size, value in zip(ATOM_SIZES, row, strict=True):
            total = total + table.table[start + value]
            start += size
        naive.append(total)
    torch.testing.assert_close(table(features), torch.stack(naive))


def test_dropout_is_off_in_evaluation_and_on_in_training(backbone: Backbone) -> None:
    batch = inputs(DRUGS)
    assert torch.equal(backbone(batch), backbone(batch))
    backbone.train()
    assert not torch.equal(backbone(batch), backbone(batch))


def test_many_molecules_are_embedded_in_parts_as_at_once(float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    network = gnn.GNN(gnn.GNNConfig(width=5, hidden=8, layers=2, dropout=0.0))
    molecules = MoleculeBatch.of(featurise(["CCO", "O", "c1ccccc1O", "CC(=O)N", "C"]).arrays)
    at_once = network(molecules)
    monkeypatch.setattr(gnn, "_CACHED", 2)
    torch.testing.assert_close(network(molecules), at_once)
