"""What is asked of a model: which tasks, which draws, how many; the published benchmarks by name."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from molmeta.config import override
from molmeta.core.task import Split, Task, TaskKind, TaskSource
from molmeta.domains import SOURCES
from molmeta.domains.molecules.draws import DRAWS, draw_rule
from molmeta.errors import ConfigError, DataError
from molmeta.evaluation.fewshot import DrawRule, default_draw
from molmeta.recipe import named


@dataclass(frozen=True)
class Question:
    """What to score on.

    Attributes:
        source: a task source by name.
        split, kind: of its tasks.
        sizes: support sizes, in rows.
        seeds: draws of each task and size, seeded 0, 1, ...
        draws: how supports are drawn: the source's own way (standard), or a harder one (see ``DRAWS``).
        tasks: only the first; 0: all.
        settings: of the source, as ``source.name=value``.
        name: of the benchmark.
        metric: that the benchmark is known by; empty: the kind's (see ``summary.HEADLINE``).
    """

    source: str = "fsmol"
    split: str = "valid"
    kind: str = "binary"
    sizes: tuple[int, ...] = (16, 32, 64, 128, 256)
    seeds: int = 10
    draws: str = "standard"
    tasks: int = 0
    settings: tuple[str, ...] = ()
    name: str = "own"
    metric: str = ""

    def __post_init__(self) -> None:
        problems = []
        try:
            sizes: Any = self.sizes
            sizes = [sizes] if isinstance(sizes, int) else sizes
            object.__setattr__(self, "sizes", tuple(dict.fromkeys(operator.index(size) for size in sizes)))
            _ = operator.index(self.seeds) + operator.index(self.tasks)
        except TypeError as error:
            raise ConfigError(f"sizes are whole numbers, seeds and tasks one each: {error}") from error
        for what, value, known in (("split", self.split, Split), ("kind", self.kind, TaskKind)):
            if value not in list(known):
                problems.append(f'unknown {what} "{value}"; known: {", ".join(known)}')
        if self.draws not in DRAWS:
            problems.append(f'unknown way to draw "{self.draws}"; known: {", ".join(DRAWS)}')
        if min(self.sizes, default=-1) < 0 or self.seeds < 1 or self.tasks < 0:
            problems.append("seeds are 1 or more, support sizes 0 or more (0: without any example)")
        if problems:
            raise ConfigError("\n".join(problems))

    def as_json(self) -> dict[str, Any]:
        """For ``result.json``; equal questions give equal JSON."""
        return {**asdict(self), "sizes": list(self.sizes), "settings": list(self.settings)}

    def open(self) -> tuple[TaskSource, list[Task], DrawRule]:
        """The source, its tasks and the draw rule.

        Raises:
            ConfigError: an unknown source or setting.
            DataError: the split has no task of that kind.
        """
        tables: dict[str, Any] = {"source": {"name": self.source}}
        for assignment in self.settings:
            override(tables, assignment)
        source_class, config = named(SOURCES, tables["source"], "[source]")
        source = source_class(config)
        tasks = source.tasks(Split(self.split), TaskKind(self.kind))[: self.tasks or None]
        if not tasks:
            raise DataError(f"{self.source} has no {self.kind} tasks in its {self.split} split")
        standard: DrawRule = getattr(source, "draw", default_draw)
        return source, list(tasks), standard if self.draws == "standard" else draw_rule(self.draws, source)


_MOLECULENET = {
    name: Question(
        "moleculenet", "test", sizes=(2, 20), settings=(f"source.dataset={name}",), name=name, metric="roc_auc"
    )
    for name in ("tox21", "sider", "muv", "toxcast")
}

PROTOCOLS: Mapping[str, Question] = {
    "fsmol": Question(name="fsmol"),
    "fsmol-regression": Question(
        kind="regression", settings=("source.regression=adkf",), name="fsmol-regression", sizes=(16, 32, 64, 128, 256)
    ),
    # 1 and 10 shots a class. The published meta-test tasks: checkpoints are chosen on --split valid.
    **_MOLECULENET,
    # Images and texts: one large task; sizes are shots a class, seeds are episodes.
    **{
        f"{name}-{ways}way": Question(
            name, "test", "multiclass", (1, 5), 600, settings=(f"source.ways={ways}",), name=f"{name}-{ways}way"
        )
        for name, ways in (("omniglot", 5), ("omniglot", 20), ("clinc150", 5), ("hwu64", 5), ("banking77", 5))
    },
    # Lake's own 20 runs: a task each, with one draw.
    "omniglot-runs": Question("omniglot_runs", "test", "multiclass", (1,), 1, name="omniglot-runs"),
    # Generated tasks whose best answer is known: MAML's sinusoids; blobs whose Bayes error their source computes.
    "sinusoid": Question("sinusoid", "test", "regression", (5, 10, 20), 1, name="sinusoid", metric="mse"),
    "blobs": Question("blobs", "test", "multiclass", (1, 5, 20), 100, name="blobs"),
}


def question(protocol: str = "fsmol", **changes: Any) -> Question:
    """A published benchmark, with changes.

    Args:
        protocol: its name, see ``PROTOCOLS``.
        changes: fields of :class:`Question`; ``settings`` are added to the benchmark's own, and None changes nothing.

    Raises:
        ConfigError: an unknown benchmark, or a value that cannot be.
    """
    if protocol not in PROTOCOLS:
        close = difflib.get_close_matches(protocol, PROTOCOLS, n=1)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        raise ConfigError(f'unknown protocol "{protocol}".{hint} Known: {", ".join(PROTOCOLS)}')
    return changed(PROTOCOLS[protocol], **changes)


def changed(base: Question, **changes: Any) -> Question:
    """A question with changes, as :func:`question` takes them.

    Raises:
        ConfigError: a value that cannot be.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if given.get("source", base.source) != base.source:  # nothing of the benchmark fits another source
        base = Question()
    given["settings"] = (*base.settings, *given.get("settings", ()))
    return replace(base, **given)
