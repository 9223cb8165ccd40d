"""From training runs to a model file with its card: what ``molmeta export`` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from molmeta.bundle import Bundle
from molmeta.core.task import Split, TaskKind, TaskSource
from molmeta.domains.molecules.fsmol import FSMol
from molmeta.evaluation.fewshot import default_draw, evaluate
from molmeta.evaluation.statistics import summarise
from molmeta.export import card_text, export, sample_reference
from molmeta.files import write_whole
from molmeta.recipe import Recipe, make_source
from molmeta.scoring.candidates import BundleModel
from molmeta.scoring.curves import learn_curves
from molmeta.scoring.overlap import training_structures

SIZES = (16, 32, 64, 128)
_METRICS = {TaskKind.BINARY: ("delta_auprc", "roc_auc", "brier", "nll"), TaskKind.REGRESSION: ("r2", "rmse")}


def ship(
    runs: Sequence[Path], out: Path, *, name: str, licence: str, score: bool, advance: Callable[[int], None]
) -> Bundle:
    """Write a bundle of ``runs`` with a card: commands, seeds, training tasks and, with ``score``, its scores.

    The scores are those of the weights as they are stored, in half precision. Of a model for molecules, the learning
    curves are measured, too.

    Args:
        runs: finished run folders, of one source.
        out: the file.
        name, licence: for the card.
        score: evaluate on the source's valid and held-out tasks, ten draws of each size, and learn the curves.
        advance: called with 1 for each task that was scored.
    """
    recipe = Recipe.of(Recipe.read(runs[0] / "config.toml"))
    source = make_source(recipe)
    card = _card(runs, name, licence)
    reference = sample_reference(source) if isinstance(source, FSMol) else None
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
    lines = {}
    for kind in (k for k in _METRICS if k in bundle.kinds):
        for split in (Split.VALID, Split.HELDOUT):
            scores = evaluate(
                BundleModel(bundle),
                source,
                source.tasks(split, kind),
                sizes=SIZES,
                draw=getattr(source, "draw", default_draw),
                progress=lambda _: advance(1),
            )
            for metric in _METRICS[kind] if scores else ():
                found = [f"{size}: {summarise(scores, metric, size)}" for size in SIZES]
                lines[f"{split} {kind} {metric}"] = ", ".join(found)
    return lines
