"""Blobs against closed forms, counting, and a trained network."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from molmeta.core.episode import Episode, collate
from molmeta.core.learner import Learner
from molmeta.core.task import Split, Task, TaskKind
from molmeta.domains.functions.blobs import Blobs, BlobsConfig, bayes_error, densities
from molmeta.errors import ConfigError, SupportError
from molmeta.recipe import make_learner
from molmeta.training.batches import EpisodeConfig, MetaBatches


@lru_cache(maxsize=1)
def blobs() -> Blobs:
    return Blobs()


def the_task(source: Blobs, split: Split = Split.TEST) -> Task:
    (task,) = source.tasks(split, TaskKind.MULTICLASS)
    return task


@pytest.mark.parametrize("distance", [0.5, 2.0, 5.0])
def test_the_bayes_error_of_two_classes_is_the_normal_tail_at_half_their_distance(distance: float) -> None:
    means = np.array([[0.3, -0.2], [0.3 + 0.6 * distance, -0.2 + 0.8 * distance]])
    assert bayes_error(means) == pytest.approx(ndtr(-distance / 2), abs=1e-5)


def test_the_bayes_error_of_many_classes_is_how_often_the_nearest_mean_is_wrong() -> None:
    rng = np.random.default_rng(0)
    means = 2 * rng.normal(size=(5, 2))
    labels = rng.integers(5, size=400_000)
    points = means[labels] + rng.normal(size=(len(labels), 2))
    nearest = ((points[:, None] - means) ** 2).sum(2).argmin(1)
    assert bayes_error(means) == pytest.approx((nearest != labels).mean(), abs=0.003)


def test_equal_means_cannot_be_told_apart() -> None:
    assert bayes_error(np.zeros((4, 2))) == pytest.approx(0.75, abs=1e-6)


def test_rows_scatter_by_one_around_means_in_a_plane_of_all_dimensions() -> None:
    source = Blobs(BlobsConfig(test_classes=40, rows=300))
    task = the_task(source)
    x = source.gather(task.rows).double().numpy()
    centres = source.class_means(task, np.arange(40)) @ source.plane.T
    off = x - centres[task.labels]
    np.testing.assert_allclose(np.cov(off.T), np.eye(10), atol=0.06)
    assert np.abs(off.mean(0)).max() < 0.04
    np.testing.assert_allclose(source.plane.T @ source.plane, np.eye(2), atol=1e-12)


def test_the_probability_of_bayes_rule_is_how_often_it_is_right() -> None:
    source, task = blobs(), the_task(blobs())
    episodes = [Episode(task, *source.draw(task, 2, seed)) for seed in range(400)]
    found = [source.posterior(task.rows[e.support], e.labels(e.support), task.rows[e.query]) for e in episodes]
    said = np.concatenate([p.max(1) for p in found])
    right = np.concatenate([p.argmax(1) == e.labels(e.query) for p, e in zip(found, episodes, strict=True)])
    assert right.mean() == pytest.approx(said.mean(), abs=0.01)
    sure = said > 0.9
    assert right[sure].mean() == pytest.approx(said[sure].mean(), abs=0.01)


def test_densities_agree_with_scipys() -> None:
    from scipy.stats import multivariate_normal

    means, variances = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([1.0, 2.5])
    x = np.array([[0.5, 0.5], [30.0, -4.0]])
    each = np.stack([multivariate_normal(m, v).pdf(x) for m, v in zip(means, variances, strict=True)], axis=1)
    np.testing.assert_allclose(densities(x, means, variances), each / each.sum(1, keepdims=True), rtol=1e-10)


def errors(source: Blobs, learner: Learner, shots: int, episodes: int = 300) -> tuple[float, float, float]:
    """Share of wrong queries: the learner's, Bayes' rule's given the support, Bayes' rule's given the true means."""
    task = the_task(source)
    drawn = [Episode(task, *source.draw(task, shots, seed)) for seed in range(episodes)]
    with torch.no_grad():
        found = learner.predict_episodes(collate(source, drawn))
    truth = [e.labels(e.query) for e in drawn]
    ours = [p.probabilities.argmax(1).numpy() != y for p, y in zip(found, truth, strict=True)]
    rules = [source.posterior(task.rows[e.support], e.labels(e.support), task.rows[e.query]) for e in drawn]
    best = [rule.argmax(1) != y for rule, y in zip(rules, truth, strict=True)]
    floor = [bayes_error(source.class_means(task, e.classes), step=0.2) for e in drawn]
    return float(np.mean(ours)), float(np.mean(best)), float(np.mean(floor))


def trained(source: Blobs, steps: int) -> Learner:
    torch.manual_seed(0)
    network = {"name": "molmeta.domains.functions.mlp:MLP", "inputs": 10, "hidden": [], "width": 10}
    learner = make_learner({"name": "protonet"}, network)
    config = EpisodeConfig(sampler="ways_and_shots", ways=5, support_sizes=(1, 5), query_size=10)
    batches = MetaBatches(source, config, tasks_per_step=8)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.02)
    for step in range(steps):
        optimizer.zero_grad()
        learner.meta_backward(batches(step))
        optimizer.step()
    return learner


def test_a_trained_prototypical_network_is_within_one_per_cent_of_the_bayes_error() -> None:
    source = Blobs(BlobsConfig(rows=120))
    learner = trained(source, steps=150)
    for shots in (1, 5):
        ours, best, _ = errors(source, learner, shots)
        assert ours - best < 0.01
    ours, _, floor = errors(source, learner, shots=100)
    assert ours - floor < 0.01
    untrained, best, _ = errors(source, trained(source, steps=0), shots=1)
    assert untrained - best > 0.1  # nearest centroids in all dimensions


def test_a_draw_is_of_the_asked_size_and_keyed_by_its_seed() -> None:
    source, task = blobs(), the_task(blobs())
    support, query, classes = source.draw(task, 3, 7)
    assert len(classes) == 5
    assert np.bincount(task.labels[support], minlength=200)[classes].tolist() == [3] * 5
    assert np.bincount(task.labels[query], minlength=200)[classes].tolist() == [15] * 5
    assert not set(support) & set(query)
    assert all((a == b).all() for a, b in zip(source.draw(task, 3, 7), (support, query, classes), strict=True))
    assert (source.draw(task, 3, 8)[2] != classes).any()
    with pytest.raises(SupportError, match="have 65 rows"):
        source.draw(task, 50, 0)


def test_splits_share_no_row_and_other_kinds_have_no_task() -> None:
    source = blobs()
    rows = [set(the_task(source, s).rows.tolist()) for s in (Split.TRAIN, Split.VALID, Split.TEST)]
    assert sum(map(len, rows)) == len(set().union(*rows)) == 800 * 50
    assert not source.tasks(Split.TEST)
    assert not source.tasks(Split.HELDOUT, TaskKind.MULTICLASS)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 dimensions or more"):
        BlobsConfig(dimensions=1)
    with pytest.raises(ConfigError, match="2 ways or more"):
        BlobsConfig(ways=1)
