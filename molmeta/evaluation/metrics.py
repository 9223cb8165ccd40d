"""Scores of many draws at once; a row that is masked counts for nothing.

All classification metrics but accuracy are for two classes; labels are 0 and 1 ``[d, m]``, ``d`` draws of ``m`` query
rows. Rows of equal score are taken together: a metric is what a random order among them gives on average (for the
average precision: what scikit-learn does). A draw of one class has no ranking: NaN, never 0; so has one whose scores
are not finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr
from scipy.stats import rankdata

from molmeta.core.task import FloatArray, IntArray

BoolArray = NDArray[np.bool_]

EARLY = 0.01  # the top share of which ef1 tells the enrichment
BEDROC_ALPHA = 20.0  # four fifths of the score come from the top 8 % (Truchon & Bayly, 2007)
CALIBRATION_BINS = 15
LOWER_IS_BETTER = frozenset({"nll", "brier", "ece", "rmse", "mse", "seconds", "encode_seconds"})
ROUNDING = 1e-6  # by which a probability may lie outside [0, 1]
_OF_BOTH_CLASSES = ("balanced_accuracy", "f1", "kappa")  # decisions that say nothing of a query of one class


def are_probabilities(scores: FloatArray) -> bool:
    """Whether all finite scores can be read as probabilities: they lie in [0, 1], but for rounding."""
    finite = scores[np.isfinite(scores)]
    return bool(((finite >= -ROUNDING) & (finite <= 1 + ROUNDING)).all())


def binary_metrics(
    labels: IntArray, scores: FloatArray, mask: BoolArray | None = None, probable: bool | None = None
) -> dict[str, FloatArray]:
    """Every metric of a two-class draw, each ``[d]``.

    Args:
        labels: ``[d, m]`` of 0 and 1.
        scores: ``[d, m]`` to rank by.
        mask: ``[d, m]`` rows that count; None: all.
        probable: whether the scores are the active class's probability; where they are not, what needs one is NaN.
            None: see :func:`are_probabilities`.
    """
    mask = np.ones(labels.shape, bool) if mask is None else mask
    probable = are_probabilities(scores) if probable is None else probable
    scores = np.where(np.isfinite(scores), np.clip(scores, 0, 1), np.nan) if probable else scores
    with np.errstate(divide="ignore", invalid="ignore"):
        ranked = Ranked.of(labels, scores, mask)
        finite = np.isfinite(np.where(mask, scores, 0)).all(1)
        one_class = (ranked.share <= 0) | (ranked.share >= 1)
        decided = {
            **decisions(labels, scores, mask),
            **by_certainty(labels, scores, mask),
            **likelihoods(labels, scores, mask),
            "ece": calibration(ranked),
        }
        precision, by_chance = average_precision(ranked), chance(ranked)
        ranking = {
            "delta_auprc": precision - ranked.share,
            "above_chance": untied_precision(ranked) - ranked.share - by_chance,
            "average_precision": precision,
            "roc_auc": roc_auc(ranked),
            "ef1": enrichment(ranked),
            "bedroc": bedroc(ranked),
        }
        for values in decided.values():
            values[~finite | (ranked.rows == 0) | (not probable)] = np.nan
        for values in (*ranking.values(), *(decided[name] for name in _OF_BOTH_CLASSES)):
            values[~finite | one_class] = np.nan
        facts = {"chance": by_chance, "query_share": ranked.share, "queries": ranked.rows}
        return {**ranking, **decided, **facts, "failed": np.where(finite, 0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Ranked:
    """``d`` draws sorted by falling score; rows of equal score form a group, and masked rows stand last.

    Attributes:
        positive, counted: ``[d, m]`` 1 where a counted row is active, and where a row counts.
        score: ``[d, m]``.
        before, through: ``[d, m]`` counted rows above the row's group, and through the end of it.
        hits_before, hits_through: likewise the actives.
        actives, rows, share: ``[d]`` totals, and actives / rows.
    """

    positive: FloatArray
    counted: FloatArray
    score: FloatArray
    before: FloatArray
    through: FloatArray
    hits_before: FloatArray
    hits_through: FloatArray
    actives: FloatArray
    rows: FloatArray
    share: FloatArray

    @classmethod
    def of(cls, labels: IntArray, scores: FloatArray, mask: BoolArray) -> Ranked:
        starts = scores.shape[1] * np.arange(len(scores))[:, None]  # np.take reads flat arrays: that is why it is fast
        order = np.argsort(np.where(mask, -scores, np.inf), axis=1) + starts  # among equals, in no order that counts
        score = np.take(scores, order)
        counted = np.take(mask, order).astype(np.float64)
        positive = np.take(labels, order) * counted
        first, last = (place + starts for place in _groups(score, counted))
        n, hits = np.cumsum(counted, 1), np.cumsum(positive, 1)
        rows, actives = counted.sum(1), positive.sum(1)
        return cls(
            positive=positive,
            counted=counted,
            score=score,
            before=np.take(n - counted, first),
            through=np.take(n, last),
            hits_before=np.take(hits - positive, first),
            hits_through=np.take(hits, last),
            actives=actives,
            rows=rows,
            share=actives / rows,
        )

    @property
    def group(self) -> FloatArray:
        """``[d, m]`` counted rows in each row's group; 1 where it would be 0."""
        return np.maximum(self.through - self.before, 1)

    @property
    def group_hits(self) -> FloatArray:
        return self.hits_through - self.hits_before


