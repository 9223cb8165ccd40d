"""Molecules, supports and duplicates that a user must hear of before any work."""

from __future__ import annotations

import pytest

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.checks import check_molecules, check_support, refused_error, report_duplicates
from molmeta.domains.molecules.labels import AssayLabels, LabelRule, read_labels
from molmeta.domains.molecules.parse import canonical, parse
from molmeta.errors import SupportError


def assay(texts: list[str], smiles: list[str] | None = None, **rule: object) -> AssayLabels:
    smiles = smiles or ["C"] * len(texts)
    return read_labels("CHEMBL204", smiles, texts, range(len(texts)), LabelRule(**rule), "a.csv")  # type: ignore[arg-type]


def test_refused_molecules_are_listed_with_row_and_reason() -> None:
    refused = check_molecules(["CCO", "C1CC", "CN(C)(C)(C)C", " "], range(17, 21))
    assert str(refused_error(refused, 412, "assay.csv", "smiles")).splitlines() == [
        '2 of 412 molecules in assay.csv cannot be used (column "smiles").',
        "    row  smiles   reason",
        "     18  C1CC     ring opened but never closed (ring number 1)",
        "     20  (empty)  no structure given",
        "  Fix these rows, or rerun with --on-invalid keep (leave their prediction blank, with the reason)",
    ]


def test_an_all_invalid_table_lists_twenty_and_counts_the_rest() -> None:
    refused = check_molecules(["C1CC"] * 50, range(1, 51))
    message = str(refused_error(refused, 50, "a.csv", "smiles"))
    assert message.startswith("50 of 50 molecules")
    assert message.count("ring opened") == 20
    assert "  ... and 30 more\n" in message


def test_a_refusal_from_the_file_is_kept() -> None:
    assert check_molecules(["", "CC"], [1, 2], {0: "no molblock"}) == [(1, "", "no molblock")]


@pytest.mark.parametrize(
    ("texts", "counts", "missing"),
    [(["1"] * 14, "14 actives and 0 inactives", "inactive"), (["0"] * 3, "0 actives and 3 inactives", "active")],
)
def test_a_one_class_support_is_refused(texts: list[str], counts: str, missing: str) -> None:
    with pytest.raises(SupportError) as caught:
        check_support(assay(texts))
    assert str(caught.value) == (
        f"assay CHEMBL204 has {counts} in its support set.\n"
        f"  Binary prediction needs one of each. Add a measured {missing}, or derive classes with --threshold."
    )


def test_one_class_of_a_text_label_is_refused() -> None:
    with pytest.raises(SupportError, match=r'one label only, "hit"'):
        assay(["hit", "hit"])
    with pytest.raises(SupportError, match=r'one class only \("hit"\)'):
        check_support(assay(["hit", "hit"], kind=TaskKind.MULTICLASS))


@pytest.mark.parametrize("texts", [["1", ""], ["6.5", "NA"]])
def test_fewer_than_two_labelled_rows_are_refused(texts: list[str]) -> None:
    with pytest.raises(SupportError, match=r"has 1 labelled row in its support set; two or more are needed"):
        check_support(assay(texts))


def test_a_support_with_both_classes_or_two_values_is_accepted() -> None:
    check_support(assay(["1", "0"]))
    check_support(assay(["2.5", "2.5"]))


def test_repeated_molecules_and_conflicting_labels_are_counted_and_kept() -> None:
    smiles = ["CCO", "OCC", "CC", "C(C)O", "CC", "C"]
    labels = assay(["1", "1", "0", "1", "1", "0"], smiles)
    report = report_duplicates(labels, [canonical(parse(text).molecule) for text in smiles])
    assert (report.molecules, report.repeats, report.conflicting) == (2, 3, ((3, 5),))
    assert report.sentence == (
        "CHEMBL204: 2 molecules repeated; all rows are used; 1 with different labels (rows 3, 5)"
    )
    assert report_duplicates(labels, list("abcdef")).sentence == ""
