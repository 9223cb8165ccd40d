"""Which molecules of a library to measure next, a batch at once.

To learn most (``model``), each in turn is the one that leaves the rest of the library least uncertain:

    argmax_x  sum_z u_z cov(z, x)^2 / (cov(x, x) + s^2)

``cov`` is the posterior covariance of a Gaussian process on Tanimoto similarity that knows which molecules are labelled
or chosen (no label is needed for that), ``u_z`` the variance of z's label as the model predicts it: sequential design
of experiments (Yu, Bi & Tresp, 2006, doi:10.1145/1143844.1143980), weighted. To find actives (``hits``), it is the
likeliest active, or the largest value. A molecule with the fingerprint of one that is labelled or chosen is not taken:
the model could not tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from molmeta.core.random import keyed_rng
from molmeta.core.task import FloatArray, TaskKind
from molmeta.domains.molecules.featurise import I64, MoleculeArrays
from molmeta.domains.molecules.nearest import Counts, NearestTable
from molmeta.errors import ConfigError, InputError
from molmeta.predicting.assay import AssayModel, predict_molecules

Goal = Literal["model", "hits"]
POOL = 2000  # molecules of a library that are weighed against each other: a random sample, or the best
NOISE = 0.5  # s^2, of a process of variance 1
_SAME = 1 - 1e-6


@dataclass(frozen=True, eq=False)
class Suggestions:
    """The molecules to measure next, the first first: ``n`` of them.

    Attributes:
        goal: ``model`` or ``hits``.
        positions: ``[n]`` in the library, counted from 0.
        smiles: ``[n]`` as written.
        prediction: ``[n]`` probability of the active class (of several classes, of the likeliest), or value.
        similarity: ``[n]`` count-Morgan Tanimoto similarity to the nearest labelled molecule.
        settles: ``[n]`` share of the library's uncertainty that measuring it takes away, those before it measured.
    """

    goal: Goal
    positions: I64
    smiles: Sequence[str]
    prediction: FloatArray
    similarity: FloatArray
    settles: FloatArray

    def __len__(self) -> int:
        return len(self.smiles)

    @property
    def reasons(self) -> list[str]:
        """``[n]`` why each was chosen, in words."""
        why = "settles {:.1%} of what is open in the library" if self.goal == "model" else "ranked among the best"
        return [
            f"{why.format(share)}; predicted {p:.3g}; similarity to the nearest labelled {s:.2f}"
            for share, p, s in zip(self.settles, self.prediction, self.similarity, strict=True)
        ]

    def __str__(self) -> str:
        """A line a molecule."""
        rows = zip(self.smiles, self.reasons, strict=True)
        return "\n".join(f"{i:3}  {smiles}: {reason}" for i, (smiles, reason) in enumerate(rows, 1))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Molecules to choose among, ``m`` of them; the fields are as those of :class:`Suggestions`.

    Attributes:
        variance: ``[m]`` of the label, as predicted.
        key: ``[m]`` those with the smallest are kept where there are too many.
    """

    positions: I64
    smiles: NDArray[np.object_]
    prediction: FloatArray
    similarity: FloatArray
    variance: FloatArray
    key: FloatArray
    molecules: MoleculeArrays

    @classmethod
    def of(cls, model: AssayModel, start: I64, smiles: Sequence[str], molecules: MoleculeArrays, goal: Goal) -> Self:
        """Predict a block of molecules that stand at ``start [m]`` in the library."""
        found = predict_molecules([model], molecules)[0]
        scores = found.scores
        best = scores.max(1) if model.assay.kind is TaskKind.MULTICLASS else scores[:, -1]
        variance = np.ones(len(best)) if found.deviation is None else found.deviation**2
        if model.assay.kind.is_classification:
            variance = 1 - (scores**2).sum(1)
        key = -best if goal == "hits" else keyed_rng(0, "library", int(start[0])).random(len(best))
        return cls(start, np.array(smiles, object), best, found.similarity.astype(float), variance, key, molecules)

    def take(self, rows: I64) -> Self:
        """Those at ``rows``."""
        columns = {c.name: getattr(self, c.name) for c in fields(self)}
        return type(self)(**{k: v.take(rows) for k, v in columns.items()})

    def joined(self, other: Candidates, most: int) -> Candidates:
        """These and others; ``most`` of them."""
        columns = {c.name: (getattr(self, c.name), getattr(other, c.name)) for c in fields(self)}
        molecules = MoleculeArrays.concatenate(columns.pop("molecules"))
        both = Candidates(**{k: np.concatenate(v) for k, v in columns.items()}, molecules=molecules)
        return both if len(both.key) <= most else both.take(np.sort(np.argsort(both.key, kind="stable")[:most]))


