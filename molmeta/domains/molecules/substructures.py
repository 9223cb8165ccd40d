"""Substructures of a molecule's graph, hashed and counted: views beside its Morgan fingerprint.

    environments   h_v <- mix(h_v, sum over bonds uv of mix(h_u, type of uv)), twice; every h is counted
                   (Weisfeiler and Lehman's refinement; Shervashidze et al., 2011)
    torsions       chains of four bonded atoms, read from either end (Nilakantan et al., 1987, doi:10.1021/ci00054a008)

Environments start from what an atom is (its element, and whether it is flat) or from what it does (donor, acceptor,
aromatic, halogen, base, acid: the roles of FCFP, Rogers and Hahn, 2010, doi:10.1021/ci100050t). Each view sees some
molecules as alike that the others keep apart; a mean of their similarities errs less than any one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from molmeta.domains.molecules.hashing import mixed
from molmeta.domains.molecules.inputs import MoleculeBatch

BINS = 2048  # of each view
_RADIUS = 2
_SP2, _SP3 = 3, 4  # RDKit's numbers of hybridisation


class Found(NamedTuple):
    """Substructures where they stand: each of ``e`` is in molecule ``row``, has hash ``bin``, and counts ``times``."""

    row: torch.Tensor
    bin: torch.Tensor
    times: torch.Tensor


def morgan(molecules: MoleculeBatch) -> Found:
    """The fingerprint."""
    times = molecules.counts.to(torch.get_default_dtype())
    return Found(torch.repeat_interleave(molecules.bin_offsets.diff()), molecules.bins, times)


def elements(molecules: MoleculeBatch) -> Found:
    """Environments of elements."""
    number, _, _, _, _, hybridisation, _, _ = molecules.atoms.long().unbind(1)
    return _environments(molecules, mixed(2 * number + (hybridisation == _SP2)))


def roles(molecules: MoleculeBatch) -> Found:
    """Environments of what atoms do."""
    number, _, degree, charge, hydrogens, hybridisation, aromatic, _ = molecules.atoms.long().unbind(1)
    nitrogen, oxygen, charge = number == 7, number == 8, charge - 5
    does = (
        (nitrogen | oxygen | (number == 16)) & (hydrogens > 0),  # gives a hydrogen bond
        (charge <= 0) & (oxygen | nitrogen & (hydrogens == 0) & (degree < 3)),  # takes one
        aromatic > 0,
        torch.isin(number, number.new_tensor([9, 17, 35, 53])),
        nitrogen & ((charge > 0) | (hybridisation == _SP3)),
        charge < 0,
    )
    powers = 2 ** torch.arange(len(does), device=number.device)
    return _environments(molecules, mixed((torch.stack(does, dim=1) * powers).sum(1)))


def torsions(molecules: MoleculeBatch) -> Found:
    """Chains of four atoms."""
    number, _, degree, _, _, hybridisation, aromatic, _ = molecules.atoms.long().unbind(1)
    kind = mixed(mixed(64 * number + degree) + 2 * hybridisation + aromatic)
    sender, receiver = molecules.edge_index()
    neighbours = receiver[sender.argsort()]
    degrees = torch.bincount(sender, minlength=len(kind))
    first = degrees.cumsum(0) - degrees
    # Around each bond, every neighbour of the one atom with every neighbour of the other.
    begin, end = sender[: len(molecules.bonds)], receiver[: len(molecules.bonds)]
    pairs = degrees[begin] * degrees[end]
    bond = torch.repeat_interleave(pairs)
    pair = torch.arange(len(bond), device=bond.device) - (pairs.cumsum(0) - pairs)[bond]
    begin, end = begin[bond], end[bond]
    before, after = neighbours[first[begin] + pair // degrees[end]], neighbours[first[end] + pair % degrees[end]]
    chain = (before != end) & (after != begin) & (before != after)  # a ring of three is none
    atoms = kind[torch.stack([before, begin, end, after])[:, chain]]
    forward = backward = torch.zeros_like(atoms[0])
    for here, there in zip(atoms, atoms.flip(0), strict=True):
        forward, backward = mixed(31 * forward + here), mixed(31 * backward + there)
    return _found(molecules, begin[chain], torch.minimum(forward, backward))


SUBSTRUCTURES: Mapping[str, Callable[[MoleculeBatch], Found]] = {
    "morgan": morgan,
    "elements": elements,
    "roles": roles,
    "torsions": torsions,
}


def counted(molecules: MoleculeBatch, name: str) -> torch.Tensor:
    """``[n, 2048]`` how often each bin of one kind of substructure is met."""
    row, column, times = SUBSTRUCTURES[name](molecules)
    return times.new_zeros(len(molecules) * BINS).index_add_(0, row * BINS + column, times).view(-1, BINS)


def write_unit_logs(found: Found, weights: torch.Tensor, into: torch.Tensor, column: int, length: float) -> None:
    """Write log(1 + counts) times ``weights [2048]``, a row scaled to ``length``, where ``into [n, d]`` is 0.

    Few of the 2,048 columns from ``column`` on are met: only those are touched.
    """
    row, bins, times = found
    flat, place = into.view(-1), row * into.shape[1] + column + bins
    counts = flat.index_add_(0, place, times)[place]
    logs = counts.log1p() * weights[bins]
    # A bin stands here as often as it is met, in all ``counts`` times.
    squares = torch.zeros(len(into), dtype=torch.float64, device=into.device)
    squares.index_add_(0, row, (logs.square() * times / counts).double())
    flat[place] = logs * (length / squares.sqrt().clamp(min=1e-12)).to(logs.dtype)[row]


def _environments(molecules: MoleculeBatch, hashed: torch.Tensor) -> Found:
    source, target = molecules.edge_index()
    bond = molecules.bond_features[:, 0].long().repeat(2)
    found = [hashed]
    for _ in range(_RADIUS):
        around = torch.zeros_like(hashed).index_add_(0, target, mixed(5 * hashed[source] + bond))
        hashed = mixed(3 * hashed + around)
        found.append(hashed)
    atom = torch.arange(len(hashed), device=hashed.device)
    return _found(molecules, atom.repeat(len(found)), torch.cat(found))


def _found(molecules: MoleculeBatch, atom: torch.Tensor, hashed: torch.Tensor) -> Found:
    """``hashed [e]`` at ``atom [e]``."""
    times = torch.ones(len(atom), dtype=torch.get_default_dtype(), device=atom.device)
    return Found(molecules.molecule_of_atom()[atom], mixed(hashed + 11) % BINS, times)
