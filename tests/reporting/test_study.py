"""Results side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from molmeta.core.task import TaskKind
from molmeta.errors import InputError
from molmeta.reporting.study import Study
from tests.made_results import made_result


def test_two_results_of_one_method_get_names_of_their_own(tmp_path: Path) -> None:
    made_result(tmp_path / "first", "gp", tasks=["a", "b"])
    made_result(tmp_path / "second", "gp", tasks=["a", "b"])
    study = Study.read([tmp_path / "first", tmp_path / "second"])
    assert [m.name for m in study.methods] == ["gp (first)", "gp (second)"]


def test_tables_of_one_method_are_numbered(tmp_path: Path) -> None:
    folder = made_result(tmp_path / "a", "gp", tasks=["a", "b"])
    study = Study.read([folder / "scores.csv", folder / "scores.parquet", folder / "scores.csv"])
    assert [m.name for m in study.methods] == ["gp", "gp #2", "gp #3"]


def test_the_baseline_is_the_last_result_unless_one_is_named(tmp_path: Path) -> None:
    paths = [made_result(tmp_path / name, name, tasks=["a", "b"]) for name in ("ours", "rf", "knn")]
    last, named = Study.read(paths).baseline, Study.read(paths, "rf").baseline
    assert last is not None
    assert named is not None
    assert (last.name, named.name) == ("knn", "rf")
    assert Study.read(paths[:1]).baseline is None
    with pytest.raises(InputError, match=r'"svm"; beside the first there are: rf, knn'):
        Study.read(paths, "svm")


def test_results_without_a_common_task_are_refused(tmp_path: Path) -> None:
    one, other = made_result(tmp_path / "a", tasks=["x"]), made_result(tmp_path / "b", "other", tasks=["y"])
    with pytest.raises(InputError, match="no task in common"):
        Study.read([one, other])


def test_results_of_several_kinds_are_refused(tmp_path: Path) -> None:
    one = made_result(tmp_path / "a", tasks=["x"])
    other = made_result(tmp_path / "b", tasks=["x"], kind=TaskKind.REGRESSION)
    with pytest.raises(InputError, match="binary, regression"):
        Study.read([one, other])


def test_a_table_without_the_usual_metric_is_led_by_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("task,support_size,seed,my_metric,brier\na,16,0,3,0.2\nb,16,0,4,0.3\n")
    study = Study.read([path])
    assert (study.metric, study.sign, study.first.name) == ("brier", -1, "mine")
    assert study.metrics == ["brier", "my_metric"]


def test_a_table_without_any_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("task,support_size,seed,roc_auc\na,16,0,\n")
    with pytest.raises(InputError, match="no metric"):
        Study.read([path])


def test_what_was_not_asked_alike_is_told(tmp_path: Path) -> None:
    one = made_result(tmp_path / "a", "a", tasks=["x", "y"], seeds=2)
    other = made_result(tmp_path / "b", "b", tasks=["x"], seeds=1)
    told = list(Study.read([one, other]).disagreements())
    assert any("seeds" in line and "a: 2; b: 1" in line for line in told)
    assert sum("not scored on the same tasks" in line for line in told) == 2
    assert not list(Study.read([one, one]).disagreements())


def test_a_task_is_described_once_over(tmp_path: Path) -> None:
    known = {
        "target": "Kinase",
        "protein_family": "kinase",
        "assay_type": "B; F",
        "organism": "human",
        "target_id": "7",
    }
    study = Study.read([made_result(tmp_path / "a", tasks=["x"], description=known)])
    assert study.about("x") == "Kinase; organism: human; binding assay; functional assay"


def test_a_header_with_little_in_it_is_enough_but_for_the_kind(tmp_path: Path) -> None:
    folder = made_result(tmp_path / "a", tasks=["x"])
    (folder / "result.json").write_text('{"method": "a", "protocol": {"kind": "binary"}}')
    assert Study.read([folder]).kind is TaskKind.BINARY
    (folder / "result.json").write_text('{"method": "a"}')
    with pytest.raises(InputError, match="does not say what kind"):
        Study.read([folder])
