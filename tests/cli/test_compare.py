from __future__ import annotations

from pathlib import Path

import pytest

from molmeta.cli import main
from molmeta.evaluation.results import write_scores
from molmeta.evaluation.scores import Score


def table(path: Path, shift: float, tasks: int = 12) -> str:
    """Scores of 12 tasks, and losses that are the other way round."""
    values = [0.1 * (i % 3) + shift * (1 + i / 100) for i in range(tasks)]
    scores = [Score(f"t{i}", 16, 0, {"delta_auprc": v, "nll": 1 - v}) for i, v in enumerate(values)]
    write_scores(path, path.stem, scores)
    return str(path)


def test_the_better_of_three_leads_by_either_kind_of_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [table(tmp_path / f"{name}.csv", shift) for name, shift in (("good", 0.3), ("fair", 0.2), ("poor", 0.1))]
    assert main(["compare", *paths]) == 0
    said = capsys.readouterr().out
    assert "good - fair: +0.106" in said
    assert "12/12 tasks higher" in said
    assert "good 1.00, fair 2.00, poor 3.00" in said
    assert main(["compare", *paths, "--metric", "nll", "-n", "16"]) == 0
    said = capsys.readouterr().out
    assert "good - fair: -0.106" in said
    assert "good 1.00, fair 2.00, poor 3.00" in said


def test_two_results_of_one_method_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as one model that was and one that was not told what the assays are."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert main(["compare", table(tmp_path / "a" / "same.csv", 0.3), table(tmp_path / "b" / "same.csv", 0.2)]) == 0
    assert "same - same #2: +0.106" in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = table(tmp_path / "one.csv", 0.1), table(tmp_path / "two.csv", 0.2)
    assert main(["compare", one]) == 2
    assert main(["compare", one, one]) == 2
    assert main(["compare", one, two, "--metric", "accuracy"]) == 2
    assert main(["compare", one, two, "-n", "64"]) == 2
    assert main(["compare", one, str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "not one" in said[0]
    assert "each result once" in said[1]
    assert "one, two: no accuracy" in said[2]
    assert "support of 64" in said[3]
    assert "none" in said[4]
