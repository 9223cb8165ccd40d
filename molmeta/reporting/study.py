"""The results of one report side by side: which methods, tasks and sizes there are, and which metric leads."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from molmeta.core.task import TaskKind
from molmeta.errors import InputError
from molmeta.evaluation.calibration import Calibration, Coverage, calibrations
from molmeta.evaluation.results import Result, names
from molmeta.evaluation.scores import ALL, Score, TaskRecord
from molmeta.evaluation.statistics import Summary, per_task, summarise
from molmeta.reporting.words import ASSAY_TYPES, BENCHMARK_METRIC, FACTS, HEADLINES, METRICS
from molmeta.reporting.words import metric as named

TaskMeans = Mapping[str, float]
_DESCRIPTION = ("target", "ec_super_class_name", "protein_family")  # shown without saying what they are
_UNTOLD = ("target_id", "ec_super_class", "ec_number", "assay_type")


def _shown(key: str) -> bool:
    return key in _DESCRIPTION or key in _UNTOLD


@dataclass(frozen=True, eq=False)
class Method:
    """One result as the report names it.

    Attributes:
        name: unlike any other in the report.
        place: in the order given; the colour follows it.
    """

    name: str
    place: int
    result: Result
    _means: dict[tuple[str, int, str], TaskMeans] = field(default_factory=dict)

    @cached_property
    def _scores(self) -> Mapping[tuple[int, str], list[Score]]:
        groups = defaultdict(list)
        for score in self.result.scores:
            groups[score.support_size, score.subset].append(score)
        return groups

    def scores(self, size: int, subset: str = ALL) -> list[Score]:
        """Every draw of one size, over one part of its query."""
        return self._scores.get((size, subset), [])

    def means(self, metric: str, size: int, subset: str = ALL) -> TaskMeans:
        """Each task's mean over its draws."""
        key = (metric, size, subset)
        if key not in self._means:
            self._means[key] = per_task(self.scores(size, subset), metric, size, subset)
        return self._means[key]

    def summary(self, metric: str, size: int, subset: str = ALL) -> Summary:
        """Mean and standard error over tasks."""
        return summarise(self.scores(size, subset), metric, size, subset)

    @property
    def header(self) -> Mapping[str, Any]:
        return self.result.header

    @cached_property
    def trained(self) -> frozenset[str]:
        """The tasks that the model was trained on, as far as the result names them."""
        told = (self.header.get("overlap") or {}).get("trained_tasks")
        return frozenset(map(str, told)) if isinstance(told, list | tuple) else frozenset()


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that the sections of a report are made from.

    Attributes:
        methods: the first is the one of interest.
        baseline: what the first is held against; None for a single result.
        metric: the one that leads.
    """

    methods: Sequence[Method]
    baseline: Method | None
    kind: TaskKind
    metric: str
    _calibrations: dict[int, Mapping[int, Calibration | Coverage]] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: Sequence[Path], baseline: str | None = None) -> Study:
        """Read results from disk.

        Raises:
            InputError: one cannot be read, they have no task, size or metric in common, or none is the baseline.
        """
        return cls.of([Result.read(path) for path in paths], baseline)

    @classmethod
    def of(cls, results: Sequence[Result], baseline: str | None = None) -> Study:
        """Put results side by side; see :meth:`read`."""
        if not results:
            raise InputError("there is no result to report")
        if empty := [r.method for r in results if not r.scores]:
            raise InputError(f"the result of {', '.join(empty)} holds no score")
        kinds = {_kind(result) for result in results}
        if len(kinds) > 1:
            raise InputError(f"the results are of several kinds ({', '.join(sorted(kinds))}); report each by itself")
        methods = [Method(name, i, r) for i, (name, r) in enumerate(zip(names(results), results, strict=True))]
        kind = kinds.pop()
        _check_shared(methods)
        return cls(methods, _baseline(methods, baseline), kind, _headline(methods, kind))

    @property
    def first(self) -> Method:
        return self.methods[0]

    @cached_property
    def sizes(self) -> list[int]:
        """Support sizes at which any method has a score."""
        return sorted({size for method in self.methods for size in method.result.sizes})

    @property
    def sign(self) -> int:
        """1 where a higher leading metric is better, -1 where a lower one is."""
        return -1 if named(self.metric).better < 0 else 1

    @property
    def size(self) -> int:
        """The smallest size of the first method: what single-size sections show."""
        return self.first.result.sizes[0]

    @cached_property
    def metrics(self) -> list[str]:
        """Every metric of any method: the leading one, those that are known, then the rest by name."""
        found = {name for m in self.methods for score in m.result.scores for name in score.values} - FACTS
        known = [name for name in METRICS if name in found and name != self.metric]
        return [self.metric, *known, *sorted(found - set(METRICS))]

    @cached_property
    def tasks(self) -> dict[str, TaskRecord]:
        """What is known of the tasks; of each, what the first result that has it says."""
        found: dict[str, TaskRecord] = {}
        for method in reversed(self.methods):
            found.update(method.result.tasks)
        return dict(sorted(found.items()))

    @cached_property
    def trained(self) -> Mapping[str, str]:
        """Task to the names of the methods whose model was trained on it."""
        names = defaultdict(list)
        for method in self.methods:
            for task in method.trained:
                names[task].append(method.name)
        return {task: ", ".join(found) for task, found in names.items()}

    def means(self, size: int, subset: str = ALL) -> dict[str, TaskMeans]:
        """Method to its task means of the leading metric, where it has any."""
        return {m.name: found for m in self.methods if (found := m.means(self.metric, size, subset))}

    def task_counts(self, size: int) -> list[int]:
        """How many tasks the methods have at a size, each count once, from low to high."""
        return sorted({m.summary(self.metric, size).tasks for m in self.methods if m.scores(size)})

    def calibrations(self, method: Method) -> Mapping[int, Calibration | Coverage]:
        """Support size to what a method's predictions are worth, where there are any."""
        if method.place not in self._calibrations:
            self._calibrations[method.place] = calibrations(self.kind, method.result)
        return self._calibrations[method.place]

    def task_name(self, task: str) -> str:
        """A task's name, marked where a model was trained on it."""
        return f"{task} †" if task in self.trained else task

    def about(self, task: str) -> str:
        """What is known of a task in words."""
        known = self.tasks[task].description if task in self.tasks else {}
        told = [known.get(key, "").replace("_", " ") for key in _DESCRIPTION]
        rest = [f"{key.replace('_', ' ')}: {value}" for key, value in known.items() if not _shown(key)]
        if assay := known.get("assay_type", ""):
            rest.append("; ".join(f"{ASSAY_TYPES.get(letter, letter)} assay" for letter in assay.split("; ")))
        distinct = {text.lower(): text for text in reversed(told + rest) if text}
        return "; ".join(reversed(distinct.values()))

    def disagreements(self) -> Iterator[str]:
        """What the results were not asked alike, in sentences."""
        for term in ("name", "source", "split", "seeds", "settings"):
            told = {m.name: (m.header.get("protocol") or {}).get(term) for m in self.methods if m.header}
            if len({repr(value) for value in told.values()}) > 1:
                yield f"The {term} of the protocol is not the same: " + "; ".join(f"{k}: {v}" for k, v in told.items())
        for size in self.sizes:
            tasks = {frozenset(m.means(self.metric, size)) for m in self.methods if m.scores(size)}
            if len(tasks) > 1:
                yield (
                    f"At {size} labelled molecules the methods were not scored on the same tasks; means are over each "
                    "method's own, comparisons over those that both have."
                )


