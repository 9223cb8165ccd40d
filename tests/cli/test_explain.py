"""``molmeta explain`` as a user meets it: tables of reasons, and drawings."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from molmeta.cli import main
from molmeta.cli.explain import explain
from molmeta.estimators import FewShotClassifier, FewShotRegressor
from molmeta.predicting import library
from tests.bundles import DRUGS

LABELS = [0, 1] * 6
VALUES = np.linspace(4, 9, 12).round(2)
QUERY = DRUGS[::-1]


@pytest.fixture
def run(tmp_path, monkeypatch, model, capsys):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"smiles": DRUGS, "herg": LABELS, "pic50": VALUES}).to_csv("support.csv", index=False)
    pd.DataFrame({"smiles": ["C1CC", *QUERY], "id": range(13)}).to_csv("query.csv", index=False)

    def run(*arguments: str, query: str = "query.csv") -> tuple[int, str]:
        code = main(["explain", "--support", "support.csv", "--query", query, "--model", str(model), *arguments])
        return code, capsys.readouterr().err

    return run


def table(path: str) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_a_table_has_the_predictions_and_their_reasons(run, model):
    code, err = run("--reasons", "2", "-o", "out.csv")
    assert code == 0, err
    got = table("out.csv")
    assert got["smiles"].tolist() == ["C1CC", *QUERY]
    for cls, name, y in ((FewShotClassifier, "herg", LABELS), (FewShotRegressor, "pic50", VALUES)):
        expected = cls(model, device="cpu").fit(DRUGS, y).explain(QUERY)
        own = got.filter(like=f"{name}_molmeta_")
        assert own.iloc[0].eq("").all()
        own = own.iloc[1:]
        for part in ("base", "prior_part", "support_part", "training_similarity"):
            np.testing.assert_allclose(own[f"{name}_molmeta_{part}"].astype(float), getattr(expected, part), atol=1e-3)
        predicted = own[f"{name}_molmeta_{'probability' if name == 'herg' else 'prediction'}"].astype(float)
        parts = sum(own[f"{name}_molmeta_{part}"].astype(float) for part in ("base", "prior_part", "support_part"))
        np.testing.assert_allclose(parts, predicted, atol=1e-4)
        for place, found in enumerate(expected.strongest(2).T, 1):
            reason = f"{name}_molmeta_reason_{place}"
            rows = np.arange(len(QUERY))
            influence = expected.influence[rows, found]
            np.testing.assert_allclose(own[f"{reason}_influence"].astype(float), influence, rtol=1e-3, atol=1e-5)
            for smiles, label, j in zip(own[reason], own[f"{reason}_label"], found, strict=True):
                assert (smiles, float(label)) == (DRUGS[j], y[j])


def test_reasons_that_there_are_not_are_empty(run):
    pd.DataFrame({"smiles": DRUGS[:3], "herg": [1, 0, 0]}).to_csv("support.csv", index=False)
    assert run("--reasons", "4", "-o", "out.csv")[0] == 0
    got = table("out.csv").iloc[1:]
    assert got["herg_molmeta_reason_2"].ne("").all()
    for name in ("reason_3", "reason_4", "reason_3_label", "reason_3_influence"):
        assert got[f"herg_molmeta_{name}"].eq("").all()


def test_an_interrupted_table_goes_on_where_it_stopped(run, monkeypatch):
    monkeypatch.setattr("molmeta.predicting.request.BLOCK_ROWS", 7)
    assert run("-o", "whole.csv")[0] == 0
    real, calls = library.explain_molecules, []

    def limited(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "explain_molecules", limited)
        code, err = run("-o", "out.csv")
    assert code == 130
    assert "Interrupted after row 7" in err
    for file in ("out.csv.partial", "out.csv.progress"):
        Path(f"other.{file[4:]}").write_bytes(Path(file).read_bytes())
    assert "Going on after row 7" in run("-o", "out.csv")[1]
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert "it is replaced" in run("-o", "other.csv", "--reasons", "1")[1]


@pytest.mark.parametrize("form", ["html", "svg", "png"])
def test_reasons_are_drawn_for_every_assay(run, form):
    code, err = run("-o", f"out.{form}", "--reasons", "2")
    assert code == 0, err
    assert f"Wrote out.{form}" in err
    if form != "png":
        text = Path(f"out.{form}").read_text()
        assert all(word in text for word in (">herg<", ">pic50<", "row 13", "ring opened but never closed"))


def test_one_smiles_is_explained(run):
    code, err = run("--label", "herg", "-o", "out.html", query="CC(=O)Nc1ccc(O)cc1")
    assert code == 0, err
    assert Path("out.html").read_text().count("<section>") == 1


def test_of_a_long_query_the_first_are_drawn_and_that_is_said(run):
    with Path("long.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["smiles"], *([s] for s in DRUGS * 3)])
    code, err = run("--label", "herg", "-o", "out.html", query="long.csv")
    assert code == 0
    assert "Only the first 25 of 36 molecules are drawn" in err
    assert Path("out.html").read_text().count("<section>") == 25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.pdf"], ".html, .svg or .png (drawn), or as .csv or .tsv"),
        (["-o", "missing/out.html"], "no folder missing"),
        (["-o", "query.csv"], "--force"),
        (["-o", "out.html", "--reasons", "0"], "1 or more, not 0"),
        (["-o", "out.html", "--prior", "0.1"], "no meaning for regression"),
        (["-o", "out.html", "--query", "no.csv"], "no.csv"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_work(run, arguments, message):
    before = sorted(Path().iterdir())
    code, err = run(*arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("out", ["out.html", "out.csv"])
def test_a_bad_support_row_is_named_and_can_be_left_out(run, out):
    pd.DataFrame({"smiles": [*DRUGS, "C1CC"], "herg": [*LABELS, 1]}).to_csv("support.csv", index=False)
    code, err = run("-o", out)
    assert code == 2
    assert "13  C1CC" in err
    assert "--on-invalid drop" in err
    code, err = run("-o", out, "--on-invalid", "drop")
    assert code == 0, err
    assert "Left out of the support: 1 of 13" in err
    assert ("row 13" in Path(out).read_text()) == (out == "out.html")


def test_it_has_15_options_at_most():
    assert len(inspect.signature(explain).parameters) <= 15