def suggest(
    model: AssayModel, blocks: Iterable[tuple[I64, Sequence[str], MoleculeArrays]], n: int, goal: Goal = "model"
) -> Suggestions:
    """Choose what to measure next.

    Args:
        model: of the assay.
        blocks: the library: positions, SMILES and molecules, a few thousand at a time; read once, in flat memory.
        n: how many.
        goal: see the module.

    Raises:
        ConfigError: n or goal is out of range, or several classes have no hits.
        InputError: the library has fewer molecules to choose from.
    """
    check_goal(n, goal, model.assay.kind)
    most, pool, total = max(POOL, n), None, 0
    for positions, smiles, molecules in blocks:
        block = Candidates.of(model, positions, smiles, molecules, goal)
        fresh = block.take(np.flatnonzero(block.similarity < _SAME))
        total += len(positions)
        pool = fresh if pool is None else pool.joined(fresh, most)
    chosen, settles = _choose(model, pool, n, goal) if pool is not None else ([], [])
    if pool is None or len(chosen) < n:
        raise InputError(
            f"{n} molecules are to be chosen, but of the library's {total} usable ones only {len(chosen)} differ from "
            "each other and from the labelled ones. Ask for fewer, or give a larger library"
        )
    best = pool.take(np.array(chosen, np.int64))
    return Suggestions(
        goal, best.positions, best.smiles.tolist(), best.prediction, best.similarity, np.array(settles, np.float64)
    )


def _choose(model: AssayModel, pool: Candidates, n: int, goal: Goal) -> tuple[list[int], list[float]]:
    """Positions in the pool, and the share of its uncertainty that each settles."""
    if not len(pool.key):
        return [], []
    counts = Counts.of(pool.molecules)
    similar = _similarities(NearestTable(counts))
    covariance = conditioned(similar, _similarities(model.table, counts), _similarities(model.table))
    wanted = pool.prediction if goal == "hits" else None
    return most_telling(covariance, pool.variance, n, similar >= _SAME, wanted)


def most_telling(
    covariance: FloatArray,
    variance: FloatArray,
    n: int,
    same: NDArray[np.bool_] | None = None,
    wanted: FloatArray | None = None,
) -> tuple[list[int], list[float]]:
    """Up to ``n`` of ``m`` molecules, each the best with those before it measured, and what share of the uncertainty
    ``sum_z u_z cov(z, z)`` each takes away.

    Args:
        covariance: ``[m, m]`` before any of them is measured.
        variance: ``[m]`` u.
        n: how many.
        same: ``[m, m]`` of which no two are taken; None: all differ.
        wanted: ``[m]`` what to rank by in place of what they take away.
    """
    covariance, free = covariance.copy(), np.ones(len(covariance), bool)
    whole = max(float(variance @ covariance.diagonal()), 1e-12)
    chosen: list[int] = []
    settles: list[float] = []
    while len(chosen) < n and free.any():
        noisy = covariance.diagonal() + NOISE
        gain = variance @ covariance**2 / noisy
        i = int(np.argmax(np.where(free, gain if wanted is None else wanted, -np.inf)))
        chosen.append(i)
        settles.append(float(gain[i]) / whole)
        free[i] = False
        if same is not None:
            free &= ~same[i]
        covariance -= np.outer(covariance[:, i], covariance[i]) / noisy[i]
    return chosen, settles


def _similarities(table: NearestTable, queries: Counts | None = None) -> FloatArray:
    """``[m, n]`` of the queries, or of the table's own molecules, to them."""
    return table.similarities(queries or table.molecules).astype(np.float64)


def conditioned(within: FloatArray, across: FloatArray, known: FloatArray) -> FloatArray:
    """The covariance ``[m, m]`` of a Gaussian process given noisy observations: of ``m`` rows whose kernel is
    ``within``, and with ``n`` observed ones ``across [m, n]``; theirs is ``known [n, n]``."""
    solved = np.linalg.solve(known + NOISE * np.eye(len(known)), across.T)
    covariance: FloatArray = within - across @ solved
    return covariance


def check_goal(n: int, goal: str, kind: TaskKind) -> None:
    """Refuse what cannot be asked for.

    Raises:
        ConfigError: as said.
    """
    if n < 1:
        raise ConfigError(f"the number of molecules to measure next is 1 or more, not {n}")
    if goal not in ("model", "hits"):
        raise ConfigError(f'the goal is model (to learn most) or hits (to find actives), not "{goal}"')
    if goal == "hits" and kind is TaskKind.MULTICLASS:
        raise ConfigError("several classes have no hits: leave the goal out, or name two classes")