def _groups(score: FloatArray, counted: FloatArray) -> tuple[IntArray, IntArray]:
    """The first and last position of each row's group of equal scores, ``[d, m]`` each."""
    place = np.broadcast_to(np.arange(score.shape[1]), score.shape)
    changes = (score[:, 1:] != score[:, :-1]) | (counted[:, 1:] != counted[:, :-1])
    edge = np.ones((len(score), 1), bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, changes]), place, 0), axis=1)
    last = np.minimum.accumulate(np.where(np.hstack([changes, edge]), place, place.max(initial=0))[:, ::-1], axis=1)
    return first, last[:, ::-1]


def average_precision(ranked: Ranked) -> FloatArray:
    """Mean over the actives of the precision at their score: ``sum_i (R_i - R_{i-1}) P_i``."""
    precision = ranked.hits_through / ranked.through
    total: FloatArray = (ranked.positive * np.nan_to_num(precision)).sum(1) / ranked.actives
    return total


def untied_precision(ranked: Ranked) -> FloatArray:
    """The average precision that a random order within each group of equal scores has on average.

    A group of g rows and h actives, after n rows with t actives, adds
    ``h / g ((t + 1) H + (h - 1) / (g - 1) (g - (n + 1) H))`` with ``H = 1 / (n + 1) + ... + 1 / (n + g)``.
    """
    g, h, n, t = ranked.group, ranked.group_hits, ranked.before, ranked.hits_before
    sums = _harmonic(ranked.score.shape[1])
    between = sums[ranked.through.astype(np.int64)] - sums[n.astype(np.int64)]
    among = np.where(g > 1, (h - 1) / (g - 1), 0) * (g - (n + 1) * between)
    of_group = h / g * ((t + 1) * between + among)
    # Each row of a group brings its share, so that the group counts once.
    total: FloatArray = (ranked.counted * np.nan_to_num(of_group / g)).sum(1) / ranked.actives
    return total


def chance(ranked: Ranked) -> FloatArray:
    """What a random ranking's ``delta_auprc`` is on average: above 0, the more so the fewer the actives.

    ``E[AP] = (H_m + (P - 1) / (m - 1) (m - H_m)) / m`` for ``P`` actives of ``m``, with ``H_m`` the harmonic number.
    """
    m, actives = ranked.rows, ranked.actives
    harmonic = _harmonic(ranked.score.shape[1])[m.astype(np.int64)]
    expected: FloatArray = (harmonic + (actives - 1) / (m - 1) * (m - harmonic)) / m - ranked.share
    expected[(ranked.share <= 0) | (ranked.share >= 1)] = np.nan
    return expected


