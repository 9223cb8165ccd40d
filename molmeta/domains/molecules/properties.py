"""What a molecule is as a whole: its atoms by kind, and how its graph is shaped; read from the count fingerprint alone.

    y = atoms of 16 kinds; chi_0, chi_1, with and without valences; kappa_1..3; paths of two and three bonds; rings
    z = clip(W c + b, -4, 4)     c [2048]: the counts; W, b: ridge regression of y, standardised, on c

The cosine of two fingerprints compares proportions: a fragment is like the molecule twice its size. These 26 numbers
say how large it is and what it is made of. The connectivity indices are Randic's (1975) and Kier and Hall's (1976), the
shape indices Kier's (1985), without his correction for hybridisation and the third as for an odd number of atoms; rings
are bonds - atoms + 1. They need the graph, of which the fingerprint has counted every environment: a linear function of
its counts explains .94 to 1 of the variance of each, and makes as good a view. So a graph is needed to fit W, and none
to use it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from molmeta.domains.molecules.featurise import FINGERPRINT_BINS
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.sparse import SparseRows

NUMBER = 26
WIDTH = NUMBER + 1
_LIMIT = 4.0  # standard deviations
_CONSTANT = 0.75 * NUMBER**0.5  # beside z, so that the cosine of two usual molecules is not that of directions alone
_SP3 = 4  # RDKit's number
_ELECTRONS = {5: 3, 6: 4, 7: 5, 8: 6, 9: 7, 14: 4, 15: 5, 16: 6, 17: 7, 34: 6, 35: 7, 53: 7}  # of valence


def properties(molecules: MoleculeBatch) -> torch.Tensor:
    """``[n, 26]`` y, from the graphs."""
    return torch.cat([_atoms(molecules), _shape(molecules)], dim=1)


def _atoms(molecules: MoleculeBatch) -> torch.Tensor:
    """``[n, 16]`` how many atoms are of each kind; all of them first."""
    number, _, degree, charge, hydrogens, hybridisation, aromatic, ring = molecules.atoms.long().unbind(1)
    nitrogen, oxygen, charge = number == 7, number == 8, charge - 5
    saturated = (number == 6) & (hybridisation == _SP3)
    kinds = (
        number > 0,
        nitrogen,
        oxygen,
        number == 16,
        number == 9,
        torch.isin(number, number.new_tensor([9, 17, 35, 53])),
        aromatic > 0,
        ring > 0,
        (nitrogen | oxygen) & (hydrogens > 0),  # gives a hydrogen bond
        oxygen | nitrogen & (hydrogens == 0) & (degree < 3),  # takes one
        charge > 0,
        charge < 0,
        saturated,
        degree == 1,
        degree >= 3,
        saturated & (hydrogens > 0) & (ring == 0),
    )
    return _sums(molecules.molecule_of_atom(), torch.stack(kinds, dim=1), len(molecules))


def _shape(molecules: MoleculeBatch) -> torch.Tensor:
    """``[n, 10]`` connectivity and shape indices, roots of the numbers of paths, and rings."""
    number, _, degree, _, hydrogens, _, _, _ = molecules.atoms.long().unbind(1)
    electrons = torch.zeros(256, dtype=torch.int64, device=number.device)
    electrons[list(_ELECTRONS)] = torch.tensor(list(_ELECTRONS.values()), device=number.device)
    degrees = torch.stack([degree, electrons[number] - hydrogens], dim=1).clamp(min=1).float()  # plain; of valence
    begin, end = molecules.edge_index()[:, : len(molecules.bonds)]
    row, n = molecules.molecule_of_atom(), len(molecules)
    chi_0, chi_1 = _sums(row, degrees**-0.5, n), _sums(row[begin], (degrees[begin] * degrees[end]) ** -0.5, n)
    atoms = torch.bincount(row, minlength=n).float()
    bonds = torch.bincount(row[begin], minlength=n).float()
    twos = _sums(row, degree * (degree - 1) / 2, n)
    threes = _sums(row[begin], (degree[begin] - 1) * (degree[end] - 1), n)
    kappa = [
        (atoms - min(k, 2) + 1) * (atoms - k) ** 2 / paths.clamp(min=1) ** 2
        for k, paths in ((1, bonds), (2, twos), (3, threes))
    ]
    rings = (bonds - atoms + 1).clamp(min=0)
    return torch.cat([chi_0, chi_1, torch.stack([*kappa, twos.sqrt(), threes.sqrt(), rings], dim=1)], dim=1)


def _sums(row: torch.Tensor, values: torch.Tensor, n: int) -> torch.Tensor:
    """``[n, ...]`` sums of the ``values [e, ...]`` that stand in each ``row [e]``."""
    values = values.float()
    return values.new_zeros(n, *values.shape[1:]).index_add_(0, row, values)


class Properties(nn.Module):
    """``[n, 27]`` z and a constant, of unit length together.

    Attributes:
        weight: ``[2048, 26]`` W.
        bias: ``[26]`` b.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(FINGERPRINT_BINS, NUMBER))
        self.register_buffer("bias", torch.zeros(NUMBER))

    def forward(self, molecules: MoleculeBatch) -> torch.Tensor:
        counts = molecules.counts.to(self.weight.dtype)
        rows = SparseRows(counts, molecules.bins, molecules.bin_offsets, FINGERPRINT_BINS)
        z = (rows.times(self.weight) + self.bias).clamp(-_LIMIT, _LIMIT)
        return F.normalize(F.pad(z, (0, 1), value=_CONSTANT), dim=1)

    def fit(self, molecules: MoleculeBatch) -> None:
        """Fit W and b to molecules with their graphs."""
        from sklearn.linear_model import Ridge

        y = properties(molecules).double().cpu().numpy()
        y = (y - y.mean(0)) / np.maximum(y.std(0), 1e-6)
        found = Ridge().fit(molecules.fingerprints().cpu().numpy(), y.astype(np.float32))
        self.weight = torch.from_numpy(found.coef_.T).to(self.weight).contiguous()
        self.bias = torch.from_numpy(np.asarray(found.intercept_)).to(self.bias)
