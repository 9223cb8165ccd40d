from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from molmeta.core.episode import EpisodeBatch, LabelledSet
from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.matching import MatchingConfig, MatchingNetwork
from tests.checks import assert_gradients_are_finite_differences, assert_ragged_is_one_at_a_time, fall_of_loss
from tests.toy import Net, NetConfig, Shapes, episodes

pytestmark = pytest.mark.usefixtures("float64")
BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION


def made(**settings: object) -> MatchingNetwork:
    torch.manual_seed(0)
    return MatchingNetwork(Net(NetConfig(width=4)), MatchingConfig(**settings)).eval()  # type: ignore[arg-type]


def encoded(kind: TaskKind, shapes: Shapes, seed: int = 0) -> EpisodeBatch:
    """Ragged episodes over embeddings of width 4."""
    batch = episodes(kind, shapes, width=4, seed=seed)
    return batch.with_inputs(Encoding(batch.inputs))  # type: ignore[arg-type]


def arrays(part: LabelledSet) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(part.inputs, Encoding)
    return part.inputs.values.numpy(), part.labels.numpy()


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def attention(query: np.ndarray, support: np.ndarray, temperature: float) -> np.ndarray:
    norms = np.linalg.norm(query) * np.linalg.norm(support, axis=1)
    return softmax(temperature * (support @ query) / norms)


@pytest.mark.parametrize("temperature", [1.0, 10.0])
def test_a_class_has_the_attention_of_its_support_rows(temperature: float) -> None:
    batch = encoded(MULTICLASS, [(9, 5, 3)])
    ((support, query),) = batch.episodes()
    (z, labels), (q, _) = arrays(support), arrays(query)
    found = made(temperature=temperature).predict_episodes(batch)[0].probabilities
    expected = [[attention(x, z, temperature)[labels == k].sum() for k in range(3)] for x in q]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9)  # type: ignore[union-attr]


def test_attention_that_is_one_hot_is_the_nearest_neighbour() -> None:
    for seed in range(5):
        batch = encoded(MULTICLASS, [(12, 40, 4)], seed)
        ((support, query),) = batch.episodes()
        oracle = KNeighborsClassifier(1, metric="cosine").fit(*arrays(support))
        found = made(temperature=1e4).predict_episodes(batch)[0].probabilities
        assert found is not None
        assert found.argmax(1).tolist() == oracle.predict(arrays(query)[0]).tolist()


def test_regression_is_the_mixture_of_gaussians_at_the_support_s_values() -> None:
    batch = encoded(REGRESSION, [(9, 5, 0)])
    ((support, query),) = batch.episodes()
    (z, values), (q, _) = arrays(support), arrays(query)
    model = made(temperature=3.0)
    found = model.predict_episodes(batch)[0]
    assert found.mean is not None
    assert found.deviation is not None
    noise = np.exp(-0.7) * values.std()
    for i, x in enumerate(q):
        a = attention(x, z, 3.0)
        mean = a @ values
        assert found.mean[i].item() == pytest.approx(mean, rel=1e-6)
        variance = a @ (np.square(values - mean) + noise**2)
        assert found.deviation[i].item() == pytest.approx(np.sqrt(variance), rel=1e-6)


def gates(cell: nn.LSTMCell, x: np.ndarray, hr: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's LSTM(x, [h, r], c): one matrix on x and another on h and r, four gates."""
    d = len(x)
    on_x, on_r = np.split(cell.weight_ih.detach().numpy(), [d], axis=1)
    on_hr = np.hstack([cell.weight_hh.detach().numpy(), on_r])
    bias = (cell.bias_ih + cell.bias_hh).detach().numpy()
    i, f, g, o = np.split(on_x @ x + on_hr @ hr + bias, 4)
    c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
    return np.tanh(c) / (1 + np.exp(-o)), c


def test_full_context_embeddings_follow_the_paper_s_equations_step_by_step() -> None:
    batch = encoded(MULTICLASS, [(6, 3, 3)])
    ((support, query),) = batch.episodes()
    (z, labels), (q, _) = arrays(support), arrays(query)
    model = made(full_context=True, steps=3, temperature=1.0)
    with torch.no_grad():
        both = model.of_support(torch.from_numpy(z))[0].numpy()
        found = model.predict_episodes(batch)[0].probabilities
    g = both[:, :4] + both[:, 4:] + z
    for i, x in enumerate(q):
        h, c = np.zeros(4), np.zeros(4)
        for _ in range(3):
            r = softmax(g @ h) @ g
            out, c = gates(model.of_query, x, np.concatenate([h, r]), c)
            h = out + x
        expected = [attention(h, g, 1.0)[labels == k].sum() for k in range(3)]
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-9)  # type: ignore[index]


@pytest.mark.parametrize("full_context", [False, True])
@pytest.mark.parametrize("kind", list(TaskKind))
def test_gradients_equal_finite_differences(kind: TaskKind, full_context: bool) -> None:
    k = {BINARY: 2, MULTICLASS: 3, REGRESSION: 0}[kind]
    batch = episodes(kind, [(5, 4, k), (3, 2, k)])
    assert_gradients_are_finite_differences(made(full_context=full_context, steps=2), batch)


@pytest.mark.parametrize("full_context", [False, True])
def test_ragged_episodes_give_what_each_gives_alone(full_context: bool) -> None:
    model = made(full_context=full_context)
    for kind, ways in ((MULTICLASS, (3, 4, 2, 2)), (REGRESSION, (0, 0, 0, 0))):
        shapes = [(n, m, k) for (n, m), k in zip([(9, 5), (4, 7), (2, 1), (12, 5)], ways, strict=True)]
        assert_ragged_is_one_at_a_time(model, episodes(kind, shapes))


def test_the_paper_s_temperature_stays_as_it_is() -> None:
    model = made(temperature=1.0, learn_temperature=False)
    model.meta_backward(episodes(BINARY, [(4, 4, 2)]))
    assert model.log_temperature.grad is None
    assert model.log_temperature.item() == 0


@pytest.mark.parametrize("full_context", [False, True])
@pytest.mark.parametrize("kind", list(TaskKind))
def test_the_loss_of_unseen_episodes_falls(kind: TaskKind, full_context: bool) -> None:
    assert fall_of_loss(made(full_context=full_context), kind) > 0.1


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"temperature": 0.0}])
def test_settings_without_a_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="1 or more and temperature is positive"):
        MatchingConfig(**wrong)  # type: ignore[arg-type]
