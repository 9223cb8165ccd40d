"""The demo assay: its structures are the drugs that it names, and the bundled model ranks them."""

from __future__ import annotations

import csv

import pytest
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from molmeta.bundle import Bundle
from molmeta.cli import main
from molmeta.demo import demonstrate
from molmeta.paths import datasets_dir


def rows(name: str) -> list[dict[str, str]]:
    with (datasets_dir() / "demo" / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["support.csv", "query.csv"])
def test_every_structure_has_the_formula_of_its_drug(name):
    wrong = {
        row["name"]: (row["formula"], found)
        for row in rows(name)
        if (found := CalcMolFormula(Chem.MolFromSmiles(row["smiles"]))) != row["formula"]
    }
    assert not wrong


def test_no_drug_stands_twice():
    every = rows("support.csv") + rows("query.csv")
    assert len({Chem.CanonSmiles(row["smiles"]) for row in every}) == len(every) == 50
    assert sum(int(row["cox_inhibitor"]) for row in rows("support.csv")) == 8


def test_the_bundled_model_ranks_cox_inhibitors_high(capsys):
    shown = demonstrate(Bundle.load("default"))
    assert shown.scores["roc_auc"] > 0.7
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert f"ROC-AUC {shown.scores['roc_auc']:.2f}" in out
    assert "molmeta predict --support" in err