def _harmonic(most: int) -> FloatArray:
    """``[most + 1]`` the sums 1 + 1/2 + ... + 1/n."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, most + 1))])


def roc_auc(ranked: Ranked) -> FloatArray:
    """Share of (active, inactive) pairs in the right order, ties counting half."""
    inactives = ranked.rows - ranked.actives
    above = ranked.before - ranked.hits_before
    tied = ranked.group - ranked.group_hits
    right: FloatArray = (ranked.positive * (inactives[:, None] - above - tied / 2)).sum(1)
    return right / (ranked.actives * inactives)


def enrichment(ranked: Ranked) -> FloatArray:
    """Share of actives in the top 1 % (a row at the least) over their share in all."""
    top = np.ceil(EARLY * ranked.rows)
    factor: FloatArray = hits_within(ranked, top) / top / ranked.share
    return factor


def hits_within(ranked: Ranked, top: FloatArray | IntArray) -> FloatArray:
    """Actives among the first ``top [d]`` rows; of a group that is cut, as many as in a random order on average."""
    inside = np.clip((top[:, None] - ranked.before) / ranked.group, 0, 1)
    hits: FloatArray = (ranked.positive * inside).sum(1)
    return hits


def bedroc(ranked: Ranked) -> FloatArray:
    """Boltzmann-enhanced discrimination of ROC (Truchon & Bayly, 2007, doi:10.1021/ci600426e), alpha = 20."""
    n, share, alpha = ranked.rows, ranked.share, BEDROC_ALPHA
    rate = alpha / n[:, None]
    # The mean of exp(-rate * rank) over the ranks of a group is a geometric series.
    series = np.exp(-rate * (ranked.before + 1)) * -np.expm1(-rate * ranked.group) / -np.expm1(-rate)
    enhanced = (ranked.positive * series / ranked.group).sum(1)
    rie = enhanced / (share * -np.expm1(-alpha) / np.expm1(alpha / n))
    factor = share * np.sinh(alpha / 2) / (np.cosh(alpha / 2) - np.cosh(alpha / 2 - alpha * share))
    result: FloatArray = rie * factor + 1 / (1 - np.exp(alpha * (1 - share)))
    return result


def calibration(ranked: Ranked) -> FloatArray:
    """Expected calibration error: |mean probability - share of actives| in 15 bins of equal mass, weighted by mass."""
    _, predicted, observed = reliability(ranked)
    error: FloatArray = np.abs(predicted - observed).sum(1) / ranked.rows
    return error


def reliability(ranked: Ranked) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows, sum of probabilities and actives in 15 bins of equal mass, each ``[d, 15]``, from low to high."""
    bins = CALIBRATION_BINS
    rank = np.cumsum(ranked.counted, 1) - 1
    place = bins - 1 - np.clip(rank * bins / np.maximum(ranked.rows, 1)[:, None], 0, bins - 1).astype(np.int64)
    flat = place + bins * np.arange(len(place))[:, None]

    def total(values: FloatArray) -> FloatArray:
        sums = np.bincount(flat.ravel(), (ranked.counted * values).ravel(), minlength=bins * len(place))
        return sums.reshape(len(place), bins).astype(np.float64)

    # Of rows with one probability, none is likelier to stand in a bin than another: each counts as their mean.
    return (
        total(ranked.counted),
        total(np.where(ranked.counted > 0, ranked.score, 0)),
        total(ranked.group_hits / ranked.group),
    )


def decisions(labels: IntArray, probabilities: FloatArray, mask: BoolArray) -> dict[str, FloatArray]:
    """Metrics of the class at a probability of a half, as FS-Mol scores them (a half is active)."""
    called, active = (probabilities >= 0.5) & mask, (labels == 1) & mask
    m = mask.sum(1).astype(np.float64)
    tp, called_all, active_all = (called & active).sum(1), called.sum(1), active.sum(1)
    fp, fn = called_all - tp, active_all - tp
    tn = m - tp - fp - fn
    observed: FloatArray = (tp + tn) / m
    expected = (called_all * active_all + (m - called_all) * (m - active_all)) / m**2
    f1 = np.where(tp + fp + fn > 0, 2 * tp / np.maximum(2 * tp + fp + fn, 1), 1.0)
    return {
        "accuracy": observed,
        "balanced_accuracy": (tp / active_all + tn / (m - active_all)) / 2,
        "f1": f1,
        "kappa": (observed - expected) / (1 - expected),
    }


def by_certainty(labels: IntArray, probabilities: FloatArray, mask: BoolArray) -> dict[str, FloatArray]:
    """The accuracy where the least certain predictions are set aside: of the most certain 75, 50 and 25 %."""
    right = ((probabilities >= 0.5) == (labels == 1)).astype(np.int64)
    ranked = Ranked.of(right, np.abs(probabilities - 0.5), mask)
    tops = {share: np.ceil(share / 100 * ranked.rows) for share in (75, 50, 25)}
    return {f"accuracy_{share}": hits_within(ranked, top) / top for share, top in tops.items()}


