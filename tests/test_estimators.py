"""The estimators keep scikit-learn's conventions, and refuse what they cannot use, all of it at once."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from molmeta.bundle import Bundle
from molmeta.errors import ConfigError, DeviceError, InputError, ModelFileError, SupportError
from molmeta.estimators import FewShotClassifier, FewShotRegressor
from tests.bundles import DRUGS, labels, tiny_bundle

Y = labels(12)
VALUES = np.linspace(4.0, 9.5, 12)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return tiny_bundle(members=2)


@pytest.fixture
def classifier(bundle) -> FewShotClassifier:
    return FewShotClassifier(bundle)


def test_clone_and_parameters_follow_scikit_learn(bundle):
    model = FewShotClassifier("some.safetensors", prior=0.1, n_jobs=2, random_state=3)
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert copied.set_params(prior=0.2).prior == 0.2
    with pytest.raises(NotFittedError):
        copied.predict(DRUGS)


def test_cross_validation_and_pipelines_work(classifier):
    scores = cross_val_score(classifier, DRUGS, Y, cv=3)
    assert scores.shape == (3,)
    pipeline = make_pipeline(FunctionTransformer(lambda s: [x.strip() for x in s]), classifier)
    padded = [f" {s} " for s in DRUGS]
    inner = cross_val_predict(pipeline, padded, Y, cv=3, method="predict_proba")
    np.testing.assert_array_equal(inner, cross_val_predict(classifier, DRUGS, Y, cv=3, method="predict_proba"))


@pytest.mark.parametrize(
    "given",
    [np.array(DRUGS), np.array(DRUGS)[:, None], pd.Series(DRUGS, index=range(5, 17)), pd.DataFrame({"s": DRUGS})],
    ids=["array", "column", "series", "frame"],
)
def test_every_form_of_one_column_is_the_same(classifier, given):
    expected = classifier.fit(DRUGS, Y).predict_proba(DRUGS)
    np.testing.assert_array_equal(classifier.fit(given, pd.Series(Y)).predict_proba(given), expected)


@pytest.mark.parametrize(
    ("off", "on"), [(0, 1), (False, True), ("no", "yes"), (-1.0, 1.0), ("inactive", "active"), ("-", "+")]
)
def test_the_active_class_is_known_by_its_word(bundle, off, on):
    y = np.where(Y == 1, on, off)
    expected = FewShotClassifier(bundle).fit(DRUGS, Y).predict_proba(DRUGS)[:, 1]
    model = FewShotClassifier(bundle).fit(DRUGS, y)
    got = model.predict_proba(DRUGS)[:, model.classes_.tolist().index(on)]
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert set(model.predict(DRUGS)) <= {off, on}


def test_positive_names_the_active_class(bundle):
    y = np.where(Y == 1, "blocker", "silent")
    expected = FewShotClassifier(bundle, prior=0.01).fit(DRUGS, Y).predict_proba(DRUGS)[:, ::-1]
    model = FewShotClassifier(bundle, positive="blocker", prior=0.01).fit(DRUGS, y)
    np.testing.assert_allclose(model.predict_proba(DRUGS), expected, atol=1e-12)
    with pytest.raises(ConfigError, match="'block' is not among the classes"):
        FewShotClassifier(bundle, positive="block").fit(DRUGS, y)


def test_many_classes_of_text_are_predicted(classifier):
    y = np.array(["red", "green", "blue"] * 4)
    model = classifier.fit(DRUGS, y)
    probabilities = model.predict_proba(DRUGS)
    assert model.classes_.tolist() == ["blue", "green", "red"]
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-9)
    assert set(model.predict(DRUGS)) <= {"red", "green", "blue"}


def test_the_prior_adds_a_constant_to_the_log_odds(bundle):
    y = [1] * 3 + [0] * 9
    plain = FewShotClassifier(bundle).fit(DRUGS, y).predict_proba(DRUGS)[:, 1]
    shifted = FewShotClassifier(bundle, prior=0.01).fit(DRUGS, y).predict_proba(DRUGS)[:, 1]
    np.testing.assert_allclose(shifted, expit(logit(plain) + logit(0.01) - logit(3 / 12)), atol=1e-9)
    same = FewShotClassifier(bundle, prior=3 / 12).fit(DRUGS, y).predict_proba(DRUGS)[:, 1]
    np.testing.assert_allclose(same, plain, atol=1e-12)


@pytest.mark.parametrize("prior", [0, 1, -0.5, 2])
def test_a_prior_is_a_share(bundle, prior):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        FewShotClassifier(bundle, prior=prior).fit(DRUGS, Y)


def test_a_prior_is_for_two_classes(bundle):
    with pytest.raises(ConfigError, match="no meaning for multiclass"):
        FewShotClassifier(bundle, prior=0.1).fit(DRUGS, [0, 1, 2] * 4)


def test_the_order_of_the_support_does_not_matter(classifier):
    expected = classifier.fit(DRUGS, Y).predict_proba(DRUGS)
    order = np.random.default_rng(0).permutation(12)
    again = classifier.fit([DRUGS[i] for i in order], Y[order]).predict_proba(DRUGS)
    np.testing.assert_allclose(again, expected, atol=1e-5)


def test_regression_follows_the_unit_of_the_labels(bundle):
    model = FewShotRegressor(bundle)
    mean, deviation = model.fit(DRUGS, VALUES).predict(DRUGS, return_std=True)
    scaled, wider = model.fit(DRUGS, 1000 * VALUES + 1e9).predict(DRUGS, return_std=True)
    np.testing.assert_allclose(scaled, 1000 * mean + 1e9, rtol=1e-12)
    np.testing.assert_allclose(wider, 1000 * deviation, rtol=1e-5)
    assert (deviation > 0).all()


def test_an_interval_is_that_of_a_student_law_and_holds_more_at_a_higher_level(bundle):
    model = FewShotRegressor(bundle).fit(DRUGS, VALUES)
    mean, deviation = model.predict([*DRUGS, DRUGS[0]], return_std=True)
    narrow, wide = (model.predict_interval([*DRUGS, DRUGS[0]], level) for level in (0.5, 0.9))
    tails = 2 + math.exp(float(bundle.members[0].learner.log_tails))
    law = scipy.stats.t(tails)
    np.testing.assert_allclose(wide[:, 1] - mean, deviation * law.ppf(0.95) / law.std(), rtol=1e-5)
    np.testing.assert_allclose(wide.mean(1), mean)
    assert (narrow[:, 0] > wide[:, 0]).all()
    with pytest.raises(ConfigError, match="between 0 and 1"):
        model.predict_interval(DRUGS, 90)


def test_constant_values_predict_themselves(bundle):
    mean = FewShotRegressor(bundle).fit(DRUGS, [7.5] * 12).predict(DRUGS)
    np.testing.assert_allclose(mean, 7.5)


@pytest.mark.parametrize(("cls", "y"), [(FewShotClassifier, np.where(Y == 1, "on", "off")), (FewShotRegressor, VALUES)])
def test_a_saved_estimator_predicts_as_before(tmp_path, bundle, cls, y):
    model = cls(bundle).fit(DRUGS[:10], y[:10])
    model.save(tmp_path / "assay.safetensors")
    again = cls.load(tmp_path / "assay.safetensors", device="cpu")
    np.testing.assert_array_equal(again.predict(DRUGS), model.predict(DRUGS))
    assert again.smiles_ == DRUGS[:10]
    assert again.y_.dtype == y.dtype
    refitted = clone(again).fit(DRUGS[:10], y[:10])
    np.testing.assert_array_equal(refitted.predict(DRUGS), model.predict(DRUGS))


@pytest.mark.parametrize("method", ["gp", "protonet", "maml"])
def test_a_fitted_estimator_goes_through_pickle(method):
    model = FewShotClassifier(tiny_bundle(method, reference=False)).fit(DRUGS[:8], Y[:8])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(DRUGS), model.predict_proba(DRUGS))


def test_only_its_own_file_is_loaded(tmp_path, bundle):
    path = tmp_path / "assay.safetensors"
    FewShotClassifier(bundle).fit(DRUGS, Y).save(path)
    with pytest.raises(ModelFileError, match="holds FewShotClassifier, not a fitted FewShotRegressor"):
        FewShotRegressor.load(path)
    bundle.save(path)
    with pytest.raises(ModelFileError, match="a model without a support set"):
        FewShotClassifier.load(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match="damaged"):
        FewShotClassifier.load(path)


def test_all_bad_molecules_are_listed_at_once(classifier):
    bad = [*DRUGS[:10], "C1CC", ""]
    with pytest.raises(InputError) as caught:
        classifier.fit(bad, Y)
    message = str(caught.value)
    assert "2 of 12 molecules in X cannot be used" in message
    assert "10  C1CC" in message
    assert "11  (empty)" in message
    assert 'on_invalid="nan"' in message
    with pytest.raises(InputError, match="3 of 3 molecules"):
        classifier.fit(DRUGS, Y).predict(["C1CC", None, 3])


def test_on_invalid_nan_keeps_the_rows(bundle):
    model = FewShotClassifier(bundle, on_invalid="nan")
    with pytest.warns(UserWarning, match="1 of 12 molecules"):
        model.fit([*DRUGS[:11], "C1CC"], Y)
    queries = [DRUGS[0], "nonsense", DRUGS[1]]
    probabilities = model.predict_proba(queries)
    np.testing.assert_array_equal(probabilities[[0, 2]], model.predict_proba(queries[::2]))
    assert np.isnan(probabilities[1]).all()
    assert model.predict(queries)[1] is None
    regressor = FewShotRegressor(bundle, on_invalid="nan").fit(DRUGS, VALUES)
    assert np.isnan(regressor.predict(["nonsense"])).tolist() == [True]
    assert model.predict_proba([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (DRUGS, [1] * 12, SupportError, "nothing can be learned from one class"),
        (DRUGS[:1], [1], SupportError, "1 labelled molecule; two or more"),
        ([], [], SupportError, "0 labelled molecules"),
        (DRUGS, [1] * 11, InputError, "12 molecules but 11 labels"),
        (DRUGS, [0, 1, None, np.nan] * 3, InputError, r"6 of 12 labels are missing: positions 2 \(None\), 3"),
        (DRUGS, VALUES, InputError, "Use FewShotRegressor"),
        (DRUGS, np.eye(12), InputError, "one label a molecule"),
        ("CCO", [1], InputError, "X is one string"),
        (np.array([DRUGS, DRUGS]).T, Y, InputError, r"shape \(12, 2\)"),
    ],
)
def test_a_support_that_cannot_be_used_says_why(classifier, x, y, error, message):
    with pytest.raises(error, match=message):
        classifier.fit(x, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["6", ">7"] * 6, r"6 of 12 labels are not numbers: positions 1 \(>7\), 3"),
        ([1.0, np.inf] * 6, "6 of 12 labels are not finite"),
    ],
)
def test_values_that_are_no_numbers_are_refused(bundle, y, message):
    with pytest.raises(InputError, match=message):
        FewShotRegressor(bundle).fit(DRUGS, y)


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"model": None}, "model is"), ({"random_state": "a"}, "random_state is"), ({"prior": "a"}, "prior is")],
)
def test_a_setting_of_the_wrong_type_is_refused(bundle, setting, message):
    with pytest.raises(ConfigError, match=message):
        FewShotClassifier(**{"model": bundle, **setting}).fit(DRUGS, Y)


def test_numbers_of_numpy_are_settings_and_are_saved(tmp_path, bundle):
    y = np.where(Y == 1, 7, 3)
    model = FewShotClassifier(bundle, positive=y.min(), prior=np.float64(0.1), random_state=np.int64(3)).fit(DRUGS, y)
    model.save(tmp_path / "a.molmeta")
    again = FewShotClassifier.load(tmp_path / "a.molmeta")
    np.testing.assert_array_equal(again.predict_proba(DRUGS), model.predict_proba(DRUGS))
    with pytest.raises(InputError, match="there is no folder"):
        model.save(tmp_path / "none" / "a.molmeta")


def test_a_device_that_is_not_there_is_refused(bundle, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="0 CUDA devices"):
        FewShotClassifier(bundle, device="cuda").fit(DRUGS, Y)
    with pytest.raises(DeviceError, match='"gpu0" is not a device'):
        FewShotClassifier(bundle, device="gpu0").fit(DRUGS, Y)


def test_a_repeated_and_conflicting_molecule_is_served(classifier):
    model = classifier.fit([DRUGS[0]] * 4 + DRUGS[1:5], [0, 1, 0, 1, 0, 1, 0, 1])
    assert np.isfinite(model.predict_proba(DRUGS)).all()


def test_a_large_support_is_served():
    chains = ["C" * (i % 60 + 1) + "O" * (i % 2) + "N" * (i % 7) for i in range(5000)]
    y = np.arange(5000) % 2
    assert FewShotClassifier(tiny_bundle()).fit(chains, y).predict_proba(DRUGS).shape == (12, 2)
