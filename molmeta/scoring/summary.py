"""What a person reads of a result: lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from molmeta.core.task import TaskKind
from molmeta.evaluation.comparisons import compare
from molmeta.evaluation.results import Result
from molmeta.evaluation.scores import ALL, SUBSETS
from molmeta.evaluation.statistics import per_task, summarise

HEADLINE = {
    TaskKind.BINARY: ("delta_auprc", "roc_auc", "brier", "nll", "ece"),
    TaskKind.MULTICLASS: ("accuracy", "nll"),
    TaskKind.REGRESSION: ("r2", "rmse", "spearman"),
}


def lines(result: Result) -> list[str]:
    """A line a support size: the headline metrics, mean ± standard error over tasks; and what a reader should know."""
    metrics, scores = HEADLINE[result.kind], result.scores
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
    return [*found, *audit(result)]


def audit(result: Result) -> list[str]:
    """The headline metric over the honest parts of the query, where they are smaller than the whole."""
    metric, scores = HEADLINE[result.kind][0], result.scores
    smallest = min(result.sizes, default=0)
    present = {score.subset for score in scores if score.support_size == smallest} - {ALL}
    queries = per_task(scores, "queries", smallest)
    found = []
    for subset in (name for name in SUBSETS if name in present):
        kept = per_task(scores, "queries", smallest, subset)
        share = 1 - sum(kept.values()) / max(sum(queries.values()), 1)
        if share > 0:
            mean = summarise(scores, metric, smallest, subset)
            where = f"{share:.1%} of rows; {mean.tasks} tasks"
            found.append(f"{metric} at {smallest} {SUBSETS[subset]} ({where}): {mean}")
    return found


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
    metric = HEADLINE[result.kind][0]
    found = [f"{result.method} - {other.method}, {metric}, paired over tasks:"]
    for size in result.sizes:
        if size in other.sizes:
            gap = compare(per_task(result.scores, metric, size), per_task(other.scores, metric, size))
            found.append(f"{size:>7}  {gap}")
    return found if len(found) > 1 else [f"{other.method} has no score at these support sizes"]


def _listed(things: Sequence[object]) -> str:
    return ", ".join(str(thing) for thing in things)
