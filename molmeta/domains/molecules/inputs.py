"""MoleculeBatch: molecules as tensors, in the flat layout of the store."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional as F

from molmeta.domains.molecules.environments import Environments
from molmeta.domains.molecules.featurise import FINGERPRINT_BINS, MoleculeArrays


@dataclass(frozen=True, eq=False)
class MoleculeBatch:
    """``n`` molecules as model inputs; the fields are those of :class:`MoleculeArrays`, as tensors.

    Attributes:
        atoms: ``[atoms, 8]`` uint8.
        atom_offsets: ``[n + 1]`` int64.
        bonds: ``[bonds, 2]`` int64, atoms counted within the molecule.
        bond_features: ``[bonds, 4]`` uint8.
        bond_offsets: ``[n + 1]`` int64.
        bins: ``[entries]`` int64.
        counts: ``[entries]`` uint8.
        bin_offsets: ``[n + 1]`` int64.
    """

    atoms: torch.Tensor
    atom_offsets: torch.Tensor
    bonds: torch.Tensor
    bond_features: torch.Tensor
    bond_offsets: torch.Tensor
    bins: torch.Tensor
    counts: torch.Tensor
    bin_offsets: torch.Tensor

    @classmethod
    def of(cls, arrays: MoleculeArrays, copy: bool = True) -> MoleculeBatch:
        """Tensors over the same molecules; without ``copy`` they share the arrays' memory where their types agree."""
        wide = {"bonds": np.int64, "bins": np.int64}  # torch cannot index with uint16
        columns = {column.name: getattr(arrays, column.name) for column in fields(cls)}
        return cls(
            **{
                name: torch.from_numpy(array.astype(wide.get(name, array.dtype), copy=copy))
                for name, array in columns.items()
            }
        )

    def __len__(self) -> int:
        return len(self.atom_offsets) - 1

    def __getitem__(self, rows: torch.Tensor) -> MoleculeBatch:
        if rows.dtype == torch.bool:
            rows = torch.nonzero(rows).flatten()
        atom, atom_offsets = _ragged(self.atom_offsets, rows)
        bond, bond_offsets = _ragged(self.bond_offsets, rows)
        entry, bin_offsets = _ragged(self.bin_offsets, rows)
        return MoleculeBatch(
            atoms=self.atoms[atom],
            atom_offsets=atom_offsets,
            bonds=self.bonds[bond],
            bond_features=self.bond_features[bond],
            bond_offsets=bond_offsets,
            bins=self.bins[entry],
            counts=self.counts[entry],
            bin_offsets=bin_offsets,
        )

    def in_equal_groups(self, rows: torch.Tensor, mask: torch.Tensor) -> MoleculeBatch:
        """``t`` groups of ``n`` molecules, as many atoms and bonds in each.

        A group's first empty place gets a made molecule, of the atoms and bonds that it lacks; the others stay empty.

        Args:
            rows: ``[t, n]`` which molecule stands where.
            mask: ``[t, n]`` False where the place is empty: a group's last ones, one at least.
        """
        chosen, places = self[rows[mask]], mask.flatten().nonzero().flatten()
        spare = torch.arange(len(mask), device=mask.device) * mask.shape[1] + mask.sum(1)
        counts = {}
        for name, least in (("atom", 1), ("bond", 0), ("bin", 0)):
            of_place = mask.new_zeros(mask.numel(), dtype=torch.int64)
            of_place[places] = getattr(chosen, f"{name}_offsets").diff()
            of_group = of_place.view(mask.shape).sum(1)
            if name != "bin":
                of_place[spare] = of_group.amax() + least - of_group
            counts[name] = of_place
        offsets = {f"{name}_offsets": F.pad(of_place.cumsum(0), (1, 0)) for name, of_place in counts.items()}
        atom, bond = (
            _ragged(offsets[f"{name}_offsets"], places)[0] for name in ("atom", "bond")
        )  # where the chosen molecules' own atoms and bonds stand
        sizes = int(offsets["atom_offsets"][-1]), int(offsets["bond_offsets"][-1])
        return MoleculeBatch(
            atoms=_spread(chosen.atoms, atom, sizes[0]),
            bonds=_spread(chosen.bonds, bond, sizes[1]),
            bond_features=_spread(chosen.bond_features, bond, sizes[1]),
            bins=chosen.bins,
            counts=chosen.counts,
            **offsets,
        )

    def to(self, device: torch.device | str) -> MoleculeBatch:
        return MoleculeBatch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})

    def molecule_of_atom(self) -> torch.Tensor:
        """``[atoms]`` the row that each atom belongs to."""
        return _row_of_entry(self.atom_offsets)

    def edge_index(self) -> torch.Tensor:
        """``[2, 2 * bonds]`` both directions of every bond (all forward, then all backward), atoms counted over the
        batch."""
        shift = self.atom_offsets[_row_of_entry(self.bond_offsets)]
        begin, end = (self.bonds + shift[:, None]).unbind(1)
        return torch.stack([torch.cat([begin, end]), torch.cat([end, begin])])

    @cached_property
    def environments(self) -> Environments:
        """The environments that atoms share, for networks that compute each once."""
        return Environments(self.atoms, self.bond_features, self.edge_index())

    def fingerprints(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """``[n, 2048]`` the counts."""
        dense = torch.zeros(len(self), FINGERPRINT_BINS, dtype=dtype, device=self.counts.device)
        dense[_row_of_entry(self.bin_offsets), self.bins] = self.counts.to(dtype)
        return dense


def _spread(entries: torch.Tensor, places: torch.Tensor, size: int) -> torch.Tensor:
    """``[size, ...]`` with ``entries`` at ``places``, 0 elsewhere."""
    return entries.new_zeros(size, entries.shape[1]).index_copy_(0, places, entries)


def _row_of_entry(offsets: torch.Tensor) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())


def _ragged(offsets: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    starts = offsets[rows]
    counts = offsets[rows + 1] - starts
    new_offsets = torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])
    shift = torch.repeat_interleave(starts - new_offsets[:-1], counts)
    return shift + torch.arange(len(shift), device=shift.device), new_offsets
