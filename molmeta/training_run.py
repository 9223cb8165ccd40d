"""One training run: a recipe, a folder, and what is written there.

config.toml        every setting in effect          history.jsonl      a line a validation
environment.json   versions, device, threads        state.safetensors  to go on after an interruption
model.safetensors  the best weights                 card.json          what made them, and their scores
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from molmeta.config import override, to_toml
from molmeta.core.task import Split, TaskKind, TaskSource
from molmeta.devices import choose_device
from molmeta.errors import ConfigError
from molmeta.files import write_whole
from molmeta.paths import datasets_dir
from molmeta.recipe import Recipe, make_learner, make_source, make_trainer, read_training
from molmeta.training.state import save_tensors
from molmeta.training.trainer import Progress, Trainer

Show = Callable[[Progress], None]
_RUN_FILES = ("config.toml", "environment.json", "history.jsonl", "state.safetensors", "model.safetensors", "card.json")
_VERSIONS = ("molmeta", "torch", "torch-geometric", "rdkit", "numpy", "scikit-learn")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted((datasets_dir() / "recipes").glob("*.toml"))}


def choose_recipe(config: Path | None, overrides: Sequence[str]) -> Recipe:
    """A recipe from a file or a shipped name (None: the defaults), with ``table.name=value`` overrides.

    Raises:
        ConfigError: no such file or recipe, or a setting is wrong.
    """
    tables: dict[str, Any] = {}
    if config is not None:
        shipped = shipped_recipes()
        path = config if config.exists() else shipped.get(config.name)
        if path is None:
            raise ConfigError(f'there is no file or shipped recipe "{config}". Shipped: {", ".join(shipped)}')
        tables = Recipe.read(path)
    for assignment in overrides:
        override(tables, assignment)
    return Recipe.of(tables)


def run_training(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "auto",
    threads: int = 0,
    force: bool = False,
    show: Show | None = None,
) -> Trainer:
    """Train, or go on training, in ``folder``; returns the finished trainer.

    Args:
        recipe: the settings.
        folder: made if it is not there. One that holds a run of the same settings is resumed.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: torch's CPU threads; 0 leaves torch's choice.
        force: empty a folder that holds a run of other settings.
        show: called after each step.

    Raises:
        ConfigError: the folder holds something else.
        DeviceError: the device is not there.
    """
    chosen = choose_device(device)
    if threads:
        torch.set_num_threads(threads)
    if not force and _holds_another_run(folder, recipe):
        raise ConfigError(
            f"{folder} is not empty and does not hold a run of these settings. Name another folder with --out, "
            "or give --force to replace the run that is there"
        )
    _check_trainable(recipe)
    source = make_source(recipe)
    _claim(folder, recipe)
    trainer = make_trainer(recipe, source, folder, str(chosen))
    write_whole(folder / "environment.json", json.dumps(_environment(chosen), indent=1).encode())
    trainer.learner.load_state_dict(trainer.run(show))
    read_training(trainer.learner, source)
    best = trainer.learner.state_dict()
    card = _card(recipe, trainer, source)
    save_tensors(folder / "model.safetensors", best, {"recipe": recipe.tables()})
    write_whole(folder / "card.json", json.dumps(card, indent=1).encode())
    return trainer


def _check_trainable(recipe: Recipe) -> None:
    learner = make_learner(recipe.method, recipe.backbone)
    if not learner.laws.meta_trained or not any(p.requires_grad for p in learner.parameters()):
        raise ConfigError(
            f'the method "{recipe.method["name"]}" over the backbone "{recipe.backbone["name"]}" has nothing to '
            "meta-train. Score it as it is with molmeta evaluate, or train another, such as gp or protonet"
        )


def _holds_another_run(folder: Path, recipe: Recipe) -> bool:
    """Whether ``folder`` holds anything but a run of these settings, or what is left of one killed while it wrote."""
    try:
        if not folder.exists() or not any(p for p in folder.iterdir() if not p.name.endswith(".partial")):
            return False
        config = folder / "config.toml"
        return not config.is_file() or config.read_text(encoding="utf-8") != to_toml(recipe.tables())
    except OSError as error:
        raise ConfigError(f"cannot write the run folder {folder}: {error.strerror}") from error


def _claim(folder: Path, recipe: Recipe) -> None:
    """Make ``folder`` this run's: new, going on, or emptied of another run."""
    another = _holds_another_run(folder, recipe)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _RUN_FILES:
            for partial in folder.glob(f".{name}.*.partial"):
                partial.unlink()
            if another:
                (folder / name).unlink(missing_ok=True)
        write_whole(folder / "config.toml", to_toml(recipe.tables()).encode())
    except OSError as error:
        raise ConfigError(f"cannot write the run folder {folder}: {error.strerror}") from error


def _environment(device: torch.device) -> dict[str, Any]:
    versions = {}
    for package in _VERSIONS:
        with suppress(ImportError):
            versions[package] = version(package)
    return {
        "python": platform.python_version(),
        "versions": versions,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def _card(recipe: Recipe, trainer: Trainer, source: TaskSource) -> dict[str, Any]:
    kinds = [TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION]
    trained = {task.name for kind in kinds for task in source.tasks(Split.TRAIN, kind)}
    card: dict[str, Any] = {}
    if recipe.training.init:  # what the backbone was trained on before is this model's training, too
        first = json.loads((Path(recipe.training.init) / "card.json").read_text(encoding="utf-8"))
        trained.update(first["training_tasks"])
        card["init"] = {key: first[key] for key in ("command", "recipe", "score", "seconds")}
    return {
        "command": shlex.join(["molmeta", *sys.argv[1:]]),
        "recipe": recipe.tables(),
        "score": trainer.best_score,
        "validation": max(trainer.history, key=lambda entry: entry["score"]),
        "seconds": round(trainer.seconds),
        "training_tasks": sorted(trained),
        **card,
    }
