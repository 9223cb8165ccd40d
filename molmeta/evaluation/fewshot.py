"""Few-shot evaluation: many draws a task, each molecule encoded once.

A protocol is a draw, ``(task, support size, seed) -> (support, query)``; a domain brings its own. What is evaluated is
a learner, or any function of a support and query molecules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from molmeta.core.episode import Episode, EpisodeBatch, collate_labels, descriptions
from molmeta.core.learner import Encoding, Laws, Prediction, inference
from molmeta.core.random import keyed_rng
from molmeta.core.sampling import Draw, stratified, uniform
from molmeta.core.shared import SharedEncoding, Table
from molmeta.core.task import FloatArray, Inputs, IntArray, Task, TaskSource
from molmeta.errors import InputError, SupportError
from molmeta.evaluation.scores import DrawResult, Score, TaskRecord, probable, score_draws

# Support and query; where an episode has some of the task's classes alone, those, too (see ``ways_and_shots``).
DrawRule = Callable[[Task, int, int], Draw | tuple[IntArray, IntArray, IntArray]]
_ENCODE_ROWS = 1024
_DRAW_ROWS = 4096  # rows of padded draws that are predicted at once: more, and they leave the processor's cache
_DRAW_PAIRS = 2**20  # pairs of a query and a support row that are, where the rows themselves are shared


class Model(Protocol):
    """What can be evaluated: a :class:`~molmeta.core.learner.Learner`, or anything that does these."""

    @property
    def laws(self) -> Laws: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, inputs: Inputs, /) -> Encoding: ...

    def predict_episodes(self, batch: EpisodeBatch, /) -> list[Prediction]: ...


@dataclass(frozen=True, eq=False)
class Support:
    """The labelled molecules that a function is given.

    Attributes:
        smiles: ``n`` strings, as written in the source.
        labels: ``[n]`` 0 and 1 (1 is active), class indices, or values.
    """

    smiles: list[str]
    labels: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.smiles)


# (support, query SMILES) -> m scores: the higher, the likelier active (or the value, for regression). Scores that all
# lie in [0, 1] are read as probabilities.
ScoreFunction = Callable[[Support, list[str]], ArrayLike]


@dataclass(frozen=True)
class Refusal:
    """A draw that the protocol refuses: the task is too small, or lacks a class."""

    support_size: int
    seed: int
    reason: str


@dataclass(frozen=True, eq=False)
class TaskResult:
    """Everything that was predicted of one task.

    Attributes:
        draws: what was drawn and predicted.
        refused: draws that the protocol refuses.
        encode_seconds: what embedding the task's molecules took, once for all draws.
    """

    task: Task
    draws: list[DrawResult]
    refused: list[Refusal]
    encode_seconds: float = 0.0


def default_draw(task: Task, support_size: int, seed: int) -> Draw:
    """A stratified support (uniform for regression) and every other row as the query."""
    draw = stratified if task.kind.is_classification else uniform
    return draw(task.labels, support_size, len(task), keyed_rng(seed, f"draw {task.name}", support_size))


def evaluate(
    model: Model | ScoreFunction,
    source: TaskSource,
    tasks: Sequence[Task],
    *,
    sizes: Iterable[int] = (16,),
    seeds: Iterable[int] = range(10),
    draw: DrawRule = default_draw,
    progress: Callable[[Task], None] | None = None,
) -> list[Score]:
    """Score a model on every task, support size and seed; a refused draw is left out.

    A learner is put in evaluation mode for the time and left as it was found.

    Args:
        model: a learner, or a function ``(support, query SMILES) -> scores`` (see :class:`Support`).
        source: where the tasks' molecules are; for a function it needs ``smiles(rows)``.
        tasks: of one kind.
        sizes: labelled rows.
        seeds: of the draws.
        draw: the protocol.
        progress: called with each task that is done.

    Raises:
        InputError: a function failed, or returned something that is not a finite score a query.
        SupportError: the model cannot learn from a support that the protocol draws.
    """
    sizes, seeds = tuple(sizes), tuple(seeds)
    results = []
    for task in tasks:
        results.append(evaluate_task(model, source, task, sizes=sizes, seeds=seeds, draw=draw))
        if progress is not None:
            progress(task)
    return scored(results, source)


def scored(results: Sequence[TaskResult], source: TaskSource) -> list[Score]:
    """The scores of every draw of several tasks."""
    certain = probable(draw for result in results for draw in result.draws)
    return [s for r in results for s in score_draws(TaskRecord.of(r.task, source), r.draws, certain)]


def evaluate_task(
    model: Model | ScoreFunction,
    source: TaskSource,
    task: Task,
    *,
    sizes: Iterable[int],
    seeds: Iterable[int],
    draw: DrawRule,
) -> TaskResult:
    """Draw and predict one task; see :func:`evaluate`."""
    drawn, refused = [], []
    for size, seed in ((size, seed) for size in sizes for seed in seeds):
        try:
            drawn.append((size, seed, Episode(task, *draw(task, size, seed))))
        except SupportError as error:
            refused.append(Refusal(size, seed, str(error)))
    if not drawn:
        return TaskResult(task, [], refused)
    with inference(model) if isinstance(model, nn.Module) else nullcontext():
        try:
            found = _predict(model, source, [episode for _, _, episode in drawn])
        except SupportError as error:
            raise SupportError(f"task {task.name}: {error}") from error
    draws = [
        DrawResult.of(episode, prediction, size, seed, seconds)
        for (size, seed, episode), prediction, seconds in zip(drawn, found.predictions, found.seconds, strict=True)
    ]
    return TaskResult(task, draws, refused, found.encode_seconds)


@dataclass(frozen=True, eq=False)
class Predicted:
    """A prediction a draw, with the seconds that each took beside ``encode_seconds`` for all of them."""

    predictions: list[Prediction]
    seconds: list[float]
    encode_seconds: float = 0.0


def _predict(model: Model | ScoreFunction, source: TaskSource, episodes: Sequence[Episode]) -> Predicted:
    if hasattr(model, "predict_episodes"):
        return predict_draws(model, source, episodes)  # type: ignore[arg-type]
    return call_draws(model, source, episodes)


@torch.no_grad()
def predict_draws(model: Model, source: TaskSource, episodes: Sequence[Episode]) -> Predicted:
    """Predict the query of each episode of one task; the task's molecules are encoded once where the method allows."""
    rows = episodes[0].task.rows
    start = time.perf_counter()
    if model.laws.encodes:
        blocks = [rows[i : i + _ENCODE_ROWS] for i in range(0, len(rows), _ENCODE_ROWS)]
        encoded = [model.encode(source.gather(block).to(model.device)).values for block in blocks]
        inputs: Inputs = _shared(torch.cat(encoded), model.laws, episodes)
    else:
        inputs = source.gather(rows).to(model.device)
    encode_seconds = time.perf_counter() - start
    predictions, seconds = [], []
    for chunk in _chunks(episodes, isinstance(inputs, SharedEncoding)):
        start = time.perf_counter()
        positions = np.concatenate([p for e in chunk for p in (e.support, e.query)])
        batch = collate_labels(chunk, inputs[torch.from_numpy(positions).to(model.device)], descriptions(source, chunk))
        predictions += model.predict_episodes(batch.to(model.device))
        seconds += [(time.perf_counter() - start) / len(chunk)] * len(chunk)
    return Predicted(predictions, seconds, encode_seconds)


