"""What the training assays measured of a molecule, as views beside its structure.

    a_i [T]            label - share of actives, for each of T training assays; 0 where molecule i was not measured
    p_i = V' a_i [k]   V: the leading right singular vectors of all molecules' a
    r_i = sum(a_i) / (n_i + 2)   how much oftener than others i is active, in n_i measurements
    w_b = (-log f_b)^rarity      how much bin b of a structure counts; f_b: the share of molecules that have it

Many assays measure the same compounds: a panel of kinases, a set of known drugs. What other assays said of a compound
then tells more than its structure. A molecule that no training assay measured has p = 0 and r = 0.

A molecule is known by a hash of its count fingerprint, so that stereoisomers are one. No episode may see its own
labels: a trainer has half of the assays read while it draws episodes from the others (``recipe.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd
from torch.nn import functional as F

from molmeta.core.backbone import Backbone
from molmeta.core.task import Inputs, IntArray, Task, TaskSource
from molmeta.domains.molecules.featurise import FINGERPRINT_BINS
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.properties import WIDTH, Properties
from molmeta.domains.molecules.substructures import SUBSTRUCTURES, counted, write_unit_logs
from molmeta.domains.molecules.towers import Towers
from molmeta.errors import ConfigError

_BLOCK = 8192  # molecules hashed at once
_SAMPLE = 20_000  # molecules that properties are fitted to
_BUFFERS = ("keys", "lengths", "entries", "shares", "directions")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfilesConfig:
    width: int = 64  # k
    described: int = 0  # width of the towers that read a description of the assay; 0: none is read
    rarity: float = 0.25  # how much more a substructure counts that few molecules have; 0: all count alike
    structures: tuple[str, ...] = ("morgan",)  # of SUBSTRUCTURES, the fingerprint first; others need the graphs
    properties: float = 0.2  # share of the whole molecule's properties in the similarity of structures; 0: none

    def __post_init__(self) -> None:
        if self.structures[:1] != ("morgan",) or len(set(self.structures) & set(SUBSTRUCTURES)) < len(self.structures):
            raise ConfigError(
                f"[backbone].structures are morgan and then any others of {', '.join(SUBSTRUCTURES)}, each once, "
                f"not {list(self.structures)}"
            )
        if self.width < 1 or min(self.described, self.rarity) < 0 or not 0 <= self.properties < 1:
            raise ConfigError(
                f"[backbone]: width is 1 or more, described and rarity are 0 or more, properties is below 1, not {self}"
            )


class Profiles(Backbone):
    """``[n, 2 + k + (2048 s + 27) + (1 + d)]``: rate, profile, structure, and (u_0, u) of towers d wide, if any.

    The rate is a point on the unit circle (at an angle of pi r, within a right angle); the profile has unit length (or
    is 0), and so has the structure: the weighted log counts of s kinds of substructure, each as much as the others, and
    the properties of the whole molecule; their cosine is the mean of s + 1 cosines, weighted.

    Attributes:
        keys: ``[b]`` sorted, of the molecules that were measured (see :func:`fingerprint_keys`).
        lengths: ``[b]`` int16, how many assays measured each.
        entries: ``[sum of lengths]`` int16, twice the assay's number, and 1 more where it found the molecule active.
        shares: ``[T]`` each assay's share of actives.
        directions: ``[T, k]`` V.
        weights: ``[s, 2048]`` w.
        properties: of the whole molecule; None where they have no share.
        towers: how likely a fingerprint is active in an assay that is only described; None where none is read.
    """

    Config = ProfilesConfig
    keys: torch.Tensor
    lengths: torch.Tensor
    entries: torch.Tensor
    shares: torch.Tensor
    directions: torch.Tensor
    weights: torch.Tensor

    def __init__(self, config: ProfilesConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ProfilesConfig()
        self.register_buffer("keys", torch.zeros(0, dtype=torch.int64))
        for name in ("lengths", "entries"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int16))
        self.register_buffer("shares", torch.zeros(0))
        self.register_buffer("directions", torch.zeros(0, config.width))
        self.register_buffer("weights", torch.ones(len(config.structures), FINGERPRINT_BINS))
        self.properties = Properties() if config.properties else None
        self.towers = Towers(config.described) if config.described else None

    @property
    def views(self) -> tuple[int, ...]:  # type: ignore[override]
        structure = FINGERPRINT_BINS * len(self.config.structures) + (WIDTH if self.config.properties else 0)
        return 2, self.config.width, structure, *((1 + self.config.described,) if self.towers is not None else ())

    @property
    def reads_graphs(self) -> bool:
        return self.config.structures != ("morgan",)

    @property
    def width(self) -> int:  # type: ignore[override]
        return sum(self.views)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        molecules = cast(MoleculeBatch, inputs)
        views = torch.zeros(len(molecules), self.width, device=molecules.counts.device)
        rate, profile, structure, *said = torch.split(views, list(self.views), dim=1)
        row, assay, active = self._known(fingerprint_keys(molecules))
        residual = active.to(views.dtype) - self.shares.to(views.dtype)[assay]
        profile.index_add_(0, row, residual[:, None] * self.directions.to(views.dtype)[assay])
        profile.copy_(F.normalize(profile, dim=1))
        measured = torch.bincount(row, minlength=len(views))
        angle = torch.pi * (views.new_zeros(len(views)).index_add_(0, row, residual) / (measured + 2)).clamp(-0.5, 0.5)
        rate.copy_(torch.stack([angle.sin(), angle.cos()], dim=1))
        if self.towers is not None:
            said[0].copy_(self.towers.molecules(molecules))
        if self.properties is not None:
            structure[:, -WIDTH:] = self.config.properties**0.5 * self.properties(molecules)
        start, length = sum(self.views[:2]), ((1 - self.config.properties) / len(self.weights)) ** 0.5
        for name, weights in zip(self.config.structures, self.weights.to(views.dtype), strict=True):
            write_unit_logs(SUBSTRUCTURES[name](molecules), weights, views, start, length)
            start += FINGERPRINT_BINS
        return views

    def _known(self, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What was measured of ``keys [n]``: row among them, assay, and whether active, ``[e]`` each."""
        if not len(self.keys):
            return (keys.new_zeros(0),) * 3
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        lengths = self.lengths.long()
        count = torch.where(self.keys[place] == keys, lengths[place], 0)
        row = torch.repeat_interleave(torch.arange(len(keys), device=keys.device), count)
        within = torch.arange(len(row), device=keys.device) - (count.cumsum(0) - count)[row]
        entry = self.entries[(lengths.cumsum(0) - lengths)[place][row] + within].long()
        return row, entry // 2, entry % 2

    def read(self, source: TaskSource, tasks: Sequence[Task]) -> None:
        """Take from binary ``tasks`` of ``source`` what they say of their molecules; replaces what was read before."""
        rows = np.unique(np.concatenate([task.rows for task in tasks]))
        keys, labels = _label_table(source, tasks, rows)
        shares = np.array([task.labels.mean() for task in tasks])
        residuals = labels.copy()
        residuals.data = (labels.data > 0) - shares[labels.indices]
        k = min(self.config.width, min(labels.shape) - 1)
        right = randomized_svd(residuals, k, random_state=0)[2] if k else np.zeros((0, len(tasks)))  # a single assay
        made: tuple[np.ndarray[Any, Any], ...] = (
            keys,
            np.diff(labels.indptr).astype(np.int16),
            (2 * labels.indices + (labels.data > 0)).astype(np.int16 if len(tasks) < 2**14 else np.int32),
            shares.astype(np.float32),
            np.pad(right.T, ((0, 0), (0, self.config.width - k))).astype(np.float32),
        )
        for name, array in zip(_BUFFERS, made, strict=True):
            setattr(self, name, torch.from_numpy(np.ascontiguousarray(array)).to(self.keys.device))
        self.weights = self._rarities(source, rows).to(self.weights)
        if self.properties is not None:
            some = rows[:: -(-len(rows) // _SAMPLE)]
            self.properties.fit(cast(MoleculeBatch, source.gather(some)))
        if self.towers is not None:
            self.towers.fit(source, tasks)

    def _rarities(self, source: TaskSource, rows: IntArray) -> torch.Tensor:
        """``[s, 2048]`` w, of the molecules in ``rows``."""
        having = torch.zeros(self.weights.shape, dtype=torch.float64)
        for molecules in _blocks(source, rows):
            for kind, name in enumerate(self.config.structures):
                having[kind] += (counted(molecules, name) > 0).sum(0)
        return (-((having + 0.5) / (len(rows) + 1)).log()).pow(self.config.rarity)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """How much was read is told by what is loaded."""
        for name in _BUFFERS:
            if prefix + name in state:
                setattr(self, name, torch.empty_like(state[prefix + name], device=self.keys.device))
        super()._load_from_state_dict(state, prefix, *rest)


def fingerprint_keys(molecules: MoleculeBatch) -> torch.Tensor:
    """``[n]`` int64: a linear hash of each count fingerprint, modulo 2^64."""
    row = torch.repeat_interleave(
        torch.arange(len(molecules), device=molecules.bins.device), molecules.bin_offsets.diff()
    )
    terms = _multipliers().to(row.device)[molecules.bins.long()] * molecules.counts.long()
    return torch.zeros(len(molecules), dtype=torch.int64, device=row.device).index_add(0, row, terms)


def _multipliers() -> torch.Tensor:
    """``[2048]`` numbers drawn at random once, the same everywhere."""
    return torch.from_numpy(np.random.default_rng(20161).integers(-(2**63), 2**63, FINGERPRINT_BINS, dtype=np.int64))


def _blocks(source: TaskSource, rows: IntArray) -> Iterator[MoleculeBatch]:
    for start in range(0, len(rows), _BLOCK):
        yield cast(MoleculeBatch, source.gather(rows[start : start + _BLOCK]))


def _label_table(source: TaskSource, tasks: Sequence[Task], rows: IntArray) -> tuple[NDArray[np.int64], sp.csr_matrix]:
    """Keys ``[b]`` of the tasks' ``rows``, sorted; and ``[b, T]`` 1 where a task finds one active, -1 inactive.

    A molecule that a task says both of equally often counts as not measured.
    """
    hashed = np.concatenate([fingerprint_keys(molecules).numpy() for molecules in _blocks(source, rows)])
    keys, of_row = np.unique(hashed, return_inverse=True)
    molecule = np.concatenate([of_row[np.searchsorted(rows, task.rows)] for task in tasks])
    assay = np.repeat(np.arange(len(tasks)), [len(task) for task in tasks])
    signs = np.concatenate([2.0 * task.labels - 1 for task in tasks])
    table = sp.csr_matrix((signs, (molecule, assay)), shape=(len(keys), len(tasks)))  # repeated entries are added up
    table.data = np.sign(table.data)
    table.eliminate_zeros()
    table.sort_indices()
    return keys, table
