"""Scoring a model by name on a task source by name: what ``molmeta evaluate`` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from molmeta.bundle import Bundle, Member, mix
from molmeta.config import override
from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding, Laws, Prediction
from molmeta.core.task import Inputs, Split, Task, TaskKind
from molmeta.devices import choose_device
from molmeta.domains import SOURCES
from molmeta.errors import ConfigError, DataError
from molmeta.evaluation.fewshot import Score, default_draw, evaluate
from molmeta.evaluation.statistics import compare, per_task, summarise
from molmeta.export import member_of_run
from molmeta.recipe import make_learner, named

_HEADLINE = {
    TaskKind.BINARY: ("delta_auprc", "roc_auc", "brier", "nll"),
    TaskKind.MULTICLASS: ("accuracy", "nll"),
    TaskKind.REGRESSION: ("r2", "rmse", "spearman"),
}


@dataclass(frozen=True)
class Question:
    """What to score on: a source's split and kind, at which support sizes, with how many draws of each."""

    source: str
    split: str
    kind: str
    sizes: tuple[int, ...]
    seeds: int
    tasks: int = 0  # only the first; 0: all
    settings: tuple[str, ...] = ()  # of the source, as source.name=value


@dataclass(frozen=True)
class Result:
    """Scores, and the tasks that they are of."""

    question: Question
    tasks: Sequence[Task]
    scores: list[Score]

    def lines(self) -> list[str]:
        """A line a support size: the headline metrics, mean ± standard error over tasks."""
        metrics = _HEADLINE[TaskKind(self.question.kind)]
        lines = ["support  tasks  " + "  ".join(f"{name:<15}" for name in metrics)]
        for size in self.question.sizes:
            if any(s.support_size == size for s in self.scores):
                found = [summarise(self.scores, name, size) for name in metrics]
                lines.append(f"{size:>7}  {found[0].tasks:>5}  " + "  ".join(f"{f!s:<15}" for f in found))
            else:
                lines.append(f"{size:>7}      0  no task is large enough")
        undefined = sum(summarise(self.scores, metrics[0], size).undefined for size in self.question.sizes)
        return lines + ([f"{undefined} draws have a query of one class and no score"] if undefined else [])

    def against(self, other: Sequence[Score]) -> list[str]:
        """A line a support size: the paired difference to other scores, with its 95 % interval over tasks."""
        metric = _HEADLINE[TaskKind(self.question.kind)][0]
        lines = []
        for size in self.question.sizes:
            if any(s.support_size == size for s in other):
                gap = compare(per_task(self.scores, metric, size), per_task(other, metric, size))
                lines.append(f"{size:>7}  {metric} {gap}")
        return lines


# Learners that need no training: what a practitioner has without meta-learning.
BASELINES = {"tanimoto-gp": ({"name": "tanimoto_gp"}, {"name": "counts"})}


class BundleModel:
    """A bundle as something to evaluate: its members' embeddings stand side by side in one Encoding."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        laws = [member.learner.laws for member in bundle.members]
        self.laws = Laws(kinds=bundle.kinds, transductive=bundle.transductive, encodes=all(law.encodes for law in laws))
        self.device = bundle.device

    def encode(self, inputs: Inputs) -> Encoding:
        return Encoding(torch.cat([m.learner.encode(inputs).values for m in self.bundle.members], dim=1))

    def predict_episodes(self, batch: EpisodeBatch) -> list[Prediction]:
        by_member = [
            member.learner.predict_episodes(batch.with_inputs(part))
            for member, part in zip(self.bundle.members, self._parts(batch.inputs), strict=True)
            if batch.kind in member.learner.laws.kinds
        ]
        sizes = torch.bincount(batch.episode[batch.is_support], minlength=len(batch)).tolist()
        return [
            mix(each, self.bundle.temperature_at(size))
            for each, size in zip(zip(*by_member, strict=True), sizes, strict=True)
        ]

    def _parts(self, inputs: Inputs) -> tuple[Inputs, ...]:
        if not isinstance(inputs, Encoding):
            return self.bundle.encode(inputs)
        widths = [member.learner.backbone.width for member in self.bundle.members]
        return tuple(Encoding(part) for part in torch.split(inputs.values, widths, dim=1))


def load_model(name: str, device: str = "auto") -> Bundle:
    """A bundle by name or file, the one learner of a run folder, or a baseline (``tanimoto-gp``).

    Raises:
        ModelFileError: it is none of these.
    """
    folder = Path(name)
    if name in BASELINES:
        method, backbone = BASELINES[name]
        return Bundle([Member(method, backbone, make_learner(method, backbone))], {"name": name})
    if (folder / "config.toml").is_file():
        card = folder / "card.json"
        read = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
        bundle = Bundle([member_of_run(folder)], read)
    else:
        bundle = Bundle.load(name)
    return bundle.to(choose_device(device))


def score_model(bundle: Bundle, question: Question, progress: Callable[[Task], None] | None = None) -> Result:
    """Score a bundle.

    Raises:
        ConfigError: an unknown source, split, kind or setting.
        DataError: the split has no task of that kind.
    """
    try:
        split, kind = Split(question.split), TaskKind(question.kind)
    except ValueError as error:
        raise ConfigError(f"{error}; splits: {', '.join(Split)}; kinds: {', '.join(TaskKind)}") from error
    tables: dict[str, Any] = {"source": {"name": question.source}}
    for assignment in question.settings:
        override(tables, assignment)
    source_class, config = named(SOURCES, tables["source"], "[source]")
    source = source_class(config)
    tasks = source.tasks(split, kind)[: question.tasks or None]
    if not tasks:
        raise DataError(f"{question.source} has no {kind} tasks in its {split} split")
    scores = evaluate(
        BundleModel(bundle),
        source,
        tasks,
        sizes=question.sizes,
        seeds=range(question.seeds),
        draw=getattr(source, "draw", default_draw),
        progress=progress,
    )
    return Result(question, tasks, scores)


def seen_in_training(bundle: Bundle, result: Result) -> list[str]:
    """The scored tasks that stand in the card's list of training tasks: their scores say nothing of new assays."""
    trained = set(bundle.card.get("training_tasks", ()))
    return [task.name for task in result.tasks if task.name in trained]
