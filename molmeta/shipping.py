"""From training runs to a model file with its card: what ``molmeta export`` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from molmeta.bundle import Bundle
from molmeta.core.task import Split, Task, TaskKind, TaskSource
from molmeta.domains.molecules.fsmol import FSMol
from molmeta.domains.molecules.reference import describe_chemistry
from molmeta.evaluation.calibration import Calibration, Coverage, calibrate
from molmeta.evaluation.fewshot import TaskResult, default_draw, evaluate_task, scored
from molmeta.evaluation.scores import TaskRecord
from molmeta.evaluation.statistics import summarise
from molmeta.export import card_text, export, sample_reference, training_molecules
from molmeta.files import write_whole
from molmeta.recipe import Recipe, make_source
from molmeta.scoring.candidates import BundleModel
from molmeta.scoring.curves import learn_curves
from molmeta.scoring.overlap import training_structures

SIZES = (16, 32, 64, 128)
_METRICS = {TaskKind.BINARY: ("delta_auprc", "roc_auc", "brier", "nll"), TaskKind.REGRESSION: ("r2", "rmse")}


def ship(
    runs: Sequence[Path],
    out: Path,
    *,
    name: str,
    licence: str,
    score: bool,
    advance: Callable[[int], None],
    limits: Sequence[str] = (),
) -> Bundle:
    """Write a bundle of ``runs`` with a card: commands, seeds, what it was trained on and, with ``score``, its scores.

    The scores are those of the weights as they are stored, in half precision. Of a model for molecules, the learning
    curves are measured, too.

    Args:
        runs: finished run folders, of one source.
        out: the file.
        name, licence, limits: for the card.
        score: evaluate on the source's valid and held-out tasks, ten draws of each size, and learn the curves.
        advance: called with 1 for each task that was scored.
    """
    recipe = Recipe.of(Recipe.read(runs[0] / "config.toml"))
    source = make_source(recipe)
    card = _card(runs, name, licence)
    if limits:
        card["limits"] = list(limits)
    reference = sample_reference(source) if isinstance(source, FSMol) else None
    if isinstance(source, FSMol):
        card["chemistry"] = describe_chemistry(training_molecules(source))
    seen = training_structures(source, frozenset(card["training_tasks"]))
    bundle = export(runs, out, card, reference, training_structures=seen)
    if score:
        card["scores"] = _scores(bundle, source, advance)
        curves = learn_curves(bundle, source, advance) if isinstance(source, FSMol) else {}
        bundle = export(runs, out, card, reference, training_structures=seen, curves=curves)
    return bundle


def add_curves(model: Path, advance: Callable[[int], None] = lambda _: None) -> Bundle:
    """Learn a model file's curves of quality with more labels, and write them into it and its card.

    Weights and scores stay. The assays are those of the source that its first recipe names.

    Args:
        model: a file that :func:`ship` wrote.
        advance: called with 1 for each assay that was drawn.
    """
    bundle, extra = Bundle.load_with_extra(model)
    source = make_source(Recipe.of(bundle.card["recipes"][0]))
    bundle = replace(bundle, curves=learn_curves(bundle, source, advance))
    bundle.save(model, extra)
    write_whole(model.with_suffix(".md"), card_text(bundle).encode())
    return bundle


def _card(runs: Sequence[Path], name: str, licence: str) -> dict[str, Any]:
    cards = [json.loads((run / "card.json").read_text(encoding="utf-8")) for run in runs]
    environments = [json.loads((run / "environment.json").read_text(encoding="utf-8")) for run in runs]
    return {
        "name": name,
        "licence": licence,
        "commands": [card["command"] for card in cards],
        "seeds": [card["recipe"]["training"]["seed"] for card in cards],
        "minutes": [round(card["seconds"] / 60) for card in cards],
        "environment": environments[0],
        "recipes": [card["recipe"] for card in cards],
        "training_tasks": sorted({task for card in cards for task in card["training_tasks"]}),
    }


def _scores(bundle: Bundle, source: TaskSource, advance: Callable[[int], None]) -> dict[str, str]:
    """Means over tasks, and what is pooled over them: calibration error, and how many values 90 % intervals hold."""
    lines: dict[str, str] = {}
    for kind in (k for k in _METRICS if k in bundle.kinds):
        for split in (Split.VALID, Split.HELDOUT):
            results = []
            for task in source.tasks(split, kind):
                results.append(_drawn(bundle, source, task))
                advance(1)
            scores, about = scored(results, source), f"{split} {kind}"
            for metric in _METRICS[kind] if scores else ():
                lines[f"{about} {metric}"] = _by_size({size: str(summarise(scores, metric, size)) for size in SIZES})
            pooled = calibrate(kind, ((TaskRecord.of(r.task, source), draw) for r in results for draw in r.draws))
            errors = {size: f"{c.ece:.3f}" for size, c in pooled.items() if isinstance(c, Calibration)}
            inside = {size: f"{c.at(0.9):.3f}" for size, c in pooled.items() if isinstance(c, Coverage)}
            for what, found in (("pooled ece", errors), ("pooled coverage of 90 % intervals", inside)):
                if found:
                    lines[f"{about} {what}"] = _by_size(found)
    return lines


def _drawn(bundle: Bundle, source: TaskSource, task: Task) -> TaskResult:
    draw = getattr(source, "draw", default_draw)
    return evaluate_task(BundleModel(bundle), source, task, sizes=SIZES, seeds=range(10), draw=draw)


def _by_size(found: Mapping[int, str]) -> str:
    return ", ".join(f"{size}: {text}" for size, text in found.items())
