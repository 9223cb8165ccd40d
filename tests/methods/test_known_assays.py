"""The mixture of process and vote, by its formula, one row at a time."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.gp import GaussianProcess
from molmeta.methods.known_assays import KnownAssays, KnownAssaysConfig
from molmeta.recipe import make_learner
from tests.toy import episodes

ASSAYS = 4


def learner() -> KnownAssays:
    made = make_learner({"name": "known_assays"}, {"name": "profiles", "width": 3})
    assert isinstance(made, KnownAssays)
    made.backbone.panel = torch.arange(ASSAYS, dtype=torch.int16)
    torch.nn.init.normal_(made.prior.weight)
    return made.double().eval()


def batch(seed: int = 0, kind: TaskKind = TaskKind.BINARY) -> EpisodeBatch:
    drawn = episodes(kind, [(6, 5, 2 if kind.is_classification else 0), (4, 3, 2 if kind.is_classification else 0)])
    rng = torch.Generator().manual_seed(seed)
    views = [torch.nn.functional.normalize(torch.randn(18, d, generator=rng).double(), dim=1) for d in (2, 3, 2048)]
    signs = torch.randint(-1, 2, (18, ASSAYS), generator=rng).double()
    signs[[1, 8, 13]] = 0  # these were not measured
    return drawn.with_inputs(Encoding(torch.cat([*views, signs], dim=1)))


def test_the_mixture_is_the_formula() -> None:
    model, drawn = learner(), batch()
    q, b = float(model.agreement.sigmoid()), float(model.log_temper.exp())
    process = GaussianProcess.head(model, model.pad(drawn, drawn.inputs.values)[0].map(model._compared)).logits
    assert process is not None
    for t, ((support, query), said) in enumerate(zip(drawn.episodes(), model.predict_episodes(drawn), strict=True)):
        signs, labels = support.inputs.values[:, -ASSAYS:], support.labels.tolist()
        score = [
            b
            * sum(
                math.log(0.5 if s == 0 else q if (s > 0) == (y == 1) else 1 - q)
                for s, y in zip(column, labels, strict=True)
            )
            for column in signs.T.tolist()
        ]
        weights = np.exp(score) / np.exp(score).sum()
        share = 1 / (1 + math.exp(-(0.0 - 1.0 * math.log(len(labels) / 16))))
        for i, row in enumerate(query.inputs.values[:, -ASSAYS:].tolist()):
            v = sum(w * (q if a > 0 else 1 - q) for w, a in zip(weights, row, strict=True) if a)
            m = sum(w for w, a in zip(weights, row, strict=True) if a)
            p = (1 - share * m) * float(process[t, i].softmax(-1)[1]) + share * v
            assert said.probabilities is not None
            assert float(said.probabilities[i, 1]) == pytest.approx(p, abs=1e-9)


def test_one_predictor_says_what_the_batch_says_and_goes_through_pickle() -> None:
    model, drawn = learner(), batch()
    for (support, query), said in zip(drawn.episodes(), model.predict_episodes(drawn), strict=True):
        predictor = pickle.loads(pickle.dumps(model.adapt(support)))
        torch.testing.assert_close(predictor.predict(query.inputs).probabilities, said.probabilities)


def test_a_molecule_that_no_assay_measured_is_left_to_the_process() -> None:
    model, drawn = learner(), batch()
    drawn.inputs.values[:, -ASSAYS:] = 0
    alone = GaussianProcess.head(model, model.pad(drawn, drawn.inputs.values)[0].map(model._compared)).logits
    assert alone is not None
    for t, said in enumerate(model.predict_episodes(drawn)):
        assert said.probabilities is not None
        torch.testing.assert_close(said.probabilities, alone[t, : len(said.probabilities)].softmax(-1))


def test_values_are_the_process_s_alone() -> None:
    model, drawn = learner(), batch(kind=TaskKind.REGRESSION)
    found = model.predict_episodes(drawn)
    drawn.inputs.values[:, -ASSAYS:] = 0
    for one, other in zip(found, model.predict_episodes(drawn), strict=True):
        torch.testing.assert_close(one.mean, other.mean)


def test_a_backbone_that_knows_no_assays_is_refused() -> None:
    with pytest.raises(ConfigError, match='choose the backbone "profiles"'):
        make_learner({"name": "known_assays"}, {"name": "counts"})


def test_settings_start_the_parameters() -> None:
    model = make_learner({"name": "known_assays", "agreement": 0.7, "temper": 0.2}, {"name": "profiles"})
    assert isinstance(model, KnownAssays)
    assert float(model.agreement.sigmoid()) == pytest.approx(0.7)
    assert KnownAssaysConfig().prior
