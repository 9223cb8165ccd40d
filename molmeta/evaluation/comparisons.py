"""Which method is better, and how sure is that: paired comparisons over tasks, several at once, ranks and power.

A method stands here as a mapping of task to its mean over draws, so a task counts once however many draws it has.
Tasks are the unit of every statement: they are what a new assay is drawn from. A task without a finite value on both
sides is left out of a comparison, and ``tasks`` says how many are left; where there are fewer than two, intervals,
tests and effects are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import chi2, norm, rankdata, studentized_range, wilcoxon
from scipy.stats import t as student

from molmeta.core.random import keyed_rng
from molmeta.core.task import FloatArray
from molmeta.errors import ConfigError

NAN = float("nan")
FEW = 20  # values below which a bootstrap interval is not to be trusted
EFFICIENCY = 3 / math.pi  # of the signed-rank test against the t-test, for normal differences
LEAST = 6  # pairs with which the signed-rank test can reach 5 %
DECIMALS = 12  # means that differ by less are ties: the order of a sum already changes the 16th digit


def bootstrap_interval(values: Iterable[float], *, level: float = 0.95, resamples: int = 10_000) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over tasks, seed 0; (NaN, NaN) for fewer than two finite values.

    Of fewer than 20 values the bootstrap's interval is too narrow (of 5, 95 % covers 84 %): Student's is given.
    """
    found = _finite(values)
    if len(found) < 2:
        return NAN, NAN
    if len(found) < FEW:
        half = float(student.ppf((1 + level) / 2, len(found) - 1) * found.std(ddof=1) / math.sqrt(len(found)))
        return float(found.mean()) - half, float(found.mean()) + half
    draws = keyed_rng(0, "bootstrap").integers(len(found), size=(resamples, len(found)))
    low, high = np.quantile(found[draws].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Comparison:
    """The paired difference of two methods over the tasks that both have.

    Attributes:
        difference: mean over tasks of (left - right).
        low, high: its bootstrap interval over tasks.
        tasks: how many.
        wins: tasks where left is higher; ``losses`` where right is; ``ties`` where they are equal.
        p_value: Wilcoxon signed-rank test, two-sided, ties left out; 1 when all tasks are ties.
        effect: matched-pairs rank-biserial correlation (R+ - R-) / (R+ + R-), where R+ and R- are the sums of the
            ranks of |left - right| over wins and over losses (Kerby, 2014, doi:10.2466/11.IT.3.1). 1: left is
            higher on every task; 0: neither.
    """

    difference: float
    low: float
    high: float
    tasks: int
    wins: int
    losses: int = 0
    ties: int = 0
    p_value: float = NAN
    effect: float = NAN

    def __str__(self) -> str:
        if self.tasks < 2:
            return f"{self.difference:+.3f}, {self.wins}/{self.tasks} tasks higher (too few for an interval)"
        return (
            f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}], {self.wins}/{self.tasks} tasks higher, "
            f"Wilcoxon {_p(self.p_value)}"
        )


def paired_differences(left: Mapping[str, float], right: Mapping[str, float]) -> FloatArray:
    """left - right [tasks] over the tasks where both are finite, in the order of their names."""
    shared = [t for t in sorted(left.keys() & right.keys()) if math.isfinite(left[t]) and math.isfinite(right[t])]
    gaps: FloatArray = np.array([left[t] - right[t] for t in shared], dtype=np.float64).round(DECIMALS)
    return gaps


def compare(
    left: Mapping[str, float], right: Mapping[str, float], *, level: float = 0.95, resamples: int = 10_000
) -> Comparison:
    """Compare two methods task by task. Without a task that both have, every number is NaN."""
    gaps = paired_differences(left, right)
    low, high = bootstrap_interval(gaps, level=level, resamples=resamples)
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    p_value, effect = _signed_ranks(gaps)
    mean = float(gaps.mean()) if len(gaps) else NAN
    return Comparison(mean, low, high, len(gaps), wins, losses, len(gaps) - wins - losses, p_value, effect)


