"""What a person reads of a result: lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from molmeta.core.task import TaskKind
from molmeta.errors import InputError
from molmeta.evaluation.comparisons import compare, compare_all, mean_ranks, paired_differences, power_note
from molmeta.evaluation.metrics import LOWER_IS_BETTER
from molmeta.evaluation.results import Result, names
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
    asked, because = result.header["protocol"], result.header["refused_because"]
    found = ["support  tasks  " + "  ".join(f"{name:<15}" for name in metrics)]
    for size in asked["sizes"]:
        if size in result.sizes:
            means = [summarise(scores, name, size) for name in metrics]
            found.append(f"{size:>7}  {means[0].tasks:>5}  " + "  ".join(f"{m!s:<15}" for m in means))
        else:
            found.append(f"{size:>7}      0  no draw: {because.get(str(size), 'every one was refused')}")
    return [*found, *_notes(result, metrics[0]), *audit(result)]


def _notes(result: Result, metric: str) -> list[str]:
    """What is not seen in the means: draws that were refused, failed or have no score; chance; calibration."""
    scores, total, found = result.scores, result.header["overlap"]["tasks"], []
    if len({s.task for s in scores}) == 1 < total or (total == 1 and scores):
        found.append("± is over the draws of the one task.")
    fewer = [n for n in result.sizes if len({s.task for s in scores if s.support_size == n}) < total]
    if fewer:
        found.append(f"At {_listed(fewer)} not all of the {total} tasks can be drawn: lines are not of the same tasks.")
    if refused := {n: count for n, count in result.header["refused"].items() if count and int(n) in result.sizes}:
        found.append("Draws refused: " + ", ".join(f"{count} at {n}" for n, count in refused.items()) + ".")
    whole = [s for s in scores if s.subset == ALL]
    if failed := sum(s.values["failed"] > 0 for s in whole):
        found.append(f"{failed} draws have predictions that are not finite, and no score: the model diverged there.")
    if undefined := sum(not np.isfinite(s.values[metric]) and not s.values["failed"] for s in whole):
        found.append(f"{undefined} draws have a query of one class or value, and no score.")
    if result.kind is TaskKind.BINARY and whole:
        above = ", ".join(
            f"{summarise(scores, 'chance', n).mean:.3f} at {n} (above it: {summarise(scores, 'above_chance', n)})"
            for n in result.sizes
        )
        found.append(f"A random ranking's delta_auprc is a little above 0: {above}.")
    if pooled := result.header.get("pooled_ece"):
        found.append(f"ece pooled over tasks: {', '.join(f'{ece:.3f} at {n}' for n, ece in pooled.items())}.")
    if kept := result.header.get("pooled_accuracy"):
        found.append(f"Right of the most certain predictions of all tasks: {_by_level(kept)}.")
    if inside := result.header.get("pooled_coverage"):
        found.append(f"Values of all tasks inside the predicted central interval: {_by_level(inside)}.")
    return found


def _by_level(found: Mapping[str, Mapping[str, float]]) -> str:
    """``of 50 %: .512 at 16, .498 at 32; of 80 %: ...`` from size to level to share."""
    levels: dict[str, list[str]] = {}
    for size, shares in found.items():
        for level, share in shares.items():
            levels.setdefault(level, []).append(f"{share:.3f} at {size}")
    return "; ".join(f"of {float(level):.0%}: {', '.join(shares)}" for level, shares in levels.items())


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
    found += _by_training(result, every)
    return [f"{metric} at {smallest}, looked at closer:", *found] if found else []


def _by_training(result: Result, every: Mapping[str, float]) -> list[str]:
    """Tasks whose molecules were all trained on, and the others."""
    share = {name: task.trained.mean() for name, task in result.tasks.items() if task.trained is not None}
    known = [every[task] for task, seen in share.items() if seen == 1 and task in every]
    other = [every[task] for task, seen in share.items() if seen < 1 and task in every]
    if not known or not other:
        return []
    return [
        f"  {len(known)} tasks of molecules that were all trained on: {np.mean(known):.3f}; the other {len(other)}: "
        f"{np.mean(other):.3f}"
    ]


def training_lines(result: Result) -> list[str]:
    """How much of the benchmark the model was trained on."""
    seen = result.header["overlap"]
    found = []
    if seen["molecules"]:
        share = seen["trained_molecules"] / seen["molecules"]
        found.append(
            f"{seen['trained_molecules']:,} of the {seen['molecules']:,} molecules ({share:.0%}) stand in the model's "
            "training"
        )
    else:
        found.append("There is no record of what was trained on (for a baseline: nothing)")
    if trained := seen["trained_tasks"]:
        found.append(
            f"{len(trained)} of {seen['tasks']} assays were trained on; their scores say nothing of new ones: "
            f"{_listed(trained[:5])}{' ...' if len(trained) > 5 else ''}"
        )
    return found


def against(result: Result, other: Result) -> list[str]:
    """A line a support size: the paired difference to another result."""
    metric = headline(result)[0]
    name = other.method if other.method != result.method else f"{other.method} ({other.folder or 'the other'})"
    found = [f"{result.method} - {name}, {metric}, paired over tasks:", *unlike([result, other])]
    gaps = [
        (size, compare(per_task(result.scores, metric, size), per_task(other.scores, metric, size)))
        for size in result.sizes
        if size in other.sizes
    ]
    if not any(gap.tasks for _, gap in gaps):
        return [f"{name} has no {metric} of these tasks at these support sizes"]
    return [*found, *(f"{size:>7}  {gap}" for size, gap in gaps)]


def unlike(results: Sequence[Result]) -> list[str]:
    """A warning for each way in which results were not asked alike."""
    asked = [result.header["protocol"] for result in results if result.header]
    found = []
    for key in ("source", "split", "kind", "draws", "settings", "query_share"):
        answers = {str(protocol.get(key)): None for protocol in asked}
        if len(answers) > 1:
            found.append(f"Not asked alike: {key} {' and '.join(answers)}")
    return found


def compared(
    results: Sequence[Result], metric: str | None = None, subset: str = ALL, sizes: Sequence[int] | None = None
) -> list[str]:
    """Several results task by task, each pair and all together, at each support size that they share.

    Raises:
        InputError: fewer than two results, or a metric, part or size that one of them lacks.
    """
    methods = dict(zip(names(results), results, strict=True))
    if len(methods) < 2:
        raise InputError(f"name two or more results, not {_listed(methods)}")
    metric = metric or headline(results[0])[0]
    higher = metric not in LOWER_IS_BETTER
    found = [f"{metric} ({'higher' if higher else 'lower'} is better; {subset} query rows), paired over tasks"]
    found += unlike(results)
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
