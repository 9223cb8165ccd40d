"""Few-shot evaluation: many draws a task, each molecule encoded once.

A protocol is a draw, ``(task, support size, seed) -> (support, query)``; a domain brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from molmeta.core.episode import Episode, EpisodeBatch, collate_labels
from molmeta.core.learner import Encoding, Laws, Prediction
from molmeta.core.random import keyed_rng
from molmeta.core.sampling import Draw, stratified, uniform
from molmeta.core.task import Inputs, Task, TaskSource
from molmeta.errors import SupportError
from molmeta.evaluation import metrics

DrawRule = Callable[[Task, int, int], Draw]
_ENCODE_ROWS = 1024
_DRAW_ROWS = 16384  # rows of padded draws that are predicted at once


class Model(Protocol):
    """What can be evaluated: a :class:`~molmeta.core.learner.Learner`, or anything that does these."""

    @property
    def laws(self) -> Laws: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, inputs: Inputs, /) -> Encoding: ...

    def predict_episodes(self, batch: EpisodeBatch, /) -> list[Prediction]: ...


@dataclass(frozen=True)
class Score:
    """One draw's scores.

    Attributes:
        task: its name.
        support_size: labelled rows.
        seed: of the draw.
        values: metric name to value; NaN where it is not defined.
    """

    task: str
    support_size: int
    seed: int
    values: dict[str, float]


def default_draw(task: Task, support_size: int, seed: int) -> Draw:
    """A stratified support (uniform for regression) and every other row as the query."""
    draw = stratified if task.kind.is_classification else uniform
    return draw(task.labels, support_size, len(task), keyed_rng(seed, f"draw {task.name}", support_size))


def evaluate(
    model: Model,
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
    """
    sizes, seeds = tuple(sizes), tuple(seeds)
    scores = []
    with _evaluation_mode(model):
        for task in tasks:
            scores += _evaluate_task(model, source, task, sizes, seeds, draw)
            if progress is not None:
                progress(task)
    return scores


@contextmanager
def _evaluation_mode(model: Model) -> Iterator[None]:
    if not isinstance(model, nn.Module):
        yield
        return
    was_training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in was_training:
            module.training = training


def _evaluate_task(
    model: Model, source: TaskSource, task: Task, sizes: tuple[int, ...], seeds: tuple[int, ...], draw: DrawRule
) -> list[Score]:
    drawn = []
    for size in sizes:
        for seed in seeds:
            try:
                drawn.append((size, seed, Episode(task, *draw(task, size, seed))))
            except SupportError:
                continue
    if not drawn:
        return []
    predictions = predict_draws(model, source, [episode for _, _, episode in drawn])
    return [
        Score(task.name, size, seed, score(episode, prediction))
        for (size, seed, episode), prediction in zip(drawn, predictions, strict=True)
    ]


@torch.no_grad()
def predict_draws(model: Model, source: TaskSource, episodes: Sequence[Episode]) -> list[Prediction]:
    """Predict the query of each episode of one task; the task's molecules are encoded once where the method allows."""
    rows = episodes[0].task.rows
    if model.laws.encodes:
        blocks = [rows[i : i + _ENCODE_ROWS] for i in range(0, len(rows), _ENCODE_ROWS)]
        encoded = [model.encode(source.gather(block).to(model.device)).values for block in blocks]
        inputs: Inputs = Encoding(torch.cat(encoded))
    else:
        inputs = source.gather(rows).to(model.device)
    at_once = max(1, _DRAW_ROWS // len(rows))
    predictions = []
    for i in range(0, len(episodes), at_once):
        chunk = episodes[i : i + at_once]
        positions = np.concatenate([p for e in chunk for p in (e.support, e.query)])
        batch = collate_labels(chunk, inputs[torch.from_numpy(positions).to(model.device)])
        predictions += model.predict_episodes(batch.to(model.device))
    return predictions


def score(episode: Episode, prediction: Prediction) -> dict[str, float]:
    """Every metric that the task's kind has."""
    truth = episode.labels(episode.query)
    if prediction.mean is not None:
        mean, values = prediction.mean.double().cpu().numpy(), truth.astype(np.float64)
        support_mean = float(np.mean(episode.labels(episode.support).astype(np.float64)))
        return {
            "r2": metrics.r2_os(values, mean, support_mean),
            "rmse": metrics.rmse(values, mean),
            "spearman": metrics.spearman(values, mean),
        }
    assert prediction.probabilities is not None
    labels, probabilities = truth.astype(np.int64), prediction.probabilities.double().cpu().numpy()
    result = {"accuracy": metrics.accuracy(labels, probabilities), "nll": metrics.nll(labels, probabilities)}
    if episode.num_classes == 2:
        ranked = probabilities[:, 1]
        result["delta_auprc"] = metrics.delta_auprc(labels, ranked)
        result["roc_auc"] = metrics.roc_auc(labels, ranked)
        result["brier"] = metrics.brier(labels, probabilities)
    return result