def _shared(values: torch.Tensor, laws: Laws, episodes: Sequence[Episode]) -> Encoding:
    """The rows as one table, where the method can share it and the draws take a good part of it each."""
    if not laws.shares_rows or 4 * sum(len(e.query) for e in episodes) < len(episodes) * len(values):
        return Encoding(values)
    supports = torch.from_numpy(np.unique(np.concatenate([e.support for e in episodes]))).to(values.device)
    return SharedEncoding(Table(values, supports), torch.arange(len(values), device=values.device))


def _chunks(episodes: Sequence[Episode], shared: bool) -> Iterator[Sequence[Episode]]:
    """Draws that are predicted at once: few enough for memory, and of one size where no row of them is copied."""
    if not shared:
        at_once = max(1, _DRAW_ROWS // max(len(e.support) + len(e.query) for e in episodes))
        yield from (episodes[i : i + at_once] for i in range(0, len(episodes), at_once))
        return
    for _, group in groupby(episodes, key=lambda e: len(e.support)):
        same = list(group)
        at_once = max(1, _DRAW_PAIRS // max(max(1, len(e.support)) * len(e.query) for e in same))
        yield from (same[i : i + at_once] for i in range(0, len(same), at_once))


def call_draws(function: ScoreFunction, source: TaskSource, episodes: Sequence[Episode]) -> Predicted:
    """Ask a function for the query of each episode; it sees SMILES and the support's labels, nothing else.

    Raises:
        InputError: it did not return a number a query row.
    """
    task = episodes[0].task
    smiles: list[str] = source.smiles(task.rows)  # type: ignore[attr-defined]
    predictions, seconds = [], []
    for episode in episodes:
        start = time.perf_counter()
        support = Support([smiles[i] for i in episode.support], episode.labels(episode.support))
        scores = _called(function, support, [smiles[i] for i in episode.query], task)
        seconds.append(time.perf_counter() - start)
        predictions.append(_as_prediction(scores, task))
    return Predicted(predictions, seconds)


def _called(function: ScoreFunction, support: Support, query: list[str], task: Task) -> FloatArray:
    where, asked = f"task {task.name}, support of {len(support)}", len(query)
    try:
        said = function(support, query)
        said = said.detach().cpu() if isinstance(said, torch.Tensor) else said
        scores: FloatArray = np.asarray(said, np.float64)
    except Exception as error:
        raise InputError(f"{where}: the function failed with {type(error).__name__}: {error}") from error
    if scores.shape != (asked,):
        raise InputError(
            f"{where}: the function returned an array of shape {scores.shape} for {asked} query molecules; it is to "
            "return one score a molecule"
        )
    if not np.isfinite(scores).all():
        raise InputError(
            f"{where}: {int((~np.isfinite(scores)).sum())} of the function's {asked} scores are not finite; it is to "
            "return a number for every molecule"
        )
    return scores


def _as_prediction(scores: FloatArray, task: Task) -> Prediction:
    values = torch.from_numpy(scores)
    if not task.kind.is_classification:
        return Prediction(mean=values)
    return Prediction(probabilities=torch.stack([1 - values, values], dim=1))
