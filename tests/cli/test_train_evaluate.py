"""A person's own assays, from their table to a model that predicts, through the command line."""

import re
from pathlib import Path

import pytest

from molmeta.cli import main
from molmeta.evaluation.results import Result
from tests.assays import MOLECULES, own_assays

TINY = ["--backbone", "fingerprint", "--steps", "4", "--device", "cpu"]
TINY += [
    part for s in ("backbone.hidden=32", "backbone.width=16", "training.tasks_per_step=2") for part in ("--set", s)
]
TINY += [part for s in ("training.eval_every=2", "validation.support_sizes=[8]") for part in ("--set", s)]


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Settings that point to a folder of own assays."""
    assert main(["data", "convert", str(own_assays(tmp_path / "own.csv")), "-o", str(tmp_path / "own")]) == 0
    return ["--set", f"source.root={tmp_path / 'own'}", "--set", "source.hold_out=false"]


def train(own: list[str], out: Path, *more: str) -> int:
    return main(["train", "--method", "gp", *TINY, *own, *more, "-o", str(out)])


def test_own_assays_train_evaluate_export_and_predict(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model, scores, out = (tmp_path / name for name in ("run", "mine.safetensors", "scores.csv", "out.csv"))
    assert train(own, run) == 0
    assert {p.name for p in run.iterdir()} >= {"config.toml", "history.jsonl", "model.safetensors", "card.json"}
    assert main(["evaluate", str(run), *own, "-n", "8", "--seeds", "2", "-o", str(scores)]) == 0
    assert {(s.support_size, s.seed) for s in Result.read(scores).scores} == {(8, 0), (8, 1)}
    capsys.readouterr()
    assert main(["evaluate", str(run), *own, "-n", "8", "--seeds", "2", "--against", str(scores)]) == 0
    assert "+0.000, 0/1 tasks higher (too few for an interval)" in capsys.readouterr().out
    limits = ["--limit", "small", "--limit", "made up"]
    assert main(["export", str(run), "-o", str(model), "--licence", "mine", *limits]) == 0
    card = model.with_suffix(".md").read_text()
    assert "**limits**\n\n- small\n- made up\n" in card
    assert "- molecules: " in card
    assert re.search(r"- valid binary delta_auprc: 16: .* ± .*\n", card)
    assert re.search(r"- valid binary pooled ece: 16: 0\.\d{3}", card)
    support = own_assays(tmp_path / "support.csv", rows=16)
    arguments = ["--support", str(support), "--label", "has_0", "--query", MOLECULES[-1], "-o", str(out)]
    assert main(["predict", "--model", str(model), *arguments]) == 0
    assert "has_0_molmeta_probability" in out.read_text()


def test_a_finished_run_is_not_trained_again_and_another_is_not_overwritten(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(own, run) == 0
    weights = (run / "model.safetensors").read_bytes()
    assert train(own, run) == 0
    assert (run / "model.safetensors").read_bytes() == weights
    assert train(own, run, "--seed", "1") == 2
    assert "--force" in capsys.readouterr().err
    assert train(own, run, "--seed", "1", "--force") == 0
    assert (run / "model.safetensors").read_bytes() != weights


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "method.distanc=cosine"], 'Did you mean "distance"'),
        (["--method", "protonets"], 'Did you mean "protonet"'),
        (["--method", "no.such.module:Method"], "no module"),
        (["--set", "training.steps=many"], "training].steps is a int"),
        (["--config", "no-such-recipe"], "fingerprint-gp"),
        (["--set", "steps"], "table.name=value"),
        (["--method", "random_forest"], "nothing to meta-train"),
        (["--backbone", "counts"], "nothing to meta-train"),
    ],
)
def test_a_mistyped_setting_is_refused_with_the_way_out(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["train", *arguments, *own, "-o", str(tmp_path / "run")]) == 2
    assert expected in capsys.readouterr().err


def test_asking_for_a_device_that_is_not_there_says_so(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *own, "--device", "cuda:99", "-o", str(tmp_path / "run")]) == 2
    assert "CUDA" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_evaluate_refuses_an_unknown_split_and_an_existing_output(
    tmp_path: Path, own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    assert main(["evaluate", "tanimoto-gp", *own, "-o", str(tmp_path / "there.csv")]) == 2
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert main(["evaluate", "tanimoto-gp", *own, "--split", "validation"]) == 2
    assert "valid" in capsys.readouterr().err


def test_data_list_and_missing_data_say_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOLMETA_DATA", str(tmp_path / "empty"))
    assert main(["data", "list"]) == 0
    assert "not here" in capsys.readouterr().out
    assert main(["data", "prepare", "fs-mol"]) == 2
    assert "molmeta data fetch fs-mol" in capsys.readouterr().err
    assert main(["data", "check", "fs-mol"]) == 2


def test_doctor_shows_versions_and_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "rdkit" in shown
    assert "predicts" in shown
