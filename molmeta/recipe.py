"""A recipe: everything that a training run needs, as one TOML file. From it come the source, learner and trainer."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from molmeta.config import from_mapping, to_mapping
from molmeta.core.learner import Learner
from molmeta.core.networks import NetworkMaker
from molmeta.core.random import keyed_rng, seed_torch
from molmeta.core.task import Inputs, IntArray, Split, Task, TaskKind, TaskSource
from molmeta.domains import BACKBONES, SOURCES
from molmeta.errors import ConfigError, DataError, ModelFileError, SupportError
from molmeta.evaluation.fewshot import DrawRule, default_draw, evaluate
from molmeta.evaluation.metrics import LOWER_IS_BETTER
from molmeta.evaluation.statistics import summarise
from molmeta.methods import METHODS
from molmeta.training.batches import EpisodeConfig, MetaBatches
from molmeta.training.state import load_tensors
from molmeta.training.trainer import Trainer, TrainingConfig, Validate

Metric = Literal["", "delta_auprc", "roc_auc", "accuracy", "nll", "r2", "rmse", "mse", "spearman"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    support_sizes: tuple[int, ...] = (16, 64)
    seeds: int = 2  # draws a task and size
    heldout_tasks: int = 60  # of the held-out training tasks; their mean counts as much as valid's
    metric: Metric = ""  # to choose the weights by; empty: delta_auprc, accuracy or r2, as the tasks are

    def __post_init__(self) -> None:
        if not self.support_sizes or min(self.support_sizes) < 0:
            raise ConfigError(f"[validation].support_sizes are 0 or more, one at least, not {list(self.support_sizes)}")
        if self.seeds < 1:
            raise ConfigError(f"[validation].seeds is at least 1, not {self.seeds}")


# To choose weights by; the first, where none is named.
_METRICS: Mapping[TaskKind, tuple[str, ...]] = {
    TaskKind.BINARY: ("delta_auprc", "roc_auc", "accuracy", "nll"),
    TaskKind.MULTICLASS: ("accuracy", "nll"),
    TaskKind.REGRESSION: ("r2", "rmse", "mse", "spearman"),
}
_DEFAULTS = {"method": "protonet", "backbone": "fingerprint", "source": "fsmol"}
_CHOSEN = {"method": METHODS, "backbone": BACKBONES, "source": SOURCES}
_OWN: dict[str, type[Any]] = {"episodes": EpisodeConfig, "training": TrainingConfig, "validation": ValidationConfig}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of one run; ``method``, ``backbone`` and ``source`` are a name and that thing's own settings."""

    method: Mapping[str, Any] = field(default_factory=lambda: {"name": _DEFAULTS["method"]})
    backbone: Mapping[str, Any] = field(default_factory=lambda: {"name": _DEFAULTS["backbone"]})
    source: Mapping[str, Any] = field(default_factory=lambda: {"name": _DEFAULTS["source"]})
    episodes: EpisodeConfig = field(default_factory=EpisodeConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> Recipe:
        """Read a recipe from TOML's tables; every unknown or wrong setting is refused by name.

        Raises:
            ConfigError: lists all problems.
        """
        problems, values = [], {}
        for name, table in tables.items():
            try:
                values[name] = _settings(name, table)
            except ConfigError as error:
                problems.append(str(error))
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(**values)

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
        tables: dict[str, Any] = {}
        for name, registry in _CHOSEN.items():
            table = getattr(self, name)
            _, config = named(registry, table, f"[{name}]")
            tables[name] = {"name": table["name"], **to_mapping(config)}
        for name in _OWN:
            tables[name] = to_mapping(getattr(self, name))
        return tables


def _settings(name: str, table: Any) -> Any:
    """The value of one table of a recipe."""
    where = f"[{name}]"
    known = [*_CHOSEN, *_OWN]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise ConfigError(f"unknown table {where}. " + (f"Did you mean [{close[0]}]?" if close else f"Known: {known}"))
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is a table of settings, not {table!r}")
    if name in _OWN:
        return from_mapping(_OWN[name], table, where)
    chosen = {"name": _DEFAULTS[name], **table}
    _, config = named(_CHOSEN[name], chosen, where)
    if getattr(config, "task_backbone", None):
        named(BACKBONES, config.task_backbone, f"[{name}.task_backbone]")
    return chosen


def named(registry: Any, table: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    """The class that a table names, and its settings: ``(cls, cls.Config(...))``.

    A backbone may also be a plain network's class, or a function that makes one.
    """
    if not isinstance(table.get("name"), str):
        raise ConfigError(f"{where} needs a name; known: {', '.join(sorted(registry))}")
    cls = registry.load(table["name"])
    if registry is BACKBONES and not hasattr(cls, "Config"):
        cls = NetworkMaker(cls, table["name"])
    if not hasattr(cls, "Config"):
        raise ConfigError(f'{where} "{table["name"]}" has no Config: a dataclass of its settings, all with defaults')
    return cls, from_mapping(cls.Config, {k: v for k, v in table.items() if k != "name"}, where)


def make_learner(method: Mapping[str, Any], backbone: Mapping[str, Any]) -> Learner:
    """A learner with fresh weights; a method with a ``task_backbone`` in its settings is given that backbone, too."""
    backbone_class, backbone_config = named(BACKBONES, backbone, "[backbone]")
    method_class, method_config = named(METHODS, method, "[method]")
    made: dict[str, Any] = {}
    if getattr(method_config, "task_backbone", None):
        task_class, task_config = named(BACKBONES, method_config.task_backbone, "[method.task_backbone]")
        made["task_backbone"] = task_class(task_config)
    learner: Learner = method_class(backbone_class(backbone_config), method_config, **made)
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
    if recipe.training.init:
        start_from(learner, Path(recipe.training.init))
    batches = MetaBatches(
        read_half(learner, source),
        recipe.episodes,
        tasks_per_step=recipe.training.tasks_per_step,
        regression=recipe.training.regression,
        seed=recipe.training.seed,
    )
    return Trainer(learner, batches, make_validate(recipe, source), recipe.training, folder)


def read_training(learner: Learner, source: TaskSource) -> None:
    """Have a backbone that keeps what training assays said read all of them; others have no ``read``."""
    read = getattr(learner.backbone, "read", None)
    if read is not None:
        read(source, source.tasks(Split.TRAIN, TaskKind.BINARY))


def read_half(learner: Learner, source: TaskSource) -> TaskSource:
    """Such a backbone reads the assays of half of the targets; the others are left to draw episodes from.

    Returns:
        The source without what was read; the source itself where the backbone keeps nothing.
    """
    read = getattr(learner.backbone, "read", None)
    if read is None:
        return source
    tasks = source.tasks(Split.TRAIN, TaskKind.BINARY)
    read(source, [task for task in tasks if _in_first_half(task)])
    return _Without(source, _in_first_half)


def _in_first_half(task: Task) -> bool:
    """By target, where it is known: assays of one target say nearly the same."""
    return bool(keyed_rng(0, f"half {task.description.get('target_id', task.name)}").random() < 0.5)


class _Without:
    """A source without some of its training tasks."""

    def __init__(self, source: TaskSource, left_out: Callable[[Task], bool]) -> None:
        self._source, self._left_out = source, left_out

    def tasks(self, split: Split, kind: TaskKind = TaskKind.BINARY) -> Sequence[Task]:
        found = self._source.tasks(split, kind)
        return [task for task in found if not self._left_out(task)] if split is Split.TRAIN else found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def gather(self, rows: IntArray) -> Inputs:
        return self._source.gather(rows)


def start_from(learner: Learner, run: Path) -> None:
    """Give a learner's backbone the weights of the run's.

    Raises:
        ModelFileError: the run is not finished, or its backbone is another.
    """
    tensors, _ = load_tensors(run / "model.safetensors")
    found = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    try:
        learner.backbone.load_state_dict(found)
    except RuntimeError as error:
        raise ModelFileError(f"the backbone of {run} does not fit [backbone]: {error}") from error


def make_validate(recipe: Recipe, source: TaskSource) -> Validate:
    """Score on ``valid`` and on held-out train tasks: ``score`` is the mean of the folds' means over sizes.

    The kind is regression where nothing else is trained, else binary, or multiclass where the source has no binary
    task; its metric is the one to choose by. A support size that no task of a fold is large enough for is left out.

    Raises:
        DataError: nothing is left to score on.
    """
    config = recipe.validation
    draw: DrawRule = getattr(source, "draw", default_draw)
    kind = _validation_kind(recipe, source)
    metric = config.metric or _METRICS[kind][0]
    if metric not in _METRICS[kind]:
        raise ConfigError(f"[validation].metric of {kind} tasks is one of {', '.join(_METRICS[kind])}, not {metric}")
    sign = -1 if metric in LOWER_IS_BETTER else 1
    folds: dict[str, list[Task]] = {
        "valid": list(source.tasks(Split.VALID, kind)),
        "heldout": _spread(source.tasks(Split.HELDOUT, kind), config.heldout_tasks),
    }

    sizes = {
        fold: [n for n in config.support_sizes if any(_allows(draw, task, n) for task in tasks)]
        for fold, tasks in folds.items()
    }
    if not any(sizes.values()):
        raise DataError(
            "the source has neither a valid nor a held-out task to choose a model on that is large enough for "
            f"[validation].support_sizes = {list(config.support_sizes)}"
        )

    def validate(learner: Learner) -> dict[str, float]:
        result = {}
        for fold, tasks in folds.items():
            found = evaluate(learner, source, tasks, sizes=sizes[fold], seeds=range(config.seeds), draw=draw)
            for size in sizes[fold]:
                result[f"{fold}_{metric}_{size}"] = round(summarise(found, metric, size).mean, 5)
        return {"score": sign * sum(result.values()) / len(result), **result}

    return validate


def _validation_kind(recipe: Recipe, source: TaskSource) -> TaskKind:
    kinds = (TaskKind.BINARY, TaskKind.MULTICLASS) if recipe.training.regression < 1 else ()
    folds = (Split.VALID, Split.HELDOUT)
    return next((kind for kind in kinds if any(source.tasks(fold, kind) for fold in folds)), TaskKind.REGRESSION)


def _allows(draw: DrawRule, task: Task, size: int) -> bool:
    try:
        draw(task, size, 0)
    except SupportError:
        return False
    return True


def _spread(tasks: Any, wanted: int) -> list[Task]:
    step = max(1, len(tasks) // wanted) if wanted else len(tasks) + 1
    return list(tasks[::step][:wanted])
