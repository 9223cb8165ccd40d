from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from rdkit.ML.Scoring import Scoring
from scipy.stats import rankdata
from sklearn import metrics as oracle

from molmeta.evaluation.metrics import (
    BEDROC_ALPHA,
    CALIBRATION_BINS,
    Ranked,
    binary_metrics,
    central_levels,
    metrics_of_draw,
    multiclass_metrics,
    regression_metrics,
    reliability,
)


@pytest.fixture(params=range(5))
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(request.param)


def draws(rng: np.random.Generator, d: int = 6, m: int = 40, step: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities ``[d, m]``, with ties and both classes."""
    labels = (rng.random((d, m)) < 0.4).astype(np.int64)
    labels[:, :2] = [0, 1]
    return labels, (rng.random((d, m)) / step).round() * step


ORACLES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "average_precision": oracle.average_precision_score,
    "delta_auprc": lambda y, p: oracle.average_precision_score(y, p) - y.mean(),
    "roc_auc": oracle.roc_auc_score,
    "accuracy": lambda y, p: oracle.accuracy_score(y, p >= 0.5),
    "balanced_accuracy": lambda y, p: oracle.balanced_accuracy_score(y, p >= 0.5),
    "f1": lambda y, p: oracle.f1_score(y, p >= 0.5, zero_division=1),
    "kappa": lambda y, p: oracle.cohen_kappa_score(y, p >= 0.5),
    "nll": lambda y, p: oracle.log_loss(y, np.clip(p, 1e-7, 1 - 1e-7)),
    "brier": oracle.brier_score_loss,
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_metric_of_many_draws_is_scikit_learn_s_of_each(name: str, rng: np.random.Generator) -> None:
    labels, probabilities = draws(rng)
    expected = [ORACLES[name](y, p) for y, p in zip(labels, probabilities, strict=True)]
    np.testing.assert_allclose(binary_metrics(labels, probabilities)[name], expected, rtol=1e-6)


@pytest.mark.parametrize("name", [*ORACLES, "ef1", "bedroc", "ece", "chance"])
def test_masked_rows_count_for_nothing(name: str, rng: np.random.Generator) -> None:
    labels, scores = draws(rng)
    mask = rng.random(labels.shape) < 0.6
    mask[:, :2] = True
    found = binary_metrics(labels, scores, mask)
    for i, kept in enumerate(mask):
        expected = metrics_of_draw(labels[i][kept], scores[i][kept])
        np.testing.assert_allclose(found[name][i], expected[name], rtol=1e-9, err_msg=name)


def test_early_enrichment_is_rdkit_s_where_nothing_is_tied(rng: np.random.Generator) -> None:
    labels, _ = draws(rng, 3, 400)
    scores = np.stack([rng.permutation(400) / 400 for _ in range(3)])
    found = binary_metrics(labels, scores)
    for i in range(3):
        ranked = [[bool(y)] for y in labels[i][np.argsort(-scores[i])]]
        assert found["ef1"][i] == pytest.approx(Scoring.CalcEnrichment(ranked, 0, [0.01])[0])
        assert found["bedroc"][i] == pytest.approx(Scoring.CalcBEDROC(ranked, 0, BEDROC_ALPHA))


@pytest.mark.parametrize("name", ["ef1", "bedroc"])
def test_tied_rows_count_as_a_random_order_of_them_does_on_average(name: str) -> None:
    labels, tied = np.array([1, 0, 0, 1, 0]), np.array([0.9, 0.7, 0.7, 0.7, 0.1])
    untied = [np.array([0.9, *order, 0.1]) for order in permutations([0.6, 0.7, 0.8])]
    expected = np.mean([metrics_of_draw(labels, scores)[name] for scores in untied])
    assert metrics_of_draw(labels, tied)[name] == pytest.approx(expected)


def test_chance_is_what_random_rankings_score_on_average() -> None:
    labels = np.array([1, 1, 0, 0, 0, 0])
    every = [oracle.average_precision_score(labels, order) for order in permutations(range(6))]
    assert metrics_of_draw(labels, np.zeros(6))["chance"] == pytest.approx(np.mean(every) - 1 / 3)
    assert metrics_of_draw(labels, np.zeros(6))["delta_auprc"] == pytest.approx(0)
    above = [metrics_of_draw(labels, np.array(order, np.float64))["above_chance"] for order in permutations(range(6))]
    assert np.mean(above) == pytest.approx(0)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_a_random_ranking_is_at_chance_however_many_rows_are_tied(levels: int) -> None:
    labels = np.array([1, 1, 0, 0, 0, 0])
    scores = np.arange(6.0) // (6 / levels)
    above = [metrics_of_draw(labels, scores[list(order)])["above_chance"] for order in permutations(range(6))]
    assert np.mean(above) == pytest.approx(0)


def test_calibration_error_is_that_of_equal_mass_bins(rng: np.random.Generator) -> None:
    labels, probabilities = draws(rng, 2, 150, step=1e-9)
    for y, p, found in zip(labels, probabilities, binary_metrics(labels, probabilities)["ece"], strict=True):
        bins = np.array_split(np.argsort(p), CALIBRATION_BINS)
        assert found == pytest.approx(sum(abs((p[b] - y[b]).sum()) for b in bins) / 150)


def test_a_constant_forecast_of_the_share_is_calibrated_in_whatever_order_the_rows_stand() -> None:
    labels = np.repeat([1, 0], [30, 70])
    assert metrics_of_draw(labels, np.full(100, 0.3))["ece"] == pytest.approx(0)
    assert metrics_of_draw(labels, np.full(100, 0.8))["ece"] == pytest.approx(0.5)


def test_a_reliability_curve_keeps_every_row_and_every_active(rng: np.random.Generator) -> None:
    labels, probabilities = draws(rng)
    weight, predicted, observed = reliability(Ranked.of(labels, probabilities, np.ones(labels.shape, bool)))
    np.testing.assert_allclose(weight.sum(1), labels.shape[1])
    np.testing.assert_allclose(predicted.sum(1), probabilities.sum(1))
    np.testing.assert_allclose(observed.sum(1), labels.sum(1))
    means = predicted / np.maximum(weight, 1)
    assert (np.diff(means[:, weight.all(0)]) > -1e-12).all()


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_a_query_of_one_class_has_no_ranking(labels: list[int]) -> None:
    found = metrics_of_draw(np.array(labels), np.array([0.1, 0.5, 0.9]))
    ranking = ("delta_auprc", "above_chance", "average_precision", "roc_auc", "ef1", "bedroc", "chance")
    assert all(np.isnan(found[name]) for name in ("balanced_accuracy", "f1", "kappa"))
    assert all(np.isnan(found[name]) for name in ranking)
    assert np.isfinite([found["nll"], found["brier"], found["accuracy"]]).all()


def test_scores_that_are_not_probabilities_rank_and_claim_nothing_else() -> None:
    found = metrics_of_draw(np.array([1, 0, 0, 0]), np.array([4.0, 3, 2, 1]))
    assert found["delta_auprc"] == 0.75
    assert np.isnan([found[name] for name in ("nll", "brier", "ece", "accuracy", "f1", "kappa")]).all()


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_a_model_that_diverged_has_no_score_and_is_told(bad: float) -> None:
    found = metrics_of_draw(np.array([1, 0, 1]), np.array([0.2, bad, 0.3]))
    assert found["failed"] == 1
    facts = ("chance", "query_share", "queries", "failed")
    assert np.isnan([value for name, value in found.items() if name not in facts]).all()


def test_whether_scores_are_probabilities_is_decided_over_all_draws_but_for_rounding() -> None:
    labels, scores = np.array([[1, 0], [1, 0]]), np.array([[0.7, 0.2], [1.5, 0.2]])
    assert np.isnan(binary_metrics(labels, scores)["nll"]).all()
    assert np.isfinite(binary_metrics(labels, np.array([[1 + 1e-9, -1e-17], [0.5, 0.2]]))["nll"]).all()


def test_an_empty_part_of_a_query_has_no_score() -> None:
    found = binary_metrics(np.array([[1, 0]]), np.array([[0.2, 0.3]]), np.zeros((1, 2), bool))
    assert found["queries"] == 0
    assert np.isnan([values[0] for name, values in found.items() if name not in ("queries", "failed")]).all()


def test_a_certain_and_wrong_prediction_costs_a_finite_amount() -> None:
    assert metrics_of_draw(np.array([1, 0]), np.array([0.0, 0.0]))["nll"] == pytest.approx(-np.log(1e-7) / 2, rel=1e-5)


def test_multiclass_metrics_are_scikit_learn_s(rng: np.random.Generator) -> None:
    labels, probabilities = rng.permutation(np.arange(30) % 3), rng.dirichlet(np.ones(3), 30)
    found = multiclass_metrics(labels[None], probabilities[None])
    assert found["nll"][0] == pytest.approx(oracle.log_loss(labels, probabilities))
    assert found["accuracy"][0] == oracle.accuracy_score(labels, probabilities.argmax(1))


def test_the_level_of_a_value_is_that_of_the_interval_that_it_ends() -> None:
    from scipy.stats import norm, t

    ends = np.array([0.5, 0.9])
    np.testing.assert_allclose(central_levels(-norm.ppf((1 + ends) / 2)), ends)
    for freedom in (2.5, 4.0, 30.0):
        law = t(freedom)
        np.testing.assert_allclose(central_levels(law.ppf((1 + ends) / 2) / law.std(), freedom), ends)


def test_coverage_follows_the_tails_of_each_draw() -> None:
    values, mean = np.full((2, 1), 1.6), np.zeros((2, 1))  # 1.6 deviations: inside a normal's 90 %, outside Student's
    found = regression_metrics(values, mean, np.zeros(2), np.ones((2, 1)), tails=np.array([np.inf, 4.0]))
    assert found["coverage_90"].tolist() == [1.0, 0.0]


def test_of_values_without_deviation_those_that_are_met_exactly_are_covered() -> None:
    values, mean = np.array([[1.0, 2.0, 4.0, 5.0]]), np.array([[1.0, 2.0, 3.0, 5.0]])
    found = regression_metrics(values, mean, np.zeros(1), np.array([[0.0, 1.0, 0.0, 0.0]]))
    assert found["coverage_90"].tolist() == [0.75]


def test_regression_metrics_are_scikit_learn_s(rng: np.random.Generator) -> None:
    values, mean = rng.normal(6, 1, (2, 30)), rng.normal(6, 1, (2, 30)).round(1)
    mask = rng.random((2, 30)) < 0.7
    found = regression_metrics(values, mean, np.array([values[0][mask[0]].mean(), 5.0]), np.full((2, 30), 0.5), mask)
    for i, kept in enumerate(mask):
        v, f = values[i][kept], mean[i][kept]
        assert found["rmse"][i] == pytest.approx(oracle.root_mean_squared_error(v, f))
        assert found["spearman"][i] == pytest.approx(np.corrcoef(rankdata(v), rankdata(f))[0, 1])
        assert found["coverage_90"][i] == pytest.approx(np.mean(abs(v - f) < 0.5 * 1.644854))
    assert found["r2"][0] == pytest.approx(oracle.r2_score(values[0][mask[0]], mean[0][mask[0]]))


def test_out_of_sample_r2_is_0_for_the_support_s_mean_and_1_for_the_truth() -> None:
    values = np.array([[1.0, 2, 4]])
    assert regression_metrics(values, np.full((1, 3), 5.0), np.array([5.0]))["r2"] == 0
    assert regression_metrics(values, values, np.array([5.0]))["r2"] == 1


def test_constant_values_have_no_rank_correlation_and_no_r2() -> None:
    rising, flat = np.arange(3.0)[None], np.ones((1, 3))
    assert np.isnan(regression_metrics(flat, rising, np.array([0.0]))["spearman"][0])
    assert np.isnan(regression_metrics(rising, flat, np.array([0.0]))["spearman"][0])
    assert np.isnan(regression_metrics(flat, rising, np.array([1.0]))["r2"][0])


def test_the_accuracy_of_the_surest_is_that_of_the_rows_farthest_from_a_half(rng: np.random.Generator) -> None:
    labels, probabilities = draws(rng, 3, 41, step=1e-9)
    found = binary_metrics(labels, probabilities)
    for kept in (75, 50, 25):
        for i in range(3):
            surest = np.argsort(-np.abs(probabilities[i] - 0.5))[: int(np.ceil(kept * 41 / 100))]
            expected = oracle.accuracy_score(labels[i, surest], probabilities[i, surest] >= 0.5)
            assert found[f"accuracy_{kept}"][i] == pytest.approx(expected)


def test_where_all_are_as_sure_setting_some_aside_changes_nothing() -> None:
    labels = np.repeat([1, 0], [30, 70])
    found = metrics_of_draw(labels, np.full(100, 0.3))
    assert [found[f"accuracy_{kept}"] for kept in (75, 50, 25)] == pytest.approx([0.7] * 3)
