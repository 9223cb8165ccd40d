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

import torch

from molmeta.domains.molecules.inputs import MoleculeBatch

BINS = 2048  # of each view
_RADIUS = 2
_SP2, _SP3 = 3, 4  # RDKit's numbers of hybridisation
_MULTIPLIERS = -7046029254386353131, -4417276706812531889  # odd: SplitMix64's and its like, modulo 2^64


def elements(molecules: MoleculeBatch) -> torch.Tensor:
    """``[n, 2048]`` counts of environments of elements."""
    number, _, _, _, _, hybridisation, _, _ = molecules.atoms.long().unbind(1)
    return _environments(molecules, _mixed(2 * number + (hybridisation == _SP2)))


def roles(molecules: MoleculeBatch) -> torch.Tensor:
    """``[n, 2048]`` counts of environments of what atoms do."""
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
    return _environments(molecules, _mixed((torch.stack(does, dim=1) * powers).sum(1)))


def torsions(molecules: MoleculeBatch) -> torch.Tensor:
    """``[n, 2048]`` counts of chains of four atoms."""
    number, _, degree, _, _, hybridisation, aromatic, _ = molecules.atoms.long().unbind(1)
    kind = _mixed(_mixed(64 * number + degree) + 2 * hybridisation + aromatic)
    begin, end = molecules.edge_index()
    order = begin.argsort()
    begin, end = begin[order], end[order]
    degrees = torch.bincount(begin, minlength=len(kind))
    first = degrees.cumsum(0) - degrees
    chains = torch.stack([begin, end], dim=1)
    for _ in range(2):
        last, before = chains[:, -1], chains[:, -2]
        chain = torch.repeat_interleave(degrees[last])
        place = torch.arange(len(chain), device=chain.device) - (degrees[last].cumsum(0) - degrees[last])[chain]
        following = end[first[last[chain]] + place]
        onwards = following != before[chain]
        chains = torch.cat([chains[chain], following[:, None]], dim=1)[onwards]
    chains = chains[chains[:, 0] < chains[:, -1]]  # each is found from both ends; a ring of three is none
    forward = backward = torch.zeros_like(chains[:, 0])
    for here, there in zip(kind[chains].unbind(1), kind[chains.flip(1)].unbind(1), strict=True):
        forward, backward = _mixed(31 * forward + here), _mixed(31 * backward + there)
    return _counted(molecules, chains[:, 0], torch.minimum(forward, backward))


SUBSTRUCTURES: Mapping[str, Callable[[MoleculeBatch], torch.Tensor]] = {
    "morgan": lambda molecules: molecules.fingerprints(torch.get_default_dtype()),
    "elements": elements,
    "roles": roles,
    "torsions": torsions,
}


def _environments(molecules: MoleculeBatch, hashed: torch.Tensor) -> torch.Tensor:
    source, target = molecules.edge_index()
    bond = molecules.bond_features[:, 0].long().repeat(2)
    found = [hashed]
    for _ in range(_RADIUS):
        around = torch.zeros_like(hashed).index_add_(0, target, _mixed(5 * hashed[source] + bond))
        hashed = _mixed(3 * hashed + around)
        found.append(hashed)
    atom = torch.arange(len(hashed), device=hashed.device)
    return _counted(molecules, atom.repeat(len(found)), torch.cat(found))


def _counted(molecules: MoleculeBatch, atom: torch.Tensor, hashed: torch.Tensor) -> torch.Tensor:
    """``[n, 2048]`` how often each bin is met: ``hashed [e]`` stands at ``atom [e]``."""
    place = molecules.molecule_of_atom()[atom] * BINS + _mixed(hashed + 11) % BINS
    return torch.bincount(place, minlength=len(molecules) * BINS).view(-1, BINS).to(torch.get_default_dtype())


def _mixed(number: torch.Tensor) -> torch.Tensor:
    """A hash of int64 numbers, which wrap around."""
    number = number * _MULTIPLIERS[0]
    number = (number ^ (number >> 29)) * _MULTIPLIERS[1]
    return number ^ (number >> 32)
