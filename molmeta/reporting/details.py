"""The sections that look closer: groups of tasks, calibration, cost, audit, and single assays."""

from __future__ import annotations

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.depict import draw
from molmeta.evaluation.breakdowns import breakdowns
from molmeta.evaluation.calibration import Calibration, Coverage
from molmeta.evaluation.scores import TaskRecord
from molmeta.reporting.blocks import Block, Card, Cards, Drawing, Fold, Gallery, Section, Tabular, Text
from molmeta.reporting.canvas import Panel
from molmeta.reporting.figures import breakdown, cost, group_means
from molmeta.reporting.prediction_figures import FEW, interval_coverage, reliability_diagram, risk_coverage
from molmeta.reporting.predictions import molecules
from molmeta.reporting.study import Study
from molmeta.reporting.tables import Cell, Row, Table, audit_table, overlap_table
from molmeta.reporting.words import count, metric, number, plus_minus

_SHOWN = 3  # assays at either end


def groups(study: Study) -> Section | None:
    """The leading metric by group of tasks."""
    blocks: list[Block] = []
    for way in breakdowns(study.tasks):
        panel = breakdown(study, way, study.size)
        if panel is not None:
            caption = (
                f"{metric(study.metric).title} at {study.size} labelled molecules {way.title}: means and standard "
                "errors over the tasks of a group."
            )
            blocks.append(Gallery(caption, [panel]))
            tables: list[Block] = [Tabular(_group_table(study, way.title, way.groups, size)) for size in study.sizes]
            blocks.append(Fold("In numbers, at every size", tables))
    return Section("groups", "On which tasks", blocks) if blocks else None


def _group_table(study: Study, title: str, members: dict[str, list[str]], size: int) -> Table:
    rows = []
    for group, tasks in members.items():
        found = group_means(study, tasks, size)
        cells = [Cell("–", mark="quiet")] * len(study.methods)
        for method in study.methods:
            if method.name in found:
                mean, error, tasks_in = found[method.name]
                cells[method.place] = Cell(plus_minus(mean, error), count(tasks_in, "task"))
        rows.append(Row(group, cells))
    head = [Cell("tasks"), *(Cell(method.name) for method in study.methods)]
    return Table(f"{metric(study.metric).title} at {size} labelled molecules, {title}.", head, rows)


def calibration(study: Study) -> Section | None:
    """Whether probabilities, or predicted deviations, can be believed."""
    reliable: list[Panel] = []
    risks: list[Panel] = []
    covered: list[Panel] = []
    of_class = "right predictions" if study.kind is TaskKind.MULTICLASS else "actives"
    for size in study.sizes:
        found = {m: study.calibrations(m).get(size) for m in study.methods}
        if binned := {m: c for m, c in found.items() if isinstance(c, Calibration)}:
            reliable.append(reliability_diagram(binned, size, of_class))
            risks.append(risk_coverage(binned, size))
        if covering := {m: c for m, c in found.items() if isinstance(c, Coverage)}:
            covered.append(interval_coverage(covering, size))
    blocks: list[Block] = []
    if reliable:
        blocks += [
            Gallery(
                f"Reliability: the observed share of {of_class} against the predicted probability, in 15 bins of equal "
                "mass over the query rows of all tasks and draws. On the diagonal, probabilities are right; below it "
                "they promise too much. Large tasks weigh more here than in the tables. Below: how often each "
                f"probability is given{'' if len(study.methods) <= FEW else f', by {study.first.name}'}.",
                reliable,
            ),
            Gallery(
                "Error rate among the most certain predictions: where probabilities rank errors well, the line falls "
                "steeply to the left, as the least certain are set aside.",
                risks,
            ),
        ]
    if covered:
        blocks.append(
            Gallery(
                "Coverage: the share of measured values inside each predicted central interval, over the query rows of "
                "all tasks and draws. On the diagonal, deviations are right; below it they are too small.",
                covered,
            )
        )
    return Section("calibration", "Can the predictions be believed", blocks) if blocks else None


def costs(study: Study) -> Section | None:
    """Quality against time."""
    panel = cost(study)
    if panel is None:
        return None
    caption = (
        "Seconds to adapt to a support and predict its query, with the draw's share of embedding the task's molecules, "
        "against the score; numbers are labelled molecules. Times are of whatever computer each result was made on."
    )
    return Section("cost", "Cost against quality", [Gallery(caption, [panel])])


def audit(study: Study) -> Section | None:
    """What repeated, conflicting and trained-on molecules do to the scores."""
    tables: list[Block] = [Tabular(table) for size in study.sizes if (table := audit_table(study, size))]
    blocks: list[Block] = []
    if (overlap := overlap_table(study)) is not None:
        blocks.append(Tabular(overlap))
    if study.trained:
        named = "; ".join(f"{task} ({methods})" for task, methods in sorted(study.trained.items()))
        blocks.append(Text(f"Trained on: {named}.", warning=True))
    blocks += tables[:1]
    if tables[1:]:
        blocks.append(Fold("The same at the other sizes", tables[1:]))
    return Section("audit", "Audit: repeated, conflicting and trained-on molecules", blocks) if blocks else None


def assays(study: Study) -> Section | None:
    """The hardest and the easiest assays of the first method, with molecules."""
    means = study.first.means(study.metric, study.size)
    order = sorted((task for task in means if task in study.tasks), key=lambda t: (study.sign * means[t], t))
    if not order:
        return None
    shown = min(_SHOWN, len(order) // 2)
    ends = [("The hardest", order[:shown]), ("The easiest", order[::-1][:shown])] if shown else [("The assay", order)]
    blocks: list[Block] = [
        Text(
            f"Ordered by {metric(study.metric).title} of {study.first.name} at {study.size} labelled molecules; the "
            "molecules show where its mean prediction over the draws is best and worst."
        )
    ]
    blocks += [Cards(title, [_card(study, task) for task in tasks]) for title, tasks in ends]
    return Section("assays", "The hardest and the easiest assays", blocks)


def _card(study: Study, name: str) -> Card:
    task = study.tasks[name]
    drawings = [
        Drawing(draw(m.smiles), m.smiles, (f"{m.label}: {m.verdict}", f"predicted {m.predicted:.2f}"))
        for m in molecules(study.first.result, task, study.size)
    ]
    scored = [
        (m.place, m.name, Cell(number(m.means(study.metric, study.size).get(name, float("nan")))))
        for m in study.methods
    ]
    facts = [fact for fact in (study.about(name), _labels(task)) if fact]
    return Card(study.task_name(name), facts, scored, drawings)


def _labels(task: TaskRecord) -> str:
    told = count(len(task), "molecule")
    if task.kind is TaskKind.BINARY and len(task):
        told += f", {100 * float(task.labels.mean()):.0f} % active"
    if len(task.similarity):
        told += f"; similarity to the training fold's nearest molecules {float(task.similarity.mean()):.2f} on average"
    return told
