"""Harder, more honest supports: scaffold and similarity-cluster draws, and supports with few actives.

In a random draw most query molecules have a close analogue in the support. A scaffold or cluster draw fills the support
with whole groups of molecules and asks about other groups alone; an imbalanced draw gives the few actives that a
screen would have found. Each is a draw as the benchmarks' own, ``(task, support size, seed) -> (support, query)``.

Groups (``n`` molecules, counted from 0; equal structures always share one):

- scaffold: the Bemis-Murcko scaffold without stereo (RDKit's). A molecule without a ring has none: it is a group by
  its structure without stereo.
- cluster: Taylor-Butina clusters at a count-Morgan Tanimoto similarity of :data:`CLUSTER_SIMILARITY` to the centre.
  Molecules of different clusters can still be more alike than that: only their centres are not.

On FS-Mol's valid tasks (support 64) 38 % of the query molecules have a similarity of .6 or more to a support molecule
in standard draws, 29 % in scaffold draws and 19 % in cluster draws.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from molmeta.core.random import keyed_rng
from molmeta.core.sampling import Draw
from molmeta.core.task import IntArray, Task, TaskKind, TaskSource
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.nearest import Counts, NearestTable
from molmeta.domains.molecules.parse import parse
from molmeta.errors import ConfigError, SupportError

DRAWS = ("standard", "scaffold", "cluster", "imbalanced")
CLUSTER_SIMILARITY = 0.6
ACTIVE_SHARE = 1 / 8  # of an imbalanced support
_ORDERS = 100  # orders of the groups that are tried until both classes stand in the support
_BLOCK = 512  # rows of the similarity matrix that are computed at once

DrawRule = Callable[[Task, int, int], Draw]
Grouping = Callable[["MoleculeSource", IntArray], IntArray]


class MoleculeSource(TaskSource, Protocol):
    """A task source that tells its molecules, and has a draw of its own."""

    def gather(self, rows: IntArray) -> MoleculeBatch: ...

    def smiles(self, rows: IntArray) -> list[str]: ...

    def structures(self, rows: IntArray) -> NDArray[np.uint64]: ...

    def draw(self, task: Task, n_support: int, seed: int) -> Draw: ...


def draw_rule(name: str, source: TaskSource) -> DrawRule:
    """A way to draw supports, by name.

    Args:
        name: one of :data:`DRAWS`; ``standard`` is the source's own draw.
        source: where the tasks are from. Each task is grouped once, whatever the number of draws.

    Returns:
        ``(task, support size, seed) -> (support, query)``, positions in the task. It raises SupportError where a task
        does not allow the draw.

    Raises:
        ConfigError: an unknown name, or the source does not tell its molecules.
    """
    if name not in DRAWS:
        close = difflib.get_close_matches(name, DRAWS, n=1)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        raise ConfigError(f'unknown draw "{name}".{hint} Known: {", ".join(DRAWS)}')
    if name == "imbalanced":
        return imbalanced
    needed = ("draw",) if name == "standard" else ("smiles", "structures")
    absent = [method for method in needed if not hasattr(source, method)]
    if absent:
        lacks = f"{type(source).__name__} has no {' and no '.join(absent)}"
        raise ConfigError(f'the draw "{name}" cannot be made: {lacks}. Give it these methods, or draw otherwise')
    molecules = cast(MoleculeSource, source)
    if name == "standard":
        return molecules.draw
    return _grouped_rule(name, molecules, {"scaffold": scaffold_groups, "cluster": cluster_groups}[name])


def _grouped_rule(name: str, source: MoleculeSource, grouping: Grouping) -> DrawRule:
    @cache
    def groups(task: Task) -> IntArray:
        return grouping(source, task.rows)

    def rule(task: Task, n_support: int, seed: int) -> Draw:
        _check_room(task, n_support)
        rng = keyed_rng(seed, f"{name} {task.name}", n_support)
        return grouped(task, groups(task), n_support, rng)

    return rule


def grouped(task: Task, groups: IntArray, n_support: int, rng: np.random.Generator) -> Draw:
    """A support of whole groups in random order, and the rows of every other group as the query.

    The last group is cut where it is larger than the room that is left: what remains of it is on neither side, so that
    no group stands on both.

    Args:
        task: a classification task has every class in the support; a regression task has no such rule.
        groups: ``[n]`` the group of each row.
        n_support: support rows, exactly.
        rng: the generator that is drawn from.

    Raises:
        SupportError: none of 100 orders has every class in the support and leaves two rows for the query.
    """
    names, group = np.unique(groups, return_inverse=True)
    for _ in range(_ORDERS):
        rank = rng.permutation(len(names))[group]
        # Rows at random within their group, so that a cut takes any of them.
        order = np.lexsort((rng.random(len(rank)), rank))
        support, query = order[:n_support], np.flatnonzero(rank > rank[order[n_support - 1]])
        classes = len(np.unique(task.labels[support])) if task.kind.is_classification else task.num_classes
        if len(query) >= 2 and classes == task.num_classes:
            return support, query
    raise SupportError(
        f"task {task.name} has {len(task)} rows in {len(names)} groups, the largest of {np.bincount(group).max()}: "
        f"{_ORDERS} orders of the groups gave no support of {n_support} with every class and a query of 2 rows"
    )


def imbalanced(task: Task, n_support: int, seed: int) -> Draw:
    """A support with one active in eight (at least one), whatever the task's share; every other row is the query.

    Raises:
        SupportError: the task is not binary, or a class has too few rows for the support and one query row.
    """
    if task.kind is not TaskKind.BINARY:
        raise SupportError(f"task {task.name} is a {task.kind} task: imbalanced supports are for binary tasks alone")
    _check_room(task, n_support)
    actives = max(1, round(n_support * ACTIVE_SHARE))
    wanted = np.array([n_support - actives, actives])
    counts = np.bincount(task.labels.astype(np.int64), minlength=2)
    if (wanted < 1).any() or (wanted >= counts).any():
        raise SupportError(
            f"task {task.name} has {counts[1]} actives and {counts[0]} inactives: an imbalanced support of {n_support} "
            f"takes {wanted[1]} and {wanted[0]}, and leaves one of each or more"
        )
    rng = keyed_rng(seed, f"imbalanced {task.name}", n_support)
    return draw_classes(task.labels, wanted, rng)


def draw_classes(labels: NDArray[np.generic], wanted: Sequence[int] | IntArray, rng: np.random.Generator) -> Draw:
    """``wanted[c]`` rows of each class ``c`` at random, in random order; every other row, in order, is the query."""
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:count] for c, count in enumerate(wanted)]
    support = rng.permutation(np.concatenate(drawn))
    return support, np.setdiff1d(np.arange(len(labels)), support)


def scaffold_groups(source: MoleculeSource, rows: IntArray) -> IntArray:
    """``[n]`` the group of each of ``rows`` by scaffold; see the head of this module."""
    first, structure = _distinct(source, rows)
    keys = [_scaffold(text) for text in source.smiles(rows[first])]
    return np.unique(np.array(keys), return_inverse=True)[1].astype(np.int64)[structure]


def cluster_groups(source: MoleculeSource, rows: IntArray) -> IntArray:
    """``[n]`` the group of each of ``rows`` by similarity; see the head of this module. 10 to 20 ns a pair of rows."""
    first, structure = _distinct(source, rows)
    batch = source.gather(rows[first])
    counts = Counts(batch.bins.numpy().astype(np.uint16), batch.counts.numpy(), batch.bin_offsets.numpy())
    table = NearestTable(counts)
    blocks = (np.arange(i, min(i + _BLOCK, len(first))) for i in range(0, len(first), _BLOCK))
    alike = np.concatenate(
        [table.similarities(counts.take(block)) >= np.float32(CLUSTER_SIMILARITY) for block in blocks]
    )
    return butina(alike)[structure]


def butina(alike: NDArray[np.bool_]) -> IntArray:
    """Taylor-Butina clusters (Butina, 1999, J. Chem. Inf. Comput. Sci. 39, 747).

    The molecule with the most neighbours takes them all; then the next one in that order that is still free takes those
    of its neighbours that are free, and so on. Of molecules with as many neighbours the later one goes first, as in
    RDKit.

    Args:
        alike: ``[n, n]`` whether two molecules are neighbours; symmetric, and each is its own.

    Returns:
        ``[n]`` the cluster of each, numbered in the order of their making.
    """
    cluster = np.full(len(alike), -1, np.int64)
    made = 0
    for centre in np.argsort(alike.sum(1), kind="stable")[::-1]:
        if cluster[centre] < 0:
            cluster[alike[centre] & (cluster < 0)] = made
            made += 1
    return cluster


def _scaffold(smiles: str) -> str:
    molecule = parse(smiles).molecule
    if molecule is None:
        return smiles
    if molecule.GetRingInfo().NumRings() == 0:
        return Chem.MolToSmiles(molecule, isomericSmiles=False)
    # MurckoScaffold.GetScaffoldForMol, without its valence check: some molecules are kept though they fail it.
    with rdBase.BlockLogs():
        scaffold = Chem.MurckoDecompose(molecule)
        scaffold.UpdatePropertyCache(strict=False)
        return Chem.MolToSmiles(scaffold, isomericSmiles=False)


def _distinct(source: MoleculeSource, rows: IntArray) -> tuple[IntArray, IntArray]:
    """One position for each distinct structure, and ``[n]`` which of them each row has."""
    _, first, structure = np.unique(source.structures(rows), return_index=True, return_inverse=True)
    return first.astype(np.int64), structure.astype(np.int64)


def _check_room(task: Task, n_support: int) -> None:
    if n_support < 1 or len(task) - n_support < 2:
        raise SupportError(
            f"task {task.name} has {len(task)} rows: a support of {n_support} is empty, or leaves fewer than 2 to query"
        )
