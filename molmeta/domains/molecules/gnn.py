"""A message-passing network over molecular graphs, and its joint form with the fingerprint network.

Layer l:   h_v <- h_v + MLP_l( conv_l(norm(h))_v ),   conv one of
    gine   (1 + eps) h_v + sum_u relu(h_u + e_uv)              Hu et al., 2020, arXiv:1905.12265
    gatv2  attention over neighbours, edges in the score       Brody et al., 2022, arXiv:2105.14491
    pna    mean, max and deviation, scaled by degree           Corso et al., 2020, arXiv:2004.05718
Readout:   Linear([mean_v h_v, max_v h_v, sum_v h_v / 10])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GATv2Conv, PNAConv

from molmeta.core import stacked
from molmeta.core.backbone import Backbone
from molmeta.core.task import Inputs
from molmeta.domains.molecules.featurise import ATOM_SIZES, BOND_SIZES
from molmeta.domains.molecules.fingerprints import FingerprintConfig, FingerprintNet, append_counts, views_of
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.messages import GINE, Hop
from molmeta.domains.molecules.sparse import SparseRows, product

# Atoms by degree (0, 1, 2, 3, 4 and more) in FS-Mol's training molecules, in percent: PNA's degree scalers need it.
_DEGREE_HISTOGRAM = (0, 19, 45, 34, 2)
_CACHED = 128  # molecules at a time on a CPU: their states stay in its cache, 1.6 times faster than 679 at once
_SHARED = 1024  # molecules at a time where like atoms share their states: the more, the more is shared
_MAX = 2  # torch.embedding_bag's mode


@dataclass(frozen=True, kw_only=True, slots=True)
class GNNConfig:
    width: int = 256  # d, the embedding's width
    hidden: int = 128  # of a node's state
    layers: int = 4
    conv: Literal["gine", "gatv2", "pna"] = "gine"
    dropout: float = 0.1  # after each layer
    keep_counts: bool = False  # append the unit log-count fingerprint itself, as a second view


class GNN(Backbone):
    """Graphs of ``n`` molecules to ``[n, width]``; no batch statistics, so a row never depends on another."""

    Config = GNNConfig

    def __init__(self, config: GNNConfig) -> None:
        super().__init__()
        self.config = config
        self.views = views_of(config.width, config.keep_counts)
        self.width = sum(self.views)
        self.stacks = config.conv == "gine"
        h = config.hidden
        self.atom_embedding = Categories(ATOM_SIZES, h)
        self.bond_embeddings = nn.ModuleList(Categories(BOND_SIZES, h) for _ in range(config.layers))
        self.norms = nn.ModuleList(stacked.LayerNorm(h) for _ in range(config.layers + 1))
        self.convs = nn.ModuleList(_conv(config.conv, h) for _ in range(config.layers))
        self.mixes = nn.ModuleList(_mix(h) for _ in self.convs)
        self.dropout = nn.Dropout(config.dropout)
        self.readout = stacked.Linear(3 * h, config.width)
        self._axes = sum(weight.ndim for weight in self.parameters())

    def forward(self, inputs: Inputs) -> torch.Tensor:
        graphs = cast(MoleculeBatch, inputs)
        if graphs.atoms.device.type != "cpu" or self._has_groups():
            return self._embed(graphs, shared=False)
        # Atoms in like environments have one state, but for dropout.
        shared = self.stacks and not (self.training and self.config.dropout > 0)
        parts = -(-len(graphs) // (_SHARED if shared else _CACHED))
        if parts <= 1:
            return self._embed(graphs, shared)
        return torch.cat([self._embed(graphs[rows], shared) for rows in torch.arange(len(graphs)).chunk(parts)])

    def _has_groups(self) -> bool:
        """Whether some weights are those of many tasks, an axis more."""
        return sum(weight.ndim for weight in self.parameters()) > self._axes

    def _embed(self, graphs: MoleculeBatch, shared: bool) -> torch.Tensor:
        depth = self.config.layers
        if shared:
            known = graphs.environments
            atoms, bonds, hops, of_atoms = known.atoms, known.bonds, known.hops(depth), known.of_atoms(depth)
        else:
            hop = Hop.along(graphs.edge_index(), len(graphs.atoms))
            atoms, bonds, hops = graphs.atoms, graphs.bond_features, [hop] * depth
            of_atoms = torch.arange(len(atoms), device=atoms.device)
        h = self.atom_embedding(atoms)
        for table, norm, conv, mix, hop in zip(
            self.bond_embeddings, self.norms, self.convs, self.mixes, hops, strict=False
        ):
            h = hop.centred(h) + self.dropout(mix(conv(norm(h), hop, table(bonds))))
        states = SparseRows(None, of_atoms, graphs.atom_offsets, len(h))
        embedding: torch.Tensor = self.readout(_pool(states, F.relu(self.norms[-1](h))))
        return append_counts(embedding, graphs) if self.config.keep_counts else embedding


class Categories(nn.Module):
    """The sum of one learned vector for each categorical feature, as one product with a multi-hot matrix.

    (A matrix product is twice differentiable and, for tables this small, faster than a gather a feature.)
    """

    shift: torch.Tensor

    def __init__(self, sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("shift", starts, persistent=False)
        self.table = nn.Parameter(torch.randn(sum(sizes), width) / len(sizes) ** 0.5)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hot = torch.zeros(len(features), self.table.shape[-2], dtype=self.table.dtype, device=features.device)
        return stacked.matmul(hot.scatter_(1, features.long() + self.shift, 1.0), self.table)


def _mix(h: int) -> nn.Module:
    return nn.Sequential(stacked.Linear(h, h), nn.ReLU(), stacked.Linear(h, h))


class _Attention(GATv2Conv):  # type: ignore[misc]
    def forward(self, nodes: torch.Tensor, hop: Hop, bonds: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = super().forward(nodes, hop.edges(), product(hop.bond, bonds))
        return attended


class _Aggregates(PNAConv):  # type: ignore[misc]
    def forward(self, nodes: torch.Tensor, hop: Hop, bonds: torch.Tensor) -> torch.Tensor:
        aggregated: torch.Tensor = super().forward(nodes, hop.edges(), product(hop.bond, bonds))
        return aggregated


def _conv(name: str, h: int) -> nn.Module:
    if name == "gine":
        return GINE()
    if name == "gatv2":
        return _Attention(h, h // 4, heads=4, edge_dim=h)
    degrees = torch.tensor(_DEGREE_HISTOGRAM)
    scalers = ["identity", "amplification"]
    return _Aggregates(h, h, ["mean", "max", "std"], scalers, degrees, edge_dim=h, towers=4)


def _pool(atoms: SparseRows, h: torch.Tensor) -> torch.Tensor:
    """``[n, 3 h]`` mean, maximum and a tenth of the sum of the states ``[m, h]`` of each molecule's ``atoms``."""
    total, count = product(atoms, h), atoms.offsets.diff()[:, None]
    with torch.no_grad():
        place = torch.embedding_bag(h, atoms.columns, atoms.offsets, False, _MAX, False, None, True)[3]
    # A molecule without atoms has no largest state: 0, as its sum.
    largest = h.gather(0, place.clamp(min=0)) * (count > 0)
    return torch.cat([total / count.clamp(min=1), largest, total / 10], dim=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class JointConfig:
    width: int = 512  # d, the embedding's width
    gnn: GNNConfig = field(default_factory=GNNConfig)
    fingerprint: FingerprintConfig = field(default_factory=FingerprintConfig)
    keep_counts: bool = False  # append the unit log-count fingerprint itself, as a second view


class Joint(Backbone):
    """Both views: ``[GNN(graph), MLP(fingerprint)]`` -> ReLU -> Linear -> ``[n, width]``."""

    Config = JointConfig

    def __init__(self, config: JointConfig) -> None:
        super().__init__()
        self.config = config
        self.views = views_of(config.width, config.keep_counts)
        self.width = sum(self.views)
        self.gnn = GNN(config.gnn)
        self.fingerprint = FingerprintNet(config.fingerprint)
        both = self.gnn.width + self.fingerprint.width
        self.join = nn.Sequential(nn.ReLU(), nn.Dropout(config.gnn.dropout), nn.Linear(both, config.width))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        embedding: torch.Tensor = self.join(torch.cat([self.gnn(inputs), self.fingerprint(inputs)], dim=1))
        return append_counts(embedding, inputs) if self.config.keep_counts else embedding
