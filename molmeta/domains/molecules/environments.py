"""The atoms that message passing cannot tell apart, so that each state is computed once.

Two atoms whose surroundings of radius r are alike, as trees of what r rounds of messages carry (Weisfeiler and Lehman's
refinement), have the same state after r rounds, and the same gradient flows through it. The molecules of an assay
share most of theirs: 768 molecules of 20,374 atoms have 62 kinds of atom, 1,107 environments of radius 1, 3,963 of
radius 2, 6,625 and 8,135. Environments are told apart by sums of 64-bit hashes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from molmeta.domains.molecules.hashing import mixed
from molmeta.domains.molecules.messages import Hop
from molmeta.domains.molecules.sparse import SparseRows


class Environments:
    """The environments in some molecules, radius by radius, as far as is asked.

    Args:
        atoms: ``[atoms, 8]`` uint8.
        bonds: ``[bonds, 4]`` uint8.
        edges: ``[2, 2 * bonds]`` sender and receiver: every bond forward, then every bond backward.

    Attributes:
        atoms: ``[n_0, 8]`` the kinds of atom: the environments of radius 0.
        bonds: ``[k, 4]`` the kinds of bond.
    """

    def __init__(self, atoms: torch.Tensor, bonds: torch.Tensor, edges: torch.Tensor) -> None:
        first, number = _numbered(_packed(atoms))
        kinds, kind = _numbered(_packed(bonds))
        self.atoms, self.bonds = atoms[first], bonds[kinds]
        # Edges by receiver: so are those of any choice of receivers.
        order = SparseRows(None, edges[1], None, len(atoms)).transposed.columns
        self._sender, self._receiver, self._kind = edges[0][order], edges[1][order], kind.repeat(2)[order]
        # By radius. Two threads may find the same at once, and then find the same.
        self._numbers, self._sizes = {0: number}, {0: len(first)}
        self._hops: dict[int, Hop] = {}

    def hops(self, rounds: int) -> list[Hop]:
        """What each of so many rounds passes on: the environments of radius r to those of r + 1."""
        for radius in range(len(self._hops), rounds):
            self._grow(radius)
        return [self._hops[radius] for radius in range(rounds)]

    def of_atoms(self, radius: int) -> torch.Tensor:
        """``[atoms]`` which environment of ``radius`` each atom is in the middle of."""
        self.hops(radius)
        return self._numbers[radius]

    def _grow(self, radius: int) -> None:
        number, before, kinds = self._numbers[radius], self._sizes[radius], len(self.bonds)
        heard = number[self._sender] * kinds + self._kind
        # What is mixed is never 0, which mixes to 0; and an atom's own number is never one that it hears.
        around = mixed(~number).index_add_(0, self._receiver, mixed(heard + 1))
        first, larger = _numbered(around)
        self._numbers[radius + 1], self._sizes[radius + 1] = larger, len(first)
        # One atom stands for all of an environment; its messages, each distinct one once.
        stands = torch.zeros_like(number, dtype=torch.bool).index_fill_(0, first, True)
        edges = stands[self._receiver].nonzero()[:, 0]
        heard, hearing = heard[edges], larger[self._receiver[edges]]
        distinct, message = _numbered(heard)
        messages = heard[distinct]
        offsets = F.pad(torch.bincount(hearing, minlength=len(first)).cumsum(0), (1, 0))
        self._hops[radius] = Hop(
            SparseRows(None, number[first], None, before),
            SparseRows(None, messages // kinds, None, before),
            SparseRows(None, messages % kinds, None, kinds),
            SparseRows(None, message, offsets, len(messages)),
        )


def _packed(features: torch.Tensor) -> torch.Tensor:
    """``[n]`` each row of at most 8 bytes as one number."""
    shifts = 8 * torch.arange(features.shape[1], device=features.device)
    return (features.long() << shifts).sum(1)


def _numbered(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``[distinct]`` the first row of each key, ascending, and ``[n]`` which of them each row has."""
    import pandas as pd  # 60 MB, which only graph networks need

    number, _ = pd.factorize(keys.numpy())  # by hashing, in the order of appearance: 8 times as fast as a sort
    first = np.flatnonzero(np.diff(np.maximum.accumulate(number), prepend=-1))
    return torch.from_numpy(first), torch.from_numpy(number)
