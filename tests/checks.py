"""What the tests of several methods ask of a learner."""

from __future__ import annotations

import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Learner, Prediction
from molmeta.core.task import TaskKind
from molmeta.training.batches import EpisodeConfig, MetaBatches
from tests.toy import Source


def numbers(prediction: Prediction) -> torch.Tensor:
    """All that a prediction says, ``[m, ...]``."""
    if prediction.probabilities is not None:
        return prediction.probabilities
    assert prediction.mean is not None
    assert prediction.deviation is not None
    return torch.stack([prediction.mean, prediction.deviation], dim=1)


def assert_gradients_are_finite_differences(learner: Learner, batch: EpisodeBatch, step: float = 1e-6) -> None:
    """Each parameter's gradient of the meta-objective, along a random direction; give a learner in float64."""
    learner.eval().zero_grad()
    learner.meta_backward(batch)
    used = {name: p for name, p in learner.named_parameters() if p.grad is not None}
    assert used
    for name, parameter in used.items():
        assert parameter.grad is not None
        direction = torch.randn_like(parameter)
        losses = []
        with torch.no_grad():
            for sign in (1, -2, 1):  # there, to the other side, and back
                parameter.add_(sign * step * direction)
                losses.append(float(learner.meta_loss(batch)[0]))
        found = (losses[0] - losses[1]) / (2 * step)
        expected = float((parameter.grad * direction).sum())
        assert abs(found - expected) <= 1e-5 * max(1.0, abs(expected)), (name, found, expected)


def assert_ragged_is_one_at_a_time(learner: Learner, batch: EpisodeBatch) -> None:
    """The meta-loss of a padded batch, and its predictions, are those of its episodes alone."""
    learner.eval()
    with torch.no_grad():
        total = learner.meta_loss(batch)[0]
        losses = [learner.meta_loss(single(batch, i))[0] for i in range(len(batch))]
        torch.testing.assert_close(total, torch.stack(losses).mean(), rtol=1e-9, atol=1e-9)
        together = learner.predict_episodes(batch)
        for (support, query), found in zip(batch.episodes(), together, strict=True):
            alone = learner.adapt(support).predict(query.inputs)
            torch.testing.assert_close(numbers(found), numbers(alone), rtol=1e-9, atol=1e-9)


def single(batch: EpisodeBatch, i: int) -> EpisodeBatch:
    """A batch of one episode."""
    rows = torch.nonzero(batch.episode == i).flatten()
    before, own = batch.num_classes[:i].sum(), batch.num_classes[i]
    return EpisodeBatch(
        inputs=batch.inputs[rows],
        labels=batch.labels[rows],
        episode=torch.zeros_like(rows),
        is_support=batch.is_support[rows],
        num_classes=own[None],
        kind=batch.kind,
        target_loc=batch.target_loc[i : i + 1],
        target_scale=batch.target_scale[i : i + 1],
        class_ids=None if batch.class_ids is None else batch.class_ids[_own_rows(batch, i)],
        task_inputs=None if batch.task_inputs is None else batch.task_inputs[torch.arange(before, before + own)],
    )


def _own_rows(batch: EpisodeBatch, i: int) -> torch.Tensor:
    """Where the classes of episode ``i`` stand in ``class_ids``: one row for a regression task."""
    counts = batch.num_classes.clamp(min=1)
    return torch.arange(counts[:i].sum(), counts[: i + 1].sum())


def fall_of_loss(learner: Learner, kind: TaskKind, steps: int = 60, lr: float = 1e-2) -> float:
    """By how much training lowers the loss of unseen episodes of the toy domain."""
    config = EpisodeConfig(support_sizes=(4, 8), query_size=12)
    regression = float(kind is TaskKind.REGRESSION)
    batches = MetaBatches(Source(), config, tasks_per_step=4, regression=regression)

    def unseen() -> float:
        learner.eval()
        with torch.no_grad():
            return sum(float(learner.meta_loss(batches(10**6 + i))[0]) for i in range(10)) / 10

    optimizer = torch.optim.Adam(learner.parameters(), lr=lr)
    before = unseen()
    for step in range(steps):
        learner.train().zero_grad()
        learner.meta_backward(batches(step))
        optimizer.step()
    return before - unseen()
