"""What labels are taken to mean."""

from __future__ import annotations

import numpy as np
import pytest

from molmeta.core.task import TaskKind
from molmeta.domains.molecules.label_values import side
from molmeta.domains.molecules.labels import AssayLabels, LabelRule, read_labels
from molmeta.errors import ConfigError, InputError, SupportError


def read(texts: list[str], **rule: object) -> AssayLabels:
    return read_labels("A", ["C"] * len(texts), texts, range(len(texts)), LabelRule(**rule), "assay.csv")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("active", "inactive"),
    [("1", "0"), ("1.0", "0.0"), ("TRUE", "False"), ("Active", "INACTIVE"), ("yes", "No"), ("+", "-"), ("1", "-1")],
)
def test_index_1_is_the_active_class_in_any_case(active: str, inactive: str) -> None:
    assay = read([active, inactive, inactive, active])
    assert assay.kind is TaskKind.BINARY
    assert assay.labels.tolist() == [1, 0, 0, 1]


def test_spellings_of_one_value_are_one_class() -> None:
    assert read(["1", "0", "1.0", "0.00", "1e0"]).labels.tolist() == [1, 0, 1, 0, 1]
    assert read(["Active", "inactive", "ACTIVE"]).labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("texts", [["hit", "miss", "hit"], ["1", "2", "2"], ["6.5", "7.1"], ["active", "unclear"]])
def test_an_unclear_active_class_is_asked_for_with_both_values(texts: list[str]) -> None:
    with pytest.raises(InputError, match=r"which one is active\? Say so with --positive") as caught:
        read(texts)
    assert all(f'"{text}"' in str(caught.value) for text in texts)
    assert read(texts, positive=texts[0]).labels.tolist() == [int(text == texts[0]) for text in texts]


def test_a_positive_value_that_is_no_label_is_refused() -> None:
    with pytest.raises(InputError, match=r'no label of assay A is "active"; its labels are "hit" and "miss"'):
        read(["hit", "miss"], positive="active")


def test_texts_and_few_whole_numbers_are_classes() -> None:
    texts = read(["low", "high", "mid", "low", "high", "mid"])
    assert (texts.kind, texts.classes) == (TaskKind.MULTICLASS, ("high", "low", "mid"))
    assert texts.labels.tolist() == [1, 0, 2, 1, 0, 2]
    numbers = read(["10", "2", "3.0", "2"])
    assert (numbers.kind, numbers.classes) == (TaskKind.MULTICLASS, ("2", "3", "10"))
    assert numbers.labels.tolist() == [2, 0, 1, 0]


def test_other_numbers_are_values() -> None:
    for texts in (["6.5", "7.1", "8"], [str(i) for i in range(11)], ["2.5", "2.5"]):
        assay = read(texts)
        assert (assay.kind, assay.num_classes) == (TaskKind.REGRESSION, 0)
        assert assay.labels.tolist() == [float(text) for text in texts]


def test_a_forced_kind_overrides_the_rule() -> None:
    assert read(["0", "1"], kind=TaskKind.REGRESSION).labels.tolist() == [0.0, 1.0]
    assert read(["0", "1"], kind=TaskKind.MULTICLASS).num_classes == 2
    with pytest.raises(InputError, match=r'binary labels have two values; assay A in assay.csv has 3: "1" and "2"'):
        read(["1", "2", "3"], kind=TaskKind.BINARY)


def test_the_decision_is_said_in_a_sentence() -> None:
    assert read(["1", "0", "", "1"]).sentence == (
        'A: binary (two distinct values); active is "1" (2 rows), inactive "0" (1 row); 1 row unlabelled'
    )
    assert read(["6.5", "7", "8"]).sentence.endswith("3 rows from 6.5 to 8")


def test_empty_labels_are_unlabelled_and_not_invalid() -> None:
    assay = read(["1", "", "NA", "0", " nan ", "null", "N/A"])
    assert assay.positions.tolist() == [0, 3]
    assert assay.rows.tolist() == [1, 4]
    with pytest.raises(SupportError, match=r"assay A in assay.csv has no labelled row"):
        read(["", "NA"])


def test_labels_that_are_neither_numbers_nor_classes_are_listed() -> None:
    with pytest.raises(InputError, match=r"2 of 5 labels of assay A in assay.csv are not numbers") as caught:
        read(["6.5", "high", "7.1", "n.d.", "8"])
    assert "\n      2  high\n      4  n.d.\n" in str(caught.value)
    with pytest.raises(InputError, match=r"are neither numbers nor classes: 3 different texts"):
        read(["aspirin", "caffeine", "ibuprofen"])
    with pytest.raises(InputError, match=r"Write decimals with a point"):
        read(["6,5", "7,1", "8,3"])
    with pytest.raises(InputError, match=r"2 of 3 labels .* are not numbers"):
        read(["inf", "nano", "3"], kind=TaskKind.REGRESSION)


def test_censored_values_are_refused_with_the_way_out() -> None:
    with pytest.raises(InputError, match=r"A censored value .* --threshold") as caught:
        read(["6.5", ">10", "<= 3", "7"])
    assert "\n      2  >10\n      3  <= 3\n" in str(caught.value)


@pytest.mark.parametrize(("active", "expected"), [("above", [1, 1, 0]), ("below", [0, 1, 1])])
def test_a_threshold_derives_classes_and_equal_is_active(active: str, expected: list[int]) -> None:
    assay = read(["7", "6.5", "6"], threshold=6.5, active=active)
    assert assay.labels.tolist() == expected
    assert assay.classes == ("inactive", "active")
    assert f"active is {active} 6.5, or equal to it" in assay.sentence


def test_a_relation_decides_exactly_when_every_value_it_allows_is_on_one_side() -> None:
    grid = np.arange(-3, 3.01, 0.25)
    allowed = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "=": np.equal}
    for relation, compare in allowed.items():
        for number in (-1.0, 0.0, 1.0):
            values = grid[compare(grid, number)]
            for active, is_active in (("above", values >= 0), ("below", values <= 0)):
                expected = float(is_active[0]) if is_active.all() or not is_active.any() else None
                assert side(relation, number, 0.0, active) == expected, (relation, number, active)  # type: ignore[arg-type]


def test_a_relation_that_does_not_decide_leaves_its_row_unlabelled_and_says_so() -> None:
    assay = read([">10", ">5", "<5", "7"], threshold=6.5, active="above")
    assert assay.positions.tolist() == [0, 2, 3]
    assert assay.labels.tolist() == [1, 0, 1]
    assert "censored values that it does not decide are unlabelled (rows 2)" in assay.sentence


@pytest.mark.parametrize("rule", [{"threshold": 6.5}, {"active": "above"}])
def test_a_threshold_has_no_default_direction(rule: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"there is no default"):
        LabelRule(**rule)  # type: ignore[arg-type]


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    assert LabelRule(kind="binary").kind is TaskKind.BINARY  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='kind is binary, multiclass, regression, not "ordinal"'):
        LabelRule(kind="ordinal")  # type: ignore[arg-type]
