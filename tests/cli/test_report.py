"""``molmeta report`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from molmeta.cli import main
from tests.made_results import made_result


@pytest.fixture
def results(tmp_path: Path) -> list[str]:
    return [str(made_result(tmp_path / name, name, tasks=["x", "y"], sizes=[8])) for name in ("ours", "rf")]


def test_the_last_line_says_what_was_written_and_how_to_open_it(
    results: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *results, "-o", str(tmp_path / "report")]) == 0
    last = capsys.readouterr().err.strip().splitlines()[-1]
    page = tmp_path / "report" / "index.html"
    assert page.is_file()
    assert last.startswith(f"Wrote {page}")
    assert last.endswith(page.as_uri())


def test_a_report_that_stands_there_is_kept(
    results: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["report", *results, "-o", str(tmp_path / "report")]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force", "--baseline", "rf"]) == 0


def test_a_mistake_is_one_sentence(results: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *results, "--baseline", "knn", "-o", str(tmp_path / "report")]) == 2
    assert 'no result is of the baseline "knn"' in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere"), "-o", str(tmp_path / "report")]) == 2
    assert "not a result" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_without_matplotlib_it_says_what_to_install(
    results: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("molmeta.reporting.find_spec", lambda name: None if name == "matplotlib" else object())
    assert main(["report", *results, "-o", str(tmp_path / "report")]) == 2
    assert 'matplotlib: pip install "molmeta[report]"' in capsys.readouterr().err
