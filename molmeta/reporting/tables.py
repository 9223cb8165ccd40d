"""Tables of scores: from a study to rows of text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from molmeta.evaluation.comparisons import ComparisonRow, bootstrap_interval, compare_all, tasks_needed
from molmeta.evaluation.comparisons import detectable_gain as detectable
from molmeta.evaluation.comparisons import paired_differences as differences
from molmeta.evaluation.scores import ALL, SUBSETS
from molmeta.reporting.study import Method, Study, TaskMeans
from molmeta.reporting.words import METRICS, count, metric, number, p_value, plus_minus, signed

ALPHA = 0.05  # two methods are told apart where the adjusted p is below


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: the number.
        note: a second, smaller line.
        mark: "best", "alike" (not separable from the best), "quiet", "code", or "".
    """

    text: str
    note: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """A row: what it is of, the method whose colour it bears (or None), and its cells."""

    title: str
    cells: Sequence[Cell]
    place: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its reading aid.

    Attributes:
        caption: what it shows and how to read it.
        head: a cell a column; the first is of the rows' titles.
        rows: the body.
        notes: lines below it.
        words: the columns, counted after the rows' titles, that hold words and not numbers.
    """

    caption: str
    head: Sequence[Cell]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    words: Sequence[int] = ()

    def is_words(self, column: int) -> bool:
        """Whether a column holds words."""
        return column in self.words


def best_of(study: Study, size: int) -> tuple[str | None, set[str]]:
    """The best method at a size, and those that a Holm-adjusted paired Wilcoxon test does not tell from it."""
    means = study.means(size)
    if len(means) < 2:
        return None, set()
    best = max(means, key=lambda name: study.sign * float(np.mean(list(means[name].values()))))
    alike = {row.left for row in compare_all(means, best) if not row.adjusted_p < ALPHA}
    return best, alike


def main_table(study: Study) -> Table:
    """Every method at every support size, with the chance level and the tasks in each column."""
    marks = {size: best_of(study, size) for size in study.sizes}
    rows = [
        Row(method.name, [_main_cell(study, method, size, *marks[size]) for size in study.sizes], method.place)
        for method in study.methods
    ]
    if study.metric == "delta_auprc":
        rows += _chance_rows(study)
    head = [Cell("labelled molecules"), *(Cell(str(size), _tasks(study, size)) for size in study.sizes)]
    title = metric(study.metric).heading
    reading = "mean ± standard error over tasks, below it the 95 % bootstrap interval over tasks."
    if len(study.methods) > 1:
        reading += " Bold: the best mean. ≈: not separable from it (paired Wilcoxon over tasks, Holm-adjusted, 5 %)."
    return Table(f"{title} by number of labelled molecules: {reading}", head, rows, _undefined(study))


def _tasks(study: Study, size: int) -> str:
    counts = study.task_counts(size)
    return f"{'–'.join(str(n) for n in sorted({counts[0], counts[-1]}))} task{'' if counts == [1] else 's'}"


def _main_cell(study: Study, method: Method, size: int, best: str | None, alike: set[str]) -> Cell:
    means = method.means(study.metric, size)
    if not means:
        return Cell("–", mark="quiet")
    found = method.summary(study.metric, size)
    low, high = bootstrap_interval(means.values())
    counts = study.task_counts(size)
    own = f"{count(found.tasks, 'task')}, " if len(counts) > 1 else ""
    mark = "best" if method.name == best else "alike" if method.name in alike else ""
    interval = f"[{number(low)}, {number(high)}]" if math.isfinite(low) else ""
    return Cell(plus_minus(found.mean, found.error), (own + interval).rstrip(", "), mark)


def _chance_rows(study: Study) -> list[Row]:
    """What a random ranking scores on the same queries, from the first method that knows."""
    for method in study.methods:
        found = [method.summary("chance", size) for size in study.sizes]
        if any(summary.tasks for summary in found):
            cells = [Cell(number(summary.mean), mark="quiet") for summary in found]
            return [Row("chance", cells, note="a random ranking, on average")]
    return []


def _undefined(study: Study) -> list[str]:
    """Draws without a score, counted."""
    lines = []
    for method in study.methods:
        by_size = {size: method.summary(study.metric, size).undefined for size in study.sizes}
        if total := sum(by_size.values()):
            where = ", ".join(f"{n} at {size}" for size, n in by_size.items() if n)
            lines.append(f"{method.name}: {count(total, 'draw')} without a score ({where}), left out of the means.")
    return lines or ["Every draw has a score; none was left out."]


def metric_table(study: Study, size: int, pooled_ece: dict[str, float] | None = None) -> Table:
    """Every other metric at one size."""
    names = [name for name in study.metrics if any(m.means(name, size) for m in study.methods)]
    pooled = pooled_ece or {}
    methods = [method for method in study.methods if method.scores(size)]
    best = {name: _best_method(methods, name, size) for name in names}
    rows = []
    for method in methods:
        cells = [_metric_cell(method, name, size, best[name] == method.name) for name in names]
        if pooled:
            cells.append(Cell(number(pooled.get(method.name, float("nan")))))
        rows.append(Row(method.name, cells, method.place))
    head = [
        Cell("method"),
        *(Cell(metric(name).heading) for name in names),
        *([Cell(f"Pooled {METRICS['ece'].heading}")] if pooled else []),
    ]
    return Table(f"{size} labelled molecules, {_tasks(study, size)}: mean, below it the standard error.", head, rows)


def _metric_cell(method: Method, name: str, size: int, best: bool) -> Cell:
    found = method.summary(name, size)
    note = "" if math.isnan(found.error) else f"± {number(found.error)}"
    return Cell(number(found.mean), note, "best" if best else "")


def _best_method(methods: Sequence[Method], name: str, size: int) -> str:
    better = metric(name).better
    means = {m.name: m.summary(name, size).mean for m in methods}
    means = {method: mean for method, mean in means.items() if math.isfinite(mean)}
    return max(means, key=lambda method: better * means[method]) if better and len(means) > 1 else ""


def pair_rows(study: Study, size: int) -> list[ComparisonRow]:
    """All pairs at a size, adjusted together."""
    return compare_all(study.means(size)) if len(study.means(size)) > 1 else []


def pair_table(study: Study, size: int, rows: Sequence[ComparisonRow]) -> Table:
    """Paired comparisons at one size."""
    ties = " / equal" if any(row.comparison.ties for row in rows) else ""
    body = []
    for row in rows:
        found = row.comparison
        told = row.adjusted_p < ALPHA
        cells = [
            Cell(signed(found.difference), f"[{signed(found.low)}, {signed(found.high)}]", "best" if told else ""),
            Cell(f"{found.wins} / {found.losses}" + (f" / {found.ties}" if ties else "")),
            Cell(signed(found.effect, 2)),
            Cell(p_value(found.p_value)),
            Cell(p_value(row.adjusted_p), mark="best" if told else ""),
        ]
        body.append(Row(f"{row.left} − {row.right}", cells, note=count(found.tasks, "task")))
    head = ["pair", "difference", f"higher / lower{ties}", "effect", "p", "p, Holm"]
    caption = (
        f"{size} labelled molecules: left minus right in {metric(study.metric).title}, task by task. Bold: told apart "
        "at 5 % after Holm's adjustment."
    )
    return Table(caption, [Cell(text) for text in head], body)


def power_table(study: Study, gain: float = 0.01) -> Table | None:
    """What the tasks in hand can tell apart, of the first method and the baseline."""
    if study.baseline is None:
        return None
    rows = []
    for size in study.sizes:
        gaps = differences(study.first.means(study.metric, size), study.baseline.means(study.metric, size))
        if (needed := tasks_needed(gaps, gain=gain)) is not None:
            found = Cell(number(detectable(gaps)))
            rows.append(Row(str(size), [Cell(str(len(gaps))), found, Cell(f"{needed:,}")]))
    caption = (
        f"What the tasks can tell, from the spread of {study.first.name} minus {study.baseline.name} over them: the "
        f"mean difference in {metric(study.metric).title} that they find in four cases of five, and how many tasks it "
        f"takes to find one of {gain:g}."
    )
    head = ["labelled molecules", "tasks in hand", "difference found", f"tasks for {gain:g}"]
    return Table(caption, [Cell(text) for text in head], rows) if rows else None


def audit_table(study: Study, size: int) -> Table | None:
    """The leading metric over honest parts of the queries, with the share of rows that each leaves out."""
    subsets = [name for name in SUBSETS if any(m.scores(size, name) for m in study.methods)]
    if len(subsets) < 2:
        return None
    rows = [
        Row(name, [_audit_cell(study, m, size, name) for m in study.methods], note=SUBSETS[name]) for name in subsets
    ]
    caption = (
        f"{size} labelled molecules: {metric(study.metric).title} over parts of the queries, mean ± standard error; "
        "below it the share of query molecules left out. A score that falls was helped by them. Where fewer tasks "
        "have a score, it is to be held against that of every row of these tasks. Grey: the method has no such part; "
        "its score is over every row of the tasks that the others have."
    )
    return Table(caption, [Cell("query"), *(Cell(m.name) for m in study.methods)], rows)


def _audit_cell(study: Study, method: Method, size: int, subset: str) -> Cell:
    whole, part = method.means(study.metric, size), method.means(study.metric, size, subset)
    if not method.scores(size, subset):  # nobody knows, of this method; the others' tasks are still of interest
        others = {task for m in study.methods for task in m.means(study.metric, size, subset)}
        return _over(whole, [task for task in whole if task in others])
    if not part:
        return Cell("–", mark="quiet")
    found, left_out = method.summary(study.metric, size, subset), left_out_share(method, size, subset)
    notes = [] if subset == ALL or math.isnan(left_out) else [f"{100 * left_out:.1f} % left out"]
    if len(part) < len(whole):  # what is left of some tasks has one class: hold the same tasks against each other
        notes.append(f"{count(len(part), 'task')}, {number(_over_mean(whole, part))} with every row")
    elif len({len(m.means(study.metric, size, subset)) for m in study.methods}) > 1:
        notes.append(count(len(part), "task"))
    return Cell(plus_minus(found.mean, found.error), "; ".join(notes))


def _over(means: TaskMeans, tasks: Sequence[str]) -> Cell:
    if not tasks:
        return Cell("–", mark="quiet")
    return Cell(number(_over_mean(means, tasks)), f"every row, {count(len(tasks), 'task')}", "quiet")


def _over_mean(means: TaskMeans, tasks: Iterable[str]) -> float:
    return float(np.mean([means[task] for task in tasks]))


def left_out_share(method: Method, size: int, subset: str) -> float:
    """The share of query rows, over all draws, that a subset leaves out; NaN where the rows were not counted."""

    def rows(part: str) -> float:
        return sum(score.values.get("queries", float("nan")) for score in method.scores(size, part))

    everything = rows(ALL)
    return 1 - rows(subset) / everything if everything > 0 else float("nan")


def overlap_table(study: Study) -> Table | None:
    """How much of the benchmark each model was trained on."""
    rows = []
    for method in study.methods:
        told = method.header.get("overlap") or {}
        if told:
            cells = [_share(told.get("trained_molecules"), told.get("molecules"))]
            cells.append(_share(told.get("trained_tasks"), told.get("tasks")))
            rows.append(Row(method.name, cells, method.place))
    if not rows:
        return None
    caption = "How many of the benchmark's molecules and tasks stand in each model's training."
    return Table(caption, [Cell("method"), Cell("molecules trained on"), Cell("tasks trained on")], rows)


def _share(part: object, whole: object) -> Cell:
    some, total = _counted(part), _counted(whole)
    if some is None:
        return Cell("not known", mark="quiet")
    return Cell(f"{some:,}" + (f" of {total:,}" if total else ""), f"{100 * some / total:.1f} %" if total else "")


def _counted(told: object) -> int | None:
    """A count that is told as a number or as a list of names."""
    if isinstance(told, list | tuple):
        return len(told)
    return int(told) if isinstance(told, int | float) else None