def _kind(result: Result) -> TaskKind:
    try:
        return result.kind
    except (KeyError, ValueError) as error:
        raise InputError(f"the result of {result.method} does not say what kind its tasks are ({error})") from error


def _baseline(methods: Sequence[Method], name: str | None) -> Method | None:
    others = methods[1:]
    if name is None:
        return others[-1] if others else None
    for method in others:
        if name in (method.name, method.result.method):
            return method
    found = ", ".join(method.name for method in others) or "none"
    raise InputError(f'no result is of the baseline "{name}"; beside the first there are: {found}')


def _check_shared(methods: Sequence[Method]) -> None:
    drawn = [{(s.task, s.support_size) for s in method.result.scores} for method in methods]
    for method, pairs in zip(methods[1:], drawn[1:], strict=True):
        if not pairs & drawn[0]:
            raise InputError(
                f"{methods[0].name} and {method.name} have no task in common at any support size; "
                "report results of one fold and protocol together"
            )


def _headline(methods: Sequence[Method], kind: TaskKind) -> str:
    """The metric that leads: the benchmark's, the kind's, or the first that all methods have."""

    def finite(method: Method) -> set[str]:
        return {n for s in method.result.scores for n, v in s.values.items() if math.isfinite(v)} - FACTS

    shared = set.intersection(*(finite(method) for method in methods))
    source = str((methods[0].header.get("protocol") or {}).get("source", ""))
    usual = [BENCHMARK_METRIC[source]] if source in BENCHMARK_METRIC else []
    for name in (*usual, *HEADLINES[kind], *METRICS, *sorted(shared)):
        if name in shared:
            return name
    raise InputError("the results have no metric in common that is a number in each of them")
