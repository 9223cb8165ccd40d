"""How good predictions are expected to be: its parts against scikit-learn, SciPy, simulation and refits by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from molmeta.core.random import keyed_rng
from molmeta.errors import ModelFileError, SupportError
from molmeta.estimators import FewShotClassifier, FewShotRegressor
from molmeta.predicting import outlook as module
from molmeta.predicting.outlook import Curve, Evidence, ordered_pairs
from tests.bundles import DRUGS, labels, tiny_bundle

CURVES = {
    "binary": {
        "weights": [0.5, 0.1, 0.2, 1.0, 0.3, 0.6, 0.4],
        "spread": [0.02, 0.01, 0.01],
        "learned_from": "9 assays",
    },
    "regression": {
        "weights": [0.2, 0.1, 0.2, 2.0, 0.3, 0.6, 0.0],
        "spread": [0.02, 0.01, 0.0],
        "learned_from": "9 assays",
    },
}
BUNDLE = replace(tiny_bundle(), curves=CURVES)
RNG = np.random.default_rng(0)


def evidence(n: float = 16, v: float = 0.7, w: float = 0.7, known: float = 0.0) -> Evidence:
    return Evidence(*map(np.asarray, (n, n, v, w, known)))


def test_the_share_of_ordered_pairs_is_the_roc_auc_of_classes():
    y, scores = RNG.integers(0, 2, 60), RNG.integers(0, 9, 60).astype(float)
    right, pairs = ordered_pairs(y, scores)
    assert right / pairs == pytest.approx(roc_auc_score(y, scores))


def test_the_share_of_ordered_pairs_of_values_follows_from_kendalls_tau():
    y, scores = RNG.normal(size=(2, 40))
    right, pairs = ordered_pairs(y, scores)
    assert right / pairs == pytest.approx((1 + kendalltau(y, scores).statistic) / 2)


def test_the_share_that_a_model_expects_is_what_its_own_probabilities_give_on_average():
    p = RNG.uniform(size=12)
    drawn = [ordered_pairs(y, p) for y in (RNG.uniform(size=(20_000, 12)) < p).astype(int)]
    right, pairs = np.mean(drawn, axis=0)
    expected, of = module._expected_pairs(p, None)
    assert (expected, of) == (pytest.approx(right, rel=0.01), pytest.approx(pairs, rel=0.01))


def test_the_share_that_a_model_expects_of_values_is_that_of_draws_from_its_normals():
    mean, deviation = RNG.normal(size=8), RNG.uniform(0.2, 2, 8)
    values = mean + deviation * RNG.normal(size=(20_000, 8))
    right = np.mean([ordered_pairs(y, mean)[0] for y in values])
    assert module._expected_pairs(mean, deviation)[0] == pytest.approx(right, rel=0.01)


def test_what_a_support_shows_is_measured_on_molecules_that_the_model_has_not_read():
    y = labels(12)
    model = FewShotClassifier(BUNDLE).fit(DRUGS, y)
    labelled = model.assay_.specialised.labelled
    right = pairs = 0.0
    rng = keyed_rng(0, "parts of a support")
    for _ in range(2):
        part = module._parts(labelled, 4, rng)
        for k in range(4):
            assert set(y[part == k]) == {0, 1}
            out = np.flatnonzero(part == k)
            rest = [i for i in range(12) if i not in out]
            refit = FewShotClassifier(BUNDLE).fit([DRUGS[i] for i in rest], y[rest])
            p = refit.predict_proba([DRUGS[i] for i in out])[:, 1]
            right += roc_auc_score(y[out], p) * (y[out] == 1).sum() * (y[out] == 0).sum()
            pairs += (y[out] == 1).sum() * (y[out] == 0).sum()
    seen = Evidence.of(labelled, BUNDLE)
    assert float(seen.crossvalidated) == pytest.approx(right / pairs)
    assert (float(seen.size), float(seen.effective), float(seen.known)) == (12, 12, 0)


def simulated(rows: int = 4000) -> tuple[Evidence, np.ndarray, np.ndarray, Curve]:
    rng = np.random.default_rng(1)
    true = Curve([0.3, 0.1, 0.15, 1.0, 0.3, 0.6, 0.4], [0.03, 0.02, 0.0], "")
    size = rng.choice([16.0, 32.0, 64.0], rows)
    seen = Evidence(size, size, rng.uniform(0.3, 1, rows), rng.uniform(0.5, 0.9, rows), rng.uniform(size=rows))
    later = size * rng.choice([1.0, 2.0], rows)
    q, spread = true.expected(seen, later), 0.03 + 0.02 * 16 / size
    strength = 1 / spread - 1
    return seen, later, rng.beta(q * strength, (1 - q) * strength), true


def test_a_curve_that_made_the_data_is_found_again_and_its_interval_covers_what_it_says():
    seen, later, quality, true = simulated()
    found = Curve.fit(seen, later, quality, np.arange(len(later)))
    np.testing.assert_allclose(found.expected(seen, later), true.expected(seen, later), atol=0.015)
    for coverage in (0.5, 0.8):
        low, high = found.interval(seen, later, coverage)
        assert np.mean((low <= quality) & (quality <= high)) == pytest.approx(coverage, abs=0.02)


def test_more_labels_are_never_expected_to_be_worse():
    seen, later, quality, _ = simulated(500)
    falling = Curve.fit(seen, later, expit(-3 * np.log2(later / seen.size) + 0 * quality), np.arange(500))
    assert falling.weights[2] == 0
    sizes = np.array([16.0, 24, 32, 128, 1000])
    for curve in (falling, Curve(**CURVES["binary"])):
        assert (np.diff(curve.expected(evidence(), sizes)) >= 0).all()


def test_a_better_supported_model_is_expected_to_be_better():
    curve = Curve(**CURVES["binary"])
    now = np.asarray(16.0)
    base = curve.expected(evidence(), now)
    for better in (evidence(v=0.9), evidence(w=0.9), evidence(known=1.0)):
        assert curve.expected(better, now) > base


@pytest.mark.parametrize("cls", [FewShotClassifier, FewShotRegressor])
def test_an_outlook_has_the_present_first_and_an_interval_around_it(cls):
    y = labels(12) if cls is FewShotClassifier else np.linspace(4, 9, 12)
    found = cls(BUNDLE).fit(DRUGS, y).outlook(more=(32, 8))
    assert found.sizes.tolist() == [12, 20, 44]
    assert (np.diff(found.expected) > 0).all()
    assert ((found.low < found.expected) & (found.expected < found.high)).all()
    assert f"{found.expected[0]:.2f}" in str(found)
    assert str(found).count("\n") == 4


def test_a_molecule_that_is_labelled_twice_counts_once():
    plain = FewShotClassifier(BUNDLE).fit(DRUGS, labels(12)).outlook()
    twice = FewShotClassifier(BUNDLE).fit([*DRUGS, "OCC", "C(C)O"], [*labels(12), 1, 1]).outlook()
    np.testing.assert_array_equal(twice.expected, plain.expected)


def test_a_prior_changes_no_ranking_and_no_outlook():
    plain, rare = (FewShotClassifier(BUNDLE, prior=p).fit(DRUGS, labels(12)).outlook() for p in (None, 0.01))
    np.testing.assert_array_equal(rare.expected, plain.expected)


def test_a_model_without_curves_says_so():
    with pytest.raises(ModelFileError, match=r"no learning curve for binary labels \(none\).*default model"):
        FewShotClassifier(tiny_bundle()).fit(DRUGS, labels(12)).outlook()


def test_several_classes_have_no_curve():
    with pytest.raises(ModelFileError, match=r"multiclass labels .those of binary and regression labels only"):
        FewShotClassifier(BUNDLE).fit(DRUGS, np.arange(12) % 3).outlook()


def test_a_class_with_one_example_is_too_little_for_an_estimate():
    with pytest.raises(SupportError, match=r"two examples of each.*11 and 1 of its classes"):
        FewShotClassifier(BUNDLE).fit(DRUGS, np.arange(12) == 3).outlook()
    with pytest.raises(SupportError, match="3 values"):
        FewShotRegressor(BUNDLE).fit(DRUGS[:3], [1.0, 2.0, 3.0]).outlook()


def test_two_examples_of_a_class_are_enough():
    assert np.isfinite(FewShotClassifier(BUNDLE).fit(DRUGS, np.arange(12) < 2).outlook().expected).all()


def test_labels_beyond_those_of_the_learned_curves_are_told():
    model = FewShotClassifier(BUNDLE).fit(DRUGS, labels(12))
    assert "drawn out" in str(model.outlook(more=(200,)))
    assert "drawn out" not in str(model.outlook(more=(64,)))
