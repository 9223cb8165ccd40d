from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from molmeta.catalogue import dataset
from molmeta.core.task import Split, Task, TaskKind
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.moleculenet import NAMES, MoleculeNet, MoleculeNetConfig, published_splits
from molmeta.errors import DataError, InputError, SupportError
from molmeta.paths import data_dir, datasets_dir
from tests.bundles import DRUGS

SMILES = [*DRUGS[:3], "C1CC", *DRUGS[3:]]  # the fourth is refused
CELLS = ["0", "1", "", "1.0", "0.0"]
COUNTS = {"tox21": (7, 2, 3), "sider": (17, 4, 6), "muv": (10, 2, 5), "toxcast": (290, 72, 156)}


def endpoints(name: str) -> list[str]:
    return [endpoint for split in published_splits()[name].values() for endpoint in split]


def cell(row: int, column: int) -> str:
    return CELLS[(2 * row + column) % 5]


def write(path: Path, columns: list[str], cells: object = cell, first: str = "smiles") -> Path:
    """A table of SMILES and labels, packed where its name says so."""
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        table = csv.writer(file)
        table.writerow([first, *columns])
        for i, text in enumerate(SMILES):
            table.writerow([text, *(cells(i, j) for j in range(len(columns)))])  # type: ignore[operator]
    return path.parent


def source(root: Path, **settings: str) -> MoleculeNet:
    return MoleculeNet(MoleculeNetConfig(root=str(root), **settings), workers=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_every_split_has_its_endpoints_as_tasks_and_none_stands_in_two(name: str, tmp_path: Path) -> None:
    made = source(write(tmp_path / f"{name}.csv", endpoints(name)), dataset=name)
    found = {split: [task.name for task in made.tasks(split)] for split in Split}
    assert tuple(len(found[split]) for split in (Split.TRAIN, Split.VALID, Split.TEST)) == COUNTS[name]
    assert found[Split.HELDOUT] == []
    every = [task for names in found.values() for task in names]
    assert len(set(every)) == len(every)
    assert every[0].startswith(f"{name}/")


@pytest.mark.parametrize("file", ["tox21.csv", "tox21.csv.gz"])
def test_a_task_has_the_labelled_and_usable_rows_of_its_column(file: str, tmp_path: Path) -> None:
    columns = list(reversed(endpoints("tox21")))  # whatever their order in the file
    made = source(write(tmp_path / file, ["mol_id", *columns]))
    for split in (Split.TRAIN, Split.VALID, Split.TEST):
        for task in made.tasks(split):
            column = columns.index(task.description["endpoint"]) + 1
            kept = [i for i, text in enumerate(SMILES) if cell(i, column) and text != "C1CC"]
            assert made.smiles(task.rows) == [SMILES[i] for i in kept]
            assert task.labels.tolist() == [int(float(cell(i, column))) for i in kept]
            assert task.labels.dtype == np.int64
            assert (task.kind, task.num_classes) == (TaskKind.BINARY, 2)
            assert task.name == f"tox21/{task.description['endpoint']}"
            assert task.description["dataset"] == "tox21"


def test_refused_molecules_are_dropped_and_told_or_listed_where_they_may_not_be(tmp_path: Path) -> None:
    root = write(tmp_path / "tox21.csv", endpoints("tox21"))
    assert set(source(root).store.reasons) == {"C1CC"}
    with pytest.raises(InputError) as caught:
        source(root, on_invalid="raise")
    assert str(caught.value).startswith(
        f"1 of 13 rows in {root} cannot be used.\n  tox21.csv row 4: 'C1CC' ring opened"
    )


def test_rows_give_back_molecules_texts_and_structures(tmp_path: Path) -> None:
    made = source(write(tmp_path / "tox21.csv", endpoints("tox21")))
    rows = made.tasks(Split.TEST)[0].rows[::-1]
    texts = made.smiles(rows)
    np.testing.assert_array_equal(made.gather(rows).bins.numpy(), featurise(texts).arrays.bins)
    canonical = [Chem.CanonSmiles(text) for text in texts]
    structures = made.structures(rows)
    assert (structures[:, None] == structures).tolist() == [[a == b for a in canonical] for b in canonical]


def test_there_are_binary_tasks_alone(tmp_path: Path) -> None:
    made = source(write(tmp_path / "sider.csv", endpoints("sider")), dataset="sider")
    assert list(made.tasks(Split.TRAIN, TaskKind.REGRESSION)) == []
    assert list(made.tasks(Split.TRAIN, TaskKind.MULTICLASS)) == []


def test_deepchem_s_name_for_toxcast_is_read_too(tmp_path: Path) -> None:
    made = source(write(tmp_path / "toxcast_data.csv.gz", endpoints("toxcast")), dataset="toxcast")
    assert len(made.tasks(Split.TEST)) == 156


def test_a_missing_file_is_refused_with_the_names_looked_for_and_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no muv\.csv or muv\.csv\.gz in {tmp_path}\. Set MOLMETA_DATA .* fetch it"):
        source(tmp_path, dataset="muv")


def test_missing_columns_and_foreign_labels_are_refused_by_name(tmp_path: Path) -> None:
    columns = endpoints("tox21")
    with pytest.raises(DataError, match=r"tox21\.csv has no column SR-p53\."):
        source(write(tmp_path / "tox21.csv", columns[:-1]))
    with pytest.raises(DataError, match=r"tox21\.csv has no column smiles\."):
        source(write(tmp_path / "tox21.csv", columns, first="structure"))
    for wrong in ("2", "active", "NaN"):
        root = write(tmp_path / "tox21.csv", columns, lambda i, j, text=wrong: text if (i, j) == (5, 4) else "0")
        with pytest.raises(DataError, match=rf"tox21\.csv: labels are 0, 1 or empty; others stand in {columns[4]}\."):
            source(root)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08\x00half", gzip.compress(b"smiles,NR-AR\nC,1\n")[:-9]])
def test_a_damaged_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tox21.csv.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"tox21\.csv\.gz cannot be read .*Fetch it again"):
        source(tmp_path)


