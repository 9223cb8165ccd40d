from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize

from molmeta.core.learner import Encoding
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError
from molmeta.methods.centroid import Centroid, CentroidConfig
from molmeta.recipe import Recipe
from molmeta.training_run import run_training
from tests.toy import Net, NetConfig, episodes

pytestmark = pytest.mark.usefixtures("float64")
MULTICLASS = TaskKind.MULTICLASS


def made(**settings: object) -> Centroid:
    return Centroid(Net(NetConfig(width=4)), CentroidConfig(**settings)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("unit_length", [False, True])
@pytest.mark.parametrize("centre", [False, True])
def test_it_is_scikit_learn_s_nearest_centroid_on_embeddings_so_treated(centre: bool, unit_length: bool) -> None:
    for seed in range(5):
        batch = episodes(MULTICLASS, [(12, 40, 4)], width=4, seed=seed)
        values = batch.inputs.numpy() + 1  # type: ignore[attr-defined]
        support, labels = values[batch.is_support], batch.labels[batch.is_support].numpy()
        treated = values - support.mean(0) * centre
        treated = normalize(treated) if unit_length else treated
        oracle = NearestCentroid().fit(treated[batch.is_support], labels)
        model = made(centre=centre, unit_length=unit_length)
        found = model.predict_episodes(batch.with_inputs(Encoding(torch.from_numpy(values))))[0].probabilities
        assert found is not None
        assert found.argmax(1).tolist() == oracle.predict(treated[~batch.is_support]).tolist()


def test_the_temperature_changes_how_sure_it_is_and_not_of_what() -> None:
    batch = episodes(MULTICLASS, [(12, 40, 4)])
    cold, hot = (made(temperature=t) for t in (30.0, 3.0))
    hot.load_state_dict(cold.state_dict())
    cold_p, hot_p = (m.predict_episodes(batch)[0].probabilities for m in (cold, hot))
    assert cold_p is not None
    assert hot_p is not None
    assert cold_p.argmax(1).equal(hot_p.argmax(1))
    assert (cold_p.amax(1) > hot_p.amax(1)).all()


def test_training_is_refused(tmp_path: Path) -> None:
    model = made()
    with pytest.raises(ConfigError, match="keeps its encoder frozen"):
        model.meta_backward(episodes(MULTICLASS, [(6, 4, 3)]))
    tables = {"method": "centroid", "backbone": "tests.toy:Net", "source": "tests.toy:Source"}
    recipe = Recipe.of({table: {"name": name} for table, name in tables.items()})
    with pytest.raises(ConfigError, match="nothing to meta-train"):
        run_training(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_example_a_class_and_equal_rows_give_finite_numbers() -> None:
    batch = episodes(MULTICLASS, [(3, 5, 3)])
    same = batch.with_inputs(Encoding(torch.ones(8, 4)))
    found = made(centre=True).predict_episodes(same)[0].probabilities
    assert found is not None
    np.testing.assert_allclose(found.numpy(), 1 / 3)
