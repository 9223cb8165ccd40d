"""How good the predictions are to be expected, now and after more labels.

Quality is the share of pairs that stand in the right order: an active above an inactive (the ROC-AUC), or the larger
value above the smaller; 1/2 is chance. It is expected, for molecules like the support's, from what ``n`` labels show:

    q = sigmoid(b0 + b1 e + b2 g + b3 (v - 1/2) + b4 (v - 1/2) e + b5 logit w + b6 k)
    Var q = q (1 - q) (s0 + s1 16 / m + s2 g)

    m   effective labels, 4 n1 n0 / n of two classes (n where they are equally many), else n;  e = log2(m / 16)
    g   log2(n' / n), doublings of the support until it has n' labels
    v   the share of pairs in the right order when the support is predicted part by part from its other parts
    w   the share that the model itself expects among those predictions, if its probabilities (deviations) are right
    k   the share of the support that the model knows from other assays, if it keeps them

The numbers b and s are learned from assays that the model has not read (``scoring.curves``) and stand in its file; b2
is 0 or more, so that more labels are never worse. The interval is that of a beta distribution. How well all of it holds
on assays that nobody read stands in docs/flagship.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import expit, logit
from scipy.stats import beta, norm

from molmeta.bundle import Bundle
from molmeta.core.random import keyed_rng
from molmeta.core.task import FloatArray, IntArray, TaskKind
from molmeta.errors import ModelFileError, SupportError
from molmeta.predicting.assay import AssayModel
from molmeta.predicting.specialised import Labelled, Specialised

COVERAGE = 0.8
MORE = (8, 16, 32, 64)
_PARTS, _REPEATS = 4, 2
_WEIGHTS, _GROWTH = 7, 2  # how many b, and the position of b2
_FIFTHS = 5
_MOST_SURE = 0.99  # w is taken for no more
_LEARNED = (8.0, 128.0)  # sizes of the supports that curves are learned from


@dataclass(frozen=True)
class Evidence:
    """What a support shows; each a number, or an array of as many supports.

    Attributes:
        size: n, labels.
        effective: m.
        crossvalidated: v.
        own: w.
        known: k.
    """

    size: FloatArray
    effective: FloatArray
    crossvalidated: FloatArray
    own: FloatArray
    known: FloatArray

    @classmethod
    def of(cls, labelled: Labelled, bundle: Bundle) -> Self:
        """Look at a support: it is predicted twice in four parts (fewer, where a class is small), by eight refits.

        Raises:
            SupportError: a class has one example only, several classes, or fewer than four values.
        """
        n, classes = len(labelled.labels), labelled.kind.is_classification
        counts = np.bincount(labelled.labels.astype(np.int64), minlength=2) if classes else np.array([n // 2])
        if labelled.kind is TaskKind.MULTICLASS or counts.min() < 2:
            held = f"{' and '.join(map(str, counts))} of its classes" if classes else f"{n} values"
            raise SupportError(
                f"how good predictions will be is estimated from two examples of each of two classes, or four values; "
                f"this support has {held}. Add labelled molecules"
            )
        found, rng = np.zeros(4), keyed_rng(labelled.seed, "parts of a support")
        for _ in range(_REPEATS):
            part = _parts(labelled, min(_PARTS, int(counts.min())), rng)
            found += sum(_of_part(labelled, part == k, bundle) for k in range(part.max() + 1))
        effective = 4 * counts.prod() / n if classes else n
        right, pairs, own, own_pairs = found.tolist()
        known = bundle.knows(labelled.encoded).mean()
        shares = right / max(pairs, 1), own / max(own_pairs, 1e-12), float(known)
        return cls(*map(np.asarray, (float(n), float(effective), *shares)))


def _parts(labelled: Labelled, count: int, rng: np.random.Generator) -> IntArray:
    """``[n]`` the part of each molecule, every class dealt out equally."""
    order = rng.permutation(len(labelled.labels))
    if labelled.kind.is_classification:
        order = order[np.argsort(labelled.labels[order], kind="stable")]
    part = np.empty(len(order), np.int64)
    part[order] = np.arange(len(order)) % count
    return part


def _of_part(labelled: Labelled, out: NDArray[np.bool_], bundle: Bundle) -> FloatArray:
    """``[4]`` pairs in the right order, pairs, and both as the model expects them, where ``out [n]`` is predicted."""
    rest, asked = labelled.without(out), labelled.take(out)
    if rest is None or len(asked.labels) < 2:
        return np.zeros(4)
    scores, deviation, _ = Specialised.fit(bundle, rest).predict(asked.encoded)
    return np.array([*ordered_pairs(asked.labels, scores[:, -1]), *_expected_pairs(scores[:, -1], deviation)])


def ordered_pairs(labels: NDArray[np.generic], scores: FloatArray) -> tuple[float, float]:
    """Pairs of molecules in the right order (equal scores count half), and pairs of different labels; ``[m]`` each."""
    values = labels.astype(np.float64)
    larger = values[:, None] > values
    return float(((1 + np.sign(scores[:, None] - scores)) / 2)[larger].sum()), float(larger.sum())


def _expected_pairs(scores: FloatArray, deviation: FloatArray | None) -> tuple[float, float]:
    """What :func:`ordered_pairs` is on average where the probabilities, or values and deviations, are right."""
    i, j = np.triu_indices(len(scores), 1)
    if deviation is not None:
        return float(norm.cdf(np.abs(scores[i] - scores[j]) / np.hypot(deviation[i], deviation[j])).sum()), len(i)
    high, low = np.maximum(scores[i], scores[j]), np.minimum(scores[i], scores[j])
    right = high * (1 - low)
    return float(right.sum()), float((right + low * (1 - high)).sum())


@dataclass(frozen=True)
class Curve:
    """b and s of one kind of labels, and which assays they were learned from; see the module for the equations.

    ``average`` is the mean quality of those assays, by labels: what to expect of an assay of which nothing is known.
    """

    weights: Sequence[float]
    spread: Sequence[float]
    learned_from: str
    average: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, curves: Mapping[str, Any], kind: TaskKind) -> Self:
        """The curve of a kind among those that a model file holds.

        Raises:
            ModelFileError: it holds none of this kind.
        """
        if kind not in curves:
            known = f"those of {' and '.join(curves)} labels only" if curves else "none"
            raise ModelFileError(
                f"the model holds no learning curve for {kind} labels ({known}): how good it gets with more labels was "
                "never measured. Use the default model, or molmeta export"
            )
        return cls(**curves[kind])

    @classmethod
    def fit(
        cls, seen: Evidence, later: FloatArray, quality: FloatArray, assay: IntArray, learned_from: str = ""
    ) -> Self:
        """Learn b by logistic regression of the shares, and s by least squares, 0 or more each.

        What s explains are errors on assays that b was not learned from: each fifth of them by the others.

        Args:
            seen: the supports, ``[r]`` each.
            later: ``[r]`` labels, as many or more, with which ``quality`` was measured.
            quality: ``[r]`` in (0, 1).
            assay: ``[r]`` numbers of their assays.
            learned_from: which assays, in words.
        """
        columns, fifth = _columns(seen, later), assay % _FIFTHS
        spared = np.empty_like(quality)
        for k in np.unique(fifth):
            spared[fifth == k] = expit(columns[fifth == k] @ _logistic(columns[fifth != k], quality[fifth != k]))
        errors = (quality - spared) ** 2 / (spared * (1 - spared))
        spread = nnls(_spread_columns(seen, later), errors)[0]
        weights = _logistic(columns, quality)
        now = later == seen.size
        average = {f"{n:g}": round(float(quality[now & (later == n)].mean()), 4) for n in np.unique(later[now])}
        return cls([round(float(w), 4) for w in weights], [round(float(s), 4) for s in spread], learned_from, average)

    def expected(self, seen: Evidence, later: FloatArray) -> FloatArray:
        """The quality to be expected with ``later`` labels."""
        expected: FloatArray = expit(_columns(seen, later) @ np.asarray(self.weights))
        return expected

    def interval(self, seen: Evidence, later: FloatArray, coverage: float = COVERAGE) -> tuple[FloatArray, FloatArray]:
        """The central ``coverage`` of what is measured, assay by assay."""
        q, spread = self.expected(seen, later), _spread_columns(seen, later) @ np.asarray(self.spread)
        strength = 1 / np.clip(spread, 1e-4, 0.9) - 1
        low, high = (beta.ppf(p, q * strength, (1 - q) * strength) for p in ((1 - coverage) / 2, (1 + coverage) / 2))
        return low, high


def _logistic(columns: FloatArray, quality: FloatArray) -> FloatArray:
    """``[7]`` b, by Newton's method, with a ridge of 1."""
    weights, ridge = np.zeros(_WEIGHTS), np.eye(_WEIGHTS)
    for _ in range(25):
        q = expit(columns @ weights)
        curvature = (columns * (q * (1 - q))[:, None]).T @ columns + ridge
        weights += np.linalg.solve(curvature, columns.T @ (quality - q) - weights)
    weights[_GROWTH] = max(0.0, weights[_GROWTH])
    return weights


