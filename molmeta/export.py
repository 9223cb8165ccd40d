"""From training runs to a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molmeta.bundle import SUFFIX, Bundle, Member
from molmeta.config import override
from molmeta.core.task import Split, TaskKind
from molmeta.domains.molecules.featurise import MoleculeArrays
from molmeta.domains.molecules.fsmol import FSMol
from molmeta.domains.molecules.reference import Reference
from molmeta.errors import ModelFileError
from molmeta.files import write_whole
from molmeta.recipe import Recipe, make_learner
from molmeta.training.state import load_tensors

_LISTED = 20  # entries of a list that the text of a card shows


def export(
    runs: Sequence[Path],
    out: Path,
    card: Mapping[str, Any],
    reference: Reference | None = None,
    temperature: Mapping[int, float] | None = None,
    training_structures: NDArray[np.uint32] | None = None,
    curves: Mapping[str, Mapping[str, Any]] | None = None,
) -> Bundle:
    """Make one bundle of one or more run folders, and write it with its card beside it as ``<name>.md``.

    Args:
        runs: run folders; each holds ``config.toml`` and ``model.safetensors``, or the ``state.safetensors`` of an
            unfinished run, whose best weights so far are taken.
        out: the file to write.
        card: what a reader should know of the model.
        reference: see :func:`sample_reference`.
        temperature, training_structures, curves: see :class:`~molmeta.bundle.Bundle`.

    Raises:
        ModelFileError: a run has no weights, or they do not fit its configuration.
    """
    if out.suffix != SUFFIX:
        raise ModelFileError(f"{out} does not end in {SUFFIX}")
    members = [member_of_run(run) for run in runs]
    bundle = Bundle(members, dict(card), reference, temperature or {}, training_structures, curves or {})
    bundle.save(out)
    write_whole(out.with_suffix(".md"), card_text(bundle).encode())
    return bundle


def member_of_run(run: Path, settings: Sequence[str] = ()) -> Member:
    """The learner that a run trained; ``settings``, such as ``method.test_inner_steps=5``, are changed afterwards."""
    tables = Recipe.read(run / "config.toml")
    for assignment in settings:
        override(tables, assignment)
    recipe = Recipe.of(tables)
    tables = recipe.tables()
    finished = run / "model.safetensors"
    tensors, _ = load_tensors(finished if finished.exists() else run / "state.safetensors")
    weights = {k.removeprefix("best/"): t for k, t in tensors.items() if k.startswith("best/")} or tensors
    learner = make_learner(recipe.method, recipe.backbone)
    try:
        learner.load_state_dict(weights)
    except RuntimeError as error:
        changed = f" and {', '.join(settings)}" if settings else ""
        raise ModelFileError(f"the weights in {run} do not fit its config.toml{changed}: {error}") from error
    return Member(tables["method"], tables["backbone"], learner)


def sample_reference(source: FSMol, size: int = 2000, share: float = 0.1) -> Reference:
    """A sample of the training tasks' molecules; ``share`` of the held-out tasks' molecules count as far from it.

    Where no training tasks were held out, those of ``valid`` stand in.
    """
    others = _molecules(source, Split.HELDOUT, Split.VALID, Split.TRAIN)
    return Reference.sample(training_molecules(source), others, size=size, share=share)


def training_molecules(source: FSMol) -> MoleculeArrays:
    """Those of the training tasks."""
    return _molecules(source, Split.TRAIN)


def _molecules(source: FSMol, *splits: Split) -> MoleculeArrays:
    """Of the first of ``splits`` that has tasks."""
    tasks = next((tasks for split in splits if (tasks := source.tasks(split, TaskKind.BINARY))), ())
    rows = [task.rows for task in tasks] or [np.zeros(0, np.int64)]
    return source.store.arrays.take(np.unique(np.concatenate(rows)))


def card_text(bundle: Bundle) -> str:
    """The card as Markdown."""
    card = dict(bundle.card)
    if bundle.curves:
        card["curves of quality with more labels"] = bundle.curves
    lines = [f"# {card.pop('name', 'A molmeta model')}", ""]
    for key, value in card.items():
        if isinstance(value, Mapping):
            lines += [f"**{key.replace('_', ' ')}**", "", *(f"- {k}: {v}" for k, v in value.items()), ""]
        elif key == "limits":
            lines += ["**limits**", "", *(f"- {limit}" for limit in value), ""]
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            if isinstance(value, list) and len(value) > _LISTED:
                text = f"{len(value):,}, listed in the model file's card"
            lines += [f"**{key.replace('_', ' ')}**: {text}", ""]
    return "\n".join(lines)
