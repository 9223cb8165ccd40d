"""Reasons against what a person would do: leave the molecule out, fit again, and predict again."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from molmeta.bundle import Bundle, Member
from molmeta.errors import InputError
from molmeta.estimators import FewShotClassifier, FewShotRegressor
from molmeta.methods.gp import GaussianProcess
from molmeta.recipe import make_learner
from tests.bundles import BACKBONE, DRUGS, labels, tiny_bundle

SUPPORT, QUERY = DRUGS[:8], DRUGS[6:]
Y = labels(8)
VALUES = np.array([4.1, 7.2, 5.5, 6.3, 8.8, 4.9, 5.1, 6.0])
COLOURS = np.array(["red", "green", "blue", "red", "green", "blue", "red", "red"])


def knowing_bundle(temperature: dict[int, float] | None = None) -> Bundle:
    """A Gaussian process that has learned a prior, and a network that has none and serves classes alone."""
    torch.manual_seed(3)
    tables = [{"name": "gp"}, {"name": "protonet", "distance": "cosine"}]
    members = [Member(table, BACKBONE, make_learner(table, BACKBONE)) for table in tables]
    process = members[0].learner
    assert isinstance(process, GaussianProcess)
    torch.nn.init.normal_(process.prior.weight)
    return Bundle(members, reference=tiny_bundle().reference, temperature=temperature or {})


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return knowing_bundle()


def by_hand(model, left_out: list[int], x, y, query) -> np.ndarray:
    """Predictions of the same model that was fitted without some molecules."""
    kept = [i for i in range(len(x)) if i not in left_out]
    fitted = type(model)(**model.get_params(deep=False)).fit([x[i] for i in kept], np.asarray(y)[kept])
    return fitted.predict_proba(query) if hasattr(fitted, "predict_proba") else fitted.predict(query)[:, None]


def test_the_influence_is_the_change_when_the_molecule_is_left_out(bundle):
    model = FewShotClassifier(bundle).fit(SUPPORT, Y)
    reasons = model.explain(QUERY)
    np.testing.assert_allclose(reasons.prediction, model.predict_proba(QUERY)[:, 1], atol=1e-12)
    for j in range(len(SUPPORT)):
        change = reasons.prediction - by_hand(model, [j], SUPPORT, Y, QUERY)[:, 1]
        np.testing.assert_allclose(reasons.influence[:, j], change, atol=1e-5)
    assert reasons.influence.std() > 1e-3


def test_a_prior_and_a_temperature_that_differ_without_the_molecule_are_in_the_influence():
    model = FewShotClassifier(knowing_bundle({7: 1.0, 8: 2.0}), prior=0.05).fit(SUPPORT, Y)
    reasons = model.explain(QUERY)
    for j in (0, 5):
        change = reasons.prediction - by_hand(model, [j], SUPPORT, Y, QUERY)[:, 1]
        np.testing.assert_allclose(reasons.influence[:, j], change, atol=1e-5)
    np.testing.assert_allclose(reasons.base, 0.05)
    np.testing.assert_allclose(reasons.base + reasons.prior_part + reasons.support_part, reasons.prediction, atol=1e-15)


def test_of_several_classes_the_likeliest_one_is_explained(bundle):
    model = FewShotClassifier(bundle).fit(SUPPORT, COLOURS)
    reasons, probabilities = model.explain(QUERY), model.predict_proba(QUERY)
    likeliest = probabilities.argmax(1)
    assert list(reasons.what) == [f'probability of "{model.classes_[k]}"' for k in likeliest]
    np.testing.assert_allclose(reasons.prediction, probabilities.max(1), atol=1e-12)
    np.testing.assert_allclose(reasons.base, [np.mean(model.classes_[k] == COLOURS) for k in likeliest])
    change = reasons.prediction - by_hand(model, [3], SUPPORT, COLOURS, QUERY)[np.arange(len(QUERY)), likeliest]
    np.testing.assert_allclose(reasons.influence[:, 3], change, atol=1e-5)


def test_a_value_is_explained_in_its_unit_by_the_members_that_serve_values(bundle):
    model = FewShotRegressor(bundle).fit(SUPPORT, 100 * VALUES)
    reasons = model.explain(QUERY)
    np.testing.assert_allclose(reasons.prediction, model.predict(QUERY))
    np.testing.assert_allclose(reasons.base, 100 * VALUES.mean())
    assert (reasons.prior_part == 0).all()
    for j in (1, 4):
        change = reasons.prediction - by_hand(model, [j], SUPPORT, 100 * VALUES, QUERY)[:, 0]
        np.testing.assert_allclose(reasons.influence[:, j], change, rtol=1e-4, atol=1e-3)
    assert set(reasons.what) == {"value"}


@pytest.mark.parametrize("method", ["maml", "matching", "r2d2", "random_forest"])
def test_every_method_is_explained_those_that_encode_nothing_too(method):
    model = FewShotClassifier(tiny_bundle(method), random_state=5).fit(SUPPORT, Y)
    reasons = model.explain(QUERY[:3])
    change = reasons.prediction - by_hand(model, [2], SUPPORT, Y, QUERY[:3])[:, 1]
    np.testing.assert_allclose(reasons.influence[:, 2], change, atol=1e-5)
    assert (reasons.prior_part == 0).all()


def test_the_parts_add_up_and_the_prior_part_is_the_same_whatever_the_labels_say(bundle):
    reasons = FewShotClassifier(bundle).fit(SUPPORT, Y).explain(QUERY)
    np.testing.assert_allclose(reasons.base, 0.5)
    np.testing.assert_allclose(reasons.base + reasons.prior_part + reasons.support_part, reasons.prediction, atol=1e-15)
    swapped = FewShotClassifier(bundle).fit(SUPPORT, 1 - Y).explain(QUERY)
    np.testing.assert_allclose(swapped.prior_part, reasons.prior_part, atol=1e-12)
    assert np.abs(reasons.prior_part).min() > 1e-3
    assert np.abs(swapped.support_part - reasons.support_part).max() > 1e-3


def test_a_model_that_learned_no_prior_has_no_prior_part():
    reasons = FewShotClassifier(tiny_bundle("protonet")).fit(SUPPORT, [1, 0, 0, 0, 1, 0, 0, 0]).explain(QUERY)
    assert (reasons.prior_part == 0).all()
    np.testing.assert_allclose(reasons.base, 0.25)


def test_a_repeated_molecule_is_left_out_with_its_copies(bundle):
    again = [*SUPPORT, "OC(=O)c1ccccc1OC(C)=O", SUPPORT[1]]  # the first of DRUGS in other words
    y = [*Y, 0, 1]
    model = FewShotClassifier(bundle).fit(again, y)
    reasons = model.explain(QUERY)
    assert reasons.copies.tolist() == [*range(8), 0, 1]
    change = reasons.prediction - by_hand(model, [0, 8], again, y, QUERY)[:, 1]
    np.testing.assert_allclose(reasons.influence[:, [0, 8]], np.stack([change, change], 1), atol=1e-5)
    named = reasons.strongest(10)
    assert all(len(set(row[row >= 0].tolist())) == 8 for row in named)
    assert (named[:, 8:] == -1).all()


def test_the_only_example_of_a_class_has_no_influence_that_could_be_known(bundle):
    reasons = FewShotClassifier(bundle).fit(SUPPORT, [1, *[0] * 7]).explain(QUERY)
    assert np.isnan(reasons.influence).any(0).tolist() == [True, *[False] * 7]
    assert 0 not in reasons.strongest(8)
    assert np.isnan(FewShotRegressor(bundle).fit(DRUGS[:2], [1.0, 2.0]).explain(QUERY).influence).all()


def test_the_strongest_come_first_whatever_their_sign(bundle):
    reasons = FewShotClassifier(bundle).fit(SUPPORT, Y).explain(QUERY)
    for i, row in enumerate(reasons.strongest(3)):
        assert row.tolist() == sorted(range(8), key=lambda j: -abs(reasons.influence[i, j]))[:3]


def test_similarities_are_to_the_support_and_to_the_training_sample(bundle):
    reasons = FewShotClassifier(bundle).fit(SUPPORT, Y).explain(DRUGS)
    np.testing.assert_allclose(np.diag(reasons.similarity), 1)
    np.testing.assert_allclose(reasons.training_similarity[:4], 1)  # the sample is DRUGS[:4]
    assert (reasons.training_similarity[4:] < 1).all()
    unknown = FewShotClassifier(tiny_bundle(reference=False)).fit(SUPPORT, Y).explain(QUERY)
    assert np.isnan(unknown.training_similarity).all()
    assert not unknown.far.any()


def test_far_molecules_are_marked_as_predictions_mark_them(bundle):
    reasons = FewShotClassifier(bundle).fit(SUPPORT, Y).explain([DRUGS[0], "FC(F)(F)S(F)(F)(F)(F)F"])
    assert reasons.far.tolist() == [False, True]


def test_molecules_that_cannot_be_read_keep_their_place(bundle):
    model = FewShotClassifier(bundle, on_invalid="nan").fit(SUPPORT, Y)
    reasons = model.explain(["C1CC", DRUGS[9], ""])
    assert reasons.smiles == ["C1CC", DRUGS[9], ""]
    np.testing.assert_array_equal(reasons.influence[1], model.explain([DRUGS[9]]).influence[0])
    assert np.isnan(reasons.influence[[0, 2]]).all()
    assert np.isnan(reasons.prediction).tolist() == [True, False, True]
    assert "ring" in reasons.refused[0]
    assert np.isnan(model.explain(["C1CC"]).base).tolist() == [True]
    assert model.explain([]).influence.shape == (0, 8)
    with pytest.raises(InputError, match="2 of 3 molecules"):
        FewShotClassifier(bundle).fit(SUPPORT, Y).explain(["C1CC", DRUGS[9], ""])


def test_blocks_are_joined(bundle, monkeypatch):
    model = FewShotClassifier(bundle).fit(SUPPORT, Y)
    whole = model.explain(DRUGS)
    monkeypatch.setattr("molmeta.estimators._CHUNK", 5)
    joined = model.explain(DRUGS)
    # Single precision: other blocks are summed in another order.
    np.testing.assert_allclose(joined.influence, whole.influence, atol=1e-5)
    assert joined.smiles == whole.smiles == DRUGS


def test_a_loaded_model_gives_the_same_reasons(bundle, tmp_path):
    model = FewShotClassifier(bundle).fit(SUPPORT, np.where(Y == 1, "on", "off"))
    model.save(tmp_path / "a.molmeta")
    again = FewShotClassifier.load(tmp_path / "a.molmeta", device="cpu").explain(QUERY)
    np.testing.assert_allclose(again.influence, model.explain(QUERY).influence, atol=1e-6)
    assert set(again.labels) == {"on", "off"}


def test_printed_reasons_name_parts_and_molecules(bundle):
    reasons = FewShotClassifier(bundle, on_invalid="nan").fit(SUPPORT, Y).explain([DRUGS[9], "C1CC", *DRUGS])
    text = str(reasons)
    first = text.splitlines()[0]
    numbers = [float(x) for x in re.findall(r"(?<= )[+-]?[\d.]+(?= [=(])", first)]
    assert numbers[0] == pytest.approx(sum(numbers[1:4]), abs=2e-3)
    assert SUPPORT[reasons.strongest(1)[0, 0]] in text.splitlines()[1]
    assert "C1CC: no prediction (ring opened but never closed" in text
    assert text.endswith("... and 4 more molecules")


def test_explaining_changes_no_prediction(bundle):
    model = FewShotClassifier(bundle).fit(SUPPORT, Y)
    before = model.predict_proba(QUERY)
    model.explain(QUERY)
    np.testing.assert_array_equal(model.predict_proba(QUERY), before)
