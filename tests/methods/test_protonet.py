from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipy_mahalanobis
from sklearn.neighbors import NearestCentroid

from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import SupportError
from molmeta.methods.padded import PaddedEpisodes, pad
from molmeta.methods.protonet import ProtoNet, ProtoNetConfig, mahalanobis
from tests.toy import Net, NetConfig, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS = TaskKind.BINARY, TaskKind.MULTICLASS
RAGGED = [(9, 5, 3), (4, 7, 4), (2, 1, 2), (12, 5, 2)]


def net(distance: str, attention: bool = False) -> ProtoNet:
    """A network that is never asked to embed: the tests give embeddings."""
    return ProtoNet(Net(NetConfig(width=4)), ProtoNetConfig(distance=distance, attention=attention))  # type: ignore[arg-type]


def encoded(shapes: list[tuple[int, int, int]], seed: int = 0) -> EpisodeBatch:
    """Ragged episodes over embeddings of width 4."""
    batch = episodes(MULTICLASS, shapes, width=4, seed=seed)
    return batch.with_inputs(Encoding(batch.inputs))  # type: ignore[arg-type]


def arrays(part: LabelledSet) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(part.inputs, Encoding)
    return part.inputs.values.numpy(), part.labels.numpy()


def logits(model: ProtoNet, batch: EpisodeBatch) -> torch.Tensor:
    """Logits ``[t, m, k]`` as the head gives them."""
    assert isinstance(batch.inputs, Encoding)
    padded, _ = pad(batch, batch.inputs.values)
    found = model.head(padded).logits
    assert found is not None
    return found.detach()


def test_euclidean_logits_are_a_linear_classifier_up_to_a_constant_a_query() -> None:
    batch = encoded([(9, 5, 3)])
    ((support, query),) = batch.episodes()
    (z, labels), (q, _) = arrays(support), arrays(query)
    c = np.stack([z[labels == k].mean(0) for k in range(3)])
    linear = 2 * q @ c.T - np.square(c).sum(1)
    gap = logits(net("euclidean"), batch)[0].numpy() - linear
    np.testing.assert_allclose(gap, -np.square(q).sum(1, keepdims=True).repeat(3, 1), rtol=1e-9)


def test_euclidean_prediction_is_scikit_learn_s_nearest_centroid() -> None:
    for seed in range(5):
        batch = encoded([(12, 40, 4)], seed=seed)
        ((support, query),) = batch.episodes()
        oracle = NearestCentroid().fit(*arrays(support))
        found = net("euclidean").predict_episodes(batch)[0].probabilities
        assert found is not None
        assert found.argmax(1).tolist() == oracle.predict(arrays(query)[0]).tolist()


@pytest.mark.parametrize("n", [3, 4, 9])  # 3 and 4: classes of one example
def test_mahalanobis_distances_are_scipy_s_under_the_stated_covariance(n: int) -> None:
    batch = encoded([(n, 5, 3)])
    ((support, query),) = batch.episodes()
    (z, labels), (q, _) = arrays(support), arrays(query)
    found = logits(net("mahalanobis"), batch)[0].numpy()
    of_task = np.cov(z.T)
    for k in range(3):
        rows = z[labels == k]
        of_class = np.cov(rows.T) if len(rows) > 1 else np.zeros((4, 4))
        weight = min(len(rows) / (len(rows) + 1), 0.1)
        inverse = np.linalg.inv(weight * of_class + (1 - weight) * of_task + 0.1 * np.eye(4))
        expected = [-(scipy_mahalanobis(x, rows.mean(0), inverse) ** 2) for x in q]
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-9)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("attention", [False, True])
def test_cosine_logits_equal_a_loop_over_queries_and_classes(attention: bool) -> None:
    batch = encoded([(9, 5, 3)])
    ((support, query),) = batch.episodes()
    (z, labels), (q, _) = arrays(support), arrays(query)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    found = logits(net("cosine", attention), batch)[0].numpy()
    for i, x in enumerate(q):
        for k in range(3):
            rows = unit[labels == k]
            expected = cosine(x, rows.mean(0))
            if attention:
                weights = np.exp([10 * cosine(x, row) for row in rows])
                expected = (expected + cosine(x, (weights / weights.sum()) @ rows)) / 2
            assert found[i, k] == pytest.approx(10 * expected, rel=1e-9)


