"""A recipe: everything that a training run needs, as one TOML file. From it come the source, learner and trainer."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molmeta.config import from_mapping, to_mapping
from molmeta.core.learner import Learner
from molmeta.core.random import seed_torch
from molmeta.core.task import Split, Task, TaskKind, TaskSource
from molmeta.domains import BACKBONES, SOURCES
from molmeta.errors import ConfigError
from molmeta.evaluation.fewshot import DrawRule, default_draw, evaluate
from molmeta.evaluation.statistics import summarise
from molmeta.methods import METHODS
from molmeta.training.batches import EpisodeConfig, MetaBatches
from molmeta.training.trainer import Trainer, TrainingConfig, Validate


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    support_sizes: tuple[int, ...] = (16, 64)
    seeds: int = 2  # draws a task and size
    heldout_tasks: int = 60  # of the held-out training tasks; their mean counts as much as valid's


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of one run; ``method``, ``backbone`` and ``source`` are a name and that thing's own settings."""

    method: Mapping[str, Any] = field(default_factory=lambda: {"name": "protonet"})
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"name": "fingerprint"})
    source: Mapping[str, Any] = field(default_factory=lambda: {"name": "fsmol"})
    episodes: EpisodeConfig = field(default_factory=EpisodeConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Recipe:
        """Read a recipe from TOML's tables; every unknown or wrong setting is refused by name.

        Raises:
            ConfigError: lists all problems.
        """
        unknown = set(tables) - set(cls.__dataclass_fields__)
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigError(f"unknown table {', '.join(f'[{u}]' for u in sorted(unknown))}. Known: {known}")
        recipe = cls(
            **{name: dict(tables[name]) for name in ("method", "backbone", "source") if name in tables},
            episodes=from_mapping(EpisodeConfig, tables.get("episodes", {}), "[episodes]"),
            training=from_mapping(TrainingConfig, tables.get("training", {}), "[training]"),
            validation=from_mapping(ValidationConfig, tables.get("validation", {}), "[validation]"),
        )
        named(METHODS, recipe.method, "[method]")
        named(BACKBONES, recipe.backbone, "[backbone]")
        named(SOURCES, recipe.source, "[source]")
        return recipe

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """The tables of a TOML file.

        Raises:
            ConfigError: it is missing or not TOML.
        """
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"there is no configuration file {path} to read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error

    def tables(self) -> dict[str, Any]:
        """Every setting in effect, defaults included, as :meth:`of` reads them back."""
        chosen = {"method": METHODS, "backbone": BACKBONES, "source": SOURCES}
        tables: dict[str, Any] = {}
        for name, registry in chosen.items():
            table = getattr(self, name)
            _, config = named(registry, table, f"[{name}]")
            tables[name] = {"name": table["name"], **to_mapping(config)}
        for name in ("episodes", "training", "validation"):
            tables[name] = to_mapping(getattr(self, name))
        return tables


def named(registry: Any, table: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    """The class that a table names, and its settings: ``(cls, cls.Config(...))``."""
    if "name" not in table:
        raise ConfigError(f"{where} needs a name; known: {', '.join(sorted(registry))}")
    cls = registry.load(table["name"])
    if not hasattr(cls, "Config"):
        raise ConfigError(f'{where} "{table["name"]}" has no Config: a dataclass of its settings, all with defaults')
    return cls, from_mapping(cls.Config, {k: v for k, v in table.items() if k != "name"}, where)


def make_learner(method: Mapping[str, Any], backbone: Mapping[str, Any]) -> Learner:
    """A learner with fresh weights."""
    backbone_class, backbone_config = named(BACKBONES, backbone, "[backbone]")
    method_class, method_config = named(METHODS, method, "[method]")
    learner: Learner = method_class(backbone_class(backbone_config), method_config)
    return learner


def make_source(recipe: Recipe, **keywords: Any) -> TaskSource:
    """The task source; ``keywords`` (progress, workers) go to it."""
    source_class, config = named(SOURCES, recipe.source, "[source]")
    source: TaskSource = source_class(config, **keywords)
    return source


def make_trainer(recipe: Recipe, source: TaskSource, folder: Path, device: str = "cpu") -> Trainer:
    """The trainer of a recipe; where ``folder`` holds a state, it goes on from there."""
    seed_torch(recipe.training.seed, -1 % 2**31)
    learner = make_learner(recipe.method, recipe.backbone).to(device)
    batches = MetaBatches(
        source,
        recipe.episodes,
        tasks_per_step=recipe.training.tasks_per_step,
        regression=recipe.training.regression,
        seed=recipe.training.seed,
    )
    return Trainer(learner, batches, make_validate(recipe, source), recipe.training, folder)


def make_validate(recipe: Recipe, source: TaskSource) -> Validate:
    """Score on ``valid`` and on held-out train tasks: ``score`` is the mean of both folds' means over sizes."""
    config = recipe.validation
    draw: DrawRule = getattr(source, "draw", default_draw)
    kind = TaskKind.BINARY if recipe.training.regression < 1 else TaskKind.REGRESSION
    metric = "delta_auprc" if kind is TaskKind.BINARY else "r2"
    folds: dict[str, list[Task]] = {
        "valid": list(source.tasks(Split.VALID, kind)),
        "heldout": _spread(source.tasks(Split.HELDOUT, kind), config.heldout_tasks),
    }

    def validate(learner: Learner) -> dict[str, float]:
        result = {}
        for fold, tasks in folds.items():
            if not tasks:
                continue
            scores = evaluate(learner, source, tasks, sizes=config.support_sizes, seeds=range(config.seeds), draw=draw)
            for size in config.support_sizes:
                result[f"{fold}_{metric}_{size}"] = round(summarise(scores, metric, size).mean, 5)
        if not result:
            raise ConfigError("the source has neither valid nor held-out tasks to choose a model on")
        return {"score": sum(result.values()) / len(result), **result}

    return validate


def _spread(tasks: Any, wanted: int) -> list[Task]:
    step = max(1, len(tasks) // wanted) if wanted else len(tasks) + 1
    return list(tasks[::step][:wanted])
