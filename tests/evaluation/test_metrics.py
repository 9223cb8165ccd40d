from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn import metrics as oracle

from molmeta.evaluation import metrics


@pytest.fixture(params=range(5))
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(request.param)


def test_classification_metrics_are_scikit_learn_s(rng: np.random.Generator) -> None:
    labels = rng.permutation(np.arange(40) % 2)
    active = np.round(rng.uniform(0.01, 0.99, 40), 1).clip(0.01, 0.99)  # with ties
    both = np.stack([1 - active, active], axis=1)
    expected_delta = oracle.average_precision_score(labels, active) - labels.mean()
    assert metrics.delta_auprc(labels, active) == pytest.approx(expected_delta)
    assert metrics.roc_auc(labels, active) == pytest.approx(oracle.roc_auc_score(labels, active))
    assert metrics.nll(labels, both) == pytest.approx(oracle.log_loss(labels, both))
    assert metrics.brier(labels, both) == pytest.approx(oracle.brier_score_loss(labels, active))
    assert metrics.accuracy(labels, both) == pytest.approx(oracle.accuracy_score(labels, both.argmax(1)))


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order(rng: np.random.Generator) -> None:
    labels, scores = rng.permutation(np.arange(20) % 2), rng.integers(5, size=20) / 5
    pairs = scores[labels == 1][:, None] - scores[labels == 0]
    assert metrics.roc_auc(labels, scores) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_a_perfect_ranking_gains_what_chance_leaves_and_a_constant_one_nothing() -> None:
    labels = np.array([1, 0, 0, 0])
    assert metrics.delta_auprc(labels, np.array([4.0, 3, 2, 1])) == 0.75
    assert metrics.delta_auprc(labels, np.zeros(4)) == 0.0


def test_multiclass_metrics_are_scikit_learn_s(rng: np.random.Generator) -> None:
    labels, probabilities = rng.permutation(np.arange(30) % 3), rng.dirichlet(np.ones(3), 30)
    assert metrics.nll(labels, probabilities) == pytest.approx(oracle.log_loss(labels, probabilities))
    assert metrics.accuracy(labels, probabilities) == oracle.accuracy_score(labels, probabilities.argmax(1))


def test_regression_metrics_are_scikit_learn_s(rng: np.random.Generator) -> None:
    values, mean = rng.normal(6, 1, 30), rng.normal(6, 1, 30).round(1)
    assert metrics.rmse(values, mean) == pytest.approx(oracle.root_mean_squared_error(values, mean))
    assert metrics.r2_os(values, mean, float(values.mean())) == pytest.approx(oracle.r2_score(values, mean))
    assert metrics.spearman(values, mean) == pytest.approx(np.corrcoef(rankdata(values), rankdata(mean))[0, 1])


def test_out_of_sample_r2_is_0_for_the_support_s_mean_and_1_for_the_truth() -> None:
    values = np.array([1.0, 2, 4])
    assert metrics.r2_os(values, np.full(3, 5.0), 5.0) == 0
    assert metrics.r2_os(values, values, 5.0) == 1


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_a_query_of_one_class_has_no_ranking(labels: list[int]) -> None:
    scores = np.array([0.1, 0.5, 0.9])
    assert np.isnan(metrics.delta_auprc(np.array(labels), scores))
    assert np.isnan(metrics.roc_auc(np.array(labels), scores))


def test_constant_values_have_no_rank_correlation_and_no_r2() -> None:
    assert np.isnan(metrics.spearman(np.ones(3), np.arange(3.0)))
    assert np.isnan(metrics.spearman(np.arange(3.0), np.ones(3)))
    assert np.isnan(metrics.r2_os(np.ones(3), np.arange(3.0), 1.0))


def test_a_certain_and_wrong_prediction_costs_a_finite_amount() -> None:
    assert metrics.nll(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(-np.log(1e-7))
