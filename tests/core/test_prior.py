"""Another share of the classes, against Bayes' rule on a population whose classes are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from molmeta.core.prior import at_prior


def test_odds_change_by_the_expected_odds_over_the_supports() -> None:
    said = np.array([[0.6, 0.4], [0.1, 0.9]])
    found = at_prior(said, np.array([0.5, 0.5]), np.array([0.99, 0.01]))
    assert found[:, 1] / found[:, 0] == pytest.approx([0.4 / 0.6 / 99, 0.9 / 0.1 / 99])
    assert found.sum(1) == pytest.approx(1)
    assert at_prior(said, np.array([0.7, 0.3]), np.array([0.7, 0.3])) == pytest.approx(said)


def test_what_is_right_at_one_share_is_right_at_another() -> None:
    x = np.linspace(-3, 4, 50)

    def posterior(share: np.ndarray) -> np.ndarray:
        joint = share * np.stack([norm.pdf(x, 0), norm.pdf(x, 1)], axis=1)
        return np.asarray(joint / joint.sum(1, keepdims=True))

    even, rare = np.array([0.4, 0.6]), np.array([0.95, 0.05])
    assert at_prior(posterior(even), even, rare) == pytest.approx(posterior(rare))
