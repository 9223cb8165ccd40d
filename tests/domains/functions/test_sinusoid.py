"""Sinusoids: what they are, and what MAML makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from molmeta.core.episode import Episode, EpisodeBatch, collate
from molmeta.core.task import Split, TaskKind
from molmeta.domains.functions.mlp import MLP, MLPConfig
from molmeta.domains.functions.sinusoid import Sinusoid, SinusoidConfig
from molmeta.errors import ConfigError
from molmeta.evaluation.fewshot import default_draw
from molmeta.methods.maml import MAML, MAMLConfig
from molmeta.training.batches import EpisodeConfig, MetaBatches

SMALL = SinusoidConfig(train_tasks=300, valid_tasks=5, test_tasks=50)


def test_a_task_is_the_sine_that_its_description_says() -> None:
    source = Sinusoid(SMALL)
    for task in source.tasks(Split.TEST, TaskKind.REGRESSION):
        x = source.gather(task.rows).double().numpy()[:, 0]
        amplitude, phase = float(task.description["amplitude"]), float(task.description["phase"])
        assert 0.1 <= amplitude <= 5
        assert 0 <= phase <= np.pi
        assert np.abs(x).max() <= 5
        np.testing.assert_allclose(task.labels, amplitude * np.sin(x - phase), atol=1e-4)


def test_waves_fill_their_ranges_evenly() -> None:
    tasks = Sinusoid(SinusoidConfig(train_tasks=3000, points=2)).tasks(Split.TRAIN, TaskKind.REGRESSION)
    for name, low, high in (("amplitude", 0.1, 5.0), ("phase", 0.0, np.pi)):
        values = (np.array([float(task.description[name]) for task in tasks]) - low) / (high - low)
        np.testing.assert_allclose(np.quantile(values, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


def test_a_task_is_the_same_whatever_the_number_of_tasks() -> None:
    small, large = Sinusoid(SMALL), Sinusoid(replace(SMALL, train_tasks=400))
    for split in (Split.TRAIN, Split.TEST):
        a, b = (source.tasks(split, TaskKind.REGRESSION)[42] for source in (small, large))
        assert a.name == b.name
        np.testing.assert_array_equal(a.labels, b.labels)
        torch.testing.assert_close(small.gather(a.rows), large.gather(b.rows), rtol=0, atol=0)


def test_every_task_has_points_and_a_wave_of_its_own() -> None:
    source = Sinusoid(SMALL)
    tasks = [t for s in (Split.TRAIN, Split.VALID, Split.TEST) for t in source.tasks(s, TaskKind.REGRESSION)]
    assert len({task.name for task in tasks}) == len({str(task.description) for task in tasks}) == 355
    assert len(np.unique(np.concatenate([task.rows for task in tasks]))) == 355 * 100
    assert not source.tasks(Split.TRAIN)


def mean_squared_error(learner: MAML, batch: EpisodeBatch, steps: int) -> float:
    learner.config = replace(learner.config, test_inner_steps=steps)
    found = learner.predict_episodes(batch)
    truth = [query.labels for _, query in batch.episodes()]
    return float(torch.cat([(p.mean - y).square() for p, y in zip(found, truth, strict=True)]).mean())


def test_maml_on_sinusoids_beats_no_adaptation_by_far_and_its_error_falls_with_steps() -> None:
    source = Sinusoid(SMALL)
    torch.manual_seed(0)
    learner = MAML(MLP(), MAMLConfig(inner_lr=0.02, inner_steps=1, scale_labels=False))
    batches = MetaBatches(source, EpisodeConfig(support_sizes=(20,), query_size=20), tasks_per_step=8, regression=1.0)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.005)
    for step in range(250):
        optimizer.zero_grad()
        learner.meta_backward(batches(step))
        optimizer.step()
    tasks = source.tasks(Split.TEST, TaskKind.REGRESSION)
    batch = collate(source, [Episode(task, *default_draw(task, 20, 0)) for task in tasks])
    errors = [mean_squared_error(learner, batch, steps) for steps in (0, 1, 10)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < errors[0] / 2


def test_the_network_is_the_papers_one_input_and_two_layers_of_forty() -> None:
    network = MLP()
    assert network.width == 40
    assert [tuple(p.shape) for p in network.parameters()] == [(40, 1), (40,), (40, 40), (40,)]
    x = torch.randn(7, 1)
    first, second = network.net[0], network.net[2]
    expected = (second.weight @ (first.weight @ x.T + first.bias[:, None]).clamp(min=0) + second.bias[:, None]).T
    torch.testing.assert_close(network(x), expected.clamp(min=0))


def test_a_last_linear_layer_has_no_relu_after_it() -> None:
    torch.manual_seed(0)
    network = MLP(MLPConfig(inputs=3, hidden=(), width=5))
    assert (network(torch.randn(50, 3)) < 0).any()
    assert network.views == (5,)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="hidden layers or a width"):
        MLPConfig(hidden=())
    with pytest.raises(ConfigError, match="2 points"):
        SinusoidConfig(points=1)
