from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from molmeta.core.task import Task, TaskKind
from molmeta.evaluation.scores import ALL, DrawResult, TaskRecord, score_draws
from tests.toy import Source

RNG = np.random.default_rng(0)


def binary_record(**more: object) -> TaskRecord:
    labels = np.array([1, 1, 0, 0, 1, 0, 1, 0])
    # Rows 0 and 4 are one molecule, labelled alike; rows 2 and 6 are one, labelled both ways.
    structure = np.array([7, 1, 8, 3, 7, 5, 8, 9], np.uint64)
    return TaskRecord("t", TaskKind.BINARY, 2, labels, structure=structure, **more)  # type: ignore[arg-type]


def draw(support: list[int], query: list[int], seed: int = 0) -> DrawResult:
    return DrawResult(len(support), seed, np.array(support), np.array(query), RNG.random(len(query)).round(3))


def test_each_part_leaves_out_what_it_says() -> None:
    record = binary_record(trained=np.array([0, 0, 0, 0, 0, 1, 0, 0], bool))
    query = [3, 4, 5, 6, 7]
    parts = {
        name: [q for q, kept in zip(query, mask, strict=True) if kept]
        for name, mask in record.parts(draw([0, 1, 2], query))
    }
    assert parts == {
        ALL: [3, 4, 5, 6, 7],
        "unrepeated": [3, 5, 7],
        "consistent": [3, 4, 5, 7],
        "unseen": [3, 4, 6, 7],
        "clean": [3, 7],
    }


def test_a_task_whose_source_says_nothing_has_one_part() -> None:
    record = TaskRecord("t", TaskKind.BINARY, 2, np.array([0, 1, 0, 1]))
    assert {s.subset for s in score_draws(record, [draw([0, 1], [2, 3])])} == {ALL}


def test_a_part_is_scored_as_if_it_were_the_query() -> None:
    record = binary_record()
    drawn = [draw([0, 3, 1], [2, 4, 5, 6, 7], seed) for seed in range(3)] + [draw([0, 3], [1, 2, 4, 5, 6, 7])]
    found = {(s.support_size, s.seed, s.subset): s.values for s in score_draws(record, drawn)}
    for d in drawn:
        for subset, kept in record.parts(d):
            truth, scores = record.labels[d.query][kept], d.predicted[kept]
            values = found[d.support_size, d.seed, subset]
            both = 0 < truth.mean() < 1
            expected = average_precision_score(truth, scores) if both else np.nan
            assert values["average_precision"] == pytest.approx(expected, nan_ok=True)
            above_support = expected - record.labels[d.support].mean()
            assert values["delta_auprc_support"] == pytest.approx(above_support, nan_ok=True)
            assert values["queries"] == kept.sum()


def test_bounds_are_values_in_the_whole_and_left_out_of_the_exact_part() -> None:
    columns = {"relation": np.array(["=", ">", "<", "~", ">=", ""])}
    task = Task("t", np.arange(6), np.arange(6.0), TaskKind.REGRESSION, 0, columns=columns)
    record = TaskRecord.of(task, Source())
    assert record.exact is not None
    assert record.exact.tolist() == [True, False, False, True, False, True]
    found = {s.subset: s.values["queries"] for s in score_draws(record, [draw([0, 5], [1, 2, 3, 4])])}
    assert found == {ALL: 4, "exact": 1, "clean": 1}
