"""Recipes as models, and benchmarks of classes and functions: the same command as for assays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.naive_bayes import BernoulliNB

from molmeta.cli import main
from molmeta.errors import ConfigError, ModelFileError
from molmeta.evaluation.statistics import summarise
from molmeta.scoring import Question, evaluate

CLASSES = {"book_flight": "fly plane ticket", "play_music": "song tune listen", "set_alarm": "wake clock morning"}


@pytest.fixture
def texts(tmp_path: Path) -> Question:
    """Three classes, eight texts each; the first word of a class's name stands in every text of it."""
    rows = [
        f"{name.split('_')[0]} {word} {i},{name}"
        for name, words in CLASSES.items()
        for i, word in enumerate(words.split() * 3)
    ]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "labels.test.txt").write_text("\n".join(CLASSES))
    settings = (
        f'source.paths=["{tmp_path / "texts.csv"}"]',
        f"source.classes={tmp_path}",
        "source.ways=3",
        "source.queries=3",
    )
    return Question("text_table", "test", "multiclass", (0, 1, 3), 20, settings=settings)


def recipe(path: Path, method: str, backbone: str) -> str:
    path.write_text(f"[method]\n{method}\n[backbone]\n{backbone}\n")
    return str(path)


def test_descriptions_alone_predict_without_an_example(texts: Question, tmp_path: Path) -> None:
    zero = recipe(tmp_path / "zero.toml", 'name = "zero_shot"\ndistance = "cosine"', 'name = "text_bag"')
    result = evaluate(zero, texts, out=tmp_path / "result")
    accuracy = [summarise(result.scores, "accuracy", size).mean for size in (0, 1, 3)]
    assert result.sizes == [0, 1, 3]
    assert min(accuracy) > 0.6  # a random encoder tells texts of other words apart; chance is 1/3
    assert main(["report", str(tmp_path / "result"), "-o", str(tmp_path / "report")]) == 0


def test_a_method_that_reads_no_description_is_refused_a_support_of_none(texts: Question, tmp_path: Path) -> None:
    centroid = recipe(tmp_path / "centroid.toml", 'name = "centroid"', 'name = "text_bag"')
    with pytest.raises(ConfigError, match="centroid learns from examples alone"):
        evaluate(centroid, texts)
    assert evaluate(centroid, replace(texts, sizes=(1, 3))).sizes == [1, 3]


def test_a_recipe_s_method_is_scored_untrained_from_its_seed_and_takes_settings(tmp_path: Path) -> None:
    few = Question("sinusoid", "test", "regression", (10,), 1, settings=("source.test_tasks=20",))
    untrained = evaluate("sinusoid-maml", few)
    again = evaluate("sinusoid-maml", few)
    adapted = evaluate("sinusoid-maml", few, settings=["method.test_inner_steps=50", "method.inner_lr=0.02"])
    assert [s.values["mse"] for s in untrained.scores] == [s.values["mse"] for s in again.scores]
    before, after = (np.mean([s.values["mse"] for s in r.scores]) for r in (untrained, adapted))
    assert after < 0.9 * before
    assert adapted.header["model"]["settings"]["test_inner_steps"] == 50
    with pytest.raises(ConfigError, match="inner_stepz"):
        evaluate("sinusoid-maml", few, settings=["method.inner_stepz=50"])
    with pytest.raises(ModelFileError, match='Did you mean "sinusoid-maml"'):
        evaluate("sinusoid-mamel", few)
    with pytest.raises(ConfigError, match="not a model that was made"):
        evaluate(BernoulliNB(), few, settings=["method.k=3"])
    assert len(evaluate("sinusoid-maml", few, settings=["source.test_tasks=3"]).tasks) == 3
    with pytest.raises(ConfigError, match="not the model knn"):
        evaluate("knn", few, settings=["method.k=3"])
