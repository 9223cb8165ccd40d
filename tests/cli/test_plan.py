"""``molmeta plan`` as a user meets it: the estimate, the molecules to measure next, and what it refuses."""

from __future__ import annotations

import inspect
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from molmeta.bundle import Bundle
from molmeta.cli import main
from molmeta.cli.plan import plan
from molmeta.estimators import FewShotClassifier
from tests.assays import MOLECULES
from tests.bundles import DRUGS, tiny_bundle

CURVE = {"weights": [0.5, 0.1, 0.2, 1.0, 0.3, 0.6, 0.4], "spread": [0.02, 0.01, 0.01], "learned_from": "9 assays"}
LABELS = [0, 1] * 6


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "curves.safetensors"
    replace(tiny_bundle(), curves={"binary": CURVE}).save(path)
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, planned, capsys):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"smiles": DRUGS, "herg": LABELS}).to_csv("support.csv", index=False)
    pd.DataFrame({"id": range(49), "structure": ["C1CC", *MOLECULES]}).to_csv("library.csv", index=False)

    def run(*arguments: str, model: Path | str = planned) -> tuple[int, str, str]:
        code = main(["plan", "--support", "support.csv", "--model", str(model), *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_the_estimate_is_that_of_the_estimator(run, planned):
    code, out, err = run()
    assert code == 0, err
    assert out.strip() == f"herg: {FewShotClassifier(planned).fit(DRUGS, LABELS).outlook()}"


def test_the_chosen_rows_keep_their_columns_and_say_why(run, planned):
    code, _, err = run("--query", "library.csv", "-n", "5", "-o", "next.csv")
    assert code == 0, err
    got = pd.read_csv("next.csv")
    expected = FewShotClassifier(planned).fit(DRUGS, LABELS).suggest(MOLECULES, n=5)
    assert got["structure"].tolist() == list(expected.smiles)
    assert got["id"].tolist() == (expected.positions + 1).tolist()
    assert got["herg_molmeta_rank"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(got["herg_molmeta_probability"], expected.prediction, rtol=1e-4)
    np.testing.assert_allclose(got["herg_molmeta_settles"], expected.settles, atol=1e-4)
    assert got["herg_molmeta_why"].tolist() == expected.reasons
    assert "1 molecules of the library cannot be read" in err


def test_without_a_file_the_choice_is_printed(run):
    code, out, _ = run("--query", "library.csv", "-n", "2", "--goal", "hits")
    assert code == 0
    assert out.count("ranked among the best") == 2


def test_a_compressed_table_of_many_blocks_is_written(run, monkeypatch):
    assert run("--query", "library.csv", "-n", "3", "-o", "whole.csv")[0] == 0
    monkeypatch.setattr("molmeta.predicting.request.BLOCK_ROWS", 10)
    monkeypatch.setattr("molmeta.predicting.planning.BLOCK_ROWS", 10)
    monkeypatch.setattr("molmeta.domains.molecules.workers.os.cpu_count", lambda: 1)
    assert run("--query", "library.csv", "-n", "3", "-o", "blocks.csv.gz")[0] == 0
    blocks, whole = pd.read_csv("blocks.csv.gz"), pd.read_csv("whole.csv")
    assert blocks["id"].tolist() == whole["id"].tolist()
    np.testing.assert_allclose(blocks["herg_molmeta_settles"], whole["herg_molmeta_settles"], atol=1e-3)


def test_a_model_without_curves_says_so_and_still_chooses(run, model):
    code, out, err = run("--query", "library.csv", "-n", "2", model=model)
    assert code == 0
    assert "herg: no estimate: the model holds no learning curve" in err
    assert out.startswith("Measure next:")


def test_each_assay_has_its_estimate_and_one_is_chosen_for(run):
    frame = pd.DataFrame({"smiles": DRUGS, "herg": LABELS, "ames": LABELS[::-1], "pic50": np.linspace(4, 9, 12)})
    frame.to_csv("support.csv", index=False)
    code, out, err = run()
    assert code == 0
    assert "herg: How often an active" in out
    assert "ames: How often an active" in out
    assert "pic50: no estimate: the model holds no learning curve for regression" in err
    code, _, err = run("--query", "library.csv")
    assert code == 2
    assert "one assay; the support has herg, ames, pic50. Name one: --label" in err
    assert run("--query", "library.csv", "--label", "pic50", "-n", "1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--query", "notes.csv"], "the column of structures is not to be found"),
        (["--query", "library.csv", "-n", "60"], "60 molecules are to be chosen, but of the library's 48"),
        (["--query", "library.csv", "-n", "0"], "1 or more, not 0"),
        (["--query", "library.csv", "--goal", "best"], 'not "best"'),
        (["--query", "-"], "cannot be standard input"),
        (["-o", "next.csv"], "give the library to choose from"),
        (["--query", "library.csv", "-o", "support.csv"], "support.csv exists"),
        (["--query", "taken.csv", "-o", "next.csv"], "already has columns"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(run, monkeypatch, arguments, message):
    Path("notes.csv").write_text("name,note\na,b\n")
    Path("taken.csv").write_text("smiles,herg_molmeta_rank\nCCO,1\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"smiles\nCCO\n")))
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert not Path("next.csv").exists()


def test_a_support_of_one_class_is_refused(run):
    pd.DataFrame({"smiles": DRUGS, "herg": [1] * 12}).to_csv("support.csv", index=False)
    code, _, err = run("--query", "library.csv", "--kind", "binary")
    assert code == 2
    assert "0 inactives" in err


def test_a_verb_has_15_options_at_most():
    assert len(inspect.signature(plan).parameters) <= 15


def test_curves_are_kept_in_the_file_and_change_no_digest(planned, tmp_path):
    bundle = Bundle.load(planned)
    assert bundle.curves == {"binary": CURVE}
    assert bundle.digest == replace(bundle, curves={}).digest
    bundle.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == planned.read_bytes()
