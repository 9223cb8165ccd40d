"""The baselines against scikit-learn's own results, their equations, and supports at the edge."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import BernoulliNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, SVR

from molmeta.config import to_toml
from molmeta.core.episode import Episode, EpisodeBatch, LabelledSet, collate_labels
from molmeta.core.learner import Encoding, Prediction
from molmeta.core.task import Task, TaskKind
from molmeta.errors import ConfigError, MolmetaError, SupportError
from molmeta.methods.classical import Classical
from molmeta.methods.scikit import RandomForest
from molmeta.methods.tanimoto import tanimoto
from molmeta.recipe import Recipe, make_learner
from tests import tabpfn_stand_in

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
SMALL: dict[str, Mapping[str, Any]] = {
    "random_forest": {"trees": 10},
    "gradient_boosting": {"trees": 5},
    **{name: {} for name in ("knn", "similarity", "logistic", "tanimoto_gp", "sklearn")},
}
RNG = np.random.default_rng(0)
X = RNG.poisson(0.4, (24, 2048)).astype(np.float32)
Q = RNG.poisson(0.4, (40, 2048)).astype(np.float32)
CLASSES = np.arange(24) % 2
VALUES = RNG.normal(6, 2, 24)


def learner(name: str, **settings: Any) -> Classical:
    made = make_learner({"name": name, **settings}, {"name": "counts"})
    assert isinstance(made, Classical)
    return made


def support(labels: np.ndarray, kind: TaskKind, x: np.ndarray = X) -> LabelledSet:
    values = torch.from_numpy(labels)
    values = values if kind.is_classification else values.float()
    k = int(labels.max()) + 1 if kind.is_classification else 0
    return LabelledSet(Encoding(torch.from_numpy(x[: len(labels)])), values, kind, k)


def predict(model: Classical, given: LabelledSet, query: np.ndarray = Q) -> Prediction:
    return model.adapt(given).predict(Encoding(torch.from_numpy(query)))


def probabilities(model: Classical, labels: np.ndarray = CLASSES, kind: TaskKind = BINARY) -> np.ndarray:
    found = predict(model, support(labels, kind)).probabilities
    assert found is not None
    return found.numpy()


def means(model: Classical) -> np.ndarray:
    found = predict(model, support(VALUES, REGRESSION))
    assert found.mean is not None
    assert found.deviation is None or (found.deviation > 0).all()
    return found.mean.numpy()


def scaled() -> tuple[np.ndarray, Any]:
    loc, scale = VALUES.mean(), VALUES.std()
    return (VALUES - loc) / scale, lambda mean: mean * scale + loc


PEERS: dict[str, tuple[Mapping[str, Any], Any, Any]] = {
    "random_forest": ({"trees": 10}, RandomForestClassifier(10, random_state=0), lambda x: x),
    "gradient_boosting": (
        {"trees": 5, "depth": 2},
        GradientBoostingClassifier(
            n_estimators=5, max_depth=2, learning_rate=0.05, subsample=0.5, max_features=0.1, random_state=0
        ),
        lambda x: x,
    ),
    "logistic": ({}, LogisticRegression(C=0.1, tol=1e-6, max_iter=1000), np.log1p),
    "sklearn": ({}, BernoulliNB(), lambda x: x),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("kind", [BINARY, MULTICLASS])
def test_probabilities_equal_scikit_learns_own(name: str, kind: TaskKind) -> None:
    settings, peer, features = PEERS[name]
    labels = CLASSES if kind is BINARY else np.arange(24) % 4
    expected = peer.fit(features(X), labels).predict_proba(features(Q))
    np.testing.assert_allclose(probabilities(learner(name, **settings), labels, kind), expected, atol=2e-6)


def test_values_equal_scikit_learns_own_in_the_labels_unit() -> None:
    y, unscaled = scaled()
    ridge = Ridge(alpha=10).fit(np.log1p(X), y).predict(np.log1p(Q))
    np.testing.assert_allclose(means(learner("logistic")), unscaled(ridge), rtol=1e-4)
    forest = RandomForestRegressor(50, max_features="sqrt", random_state=0).fit(X, y).predict(Q)
    np.testing.assert_array_equal(learner("random_forest", trees=50).fit(X, y, REGRESSION)(Q)[:, 0], forest)


def test_neighbours_without_a_prior_vote_as_scikit_learns_do() -> None:
    peer = KNeighborsClassifier(
        5, metric="precomputed", weights=lambda distance: (1 - distance) ** 2, algorithm="brute"
    ).fit(1 - tanimoto(X, X), CLASSES)
    similarity = tanimoto(Q, X)
    clear = np.diff(np.sort(similarity, axis=1)[:, -6:-4]).ravel() > 0  # ties with the fifth vote here, and not there
    found = probabilities(learner("knn", neighbours=5, power=2.0, prior=1e-9))
    np.testing.assert_allclose(found[clear], peer.predict_proba(1 - similarity)[clear], atol=2e-6)
    assert clear.sum() > 30


def test_a_query_unlike_every_row_gets_the_supports_shares() -> None:
    labels = np.repeat([0, 1], [18, 6])
    given = support(labels, BINARY)
    found = predict(learner("knn"), given, np.zeros((1, 2048), np.float32)).probabilities
    assert found is not None
    np.testing.assert_allclose(found.numpy(), [[0.75, 0.25]], atol=1e-6)


def test_similarity_search_ranks_by_the_gap_between_the_nearest_of_each_class() -> None:
    similarity = tanimoto(Q, X)
    gap = similarity[:, CLASSES == 1].max(1) - similarity[:, CLASSES == 0].max(1)
    np.testing.assert_allclose(probabilities(learner("similarity"))[:, 1], 1 / (1 + np.exp(-4 * gap)), atol=2e-6)
    nearest = VALUES[similarity.argmax(1)]
    np.testing.assert_allclose(means(learner("similarity")), nearest, rtol=1e-5)


def test_the_grid_is_searched_in_each_support(monkeypatch: pytest.MonkeyPatch) -> None:
    assert np.prod([len(values) for values in RandomForest.GRID.values()]) == 96
    monkeypatch.setattr(RandomForest, "GRID", {"n_estimators": [3], "max_depth": [1, None]})
    model = learner("random_forest", grid=True)
    assert not model.laws.class_equivariant
    chosen = model.fit(X, CLASSES, BINARY).args[0]  # type: ignore[attr-defined]
    assert chosen.get_params()["cv"] == 5
    assert len(chosen.cv_results_["params"]) == 2
    assert chosen.best_estimator_.n_estimators == 3


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_the_grid_takes_the_folds_that_the_support_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomForest, "GRID", {"n_estimators": [3]})
    model = learner("random_forest", grid=True, trees=4)
    for labels, folds in (([0, 1, 1, 1], 3), ([0] + [1] * 9, 5), ([0, 1], None)):
        fitted = model.fit(X[: len(labels)], np.array(labels), BINARY).args[0]  # type: ignore[attr-defined]
        assert getattr(fitted, "cv", None) == folds
    assert model.fit(X[:5], VALUES[:5], REGRESSION).args[0].cv == 2  # type: ignore[attr-defined]
    assert np.isfinite(means(model)).all()


@pytest.mark.parametrize("name", SMALL)
def test_the_smallest_and_the_dullest_supports_give_finite_predictions(name: str) -> None:
    model = learner(name, **SMALL[name])
    same = np.ones_like(X)
    for kind in model.laws.kinds:
        if kind is REGRESSION:
            cases = [VALUES[:1], VALUES[:2], np.full(5, 3.5)]
        else:
            cases = [np.array([0, 1]), np.array([1, 0, 0, 0, 0])] + (
                [np.array([2, 0, 1])] if kind is MULTICLASS else []
            )
        for labels in cases:
            for x in (X, same, 0 * X):
                found = predict(model, support(labels, kind, x))
                said = found.mean if found.probabilities is None else found.probabilities.log()
                assert said is not None
                assert torch.isfinite(said).all()
                if len(labels) == 5 and kind is REGRESSION:
                    torch.testing.assert_close(said, torch.full_like(said, 3.5))


class _Fixed(Classical):
    """Says the probabilities that it is given."""

    Config = dict
    said = np.zeros((0, 2))

    def fit(self, x: Any, y: Any, kind: TaskKind) -> Any:
        return lambda query: self.said


def test_probabilities_are_never_0_or_1_and_keep_every_order_and_tie() -> None:
    model = _Fixed(learner("knn").backbone)
    active = np.array([0, 1e-9, 1e-9, 2e-9, 0.5, 0.5 + 1e-9, 1 - 1e-9, 1 - 1e-12, 1, 1])
    _Fixed.said = np.stack([1 - active, active], axis=1)
    found = predict(model, support(CLASSES, BINARY), Q[:10]).probabilities
    assert found is not None
    assert found.min() > 0
    assert found.max() < 1
    np.testing.assert_array_equal(np.sign(np.diff(found[:, 1].numpy())), np.sign(np.diff(active)))


def test_scores_that_differ_by_rounding_alone_are_ties() -> None:
    model = _Fixed(learner("knn").backbone)
    active = np.array([0.1 + 0.2, 0.3, 0.3 + 1e-16])
    _Fixed.said = np.stack([1 - active, active], axis=1)
    found = predict(model, support(CLASSES, BINARY), Q[:3]).probabilities
    assert found is not None
    assert len(found[:, 1].unique()) == 1


def test_a_support_is_fitted_once_however_many_blocks_are_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    fit = RandomForest.fit
    monkeypatch.setattr(RandomForest, "fit", lambda self, *given: fits.append(1) or fit(self, *given))
    predictor = learner("random_forest", trees=3).adapt(support(CLASSES, BINARY))
    for _ in range(3):
        predictor.predict(Encoding(torch.from_numpy(Q)))
    assert len(fits) == 1


def episodes(labels: list[list[int]]) -> EpisodeBatch:
    made = []
    for i, each in enumerate(labels):
        n = len(each)
        task = Task(str(i), np.arange(n), np.array(each), MULTICLASS, 3 - i)
        made.append(Episode(task, np.arange(n - 2), np.arange(n - 2, n)))
    rows = sum(len(each) for each in labels)
    return collate_labels(made, Encoding(torch.from_numpy(X[:rows])))


def test_episodes_of_other_numbers_of_classes_stand_in_one_batch() -> None:
    found = learner("similarity").predict_episodes(episodes([[0, 1, 2, 0, 1], [0, 1, 1, 0]]))
    assert [tuple(each.probabilities.shape) for each in found if each.probabilities is not None] == [(2, 3), (2, 2)]
    assert all(
        torch.allclose(f.probabilities.sum(1), torch.ones(2).double()) for f in found if f.probabilities is not None
    )


def test_a_batch_with_a_class_that_has_no_example_is_refused() -> None:
    with pytest.raises(SupportError, match="episode 0 has none of class 2"):
        learner("logistic").predict_episodes(episodes([[0, 1, 0, 2, 1], [0, 1, 1, 0]]))


def test_there_is_nothing_to_train() -> None:
    with pytest.raises(ConfigError, match="RandomForest learns from each support alone"):
        learner("random_forest").meta_backward(episodes([[0, 1, 2, 0, 1]]))


def test_any_estimator_comes_by_import_path_with_its_parameters() -> None:
    scores = SVC(gamma=0.1).fit(X, CLASSES).decision_function(Q)
    model = learner("sklearn", estimator="sklearn.svm:SVC", params={"gamma": 0.1})
    np.testing.assert_allclose(probabilities(model)[:, 1], 1 / (1 + np.exp(-scores)), atol=2e-6)
    y, unscaled = scaled()
    values = SVR(C=2.0).fit(X, y).predict(Q)
    model = learner("sklearn", estimator="sklearn.svm:SVR", params={"C": 2.0})
    assert model.laws.kinds == {REGRESSION}
    np.testing.assert_allclose(means(model), unscaled(values), rtol=1e-4)


def test_an_open_random_state_is_fixed() -> None:
    settings = {"estimator": "extra_trees", "params": {"n_estimators": 5}}
    np.testing.assert_array_equal(
        probabilities(learner("sklearn", **settings)), probabilities(learner("sklearn", **settings))
    )


def test_parameters_of_an_estimator_survive_a_recipe_file(tmp_path: Path) -> None:
    method = {"name": "sklearn", "estimator": "svm", "params": {"C": 0.5, "kernel": "linear"}}
    written = tmp_path / "recipe.toml"
    written.write_text(to_toml(Recipe.of({"method": method, "backbone": {"name": "counts"}}).tables()))
    again = Recipe.of(Recipe.read(written))
    assert dict(again.method) == method


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"estimator": "naive_bays"}, 'Did you mean "naive_bayes"'),
        ({"estimator": "sklearn.svm:SVCC"}, "has no SVCC"),
        ({"estimator": "no.such:Thing"}, "no module"),
        ({"estimator": "svm", "params": {"gama": 1}}, "gama"),
        ({"estimator": "sklearn.preprocessing:StandardScaler"}, "none of predict_proba"),
    ],
)
def test_a_wrong_estimator_is_refused_with_the_way_out(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        learner("sklearn", **settings)


def test_an_estimator_that_refuses_a_support_says_why() -> None:
    model = learner("sklearn", estimator="sklearn.svm:SVC", params={"gamma": -1.0})
    with pytest.raises(SupportError, match=r"support of 24 rows.*gamma"):
        probabilities(model)


def test_tabpfn_gets_the_bins_that_vary_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tabpfn", tabpfn_stand_in)
    model = learner("tabpfn", features=30, params={"n_estimators": 2, "device": "cpu"})
    fitted = model.fit(X, CLASSES, BINARY).args[0]  # type: ignore[attr-defined]
    spread = np.log1p(X).var(0)
    np.testing.assert_array_equal(np.sort(spread[fitted[1].get_support()]), np.sort(spread)[-30:])
    assert (fitted[-1].n_estimators, fitted[-1].device, fitted[-1].random_state) == (2, "cpu", 0)
    assert probabilities(model).shape == (40, 2)
    assert np.isfinite(means(model)).all()


def test_tabpfn_says_how_to_install_it_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tabpfn", None)
    with pytest.raises(MolmetaError, match="pip install tabpfn"):
        learner("tabpfn")
