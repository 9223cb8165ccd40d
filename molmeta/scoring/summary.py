"""What a person reads of a result: lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from molmeta.core.task import TaskKind
from molmeta.errors import InputError
from molmeta.evaluation.comparisons import compare, compare_all, mean_ranks, paired_differences, power_note
from molmeta.evaluation.metrics import LOWER_IS_BETTER
from molmeta.evaluation.results import Result
from molmeta.evaluation.scores import ALL, SUBSETS
from molmeta.evaluation.statistics import per_task, summarise

HEADLINE = {
    TaskKind.BINARY: ("delta_auprc", "roc_auc", "brier", "nll", "ece"),
    TaskKind.MULTICLASS: ("accuracy", "nll"),
    TaskKind.REGRESSION: ("r2", "rmse", "spearman"),
}


def headline(result: Result) -> tuple[str, ...]:
    """The metrics to show, the one that the benchmark is known by first."""
    usual, known_by = HEADLINE[result.kind], result.header.get("protocol", {}).get("metric")
    return tuple(dict.fromkeys((known_by, *usual) if known_by else usual))


def lines(result: Result) -> list[str]:
    """A line a support size: the headline metrics, mean ± standard error over tasks; and what a reader should know."""
    metrics, scores = headline(result), result.scores
    asked = result.header["protocol"]
    total = result.header["overlap"]["tasks"]
    found = ["support  tasks  " + "  ".join(f"{name:<15}" for name in metrics)]
    for size in asked["sizes"]:
        if size not in result.sizes:
            found.append(f"{size:>7}      0  no task is large enough")
            continue
        means = [summarise(scores, name, size) for name in metrics]
        found.append(f"{size:>7}  {means[0].tasks:>5}  " + "  ".join(f"{m!s:<15}" for m in means))
    small = [size for size in asked["sizes"] if 0 < len(per_task(scores, metrics[0], size)) < total]
    if small:
        found.append(f"At {_listed(small)} not all of the {total} tasks can be drawn: lines are not of the same tasks.")
    undefined = sum(summarise(scores, metrics[0], size).undefined for size in asked["sizes"])
    if undefined:
        found.append(f"{undefined} draws have a query without a score (one class only).")
    if result.kind is TaskKind.BINARY:
        chance = ", ".join(f"{summarise(scores, 'chance', size).mean:.3f} at {size}" for size in result.sizes)
        found.append(f"A random ranking's delta_auprc is a little above 0: {chance}.")
    if pooled := result.header.get("pooled_ece"):
        found.append(
            "ece pooled over tasks: " + ", ".join(f"{ece:.3f} at {size}" for size, ece in pooled.items()) + "."
        )
    return [*found, *audit(result)]


def audit(result: Result) -> list[str]:
    """The headline metric over the honest parts of the query that leave rows out, and over all of it on those tasks."""
    metric, scores = headline(result)[0], result.scores
    smallest = min(result.sizes, default=0)
    every, queries = per_task(scores, metric, smallest), per_task(scores, "queries", smallest)
    found = []
    for subset, leaves_out in SUBSETS.items():
        kept = per_task(scores, "queries", smallest, subset)
        left_out = 1 - sum(kept.values()) / max(sum(queries[task] for task in kept), 1)
        part = per_task(scores, metric, smallest, subset)
        shared = [every[task] for task in part if task in every]
        if left_out > 0 and shared:
            found.append(
                f"  {leaves_out} ({left_out:.1%} of rows): {np.mean(list(part.values())):.3f} "
                f"on {len(part)} tasks; {np.mean(shared):.3f} with every row of the same tasks"
            )
    return [f"{metric} at {smallest} over a part of the query:", *found] if found else []


def training_lines(result: Result) -> list[str]:
    """How much of the benchmark the model was trained on."""
    seen = result.header["overlap"]
    found = []
    if seen["molecules"]:
        share = seen["trained_molecules"] / seen["molecules"]
        found.append(
            f"{seen['trained_molecules']:,} of the {seen['molecules']:,} molecules ({share:.0%}) stand in the model's "
            "training under other assays"
        )
    if trained := seen["trained_tasks"]:
        found.append(
            f"{len(trained)} of {seen['tasks']} assays were trained on; their scores say nothing of new ones: "
            f"{_listed(trained[:5])}{' ...' if len(trained) > 5 else ''}"
        )
    return found


def against(result: Result, other: Result) -> list[str]:
    """A line a support size: the paired difference to another result."""
    metric = headline(result)[0]
    found = [f"{result.method} - {other.method}, {metric}, paired over tasks:"]
    for size in result.sizes:
        if size in other.sizes:
            gap = compare(per_task(result.scores, metric, size), per_task(other.scores, metric, size))
            found.append(f"{size:>7}  {gap}")
    return found if len(found) > 1 else [f"{other.method} has no score at these support sizes"]


def compared(
    results: Sequence[Result], metric: str | None = None, subset: str = ALL, sizes: Sequence[int] | None = None
) -> list[str]:
    """Several results task by task, each pair and all together, at each support size that they share.

    Raises:
        InputError: fewer than two results, two of one name, or a metric, part or size that one of them lacks.
    """
    methods = {result.method: result for result in results}
    if len(methods) < 2 or len(methods) < len(results):
        raise InputError(f"name two or more results of different methods, not {_listed(r.method for r in results)}")
    metric = metric or headline(results[0])[0]
    higher = metric not in LOWER_IS_BETTER
    found = [f"{metric} ({'higher' if higher else 'lower'} is better; {subset} query rows), paired over tasks"]
    for size in sizes or sorted(set.intersection(*(set(result.sizes) for result in results))):
        means = {name: per_task(result.scores, metric, size, subset) for name, result in methods.items()}
        if lacking := [name for name, of_task in means.items() if not of_task]:
            raise InputError(f"{_listed(lacking)}: no {metric} of {subset} query rows at a support of {size}")
        found += [f"support of {size}", *(f"  {row}" for row in compare_all(means))]
        if len(methods) > 2:
            found += [f"  {line}" for line in str(mean_ranks(means, higher_is_better=higher)).splitlines()]
        first, second = list(means.values())[:2]
        found.append(f"  {power_note(paired_differences(first, second))} (of the first two)")
    return found


def _listed(things: Iterable[object]) -> str:
    return ", ".join(str(thing) for thing in things)
