"""Tables against what SciPy and scikit-learn say of the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon
from sklearn.metrics import average_precision_score

from molmeta.evaluation.results import Result
from molmeta.reporting import tables
from molmeta.reporting.study import Study
from tests.made_results import made_result


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("results")
    noises = {"ours": 0.5, "near": 0.52, "far": 3.0}
    return Study.read([made_result(root / name, name, noise=noise) for name, noise in noises.items()])


def values_of(study: Study, name: str, metric: str, size: int) -> np.ndarray:
    """Per-task means straight from the scores."""
    result = next(m.result for m in study.methods if m.name == name)
    by_task: dict[str, list[float]] = {}
    for score in result.scores:
        if (score.support_size, score.subset) == (size, "all"):
            by_task.setdefault(score.task, []).append(score.values[metric])
    return np.array([np.mean(v) for _, v in sorted(by_task.items())])


def test_the_main_table_holds_means_and_standard_errors_over_tasks(study: Study) -> None:
    table = tables.main_table(study)
    values = values_of(study, "ours", "delta_auprc", 8)
    expected = f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}"
    assert table.rows[0].cells[0].text == expected
    assert [cell.text for cell in table.head[1:]] == ["8", "16"]
    assert {cell.note for cell in table.head[1:]} == {"8 tasks"}


def test_what_is_not_separable_from_the_best_is_marked(study: Study) -> None:
    best, alike = tables.best_of(study, 8)
    values = {name: values_of(study, name, "delta_auprc", 8) for name in ("ours", "near", "far")}
    assert best == max(values, key=lambda name: values[name].mean())
    others = sorted((wilcoxon(values[best], values[name]).pvalue, name) for name in values if name != best)
    holm = {others[0][1]: 2 * others[0][0], others[1][1]: max(2 * others[0][0], others[1][0])}
    assert alike == {name for name, p in holm.items() if p >= 0.05}
    assert "far" not in alike
    marks = {row.title: row.cells[0].mark for row in tables.main_table(study).rows if row.place is not None}
    assert marks == {name: "best" if name == best else "alike" if name in alike else "" for name in values}


def test_the_chance_row_is_what_random_rankings_score(study: Study) -> None:
    labels = np.arange(32) % 2  # the query of every draw at 8: 16 of 32
    rng = np.random.default_rng(0)
    found = [average_precision_score(labels, rng.random(32)) - 0.5 for _ in range(1000)]
    row = tables.main_table(study).rows[-1]
    assert row.title == "chance"
    assert float(row.cells[0].text) == pytest.approx(np.mean(found), abs=0.01)


def test_draws_without_a_score_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("task,support_size,seed,delta_auprc\na,16,0,0.1\na,16,1,\nb,16,0,0.3\n")
    (note,) = tables.main_table(Study.read([path])).notes
    assert "1 draw without a score (1 at 16)" in note


def test_every_metric_of_the_scores_has_a_column(study: Study) -> None:
    table = tables.metric_table(study, 8, {"ours": 0.125})
    headings = [cell.text for cell in table.head]
    assert "Brier\N{NO-BREAK SPACE}↓" in headings
    assert "ΔAUPRC (support)\N{NO-BREAK SPACE}↑" in headings
    assert headings[-1] == "Pooled ECE\N{NO-BREAK SPACE}↓"
    assert table.rows[0].cells[-1].text == "0.125"
    brier = table.rows[0].cells[headings.index("Brier\N{NO-BREAK SPACE}↓") - 1]
    assert brier.text == f"{values_of(study, 'ours', 'brier', 8).mean():.3f}"
    assert brier.mark == "best"  # the lowest


def test_pairs_are_tested_over_tasks(study: Study) -> None:
    rows = tables.pair_rows(study, 16)
    table = tables.pair_table(study, 16, rows)
    assert [row.title for row in table.rows] == ["ours − near", "ours − far", "near − far"]
    left, right = values_of(study, "ours", "delta_auprc", 16), values_of(study, "far", "delta_auprc", 16)
    assert table.rows[1].cells[0].text == f"{(left - right).mean():+.3f}"
    assert rows[1].comparison.p_value == pytest.approx(wilcoxon(left, right).pvalue)


def test_the_audit_tells_what_was_left_out_and_keeps_the_tasks_alike(study: Study) -> None:
    table = tables.audit_table(study, 8)
    assert table is not None
    titles = [row.title for row in table.rows]
    assert titles[0] == "all"
    assert {"unrepeated", "unseen", "clean"} <= set(titles)
    method = study.first
    counted = {subset: sum(s.values["queries"] for s in method.scores(8, subset)) for subset in ("all", "unseen")}
    share = 1 - counted["unseen"] / counted["all"]
    assert f"{100 * share:.1f} % left out" in table.rows[titles.index("unseen")].cells[0].note


def test_a_part_of_fewer_tasks_is_held_against_the_same_tasks(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "task,support_size,seed,subset,delta_auprc,queries\n"
        "a,16,0,all,0.1,10\nb,16,0,all,0.5,10\na,16,0,unseen,0.2,5\nb,16,0,unseen,,5\n"
    )
    table = tables.audit_table(Study.read([path]), 16)
    assert table is not None
    assert table.rows[1].cells[0].note == "50.0 % left out; 1 task, 0.100 with every row"


def test_a_method_without_a_part_is_shown_on_the_tasks_of_the_others(tmp_path: Path) -> None:
    head = "task,support_size,seed,subset,delta_auprc,queries\n"
    whole = "a,16,0,all,0.1,10\nb,16,0,all,0.5,10\n"
    (tmp_path / "trained.csv").write_text(head + whole + "a,16,0,unseen,0.2,5\nb,16,0,unseen,,5\n")
    (tmp_path / "baseline.csv").write_text(head + whole)
    table = tables.audit_table(Study.read([tmp_path / "trained.csv", tmp_path / "baseline.csv"]), 16)
    assert table is not None
    assert table.rows[1].cells[1] == tables.Cell("0.100", "every row, 1 task", "quiet")


def test_overlap_is_told_as_counts_or_names_or_not_known(tmp_path: Path) -> None:
    known = {"molecules": 200, "trained_molecules": 50, "tasks": 2, "trained_tasks": ["x"]}
    one = made_result(tmp_path / "a", "a", tasks=["x", "y"], overlap=known)
    unknown = {"molecules": None, "trained_molecules": None, "tasks": 2, "trained_tasks": 0}
    other = made_result(tmp_path / "b", "b", tasks=["x", "y"], overlap=unknown)
    study = Study.read([one, other])
    table = tables.overlap_table(study)
    assert table is not None
    cells = [[(c.text, c.note) for c in row.cells] for row in table.rows]
    assert cells == [[("50 of 200", "25.0 %"), ("1 of 2", "50.0 %")], [("not known", ""), ("0 of 2", "0.0 %")]]
    assert study.task_name("x") == "x †"
    assert study.task_name("y") == "y"


def test_a_lower_metric_that_leads_has_the_lowest_as_best(tmp_path: Path) -> None:
    for name, nll in (("good", 0.2), ("bad", 0.9)):
        rows = "".join(f"t{i},16,0,{nll + 0.01 * i}\n" for i in range(3))
        (tmp_path / f"{name}.csv").write_text("task,support_size,seed,nll\n" + rows)
    study = Study.read([tmp_path / "bad.csv", tmp_path / "good.csv"])
    assert isinstance(study.first.result, Result)
    assert tables.best_of(study, 16)[0] == "good"
