from __future__ import annotations

import pytest

from molmeta.errors import ConfigError
from molmeta.evaluation.published import PublishedScore, benchmarks, published


@pytest.fixture(params=["fsmol", "moleculenet"])
def rows(request: pytest.FixtureRequest) -> list[PublishedScore]:
    return published(request.param)


def test_both_benchmarks_have_published_results() -> None:
    assert benchmarks() == ["fsmol", "moleculenet"]


def test_every_row_has_a_source_and_sane_values(rows: list[PublishedScore]) -> None:
    assert rows
    for row in rows:
        assert row.source
        assert row.method
        assert row.fold == "test"
        assert 0 < row.mean < 1
        assert row.error is None or (0 < row.error < 0.1 and row.error_kind)
        assert row.tasks is None or 1 < row.tasks <= 157
        assert row.support_size % 2 == 0
        assert (row.kind, row.metric) in {
            ("binary", "delta_auprc"),
            ("regression", "r2"),
            ("binary", "roc_auc"),
        }


def test_a_number_that_was_not_seen_in_its_source_says_so(rows: list[PublishedScore]) -> None:
    for row in rows:
        assert row.confirmed != ("not checked" in row.note)
        assert row.confirmed != ("not checked" in str(row))


def test_no_result_stands_twice(rows: list[PublishedScore]) -> None:
    keys = [(r.dataset, r.method, r.metric, r.support_size) for r in rows]
    assert len(set(keys)) == len(keys)


def test_more_labels_help_every_published_fs_mol_method() -> None:
    curves: dict[tuple[str, str], list[float]] = {}
    for row in published("fsmol"):
        curves.setdefault((row.method, row.metric), []).append(row.mean)
    assert all(len(c) == 4 and c == sorted(c) for c in curves.values())


def test_published_scores_that_were_picked_on_the_test_tasks_say_so() -> None:
    picked = {r.method for r in published("moleculenet") if "best evaluation on the test tasks" in r.note}
    assert picked == {"PAR", "GS-Meta", "Pin-Tuning"}


def test_an_unknown_benchmark_is_refused_with_those_at_hand() -> None:
    with pytest.raises(ConfigError, match=r'"qm9".*fsmol, moleculenet'):
        published("qm9")
