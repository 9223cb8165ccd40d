"""``molmeta predict`` as a user meets it: rows, columns, errors."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from torch import nn

from molmeta.bundle import Bundle, Member
from molmeta.cli import main
from molmeta.domains.molecules.fingerprints import FingerprintNet
from molmeta.estimators import FewShotClassifier, FewShotRegressor
from molmeta.recipe import make_learner
from tests.bundles import BACKBONE, DRUGS
from tests.cli.conftest import LABELS, table, write


def test_output_rows_are_the_input_rows_with_columns_appended(folder, run, model):
    code, out, err = run("-o", "out.csv")
    assert (code, out) == (0, "")
    got, query = table("out.csv"), table("query.csv")
    pd.testing.assert_frame_equal(got[query.columns], query)
    names = ["probability", "class", "uncertainty", "nearest", "similarity", "far"]
    assert list(got.columns[3:]) == [*(f"active_molmeta_{n}" for n in names), "molmeta_flags", "molmeta_reason"]
    expected = FewShotClassifier(model, device="cpu").fit(DRUGS, LABELS).predict_proba(DRUGS[::-1])
    np.testing.assert_allclose(got["active_molmeta_probability"].astype(float), expected[:, 1], rtol=1e-4)
    assert got["active_molmeta_class"].tolist() == [str(i) for i in expected.argmax(1)]
    assert got["active_molmeta_nearest"].tolist() == DRUGS[::-1]
    assert set(got["active_molmeta_similarity"]) == {"1.000"}
    assert 'active is "1" (6 rows)' in err
    assert "the support's share, 0.5" in err
    assert "12 query molecules are in the support too" in err
    assert "Wrote 12 rows to out.csv. Next:" in err.strip().splitlines()[-1]
    assert sorted(p.name for p in folder.iterdir()) == ["out.csv", "query.csv", "support.csv"]


def test_the_uncertainty_is_the_entropy_of_the_probability(folder, run):
    run("-o", "out.csv")
    got = table("out.csv")
    p = got["active_molmeta_probability"].astype(float)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    np.testing.assert_allclose(got["active_molmeta_uncertainty"].astype(float), entropy, atol=1e-4)


def test_several_assays_of_every_kind_are_predicted_at_once(folder, run, model):
    values = np.linspace(4, 9, 12).round(2)
    colours = ["red", "green", "blue"] * 4
    rows = zip(DRUGS, LABELS, values, colours, strict=True)
    write("support.csv", "smiles,herg,pic50,colour", rows)
    code, _, _ = run("--label", "herg", "--label", "pic50", "--label", "colour", "-o", "out.csv")
    assert code == 0
    got = table("out.csv")
    assert {"pic50_molmeta_prediction", "pic50_molmeta_deviation", "colour_molmeta_probability_red"} <= set(got)
    mean, deviation = FewShotRegressor(model, device="cpu").fit(DRUGS, values).predict(DRUGS[::-1], return_std=True)
    np.testing.assert_allclose(got["pic50_molmeta_prediction"].astype(float), mean, rtol=1e-4)
    np.testing.assert_allclose(got["pic50_molmeta_deviation"].astype(float), deviation, rtol=1e-4)
    interval = FewShotRegressor(model, device="cpu").fit(DRUGS, values).predict_interval(DRUGS[::-1])
    np.testing.assert_allclose(got[["pic50_molmeta_low", "pic50_molmeta_high"]].astype(float), interval, rtol=1e-4)
    shares = got[[f"colour_molmeta_probability_{c}" for c in ("red", "green", "blue")]].astype(float)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-4)
    # One at a time is the same as all at once.
    run("--label", "herg", "-o", "herg.csv")
    assert table("herg.csv")["herg_molmeta_probability"].tolist() == got["herg_molmeta_probability"].tolist()


def test_unlabelled_rows_are_not_part_of_an_assay(folder, run):
    write("support.csv", "smiles,a,b", [(s, i % 2, "" if i < 4 else i % 2) for i, s in enumerate(DRUGS)])
    write("alone.csv", "smiles,b", [(s, i % 2) for i, s in enumerate(DRUGS) if i >= 4])
    run("-o", "out.csv")
    run("-o", "alone_out.csv", support="alone.csv")
    np.testing.assert_allclose(
        table("out.csv")["b_molmeta_probability"].astype(float),
        table("alone_out.csv")["b_molmeta_probability"].astype(float),
        rtol=1e-4,
    )


def test_long_tables_hold_several_assays(folder, run):
    write("support.csv", "assay,smiles,label", [("x" if i < 6 else "y", s, i % 2) for i, s in enumerate(DRUGS)])
    assert run("-o", "out.csv")[0] == 0
    assert {"x_molmeta_probability", "y_molmeta_probability"} <= set(table("out.csv"))


def test_a_bad_query_row_stays_with_its_reason(folder, run):
    write("query.csv", "smiles", [("CCO",), ("C1CC",), ("",), ("CC(=O)O.[Na+]",)])
    code, _, err = run("-o", "out.csv")
    got = table("out.csv")
    assert code == 0
    assert got["active_molmeta_probability"].ne("").tolist() == [True, False, False, True]
    assert "ring" in got["molmeta_reason"][1]
    assert got["molmeta_reason"][2] == "no structure given"
    assert got["molmeta_flags"][3] == "2 fragments"
    assert "2 of 4 molecules cannot be used: their prediction is blank" in err


def test_an_all_invalid_query_keeps_its_rows(folder, run):
    write("query.csv", "smiles", [("C1CC",), ("xyz",)])
    code, _, err = run("-o", "out.csv", "--smiles-column", "smiles")
    assert code == 0
    assert table("out.csv")["active_molmeta_probability"].tolist() == ["", ""]
    assert "2 of 2 molecules cannot be used" in err


def test_raise_lists_every_bad_row_before_any_work(folder, run):
    write("query.csv", "smiles,id", [("CCO", 1), ("C1CC", 2), ("CN(C)(C)(C)(C)C", 3), ("", 4)])
    code, _, err = run("-o", "out.csv", "--on-invalid", "raise")
    assert code == 2
    assert "InputError: 2 of 4 molecules in query.csv" in err
    assert "C1CC" in err
    assert not Path("out.csv").exists()


def test_drop_writes_what_it_left_out_beside_the_output(folder, run):
    write("query.csv", "id,smiles", [(7, "CCO"), (8, "C1CC"), (9, "CCN")])
    code, _, err = run("-o", "out.csv.gz", "--on-invalid", "drop")
    assert code == 0
    with gzip.open("out.csv.gz", "rt") as text:
        assert [row["id"] for row in csv.DictReader(text)] == ["7", "9"]
    with gzip.open("out.dropped.csv.gz", "rt") as text:
        (row,) = csv.DictReader(text)
    assert (row["row"], row["id"], "ring" in row["molmeta_reason"]) == ("2", "8", True)
    assert "out.dropped.csv.gz" in err


def test_a_bad_support_row_is_refused_and_can_be_left_out(folder, run):
    write("support.csv", "smiles,active", [*zip(DRUGS, LABELS, strict=True), ("C1CC", 1), ("", 0), ("junk", "")])
    code, _, err = run("-o", "out.csv")
    assert code == 2
    assert "2 of 14 molecules in support.csv cannot be used" in err
    assert "13" in err
    assert "--on-invalid drop" in err
    assert not Path("out.csv").exists()
    code, _, err = run("-o", "out.csv", "--on-invalid", "drop")
    assert code == 0
    assert "Left out of the support: 2 of 14" in err


def test_one_smiles_is_a_query_and_stdout_an_output(folder, run):
    code, out, _ = run(query="CC(=O)Nc1ccc(O)cc1")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [row["active_molmeta_nearest"] for row in rows] == ["CC(=O)Nc1ccc(O)cc1"]


def test_a_long_smiles_is_a_query_and_no_file(folder, run):
    code, out, _ = run("--smiles-column", "smiles", query="C" * 400)
    assert (code, len(out.splitlines())) == (0, 2)


def test_a_broken_smiles_is_refused_with_the_chemical_reason(folder, run):
    code, _, err = run(query="C1CC")
    assert code == 2
    assert "there is no file C1CC. As a SMILES it cannot be read: ring opened but never closed" in err
    assert "SMILES" not in run(query="library.csv")[2]


def test_the_columns_that_were_found_are_said(folder, run):
    rows = [("A", s, i % 2, i / 2, "x") for i, s in enumerate(DRUGS)]
    write("support.csv", "assay,structure,label,pic50,note", rows)
    err = run("-o", "out.csv")[2]
    assert (
        'support.csv: structures in "structure", assays in "assay", labels in "label" '
        '(not labels: "note" holds text ("x", row 1); "pic50" gives way to "label")'
    ) in err
    assert 'query.csv: structures in "smiles"' in err


def test_an_assay_of_one_class_can_be_left_out_of_many(folder, run):
    write("support.csv", "smiles,a,b c", [(s, 1, i % 2) for i, s in enumerate(DRUGS)])
    code, _, err = run("-o", "out.csv")
    assert code == 2
    assert "assay a has 12 actives and 0 inactives" in err
    assert "leave such assays out: --label 'b c'" in err
    assert run("--label", "b c", "-o", "out.csv")[0] == 0


def test_what_is_said_of_the_labels_is_what_is_used(folder, run):
    write("support.csv", "smiles,colour", [*zip(DRUGS, ["red", "green"] * 6, strict=True), ("C1CC", "blue")])
    code, _, err = run("--label", "colour", "--on-invalid", "drop", "--kind", "multiclass", "-o", "out.csv")
    assert code == 0
    assert '"green" (6 rows), "red" (6 rows)' in err
    assert "blue" not in err
    assert "colour_molmeta_probability_blue" not in table("out.csv")


def test_flagged_support_molecules_are_named_by_their_rows(folder, run):
    write("support.csv", "smiles,active", [*zip(DRUGS, LABELS, strict=True), ("CCN.Cl", 1)])
    assert "Used as written, though flagged: row 13 (2 fragments)" in run("-o", "out.csv")[2]


def test_a_last_row_of_nothing_is_a_row(folder, run):
    Path("query.csv").write_text('smiles\nCCO\n""\n\n')
    assert run("-o", "out.csv")[0] == 0
    assert table("out.csv")["molmeta_reason"].tolist() == ["", "no structure given"]


def test_each_table_may_name_its_own_smiles_column(folder, run):
    write("query.csv", "structure,mol", [("x", "CCO")])
    assert run("--smiles-column", "smiles", "--smiles-column", "mol", "-o", "out.csv")[0] == 0
    assert run("--smiles-column", "smiles", "-o", "again.csv")[0] == 2


def test_standard_input_is_a_query(folder, run, monkeypatch):
    class Standard:
        buffer = io.BytesIO(b"smiles\nCCO\nC1CC\n")

    monkeypatch.setattr(sys, "stdin", Standard)
    code, out, _ = run(query="-")
    assert code == 0
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize("form", ["tsv", "sdf", "parquet", "semicolon", "bom", "cr"])
def test_every_form_of_query_is_the_same_to_it(folder, run, form):
    frame = pd.DataFrame({"smiles": DRUGS[:4], "id": list("abcd")})
    path = {"tsv": "q.tsv", "sdf": "q.sdf", "parquet": "q.parquet"}.get(form, "q.csv")
    if form == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    elif form == "parquet":
        frame.to_parquet(path)
    elif form == "sdf":
        writer = Chem.SDWriter(path)
        for smiles, name in frame.itertuples(index=False):
            molecule = Chem.MolFromSmiles(smiles)
            molecule.SetProp("id", name)
            writer.write(molecule)
        writer.close()
    else:
        text = frame.to_csv(index=False, sep=";" if form == "semicolon" else ",")
        text = text.replace("\n", "\r") if form == "cr" else text
        Path(path).write_bytes((b"\xef\xbb\xbf" if form == "bom" else b"") + text.encode())
    code, _, err = run("-o", "out.tsv", query=path)
    assert code == 0, err
    got = table("out.tsv", "\t")
    assert got["id"].tolist() == list("abcd")
    frame.to_csv("plain.csv", index=False)
    run("-o", "plain_out.csv", query="plain.csv")
    expected = table("plain_out.csv")["active_molmeta_probability"]
    np.testing.assert_allclose(got["active_molmeta_probability"].astype(float), expected.astype(float), rtol=1e-4)


def test_the_prior_shifts_and_is_said(folder, run):
    run("-o", "plain.csv")
    _, _, err = run("-o", "rare.csv", "--prior", "0.01")
    assert "the share of actives in the query is 0.01, as given" in err
    plain, rare = (table(f)["active_molmeta_probability"].astype(float) for f in ("plain.csv", "rare.csv"))
    np.testing.assert_allclose(rare / (1 - rare), plain / (1 - plain) / 99, rtol=1e-3)


def test_a_threshold_derives_classes(folder, run):
    write("support.csv", "smiles,pic50", zip(DRUGS, np.linspace(4, 9, 12).round(2), strict=True))
    code, _, err = run("--threshold", "6.5", "--active", "above", "-o", "out.csv")
    assert code == 0
    assert "active is above 6.5" in err
    assert set(table("out.csv")["pic50_molmeta_class"]) <= {"active", "inactive"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prior", "1.5"], "between 0 and 1"),
        (["--query", " "], "is empty"),
        (["--query", "-", "--support", "-"], "cannot both be standard input"),
        (["--query", "no.csv"], "no.csv"),
        (["--threshold", "6.5"], "--active above"),
        (["--active", "above"], "active is given alone"),
        (["--positive", "maybe"], 'no label of assay active is "maybe"'),
        (["--kind", "fuzzy"], "fuzzy"),
        (["--on-invalid", "ignore"], "raise, keep or drop"),
        (["--label", "nothing"], '"nothing"'),
        (["--smiles-column", "mol"], '"mol"'),
        (["--model", "no/such/model.safetensors"], "there is no model"),
        (["-o", "missing/out.csv"], "no folder missing"),
        (["-o", "."], "is a folder"),
        (["-o", "out.xlsx"], ".csv or .tsv"),
        (["-o", "query.csv"], "--force"),
        (["--on-invalid", "drop"], "--out"),
        (["--device", "cuda:99"], "CUDA"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_work(folder, run, arguments, message):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("CCO", 1), ("CCN", 1)], "2 actives and 0 inactives"),
        ([("CCO", 1)], "1 labelled row"),
        ([("CCO", ""), ("CCN", "")], "label"),
        ([("CCO", 1), ("CCN", "n/d?"), ("CCC", 2.5), ("CCCl", 3)], "n/d?"),
        ([], "no rows"),
    ],
)
def test_a_support_that_teaches_nothing_is_refused(folder, run, rows, message):
    write("support.csv", "smiles,active", rows)
    code, _, err = run("--label", "active", "-o", "out.csv")
    assert code == 2
    assert message in err
    assert not Path("out.csv").exists()


def test_a_column_clash_is_refused(folder, run):
    assert run("-o", "out.csv")[0] == 0
    code, _, err = run("-o", "again.csv", query="out.csv")
    assert code == 2
    assert "active_molmeta_probability" in err
    assert not Path("again.csv").exists()


def test_nothing_is_overwritten_without_force(folder, run):
    Path("out.csv").write_text("precious")
    code, _, err = run("-o", "out.csv")
    assert (code, Path("out.csv").read_text()) == (2, "precious")
    assert "--force" in err
    assert run("-o", "out.csv", "--force")[0] == 0
    assert len(table("out.csv")) == 12


def test_a_truncated_gzip_and_a_directory_are_refused_by_name(folder, run):
    whole = gzip.compress(Path("query.csv").read_bytes() * 50)
    Path("query.csv.gz").write_bytes(whole[: len(whole) // 2])
    Path("d").mkdir()
    for name in ("query.csv.gz", "d"):
        code, _, err = run("-o", "out.csv", query=name)
        assert code == 2
        assert name in err
        assert not Path("out.csv").exists()


def test_the_support_may_be_the_query(folder, run):
    code, _, err = run("-o", "out.csv", query="support.csv")
    assert code == 0
    assert "12 query molecules are in the support too" in err


class Normalised(FingerprintNet):
    """A backbone with batch norm."""

    def __init__(self, config):
        super().__init__(config)
        self.net.append(nn.BatchNorm1d(config.width))


def test_a_transductive_model_is_not_used_on_a_stream(folder, capsys):
    tables = {"name": "maml", "normalisation": "batch"}
    backbone = {**BACKBONE, "name": f"{__name__}:Normalised"}
    Bundle([Member(tables, backbone, make_learner(tables, backbone))]).save("batch.safetensors")
    code = main(["predict", "--support", "support.csv", "--query", "query.csv", "--model", "batch.safetensors"])
    assert code == 2
    assert "is transductive" in capsys.readouterr().err
