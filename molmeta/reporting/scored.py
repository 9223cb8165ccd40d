"""The first sections: what was asked of which models, and the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from molmeta.evaluation.calibration import Calibration
from molmeta.evaluation.comparisons import compare
from molmeta.reporting.blocks import Block, Fold, Gallery, Section, Tabular, Terms, Text
from molmeta.reporting.figures import BANDS, learning_curves
from molmeta.reporting.literature import literature
from molmeta.reporting.study import Method, Study
from molmeta.reporting.tables import Cell, Row, Table, main_table, metric_table
from molmeta.reporting.words import (
    CHANCE,
    DELTA_AUPRC,
    FSMOL_256,
    MEAN_OVER_TASKS,
    count,
    metric,
    number,
    plus_minus,
    protocol,
    signed,
)

_TOLD = {"name", "digest", "licence", "command", "commands"}  # of a model, that have a place of their own


def question(study: Study) -> Section:
    """What was asked: protocol, metric, methods."""
    header = next((m.header for m in study.methods if m.header), {})
    drawn = ", ".join(f"{'–'.join(map(str, study.task_counts(size)))} at {size}" for size in study.sizes)
    terms = [*protocol(header, study.kind), ("Tasks", f"{drawn} labelled molecules")]
    if refused := {k: v for k, v in (header.get("refused") or {}).items() if v}:
        terms.append(("Draws refused", ", ".join(f"{n:,} at {size}" for size, n in refused.items())))
    if versions := _shared_versions(study):
        terms.append(("Versions", versions))
    blocks: list[Block] = [Terms(terms)]
    blocks += [Text(sentence, warning=True) for sentence in study.disagreements()]
    if study.metric == "delta_auprc":
        blocks += [Text(DELTA_AUPRC), Text(CHANCE)]
    else:
        leading = metric(study.metric)
        blocks.append(Text(f"{leading.title}: {leading.meaning}. {MEAN_OVER_TASKS}"))
    if is_fsmol(study) and any(size >= 256 for size in study.sizes):
        blocks.append(Text(FSMOL_256))
    if study.trained:
        blocks.append(
            Text(
                f"† marks tasks that a model was trained on ({len(study.trained)} of those here): their scores say "
                "nothing of new assays.",
                warning=True,
            )
        )
    if any(method.header for method in study.methods):
        blocks.append(Tabular(_method_table(study, told=bool(versions))))
    return Section("question", "What was asked", blocks)


def is_fsmol(study: Study) -> bool:
    """Whether these are scores of FS-Mol, as far as they say."""
    return any((m.header.get("protocol") or {}).get("source") == "fsmol" for m in study.methods)


def _versions(method: Method) -> str:
    return ", ".join(f"{name} {value}" for name, value in (method.header.get("environment") or {}).items())


def _shared_versions(study: Study) -> str:
    """The versions behind the results, where all have the same."""
    found = {_versions(method) for method in study.methods if method.header}
    return found.pop() if len(found) == 1 else ""


def _method_table(study: Study, told: bool) -> Table:
    """What is known of each method's model; its versions unless they were ``told`` for all."""
    columns = ["method", "model", "licence", "command", *([] if told else ["versions"])]
    rows = [Row(method.name, _about(method)[: len(columns) - 1], method.place) for method in study.methods]
    words = range(len(columns) - 1)
    return Table("The methods, in the colours of all figures.", [Cell(text) for text in columns], rows, words=words)


def _about(method: Method) -> list[Cell]:
    model: Mapping[str, Any] = method.header.get("model") or {}
    rest = ", ".join(f"{key} {value}" for key, value in model.items() if key not in _TOLD)
    known = [text for key in ("name", "digest") if (text := str(model.get(key) or ""))] + ([rest] if rest else [])
    trained = model.get("commands") or model.get("command") or ""
    command = "; ".join(map(str, trained)) if isinstance(trained, list | tuple) else str(trained)
    return [
        Cell(known[0] if known else "–", " · ".join(known[1:])),
        Cell(str(model.get("licence") or "–")),
        Cell(str(method.header.get("command") or "–"), f"trained by: {command}" if command else "", "code"),
        Cell(_versions(method) or "–"),
    ]


def scores(study: Study) -> Section:
    """The main table, every other metric, published results, and learning curves."""
    blocks: list[Block] = [Text(_in_brief(study)), Tabular(main_table(study))]
    if len(study.sizes) > 1:
        caption = (
            "Learning curves: the mean over tasks by number of labelled molecules, with 95 % bootstrap intervals over "
            "tasks."
        )
        if len(study.methods) > BANDS:
            caption += " Points of one size stand side by side."
        if len({tuple(study.task_counts(size)) for size in study.sizes}) > 1:
            caption += (
                " Sizes of different task counts are of other assays: a rise between them may be the assays', not the "
                "methods'."
            )
        blocks.append(Gallery(caption, [learning_curves(study)]))
    blocks += literature(study)
    folded: list[Block] = [Tabular(metric_table(study, size, _pooled(study, size))) for size in study.sizes]
    meanings = [(metric(name).heading, metric(name).meaning) for name in study.metrics]
    if any(_pooled(study, size) for size in study.sizes):
        meanings.append(
            (f"Pooled {metric('ece').heading}", "the same over the query rows of all tasks and draws together")
        )
    blocks.append(Fold("Every metric at every size", [Terms(meanings), *folded]))
    return Section("scores", "Scores", blocks)


def _in_brief(study: Study) -> str:
    """The first method at its smallest size, and against the baseline, in a sentence or two."""
    size, first, title = study.size, study.first, metric(study.metric).title
    found = first.summary(study.metric, size)
    chance = first.summary("chance", size).mean if study.metric == "delta_auprc" else float("nan")
    told = f"With {size} labelled molecules {first.name} reaches {title} {plus_minus(found.mean, found.error)} over "
    told += count(found.tasks, "task") + ("." if math.isnan(chance) else f", where chance is {number(chance)}.")
    if study.baseline is None or not study.baseline.means(study.metric, size):
        return told
    gap = compare(first.means(study.metric, size), study.baseline.means(study.metric, size))
    interval = "" if math.isnan(gap.low) else f" [{signed(gap.low)}, {signed(gap.high)}]"
    higher = f"higher on {gap.wins} of {count(gap.tasks, 'task')}"
    return f"{told} Against {study.baseline.name}: {signed(gap.difference)}{interval}, {higher}."


def _pooled(study: Study, size: int) -> dict[str, float]:
    found = {m.name: study.calibrations(m).get(size) for m in study.methods}
    return {name: c.ece for name, c in found.items() if isinstance(c, Calibration)}
