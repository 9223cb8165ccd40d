"""Wide and long layouts."""

from __future__ import annotations

import pandas as pd
import pytest

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.assays import assays_of, label_columns_of
from molmeta.domains.molecules.tables import Table
from molmeta.errors import InputError

SMILES = [*("C" * i for i in range(1, 13))]


def table(**columns: list[str]) -> Table:
    size = len(next(iter(columns.values())))
    return Table(pd.DataFrame({"smiles": SMILES[:size], **columns}, dtype=object), "smiles", "assay.csv")


def test_a_wide_table_has_an_assay_in_every_label_column() -> None:
    wide = table(**{"NR-AR": ["1", "0", "", "1"], "pIC50": ["6.5", "", "7.5", "8"], "note": ["a", "b", "c", "d"]})
    first, second = assays_of(wide)
    assert (first.name, first.kind, first.smiles) == ("NR-AR", TaskKind.BINARY, ["C", "CC", "CCCC"])
    assert (second.name, second.kind, second.rows.tolist()) == ("pIC50", TaskKind.REGRESSION, [1, 3, 4])


def test_columns_that_are_no_labels_are_ignored_with_the_reason() -> None:
    size = 12
    wide = table(
        mol_id=["7"] * size,
        ChEMBL_ID=["5"] * size,
        count=[str(i) for i in range(size)],
        pubchem=[str(5000 + 7 * i) for i in range(size)],
        note=["text"] * size,
        blank=[""] * size,
        y=["1", "0"] * 6,
    )
    columns = label_columns_of(wide)
    assert columns.chosen == ("y",)
    assert columns.ignored == {
        "mol_id": "is named as an identifier",
        "ChEMBL_ID": "is named as an identifier",
        "count": "holds identifiers",
        "pubchem": "holds identifiers",
        "note": 'holds text ("text", row 1)',
        "blank": "is empty",
    }
    assert columns.sentence.startswith('labels in "y" (not labels: "mol_id" is named as an identifier; ')


def test_a_column_that_is_asked_for_is_taken() -> None:
    (assay,) = assays_of(table(mol_id=["1", "0"], y=["1", "0"]), label_columns=["mol_id"])
    assert assay.name == "mol_id"
    with pytest.raises(InputError, match=r'assay.csv has no column "z". Its columns: y'):
        assays_of(table(y=["1", "0"]), label_columns=["z"])


def test_a_table_without_labels_is_refused_with_the_reasons() -> None:
    with pytest.raises(
        InputError, match=r"no column of labels\.\n  \"note\" holds text \(\"a\", row 1\)\n  Name it with --label"
    ):
        assays_of(table(note=["a", "b"]))


def test_a_column_named_for_labels_is_taken_where_there_is_no_other() -> None:
    (assay,) = assays_of(table(activity=["low", "high", "mid"] * 4, note=["text"] * 12))
    assert (assay.name, assay.classes) == ("activity", ("high", "low", "mid"))
    with pytest.raises(InputError, match=r"(?s)1 of 4 labels of assay y .* 3  maybe"):
        assays_of(table(y=["1", "0", "maybe", "1"]))
    assert [a.name for a in assays_of(table(target=["EGFR"] * 4, hit=["1", "0"] * 2))] == ["hit"]


def test_a_long_table_is_grouped_by_its_assays() -> None:
    long = table(Assay_ID=["B", "A", "B", "A", ""], label=["1", "0", "0", "1", "1"], year=["1999"] * 5)
    first, second = assays_of(long)
    assert (first.name, first.positions.tolist(), first.labels.tolist()) == ("B", [0, 2], [1, 0])
    assert (second.name, second.positions.tolist(), second.labels.tolist()) == ("A", [1, 3], [0, 1])
    named = assays_of(table(which=["x", "y", "x", "y"], v=["1", "0", "0", "1"]), assay_column="which")
    assert [assay.name for assay in named] == ["x", "y"]


def test_a_long_table_with_two_label_columns_is_refused() -> None:
    with pytest.raises(InputError, match=r"long table .* it may be a or b\. Name it with --label"):
        assays_of(table(assay=["A", "A"], a=["1", "0"], b=["1", "0"]))


def test_problems_of_all_assays_are_reported_at_once() -> None:
    with pytest.raises(InputError, match=r"assay a .*\n.*assay b"):
        assays_of(table(a=["hit", "miss"], b=["x", "y"]), label_columns=["a", "b"])


def test_rows_of_a_later_chunk_keep_their_numbers() -> None:
    chunk = Table(table(y=["1", "0"]).data, "smiles", "assay.csv", first_row=101)
    assert assays_of(chunk)[0].rows.tolist() == [101, 102]
