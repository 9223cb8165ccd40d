"""What to measure next: the design against scikit-learn's posterior and brute force, and what may not be chosen."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from molmeta.errors import ConfigError, InputError
from molmeta.estimators import FewShotClassifier, FewShotRegressor
from molmeta.predicting import selection
from molmeta.predicting.selection import NOISE, conditioned, most_telling
from tests.assays import MOLECULES
from tests.bundles import DRUGS, labels, tiny_bundle

BUNDLE = tiny_bundle()
LIBRARY = MOLECULES


@pytest.fixture(scope="module")
def model() -> FewShotClassifier:
    return FewShotClassifier(BUNDLE).fit(DRUGS, labels(12))


def rows(m: int = 9, n: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(m, 2)), rng.normal(size=(n, 2))


def posterior(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    process = GaussianProcessRegressor(RBF(1.0), alpha=NOISE, optimizer=None).fit(known, np.zeros(len(known)))
    return process.predict(x, return_cov=True)[1]


def test_the_covariance_is_the_posterior_of_a_gaussian_process():
    x, known = rows()
    kernel = RBF(1.0)
    np.testing.assert_allclose(conditioned(kernel(x), kernel(x, known), kernel(known)), posterior(x, known), atol=1e-8)


def test_each_choice_leaves_the_least_uncertainty_of_all_and_settles_what_it_says():
    x, known = rows()
    u = np.random.default_rng(1).uniform(size=len(x))
    chosen, settles = most_telling(posterior(x, known), u, 3)
    whole = float(u @ posterior(x, known).diagonal())
    for step in range(3):
        taken = chosen[:step]
        left = [
            float(u @ posterior(x, np.vstack([known, x[[*taken, i]]])).diagonal()) if i not in taken else np.inf
            for i in range(len(x))
        ]
        assert int(np.argmin(left)) == chosen[step]
        before = float(u @ posterior(x, np.vstack([known, x[taken]])).diagonal())
        assert settles[step] == pytest.approx((before - min(left)) / whole, abs=1e-8)


def test_a_batch_is_spread_out_where_the_most_uncertain_are_alike():
    alike = np.full((4, 4), 0.95)
    np.fill_diagonal(alike, 1)
    covariance = np.block([[alike, np.zeros((4, 2))], [np.zeros((2, 4)), np.eye(2)]])
    chosen, _ = most_telling(covariance, np.array([1, 1, 1, 1, 0.9, 0.8]), 2)
    assert chosen[0] in range(4)
    assert chosen[1] == 4


def test_molecules_that_are_labelled_or_chosen_are_not_chosen(model):
    found = model.suggest([*DRUGS, *LIBRARY, *LIBRARY], n=10)
    assert len(set(found.smiles)) == 10
    assert not set(found.smiles) & set(DRUGS)
    assert [([*DRUGS, *LIBRARY, *LIBRARY])[i] for i in found.positions] == list(found.smiles)


def test_hits_are_the_likeliest_actives_in_order(model):
    found = model.suggest(LIBRARY, n=5, goal="hits")
    p = model.predict_proba(LIBRARY)[:, 1]
    assert found.prediction.tolist() == sorted(found.prediction, reverse=True)
    assert set(found.positions) <= set(np.argsort(-p)[:12])  # some have the fingerprint of another
    np.testing.assert_allclose(found.prediction, p[found.positions])


def test_hits_of_values_are_the_largest():
    model = FewShotRegressor(BUNDLE).fit(DRUGS, np.linspace(4, 9, 12))
    assert model.suggest(LIBRARY, n=1, goal="hits").prediction[0] == pytest.approx(model.predict(LIBRARY).max())


@pytest.mark.parametrize("goal", ["model", "hits"])
def test_a_library_may_come_in_blocks(model, monkeypatch, goal):
    whole = model.suggest(LIBRARY, n=4, goal=goal)
    monkeypatch.setattr("molmeta.estimators._CHUNK", 7)
    assert model.suggest(LIBRARY, n=4, goal=goal).positions.tolist() == whole.positions.tolist()


def test_the_best_of_a_library_larger_than_the_pool_are_found(model, monkeypatch):
    whole = model.suggest(LIBRARY, n=3, goal="hits")
    monkeypatch.setattr(selection, "POOL", 6)
    monkeypatch.setattr("molmeta.estimators._CHUNK", 7)
    assert model.suggest(LIBRARY, n=3, goal="hits").positions.tolist() == whole.positions.tolist()
    assert len(model.suggest(LIBRARY, n=3)) == 3


def test_molecules_that_cannot_be_read_keep_the_positions_of_the_others():
    model = FewShotClassifier(BUNDLE, on_invalid="nan").fit(DRUGS, labels(12))
    library = ["C1CC", *LIBRARY, "???"]
    found = model.suggest(library, n=4)
    assert [library[i] for i in found.positions] == list(found.smiles)


def test_a_library_that_is_too_small_is_refused_with_its_count(model):
    with pytest.raises(InputError, match=r"4 molecules are to be chosen.* 14 usable ones only 2 differ"):
        model.suggest([*DRUGS, "c1ccccc1F", "c1ccccc1I"], n=4)
    with pytest.raises(InputError, match="0 usable ones"):
        model.suggest([], n=1)


def test_wishes_without_a_meaning_are_refused(model):
    with pytest.raises(ConfigError, match="1 or more, not 0"):
        model.suggest(LIBRARY, n=0)
    with pytest.raises(ConfigError, match='not "best"'):
        model.suggest(LIBRARY, goal="best")
    with pytest.raises(ConfigError, match="several classes have no hits"):
        FewShotClassifier(BUNDLE).fit(DRUGS, np.arange(12) % 3).suggest(LIBRARY, goal="hits")


def test_every_choice_has_its_reason(model):
    found = model.suggest(LIBRARY, n=2)
    assert all("settles" in reason and "similarity" in reason for reason in found.reasons)
    assert all(smiles in str(found) for smiles in found.smiles)