def _growth(seen: Evidence, later: FloatArray) -> tuple[FloatArray, FloatArray]:
    """e and g."""
    effective = np.clip(seen.effective, *_LEARNED)
    return np.log2(effective / 16) + 0 * later, np.log2(later / seen.size)


def _columns(seen: Evidence, later: FloatArray) -> FloatArray:
    e, g = _growth(seen, later)
    v, w = seen.crossvalidated - 0.5, logit(np.clip(seen.own, 0.5, _MOST_SURE))
    return np.stack([np.ones_like(e), e, g, v + 0 * e, v * e, w + 0 * e, seen.known + 0 * e], axis=-1)


def _spread_columns(seen: Evidence, later: FloatArray) -> FloatArray:
    e, g = _growth(seen, later)
    return np.stack([np.ones_like(e), 2.0**-e, g], axis=-1)


@dataclass(frozen=True, eq=False)
class Outlook:
    """How good the predictions of one assay are to be expected, for molecules like its support's.

    Attributes:
        assay: its name.
        kind: of its labels.
        seen: what the support shows.
        sizes: ``[s]`` labels, the support's own first.
        expected: ``[s]`` the share of pairs in the right order; of two classes, the ROC-AUC.
        low, high: ``[s]`` between them it lay for 3 of 4 assays that nobody had read; for 4 of 5 of those that the
            curve was learned from.
    """

    assay: str
    kind: TaskKind
    seen: Evidence
    sizes: IntArray
    expected: FloatArray
    low: FloatArray
    high: FloatArray

    def __str__(self) -> str:
        """A line a size, and what the numbers mean."""
        pair = "an active molecule" if self.kind.is_classification else "the larger of two values"
        below = "an inactive one" if self.kind.is_classification else "the smaller"
        head = f"How often {pair} is ranked above {below}, among molecules like these (chance: 0.50)"
        lines = [f"{self.assay}: {head}" if self.assay else head, "  labels  expected  for 3 of 4 assays"]
        rows = zip(self.sizes.tolist(), self.expected, self.low, self.high, strict=True)
        lines += [f"  {n:6}      {q:.2f}  {low:.2f} to {high:.2f}" for n, q, low, high in rows]
        lines[2] += "  (now)"
        if self.sizes[-1] > _LEARNED[1]:
            lines.append(f"  beyond {_LEARNED[1]:.0f} labels it is drawn out, not learned")
        return "\n".join(lines)


def outlook(model: AssayModel, more: Sequence[int] = MORE) -> Outlook:
    """How good the predictions are to be expected now, and after ``more`` labels each.

    Raises:
        ModelFileError: the model holds no curve for such labels.
        SupportError: the support is too small for an estimate.
    """
    curve = Curve.of(model.bundle.curves, model.assay.kind)
    # A molecule that is labelled twice would be predicted from its own label; a shifted prior would shift w.
    first = np.isin(np.arange(len(model.structures)), np.unique(model.structures, return_index=True)[1])
    labelled = replace(model.specialised.labelled.take(first), prior=None)
    seen = Evidence.of(labelled, model.bundle)
    sizes = len(labelled.labels) + np.array([0, *sorted(more)])
    later = sizes.astype(np.float64)
    low, high = curve.interval(seen, later)
    return Outlook(model.assay.name, labelled.kind, seen, sizes, curve.expected(seen, later), low, high)