def _signed_ranks(gaps: FloatArray) -> tuple[float, float]:
    """Wilcoxon's p and the rank-biserial correlation."""
    if len(gaps) < 2:
        return NAN, NAN
    apart = gaps[gaps != 0]
    if len(apart) == 0:
        return 1.0, 0.0
    ranks = rankdata(np.abs(apart))
    return float(wilcoxon(apart).pvalue), float((ranks * np.sign(apart)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): the i-th smallest of m is multiplied by m - i + 1, then made monotone.

    A NaN stays NaN and does not count as a test.
    """
    p: FloatArray = np.asarray(p_values, dtype=np.float64)
    order = [i for i in np.argsort(p) if not math.isnan(p[i])]
    adjusted = np.full(len(p), NAN)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(order), 0, -1)))
    return [float(v) for v in adjusted]


@dataclass(frozen=True)
class ComparisonRow:
    """One pair out of several: the comparison, and its p-value adjusted by Holm for all pairs of the table."""

    left: str
    right: str
    comparison: Comparison
    adjusted_p: float

    def __str__(self) -> str:
        return f"{self.left} - {self.right}: {self.comparison}, Holm {_p(self.adjusted_p)}"


def compare_all(
    methods: Mapping[str, Mapping[str, float]], reference: str | None = None, *, level: float = 0.95
) -> list[ComparisonRow]:
    """Compare all pairs of methods, or each method with one reference (which stands on the right).

    Raises:
        ConfigError: there is no method of the reference's name.
    """
    if reference is not None and reference not in methods:
        raise ConfigError(f'no results of the reference "{reference}". Results in hand: {", ".join(methods)}')
    if reference is None:
        pairs = list(combinations(methods, 2))
    else:
        pairs = [(name, reference) for name in methods if name != reference]
    found = [compare(methods[left], methods[right], level=level) for left, right in pairs]
    adjusted = holm([c.p_value for c in found])
    return [ComparisonRow(*pair, c, p) for pair, c, p in zip(pairs, found, adjusted, strict=True)]


@dataclass(frozen=True)
class Ranks:
    """Methods ranked on each task (Demsar, 2006, JMLR 7:1-30), for a critical-difference diagram.

    Attributes:
        ranks: mean rank of each method, best (lowest) first; 1 is best on every task, ties share their mean rank.
        tasks: how many tasks all methods have.
        p_value: Friedman's test (chi-squared) that all methods rank alike.
        critical_difference: mean ranks at least this far apart differ (Nemenyi).
        cliques: the largest groups within which no two methods are that far apart, best first; two methods or more.
    """

    ranks: dict[str, float]
    tasks: int
    p_value: float
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        ranked = ", ".join(f"{name} {rank:.2f}" for name, rank in self.ranks.items())
        alike = "; ".join(" = ".join(c) for c in self.cliques) or "none"
        return (
            f"mean rank over {self.tasks} tasks (1 is best): {ranked}\n"
            f"Friedman {_p(self.p_value)}; critical difference {self.critical_difference:.2f}; not separated: {alike}"
        )


def mean_ranks(
    methods: Mapping[str, Mapping[str, float]], *, level: float = 0.05, higher_is_better: bool = True
) -> Ranks:
    """Rank two or more methods on the tasks that all of them have.

    The critical difference is q sqrt(k (k + 1) / (6 n)) for k methods on n tasks, with q the ``1 - level`` quantile
    of the studentised range over sqrt(2). With fewer than two tasks or methods, tests are NaN and no clique is named.
    """
    names = list(methods)
    shared = set.intersection(*(set(m) for m in methods.values())) if methods else set()
    tasks = [t for t in sorted(shared) if all(math.isfinite(m[t]) for m in methods.values())]
    if not tasks:
        return Ranks(dict.fromkeys(names, NAN), 0, NAN, NAN, ())
    values = np.round([[methods[name][t] for name in names] for t in tasks], DECIMALS)
    per_task: FloatArray = rankdata(-values if higher_is_better else values, axis=1)
    means = per_task.mean(0)
    ranks = {names[i]: float(means[i]) for i in np.argsort(means, kind="stable")}
    if len(tasks) < 2 or len(names) < 2:
        return Ranks(ranks, len(tasks), NAN, NAN, ())
    distance = nemenyi(len(names), len(tasks), level=level)
    return Ranks(ranks, len(tasks), _friedman(per_task), distance, _cliques(ranks, distance))


def nemenyi(methods: int, tasks: int, *, level: float = 0.05) -> float:
    """The distance of mean ranks from which two of ``methods`` differ on ``tasks`` (Demsar, 2006, section 3.2.2)."""
    q = float(studentized_range.ppf(1 - level, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * tasks))


def _friedman(ranks: FloatArray) -> float:
    """Friedman's p from ranks [tasks, methods]: also for two methods, and 1 when all methods tie on all tasks."""
    tasks, methods = ranks.shape
    centred = ranks - (methods + 1) / 2
    spread = float((centred**2).sum())  # less than its maximum where methods tie: the usual correction for ties
    if spread == 0:
        return 1.0
    statistic = (methods - 1) * tasks**2 * float((centred.mean(0) ** 2).sum()) / spread
    return float(chi2.sf(statistic, methods - 1))


def _cliques(ranks: Mapping[str, float], distance: float) -> tuple[tuple[str, ...], ...]:
    """Maximal runs of two or more in rank order whose ends are less than ``distance`` apart."""
    names, found, last = list(ranks), [], 0
    for start, name in enumerate(names):
        end = max(i for i in range(start, len(names)) if ranks[names[i]] - ranks[name] < distance) + 1
        if end > last and end - start > 1:  # a run that ends no later lies within the one before
            found.append(tuple(names[start:end]))
            last = end
    return tuple(found)


def tasks_needed(
    differences: Iterable[float], *, gain: float = 0.01, power: float = 0.8, level: float = 0.05
) -> int | None:
    """How many tasks a paired comparison needs, to find a mean difference of ``gain`` with this power.

    From the spread s of the differences in hand, by the normal approximation for Wilcoxon's signed-rank test:
    n = pi / 3 ((z(1 - level / 2) + z(power)) s / gain)^2, six at the least, about two tasks short where n is small.
    None where it cannot be said: fewer than two finite differences, or a gain of 0.
    """
    spread = _spread(differences)
    if math.isnan(spread) or gain == 0:
        return None
    return max(LEAST, math.ceil((_distance(power, level) * spread / gain) ** 2 / EFFICIENCY))


def detectable_gain(
    differences: Iterable[float], tasks: int | None = None, *, power: float = 0.8, level: float = 0.05
) -> float:
    """The mean difference that a paired comparison on ``tasks`` tasks (or on those in hand) finds with this power.

    :func:`tasks_needed` turned round; NaN for fewer than two finite differences.
    """
    found = _finite(differences)
    size = len(found) if tasks is None else tasks
    return _distance(power, level) * _spread(found) / math.sqrt(EFFICIENCY * size) if size > 0 else NAN


def power_note(differences: Iterable[float], *, gain: float = 0.01, power: float = 0.8) -> str:
    """One line: what these tasks can tell apart, and how many tasks tell ``gain``."""
    found = _finite(differences)
    needed = tasks_needed(found, gain=gain, power=power)
    if needed is None:
        return f"power: {len(found)} tasks are too few to say what they can tell apart"
    return (
        f"power: these {len(found)} tasks tell a mean difference of {detectable_gain(found, power=power):.3f} in "
        f"{100 * power:.0f} % of cases; {needed} tasks tell {gain:g}"
    )


def _distance(power: float, level: float) -> float:
    """How many standard errors a difference must be, to be found with this power by a two-sided test."""
    return float(norm.ppf(1 - level / 2) + norm.ppf(power))


def _finite(values: Iterable[float]) -> FloatArray:
    found: FloatArray = np.array([v for v in values if math.isfinite(v)], dtype=np.float64)
    return found


def _spread(differences: Iterable[float]) -> float:
    found = _finite(differences)
    return float(found.std(ddof=1)) if len(found) > 1 else NAN


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p {value:.2g}"
