"""Learning curves: what a model file says of quality with more labels, learned from assays that it has not read.

A backbone that keeps what training assays said reads half of the targets' assays, and curves are drawn on the others,
as in its training; another model's are drawn on the held-out assays, which no training saw. Each assay is drawn twice:
its supports of 8, 16, ... 128 lie within each other, and the query is what none of them took. The second draw's shares
of actives are lopsided, as a chemist's first labels often are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from molmeta.bundle import Bundle
from molmeta.core.random import keyed_rng
from molmeta.core.task import FloatArray, IntArray, Split, Task, TaskKind, TaskSource
from molmeta.predicting.outlook import Curve, Evidence, ordered_pairs
from molmeta.predicting.specialised import Labelled, Specialised
from molmeta.recipe import read_half

SIZES = (8, 16, 32, 64, 128)
KINDS = (TaskKind.BINARY, TaskKind.REGRESSION)
_DRAWS = 2
_ASSAYS = 240  # of a kind, at most: their numbers are a dozen
_QUERY = 32  # rows at the least,
_MOST_QUERY = 1000
_OF_CLASS = 8  # of each class
_SMALLEST = 160  # rows of an assay: then supports of every size are of the same assays


@dataclass(frozen=True, eq=False)
class CurveDraw:
    """One draw of one assay.

    Attributes:
        task, draw: of which.
        seen: what each support shows.
        quality: ``[s]`` the share of query pairs in the right order, a support each.
    """

    task: str
    draw: int
    seen: Sequence[Evidence]
    quality: FloatArray


@dataclass(frozen=True, eq=False)
class CurvePairs:
    """``r`` pairs of a support and a later one that holds it (or itself), flat: what a curve is learned from.

    Attributes:
        task: ``[r]`` names.
        seen: what the earlier support shows, ``[r]`` each.
        later: ``[r]`` labels of the later one.
        quality: ``[r]`` measured with it.
    """

    task: Sequence[str]
    seen: Evidence
    later: FloatArray
    quality: FloatArray

    @classmethod
    def of(cls, draws: Sequence[CurveDraw]) -> CurvePairs:
        """Every such pair of some draws."""
        found = [(d, i, j) for d in draws for i in range(len(d.seen)) for j in range(i, len(d.seen))]
        seen = [asdict(d.seen[i]) for d, i, _ in found]
        return cls(
            [d.task for d, _, _ in found],
            Evidence(**{name: np.array([each[name] for each in seen]) for name in seen[0]}),
            np.array([d.seen[j].size for d, _, j in found]),
            np.array([d.quality[j] for d, _, j in found]),
        )


def learn_curves(
    bundle: Bundle, source: TaskSource, advance: Callable[[int], None] = lambda _: None
) -> dict[str, dict[str, Any]]:
    """The curves of each kind that the bundle serves and the source has assays for, as a bundle keeps them.

    Args:
        bundle: the model; it is left as it is.
        source: what it was trained on.
        advance: called with 1 for each assay that is drawn.
    """
    reader, rest = replace(bundle, members=deepcopy(bundle.members)), source
    for member in reader.members:
        rest = read_half(member.learner, rest)
    split = Split.HELDOUT if rest is source else Split.TRAIN
    curves = {}
    for kind in (k for k in KINDS if k in bundle.kinds):
        tasks = [task for task in rest.tasks(split, kind) if len(task) >= _SMALLEST]
        draws = []
        for task in tasks[:: -(-len(tasks) // _ASSAYS) or 1]:
            draws += draw_curves(reader, source, task)
            advance(1)
        if draws:
            held = f"{len({d.task for d in draws})} {split} assays" + " that it had not read" * (rest is not source)
            pairs = CurvePairs.of(draws)
            assay = np.unique(pairs.task, return_inverse=True)[1]
            curves[str(kind)] = asdict(Curve.fit(pairs.seen, pairs.later, pairs.quality, assay, held))
    return curves


def draw_curves(bundle: Bundle, source: TaskSource, task: Task) -> list[CurveDraw]:
    """Measure a model on one assay's growing supports; no draw where the assay is too small."""
    draws = []
    for number in range(_DRAWS):
        supports, query = growing(task, number)
        if not supports:
            continue
        labelled = _labelled(bundle, source, task, supports[-1])
        asked = bundle.encode(source.gather(task.rows[query]))
        seen, quality = [], []
        for support in supports:
            own = labelled.take(np.isin(supports[-1], support))
            scores = Specialised.fit(bundle, own).predict(asked).scores
            right, pairs = ordered_pairs(task.labels[query], scores[:, -1])
            seen.append(Evidence.of(own, bundle))
            quality.append(right / pairs)
        draws.append(CurveDraw(task.name, number, seen, np.array(quality)))
    return draws


def _labelled(bundle: Bundle, source: TaskSource, task: Task, support: IntArray) -> Labelled:
    encoded = bundle.encode(source.gather(task.rows[support]))
    return Labelled(encoded, task.labels[support], task.kind, task.num_classes)


def growing(task: Task, draw: int) -> tuple[list[IntArray], IntArray]:
    """Supports within each other, of :data:`SIZES` as far as the assay allows, and the query (1,000 rows at most).

    Of two classes the even draws have the assay's share of actives, the odd ones a fifth to all of it.
    """
    rng = keyed_rng(draw, f"curve {task.name}")
    order = rng.permutation(len(task))
    classes = [order[task.labels[order] == c] for c in (0, 1)] if task.kind is TaskKind.BINARY else [order]
    share = np.array([len(rows) / len(order) for rows in classes])
    if draw % 2 and len(classes) == 2:
        active = share[1] * rng.uniform(0.2, 1)
        share = np.array([1 - active, active])
    supports: list[IntArray] = []
    for size in SIZES:
        counts = _counts(size, share)
        room = all(len(rows) - n >= _OF_CLASS for rows, n in zip(classes, counts, strict=True))
        if len(order) - size < _QUERY or not room:
            break
        supports.append(np.concatenate([rows[:n] for rows, n in zip(classes, counts, strict=True)]))
    if not supports:
        return [], order
    return supports, np.setdiff1d(order, supports[-1], assume_unique=True)[:_MOST_QUERY]


def _counts(size: int, share: FloatArray) -> list[int]:
    """How many of each class: two at the least."""
    if len(share) == 1:
        return [size]
    actives = min(max(2, round(size * float(share[1]))), size - 2)
    return [size - actives, actives]