@pytest.mark.parametrize("attention", [False, True])
def test_the_length_of_an_embedding_does_not_change_a_cosine(attention: bool) -> None:
    batch = encoded([(9, 5, 3)])
    assert isinstance(batch.inputs, Encoding)
    scale = torch.rand(14, 1) + 0.1
    longer = batch.with_inputs(Encoding(batch.inputs.values * scale))
    model = net("cosine", attention)
    torch.testing.assert_close(logits(model, longer), logits(model, batch))


@pytest.mark.parametrize(
    "model", [net("euclidean"), net("mahalanobis"), net("cosine"), net("cosine", True)], ids=lambda m: str(m.config)
)
def test_ragged_episodes_of_differing_ways_give_what_each_gives_alone(model: ProtoNet) -> None:
    model = model.double()
    batch = encoded(RAGGED)
    total, _ = model.meta_loss(batch)
    assert torch.isfinite(total)
    losses = []
    for (support, query), together in zip(batch.episodes(), model.predict_episodes(batch), strict=True):
        alone = model.adapt(support).predict(query.inputs).probabilities
        assert alone is not None
        torch.testing.assert_close(together.probabilities, alone)
        assert alone.shape == (len(query), support.num_classes)
        losses.append(-alone[torch.arange(len(query)), query.labels].log().mean())
    torch.testing.assert_close(total, torch.stack(losses).mean())  # an episode counts once, whatever its size


def test_the_loss_of_episodes_of_differing_ways_has_finite_gradients() -> None:
    # Row 0 of the batch is of a class that the second episode, which is padded, does not have.
    batch = episodes(MULTICLASS, [(6, 6, 3), (4, 2, 2)])
    batch = replace(batch, labels=torch.where(batch.episode == 0, 2 - batch.labels, batch.labels))
    model = ProtoNet(Net())
    logs = model.meta_backward(batch)
    assert np.isfinite(list(logs.values())).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_logged_accuracy_counts_query_rows_and_no_padding() -> None:
    batch = encoded(RAGGED)
    model = net("euclidean")
    right = total = 0
    for (_, query), found in zip(batch.episodes(), model.predict_episodes(batch), strict=True):
        assert found.probabilities is not None
        right += int((found.probabilities.argmax(1) == query.labels).sum())
        total += len(query)
    assert model.meta_loss(batch)[1]["accuracy"] == pytest.approx(right / total)


def test_mahalanobis_distances_fall_as_a_class_spreads() -> None:
    def distance(spread: float) -> float:
        support = torch.tensor([[[-spread, 0.0], [spread, 0.0], [9.0, 9.0], [9.0, 8.0]]])
        targets = torch.tensor([[[1.0, 0], [1, 0], [0, 1], [0, 1]]])
        query = torch.tensor([[[1.0, 0.0]]])
        mask = torch.ones(1, 4, dtype=torch.bool)
        padded = PaddedEpisodes(support, mask, targets, query, torch.tensor([2]), BINARY)
        return float(mahalanobis(padded)[0, 0, 0])

    distances = [distance(s) for s in (0.5, 1.0, 2.0, 4.0)]
    assert all(a > b for a, b in pairwise(distances))


def test_regression_and_a_missing_class_are_refused() -> None:
    model = ProtoNet(Net())
    with pytest.raises(SupportError, match="serves binary, multiclass tasks, not regression"):
        model.adapt(LabelledSet(torch.zeros(3, 2), torch.zeros(3), TaskKind.REGRESSION, 0))
    with pytest.raises(SupportError, match=r"every class needs an example .* counts by class index: \[3, 0\]"):
        model.adapt(LabelledSet(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), BINARY, 2))


def test_a_learner_left_in_training_mode_adapts_and_predicts_as_in_evaluation_and_stays_as_it_was() -> None:
    torch.manual_seed(0)
    learner = ProtoNet(Net(NetConfig(width=4, batch_norm=True)))
    ((support, query),) = episodes(BINARY, [(8, 5, 2)]).episodes()
    learner.eval()
    expected = learner.adapt(support).predict(query.inputs).probabilities
    before = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    learner.train()
    modes = [module.training for module in learner.modules()]
    found = learner.adapt(support).predict(query.inputs).probabilities
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(dict(learner.named_buffers()), before)
    assert [module.training for module in learner.modules()] == modes