def likelihoods(labels: IntArray, probabilities: FloatArray, mask: BoolArray) -> dict[str, FloatArray]:
    """Mean negative log-likelihood in nats (probabilities kept 1e-7 from 0 and 1), and the Brier score."""
    rows = mask.sum(1)
    taken = np.where(labels == 1, probabilities, 1 - probabilities)
    nats = -np.log(np.clip(taken, 1e-7, 1))
    return {
        "nll": np.where(mask, nats, 0).sum(1) / rows,
        "brier": np.where(mask, (probabilities - labels) ** 2, 0).sum(1) / rows,
    }


def multiclass_metrics(
    labels: IntArray, probabilities: FloatArray, mask: BoolArray | None = None
) -> dict[str, FloatArray]:
    """Accuracy and negative log-likelihood ``[d]``; ``probabilities [d, m, k]``."""
    mask = np.ones(labels.shape, bool) if mask is None else mask
    rows = mask.sum(1)
    right = (probabilities.argmax(2) == labels) & mask
    taken = np.take_along_axis(probabilities, labels[..., None], 2)[..., 0]
    nats = -np.log(np.clip(taken, 1e-7, 1))
    with np.errstate(invalid="ignore"):
        found = {"accuracy": right.sum(1) / rows, "nll": np.where(mask, nats, 0).sum(1) / rows}
    finite = (np.isfinite(probabilities).all(2) | ~mask).all(1)
    for values in found.values():
        values[~finite] = np.nan
    return {**found, "queries": rows * 1.0, "failed": np.where(finite, 0.0, 1.0)}


def regression_metrics(
    values: FloatArray,
    mean: FloatArray,
    support_mean: FloatArray,
    deviation: FloatArray | None = None,
    mask: BoolArray | None = None,
    tails: FloatArray | float = np.inf,
) -> dict[str, FloatArray]:
    """Out-of-sample R^2 (against the support's mean ``[d]``), squared error and its root, and rank correlation.

    ``coverage_90`` is the share of values in the predicted central 90 %, where every row has a deviation; ``tails [d]``
    are as :func:`central_levels` has them.
    """
    mask = np.ones(values.shape, bool) if mask is None else mask
    rows = mask.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared = np.where(mask, (values - mean) ** 2, 0).sum(1)
        around = np.where(mask, (values - support_mean[:, None]) ** 2, 0).sum(1)
        found = {
            "r2": np.where(around > 0, 1 - squared / around, np.nan),
            "rmse": np.sqrt(squared / rows),
            "mse": squared / rows,
            "spearman": np.array([_spearman(v[m], f[m]) for v, f, m in zip(values, mean, mask, strict=True)]),
        }
        if deviation is not None:
            # A value that is met exactly is inside, be the deviation 0.
            errors = np.divide(values - mean, deviation, out=np.zeros(values.shape), where=values != mean)
            inside = (central_levels(errors, np.reshape(tails, (-1, 1))) <= 0.9) & mask
            told = (np.isfinite(deviation) | ~mask).all(1)
            found["coverage_90"] = np.where(told, inside.sum(1) / rows, np.nan)
        finite = (np.isfinite(mean) | ~mask).all(1)
        return {**found, "queries": rows * 1.0, "failed": np.where(finite, 0.0, 1.0)}


def central_levels(errors: FloatArray, tails: FloatArray | float = np.inf) -> FloatArray:
    """The level, from 0 to 1, of the smallest central interval that holds each value.

    Args:
        errors: in predicted deviations.
        tails: degrees of freedom of the Student law of unit variance that they should follow; infinite: a normal law.
    """
    levels: FloatArray = 2 * stdtr(tails, np.abs(errors) / np.sqrt(1 - 2 / np.asarray(tails))) - 1
    return levels


def _spearman(values: FloatArray, mean: FloatArray) -> float:
    if len(values) < 2 or np.ptp(values) == 0 or np.ptp(mean) == 0 or not np.isfinite(mean).all():
        return float("nan")
    return float(np.corrcoef(rankdata(values), rankdata(mean))[0, 1])


def metrics_of_draw(labels: IntArray, scores: FloatArray) -> dict[str, float]:
    """:func:`binary_metrics` of one draw: labels and scores ``[m]``."""
    return {name: float(values[0]) for name, values in binary_metrics(labels[None], scores[None]).items()}
