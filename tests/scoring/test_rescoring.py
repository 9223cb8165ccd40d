"""Results at another share of actives: which rows are kept, what they are told, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molmeta.cli import main
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError, SupportError
from molmeta.evaluation.results import Result
from molmeta.evaluation.scores import DrawResult, TaskRecord
from molmeta.evaluation.statistics import per_task
from molmeta.scoring.rescoring import Shares, rescore, thinned, told
from tests.made_results import made_result

RECORD = TaskRecord("a", TaskKind.BINARY, 2, np.array([0, 0, 0, 1] + [1] * 30 + [0] * 60))
DRAW = DrawResult(4, 0, np.arange(4), np.arange(4, 94), np.linspace(0.01, 0.99, 90))


def result(path: Path, **header: object) -> Path:
    seen = {"tasks": 8, "trained_tasks": [], "molecules": 0, "trained_molecules": 0}
    return made_result(path, sizes=[8], overlap=seen, model={}, environment={}, **header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "actives", "inactives"), [(0.2, 15, 60), (0.05, 3, 57), (0.5, 30, 30), (0.6, 30, 20)]
)
def test_as_many_rows_are_kept_as_have_the_share(share: float, actives: int, inactives: int) -> None:
    kept = thinned(RECORD, DRAW, share)
    labels = RECORD.labels[kept.query]
    assert [labels.sum(), (labels == 0).sum()] == [actives, inactives]
    said = dict(zip(DRAW.query, DRAW.predicted, strict=True))
    assert kept.predicted.tolist() == [said[row] for row in kept.query]


def test_a_query_that_cannot_have_the_share_is_refused_with_its_counts() -> None:
    with pytest.raises(SupportError, match=r"30 actives and 60 inactives left to ask: too few for a query of 0\.01"):
        thinned(RECORD, DRAW, 0.01)


def test_a_told_prior_shifts_the_odds_from_the_supports_share() -> None:
    found = told(RECORD, DRAW, 0.1).predicted
    odds = DRAW.predicted / (1 - DRAW.predicted) * (0.1 / 0.9) / (0.25 / 0.75)
    assert found == pytest.approx(odds / (1 + odds))


def test_methods_are_asked_about_the_same_rows_and_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, poor = result(tmp_path / "good", noise=0.3), result(tmp_path / "poor", method="other", noise=2.0)
    for path in (good, poor):
        out = str(path) + "-20"
        assert main(["rescore", str(path), "--query-share", "0.2", "--prior", "0.2", "-o", out]) == 0
    found, other = (Result.read(f"{path}-20") for path in (good, poor))
    for task in found.tasks:
        for one, two in zip(found.draws(task), other.draws(task), strict=True):
            assert one.query.tolist() == two.query.tolist()
    assert set(per_task(found.scores, "query_share", 8).values()) == {0.2}
    assert found.header["protocol"]["prior"] == 0.2
    assert "ece pooled over tasks" in capsys.readouterr().out
    untold = rescore(Result.read(good), tmp_path / "untold", Shares(query_share=0.2), name="untold")
    ranked = [per_task(r.scores, "delta_auprc", 8) for r in (found, untold)]
    assert ranked[0] == pytest.approx(ranked[1])
    likelihoods = [np.mean(list(per_task(r.scores, "nll", 8).values())) for r in (found, untold)]
    assert likelihoods[0] < likelihoods[1]


def test_draws_that_are_too_small_are_counted_as_refused(tmp_path: Path) -> None:
    found = rescore(Result.read(result(tmp_path / "a")), tmp_path / "b", Shares(query_share=0.05))
    assert found.scores == []
    assert found.header["refused"] == {"8": 16}


def test_what_cannot_be_scored_again_is_refused_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = result(tmp_path / "a")
    values = result(tmp_path / "v", kind=TaskKind.REGRESSION)
    scores = result(tmp_path / "s", probable=False)
    out = str(tmp_path / "out")
    assert main(["rescore", str(whole / "scores.csv"), "--prior", "0.1", "-o", out]) == 2
    assert main(["rescore", str(values), "--prior", "0.1", "-o", out]) == 2
    assert main(["rescore", str(scores), "--prior", "0.1", "-o", out]) == 2
    assert main(["rescore", str(whole), "--prior", "0.1", "-o", str(whole), "--force"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [word in line for word, line in zip(("table", "regression", "no prob", "itself"), said, strict=True)] == [
        True
    ] * 4
    for shares in ({}, {"prior": 1.0}, {"query_share": 0.0}):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            Shares(**shares)
    assert len(list(whole.glob("draws/*"))) == 8
