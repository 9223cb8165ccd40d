"""What is said of an assay, as a user writes it and as the model reads it."""

from __future__ import annotations

import pytest
import torch

from molmeta.domains.molecules.descriptions import BUCKETS, hashed, known_words, read_description, rows_of, tokens
from molmeta.errors import ConfigError


def test_text_and_mapping_say_the_same_and_commas_may_stand_in_a_value() -> None:
    text = "target=cyclin-dependent kinase 5, p35 complex, ec=2.7.11.1,organism = Homo sapiens, type=binding"
    said = read_description(text)
    assert said == {
        "target": "cyclin-dependent kinase 5, p35 complex",
        "ec_number": "2.7.11.1",
        "organism": "Homo sapiens",
        "assay_type": "B",
    }
    given = {"target": said["target"], "ec": "2.7.11.1", "organism": "Homo sapiens", "type": "B"}
    assert read_description(given) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tragets": "CDK5"}, 'unknown field "tragets" .did you mean "target"'),
        ("num_pos=12, target=CDK5", 'unknown field "num_pos"'),
        ("CDK5 kinase", 'does not begin with a field and "="'),
        ("ec=kinase", 'EC number or the beginning of one .2.7.11.1, 2.7., not "kinase"'),
        ("type=in vivo", "binding, functional, admet, toxicity, physicochemical"),
        ("target=, ec=2.7", '"target" says nothing'),
        ("target=a, target=b", '"target" is given twice'),
        ("", "it is empty"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_with_an_example(given: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        read_description(given)  # type: ignore[arg-type]
    assert "Known fields: target, ec, organism, type" in str(error.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        read_description({"size": "100", "ec": "x", "type": "?"})
    assert str(error.value).count(";") >= 3


def test_an_ec_number_is_a_token_a_level_and_words_are_read_whatever_their_case() -> None:
    found = tokens(
        {"target": "CMGC Kinase", "ec_number": "2.7.11.1; 3.4", "assay_type": "B", "organism": "Homo sapiens"}
    )
    assert found == {
        "cmgc", "kinase", "ec:2", "ec:2.7", "ec:2.7.11", "ec:2.7.11.1", "ec:3", "ec:3.4", "assay_type:b",
        "organism:homo sapiens",
    }  # fmt: skip


def test_numbers_of_targets_and_statistics_of_labels_are_never_read() -> None:
    assert not tokens({"target_id": "104881", "num_pos": "181", "percentage_pos": "49.3", "size": "367"})
    assert not hashed({"target_id": "104881"}).any()


def test_a_class_has_the_assay_s_own_description_and_nothing_known_is_all_zero() -> None:
    rows = rows_of({"target": "kinase"}, 2)
    assert rows.shape == (2, BUCKETS)
    assert torch.equal(rows[0], rows[1])
    assert rows[0].sum() == 1
    assert not rows_of({}, 2).any()


def test_a_word_counts_by_its_rarity_and_one_that_nobody_used_not_at_all() -> None:
    weights = known_words(torch.tensor([[1.0, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]))
    torch.testing.assert_close(weights, torch.tensor([0.0, 4.0, 1.0]).clamp(min=1).log())
