"""The calibrated forest against scikit-learn's own calibration, and where a class is too rare for it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier

from molmeta.core.task import TaskKind
from molmeta.scoring.candidates import load_candidate
from molmeta.scoring.platt import PlattForest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def support(rng: np.random.Generator, actives: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.array([1] * actives + [0] * (16 - actives))
    return rng.poisson(1.0, (16, 12)) + 2 * y[:, None] * (np.arange(12) < 3), y


@pytest.mark.parametrize(("actives", "folds"), [(8, 5), (3, 3)])
def test_it_is_scikit_learns_in_as_many_folds_as_the_rarer_class_allows(
    rng: np.random.Generator, actives: int, folds: int
) -> None:
    x, y = support(rng, actives)
    forest = RandomForestClassifier(20, max_features="sqrt", random_state=0)
    oracle = CalibratedClassifierCV(forest, method="sigmoid", cv=folds, ensemble=False).fit(x, y)
    assert PlattForest(trees=20).fit(x, y).predict_proba(x) == pytest.approx(oracle.predict_proba(x))


def test_of_a_class_of_one_row_the_forests_own_share_is_given(rng: np.random.Generator) -> None:
    x, y = support(rng, 1)
    oracle = RandomForestClassifier(20, max_features="sqrt", random_state=0).fit(x, y)
    assert PlattForest(trees=20).fit(x, y).predict_proba(x) == pytest.approx(oracle.predict_proba(x))


@pytest.mark.parametrize("name", ["constant", "platt-forest"])
def test_what_probabilities_are_measured_by_is_known_by_name(name: str) -> None:
    found = load_candidate(name)
    assert found.name == name
    assert found.serves(TaskKind.BINARY)
    assert not found.serves(TaskKind.REGRESSION)