@pytest.mark.parametrize("shots", [1, 2, 10])
def test_a_draw_has_k_shots_of_each_class_and_every_other_row_to_query(shots: int) -> None:
    task = Task("tox21/x", np.arange(60), (np.arange(60) < 11).astype(np.int64), TaskKind.BINARY, 2)
    drawn = set()
    for seed in range(20):
        support, query = MoleculeNet.draw(task, 2 * shots, seed)
        assert np.bincount(task.labels[support]).tolist() == [shots, shots]
        assert sorted([*support, *query]) == list(range(60))
        assert [p.tolist() for p in MoleculeNet.draw(task, 2 * shots, seed)] == [support.tolist(), query.tolist()]
        drawn.add(tuple(sorted(support.tolist())))
    assert len(drawn) > 15


def test_every_row_of_a_class_is_drawn_equally_often() -> None:
    task = Task("tox21/x", np.arange(15), (np.arange(15) < 5).astype(np.int64), TaskKind.BINARY, 2)
    draws = 2000
    drawn = np.bincount(np.concatenate([MoleculeNet.draw(task, 4, seed)[0] for seed in range(draws)]), minlength=15)
    share = np.where(np.arange(15) < 5, 2 / 5, 2 / 10)
    deviation = np.sqrt(draws * share * (1 - share))
    assert (np.abs(drawn - draws * share) < 4 * deviation).all()


def test_a_draw_that_cannot_be_made_is_refused_with_the_task_s_counts() -> None:
    task = Task("tox21/x", np.arange(9), (np.arange(9) < 3).astype(np.int64), TaskKind.BINARY, 2)
    with pytest.raises(SupportError, match="task tox21/x has 3 actives and 6 inactives: 3 shots need 4 of each"):
        MoleculeNet.draw(task, 6, 0)
    for size in (0, 1, 3, -2):
        with pytest.raises(SupportError, match=f"2, 4, 6, ... rows: not {size}"):
            MoleculeNet.draw(task, size, 0)


def test_validation_endpoints_are_the_first_fifth_of_the_published_training_ones_in_hash_order() -> None:
    for name, splits in published_splits().items():
        published = [*splits[Split.TRAIN], *splits[Split.VALID]]
        ordered = sorted(published, key=lambda endpoint: hashlib.sha256(f"{name}/{endpoint}".encode()).hexdigest())
        assert set(splits[Split.VALID]) == set(ordered[: max(2, len(ordered) // 5)])


@pytest.mark.data
def test_the_splits_are_the_published_ones() -> None:
    published = json.loads((data_dir() / "moleculenet" / "fewshot_splits.json").read_text())
    dropped = json.loads((datasets_dir() / "moleculenet" / "splits.json").read_text())["toxcast"]["dropped"]
    assert dropped == published["toxcast"]["dropped"]
    for name, splits in published_splits().items():
        assert list(splits[Split.TEST]) == published[name]["test"]
        assert sorted([*splits[Split.TRAIN], *splits[Split.VALID]]) == sorted(published[name]["train"])


@pytest.mark.data
def test_the_real_sider_has_27_endpoints_of_1427_molecules() -> None:
    made = MoleculeNet(MoleculeNetConfig(dataset="sider"), workers=1)
    tasks = [task for split in Split for task in made.tasks(split)]
    assert {len(task) for task in tasks} == {1427}
    assert len(tasks) == 27
    assert sum(int(task.labels.sum()) for task in tasks) == 21868


def test_preparing_builds_a_store_for_each_of_the_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moleculenet").mkdir()
    for name in NAMES:
        write(tmp_path / "moleculenet" / f"{name}.csv", endpoints(name))
    monkeypatch.setenv("MOLMETA_DATA", str(tmp_path))
    assert [len(store) for store in dataset("moleculenet").stores(1, None)] == [len(DRUGS)] * 4
