"""FS-Mol's task files, read and written."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from molmeta.domains.molecules.assays import assays_of
from molmeta.domains.molecules.fsmol_files import FSMolRows, read_task_file, rows_of, write_folder, write_task_file
from molmeta.domains.molecules.tables import Table
from molmeta.errors import DataError, InputError, MolmetaError

OFFICIAL = (
    '{"SMILES": "CCO", "Property": "1.0", "Assay_ID": "A", "RegressionProperty": "255.0", '
    '"LogRegressionProperty": "6.5934", "Relation": "=", "AssayType": "B", "fingerprints": [0, 2], '
    '"descriptors": [1.5, NaN], "graph": {"adjacency_lists": [], "node_types": ["C"]}}\n'
    '{"SMILES": "CC", "Property": "0.0", "Assay_ID": "A", "RegressionProperty": NaN, '
    '"LogRegressionProperty": "", "Relation": ">", "AssayType": "F"}\n'
)


def task_file(folder: Path, content: bytes) -> Path:
    path = folder / "A.jsonl.gz"
    path.write_bytes(content)
    return path


def rows(size: int = 3) -> FSMolRows:
    labels = np.arange(size) % 2.0
    return FSMolRows(["C" * (i + 1) for i in range(size)], labels, labels + 0.1, labels * np.nan, ["="] * size)


def test_the_official_form_is_read_with_extra_fields_and_bare_nan(tmp_path: Path) -> None:
    read = read_task_file(task_file(tmp_path, gzip.compress(OFFICIAL.encode())))
    assert (read.smiles, read.labels.tolist()) == (["CCO", "CC"], [1.0, 0.0])
    np.testing.assert_array_equal(read.values, [255.0, np.nan])
    np.testing.assert_array_equal(read.log_values, [6.5934, np.nan])
    assert (read.relations, read.assay_types) == (["=", ">"], ["B", "F"])


def test_a_written_task_file_reads_back_and_pandas_reads_it_too(tmp_path: Path) -> None:
    write_task_file(tmp_path / "A.jsonl.gz", rows())
    read = read_task_file(tmp_path / "A.jsonl.gz")
    assert read.smiles == rows().smiles
    for name in ("labels", "values", "log_values"):
        np.testing.assert_array_equal(getattr(read, name), getattr(rows(), name))
    frame = pd.read_json(tmp_path / "A.jsonl.gz", lines=True, dtype=False)
    assert frame["Assay_ID"].tolist() == ["A"] * 3
    assert frame["Property"].tolist() == ["0.0", "1.0", "0.0"]
    assert os.listdir(tmp_path) == ["A.jsonl.gz"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(OFFICIAL.encode())[:-30], "truncated after line"),
        (OFFICIAL.encode(), "cannot be read"),
        (gzip.compress(OFFICIAL.encode() + b"{oops\n"), "line 3: "),
        (gzip.compress(b"[1]\n"), "line 1: not an object"),
        (gzip.compress(b'{"Property": "1.0"}\n'), 'line 1: no text "SMILES"'),
        (gzip.compress(b'{"SMILES": "C", "Property": "0.5"}\n'), 'line 1: "Property" is 0.5'),
        (gzip.compress(b'{"SMILES": "C", "Property": "x"}\n'), "line 1: \"Property\" is 'x', not a number"),
        (gzip.compress(b""), "holds no rows"),
    ],
)
def test_a_damaged_task_file_is_refused_by_name_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_task_file(task_file(tmp_path, content))
    assert message in str(caught.value)
    assert "A.jsonl.gz" in str(caught.value)


def test_random_damage_raises_only_errors_of_molmeta(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(200):
        plain = i % 2
        content = bytearray(OFFICIAL.encode() if plain else gzip.compress(OFFICIAL.encode()))
        content[rng.integers(len(content))] = rng.integers(256)
        path = task_file(tmp_path, gzip.compress(bytes(content)) if plain else bytes(content))
        try:
            assert len(read_task_file(path)) > 0
        except MolmetaError:
            continue


def test_a_table_of_assays_becomes_a_folder_with_task_lists(tmp_path: Path) -> None:
    data = pd.DataFrame({"smiles": ["C", "CC", "CCC"], "a": ["1", "0", "1"], "b": ["7.5", ">9", "5"]}, dtype=object)
    table = Table(data, "smiles", "mine.csv")
    (a,) = assays_of(table, ["a"])
    (b,) = assays_of(table, ["b"], threshold=6.5, active="above")
    write_folder(tmp_path / "mine", {"train": {"a": rows_of(a)}, "valid": {"b": rows_of(b)}})
    assert json.loads((tmp_path / "mine" / "tasks.json").read_text()) == {"train": ["a"], "valid": ["b"], "test": []}
    read = read_task_file(tmp_path / "mine" / "valid" / "b.jsonl.gz")
    assert (read.labels.tolist(), read.values.tolist(), read.relations) == ([1, 1, 0], [7.5, 9, 5], ["=", ">", "="])
    assert os.listdir(tmp_path) == ["mine"]


def test_only_binary_assays_become_tasks(tmp_path: Path) -> None:
    data = pd.DataFrame({"smiles": ["C", "CC", "CCC"], "y": ["7.5", "9", "5"]}, dtype=object)
    (assay,) = assays_of(Table(data, "smiles", "mine.csv"), kind="regression")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"y is regression\. Derive classes with --threshold"):
        rows_of(assay)


def test_nothing_is_overwritten_without_force_and_nothing_foreign_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_folder(folder, {"train": {"a": rows()}})
    with pytest.raises(DataError, match=r"is not empty.*--force"):
        write_folder(folder, {"train": {"b": rows()}})
    write_folder(folder, {"train": {"b": rows()}}, force=True)
    assert os.listdir(folder / "train") == ["b.jsonl.gz"]
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match=r"also holds thesis\.tex"):
        write_folder(folder, {"train": {"c": rows()}}, force=True)
    assert os.listdir(folder / "train") == ["b.jsonl.gz"]


def test_names_that_cannot_be_used_are_refused_together(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        write_folder(tmp_path / "x", {"dev": {}, "train": {"../a": rows(), "b": rows()}, "test": {"b": rows()}})
    for problem in ('fold "dev"', 'task "b" stands in two folds', 'task name "../a"'):
        assert problem in str(caught.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.data
@pytest.mark.skipif("MOLMETA_DATA" not in os.environ, reason="needs MOLMETA_DATA")
def test_the_real_valid_fold_is_read() -> None:
    files = sorted((Path(os.environ["MOLMETA_DATA"]) / "fs-mol" / "valid").glob("*.jsonl.gz"))
    tasks = [read_task_file(file) for file in files]
    assert sum(map(len, tasks)) == 14_311
    assert {label for task in tasks for label in task.labels.tolist()} == {0.0, 1.0}
    assert all(len(task) >= 128 for task in tasks)
