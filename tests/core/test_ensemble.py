"""Averaged predictions against simulation and plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from molmeta.core.ensemble import EnsemblePredictor
from molmeta.core.learner import Beforehand, Prediction


class Fixed:
    def __init__(self, **prediction):
        self.prediction = Prediction(**{k: torch.tensor(v) for k, v in prediction.items()})

    def predict(self, inputs):
        return self.prediction


def test_an_ensemble_averages_probabilities():
    each = [Fixed(probabilities=[[0.2, 0.8]]), Fixed(probabilities=[[0.6, 0.4]])]
    got = EnsemblePredictor(each).predict((None, None)).probabilities
    np.testing.assert_allclose(got, [[0.4, 0.6]], atol=1e-7)


def test_an_ensemble_of_normals_has_the_moments_of_their_mixture():
    each = [Fixed(mean=[1.0], deviation=[0.5]), Fixed(mean=[3.0], deviation=[2.0])]
    got = EnsemblePredictor(each).predict((None, None))
    rng = np.random.default_rng(0)
    drawn = np.concatenate([rng.normal(1, 0.5, 400_000), rng.normal(3, 2, 400_000)])
    assert float(got.mean[0]) == pytest.approx(drawn.mean(), abs=0.01)
    assert float(got.deviation[0]) == pytest.approx(drawn.std(), abs=0.01)


def test_an_ensemble_has_the_heaviest_tails_of_its_members():
    each = [Fixed(mean=[1.0], deviation=[0.5]), Fixed(mean=[3.0], deviation=[2.0], tails=4.0)]
    assert EnsemblePredictor(each).predict((None, None)).tails == 4.0
    assert EnsemblePredictor(each[:1]).predict((None,)).tails == np.inf


def test_a_temperature_divides_the_logits():
    got = EnsemblePredictor([Fixed(probabilities=[[0.1, 0.9]])], temperature=2.0).predict((None,)).probabilities
    assert float((got[0, 1] / got[0, 0]).log()) == pytest.approx(np.log(9) / 2, abs=1e-6)


class Knowing(Fixed):
    def beforehand(self, inputs):
        informed = Prediction(probabilities=torch.tensor([[0.1, 0.9]]))
        return Beforehand(informed, Prediction(probabilities=torch.tensor([[0.6, 0.4]])))


def test_a_member_without_a_prior_says_the_shares_of_the_support_beforehand():
    each = [Knowing(probabilities=[[0.5, 0.5]]), Fixed(probabilities=[[0.5, 0.5]]), None]
    found = EnsemblePredictor(each, plain=torch.tensor([0.7, 0.3])).beforehand(([0], [0], [0]))
    assert found is not None
    np.testing.assert_allclose(found.informed.probabilities, [[0.4, 0.6]], atol=1e-7)
    np.testing.assert_allclose(found.uninformed.probabilities, [[0.65, 0.35]], atol=1e-7)
    assert EnsemblePredictor(each[1:]).beforehand(([0], [0])) is None
