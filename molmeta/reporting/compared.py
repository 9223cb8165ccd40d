"""The sections that hold methods against each other: task by task, and by tests."""

from __future__ import annotations

from molmeta.evaluation.comparisons import mean_ranks
from molmeta.reporting.blocks import Block, Fold, Gallery, Section, Tabular, Text
from molmeta.reporting.canvas import Panel
from molmeta.reporting.figures import mean_rank_plot, ranked_differences, scatter
from molmeta.reporting.study import Study
from molmeta.reporting.tables import Cell, Row, Table, pair_rows, pair_table, power_table
from molmeta.reporting.words import metric, number, signed

_EXTREMES = 5  # tasks shown on either side
_RANKED = 3  # methods from which mean ranks say more than the pairs


def differences(study: Study) -> Section | None:
    """The first method against the baseline, task by task."""
    if study.baseline is None:
        return None
    title = metric(study.metric).title
    points = [panel for size in study.sizes if (panel := scatter(study, size))]
    bars = [panel for size in study.sizes if (panel := ranked_differences(study, size))]
    if not points:
        return None
    above = "above" if study.sign > 0 else "below"
    hollow = " Hollow points are tasks that a model was trained on." if study.trained else ""
    floor = " R² below −1 is drawn at −1." if study.metric == "r2" else ""
    first, other = study.first.name, study.baseline.name
    blocks: list[Block] = [
        Gallery(
            f"{title} of {first} (upright) against {other} (across), a point a task: points {above} the diagonal are "
            f"tasks on which {first} is better.{hollow}{floor}",
            points,
        ),
        Gallery(
            f"{title} of {first} minus {other}, a bar a task, in order. Dashed: the mean; grey: its 95 % bootstrap "
            "interval.",
            bars,
        ),
    ]
    if (table := _extremes(study, study.size)) is not None:
        blocks.append(Tabular(table))
    return Section("tasks", f"Task by task: {first} against {other}", blocks)


def _extremes(study: Study, size: int) -> Table | None:
    """The tasks on which the first method gains and loses most."""
    assert study.baseline is not None
    ours, theirs = study.first.means(study.metric, size), study.baseline.means(study.metric, size)
    gaps = {task: study.sign * (ours[task] - theirs[task]) for task in sorted(ours.keys() & theirs.keys())}
    order = sorted(gaps, key=lambda task: -gaps[task])
    gains = [task for task in order[:_EXTREMES] if gaps[task] > 0]
    losses = [task for task in order[::-1][:_EXTREMES] if gaps[task] < 0][::-1]
    if not gains + losses:
        return None
    rows = [
        Row(
            study.task_name(task),
            [
                Cell(number(ours[task])),
                Cell(number(theirs[task])),
                Cell(signed(ours[task] - theirs[task]), mark="best" if gaps[task] > 0 else ""),
                Cell(study.about(task) or "–"),
            ],
        )
        for task in gains + losses
    ]
    head = ["task", study.first.name, study.baseline.name, "difference", "assay"]
    caption = (
        f"Where {study.first.name} gains and loses most, at {size} labelled molecules ({metric(study.metric).title})."
    )
    return Table(caption, [Cell(text) for text in head], rows, words=[3])


def separation(study: Study) -> Section | None:
    """Paired tests of all pairs, mean ranks, and what the tasks in hand can tell."""
    pairs = {size: rows for size in study.sizes if (rows := pair_rows(study, size))}
    if not pairs:
        return None
    tables: list[Block] = [Tabular(pair_table(study, size, rows)) for size, rows in pairs.items()]
    intro = (
        "Pairs are compared task by task with Wilcoxon's signed-rank test; p-values are adjusted by Holm for all pairs "
        "of a size. Effect: matched-pairs rank-biserial "
        "correlation, 1 where the left method is higher on every task, 0 where neither is."
    )
    size, rows = next(iter(pairs.items()))
    of_first = [row for row in rows if study.first.name in (row.left, row.right)]
    blocks: list[Block] = [Text(intro), Tabular(pair_table(study, size, of_first))]
    if len(tables) > 1 or len(of_first) < len(rows):
        blocks.append(Fold("All pairs at every size", tables))
    if ranks := _ranks(study):
        caption = (
            "Mean rank over tasks, 1 is best. Lines are half the critical difference (Nemenyi, 5 %) to either side: "
            "methods whose lines overlap are not told apart by these tasks."
        )
        blocks.append(Gallery(caption, ranks))
    if (power := power_table(study)) is not None:
        blocks.append(Tabular(power))
    return Section("tests", "Which differences are real", blocks)


def _ranks(study: Study) -> list[Panel]:
    panels = []
    for size in study.sizes:
        means = study.means(size)
        if len(means) >= _RANKED:
            ranks = mean_ranks(means, higher_is_better=study.sign > 0)
            if ranks.tasks > 1:
                panels.append(mean_rank_plot(study, ranks, size))
    return panels
