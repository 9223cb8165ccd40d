from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from sklearn.model_selection import StratifiedShuffleSplit

from molmeta.core.task import Split, Task, TaskKind
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig, _is_regression_task, fsmol_draw, heldout_tasks
from molmeta.domains.molecules.fsmol_files import FSMolRows, read_task_file, write_folder
from molmeta.domains.molecules.fsmol_targets import read_targets
from molmeta.errors import DataError, InputError, SupportError
from tests.bundles import DRUGS

SMILES = [*DRUGS[:5], "C1CC", *DRUGS[5:]]  # the sixth is refused
HELDOUT, EXCLUDED = heldout_tasks().heldout[0], heldout_tasks().excluded[0]


def rows(values: list[float] | None = None, percent: bool = False) -> FSMolRows:
    n = len(SMILES)
    raw = np.array(values or [10.0 ** (i % 5 + 1) for i in range(n)])
    log = np.full(n, np.nan) if percent else 9 - np.log10(np.where(raw > 0, raw, 1))
    return FSMolRows(SMILES, np.arange(n) % 2 * 1.0, raw, log, ["="] * (n - 1) + [">"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train = {"CHEMBL1": rows(), "CHEMBL2": rows(percent=True), HELDOUT: rows(), EXCLUDED: rows()}
    write_folder(tmp_path / "fs-mol", {"train": train, "valid": {"CHEMBL3": rows()}})
    return tmp_path / "fs-mol"


def source(folder: Path, **settings: object) -> FSMol:
    config = FSMolConfig(**{"root": str(folder), "on_invalid": "drop", **settings})  # type: ignore[arg-type]
    return FSMol(config, workers=1)


def names(tasks: object) -> list[str]:
    return [task.name for task in tasks]  # type: ignore[attr-defined]


def test_each_fold_has_its_tasks_and_held_out_tasks_leave_train(folder: Path) -> None:
    made = source(folder)
    assert names(made.tasks(Split.TRAIN)) == ["CHEMBL1", "CHEMBL2"]
    assert names(made.tasks(Split.HELDOUT)) == [HELDOUT]
    assert names(made.tasks(Split.VALID)) == ["CHEMBL3"]
    assert names(made.tasks(Split.TEST)) == []


def test_without_holding_out_every_train_task_trains(folder: Path) -> None:
    made = source(folder, hold_out=False)
    assert set(names(made.tasks(Split.TRAIN))) == {"CHEMBL1", "CHEMBL2", HELDOUT, EXCLUDED}
    assert names(made.tasks(Split.HELDOUT)) == []


@pytest.mark.parametrize("kind", [TaskKind.BINARY, TaskKind.REGRESSION])
def test_a_refused_molecule_is_left_out_and_every_other_row_keeps_its_label(kind: TaskKind, folder: Path) -> None:
    made, written = source(folder), rows()
    task = made.tasks(Split.VALID, kind)[0]
    kept = [i for i, text in enumerate(SMILES) if text != "C1CC"]
    text_of = {row: text for text, row in made.store.row_of.items()}
    assert [text_of[row] for row in task.rows.tolist()] == [SMILES[i] for i in kept]
    expected = written.labels if kind is TaskKind.BINARY else written.log_values
    assert task.labels.tolist() == [expected[i] for i in kept]
    assert task.columns["value"].tolist() == [written.values[i] for i in kept]
    assert task.columns["relation"].tolist() == [written.relations[i] for i in kept]
    assert (task.kind, task.num_classes) == (kind, 2 if kind is TaskKind.BINARY else 0)


def test_molecules_that_cannot_be_used_are_refused_by_file_and_row_unless_they_may_be_dropped(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        source(folder, on_invalid="raise")
    message = str(caught.value)
    assert message.startswith(f"5 of 65 rows in {folder} cannot be used.\n")
    for name in ("train/CHEMBL1", "train/CHEMBL2", f"train/{HELDOUT}", f"train/{EXCLUDED}", "valid/CHEMBL3"):
        assert f"  {name} row 6: 'C1CC' ring opened but never closed" in message
    assert message.endswith("--set source.on_invalid=drop")


def test_gathering_a_task_s_rows_equals_featurising_its_molecules(folder: Path) -> None:
    made = source(folder)
    batch = made.gather(made.tasks(Split.VALID)[0].rows[::-1])
    alone = featurise([text for text in SMILES if text != "C1CC"][::-1]).arrays
    np.testing.assert_array_equal(batch.atoms.numpy(), alone.atoms)
    np.testing.assert_array_equal(batch.bins.numpy(), alone.bins)


def test_a_task_s_rows_give_back_its_texts_and_equal_hashes_for_equal_structures(tmp_path: Path) -> None:
    texts = ["OCC", "CCO", "C[C@H](N)O", "C[C@@H](N)O", "CC(N)O", "CCO"]
    labels = np.arange(6) % 2 * 1.0
    write_folder(tmp_path / "own", {"valid": {"A": FSMolRows(texts, labels, labels, labels, ["="] * 6)}})
    made = source(tmp_path / "own")
    task = made.tasks(Split.VALID)[0]
    assert made.smiles(task.rows) == texts
    found, canonical = made.structures(task.rows), [Chem.CanonSmiles(text) for text in texts]
    assert found.dtype == np.uint64
    same = [[left == right for left in canonical] for right in canonical]
    assert (found[:, None] == found).tolist() == same


HEADER = (
    "chembl_id,target_id,confidence,component_synonym,pref_name,EC_super_class,EC_super_class_name,protein_family,"
    "protein_class_desc,EC_name"
)


def test_a_task_s_description_is_its_protein_and_assay_type_as_far_as_the_folder_tells(tmp_path: Path) -> None:
    root, labels = tmp_path / "fs-mol", np.zeros(2)
    told = FSMolRows(["C", "CC"], labels, labels, labels, ["=", "="], ["B", "B"])
    untold = FSMolRows(["C", "CC"], labels, labels, labels, ["=", "="])
    write_folder(root, {"valid": {"CHEMBL1": told, "CHEMBL2": untold, "CHEMBL3": untold}, "test": {"CHEMBL1X": told}})
    (root / "targets").mkdir()
    (root / "targets" / "valid_proteins.csv").write_text(
        f"{HEADER}\nCHEMBL1,17,9,2.7.11.1,A kinase,2,transferase,kinase_x,enzyme  kinase,EC kinase\n"
        """CHEMBL2,18,9,"('1.1.1.1', '3.-')","('Red', ""3'-Pase"", 'Red')","('1', '3')",,,,\n"""
    )
    with gzip.open(root / "targets" / "target_info.csv.gz", "wt") as info:
        info.write("chembl_id,assay_organism,num_pos\nCHEMBL1,Mus musculus,12\nCHEMBL2,,3\nCHEMBL1X,Homo sapiens,4\n")
    described = {task.name: dict(task.description) for task in source(root).tasks(Split.VALID)}
    assert described == {
        "CHEMBL1": {
            "target": "A kinase",
            "target_id": "17",
            "ec_number": "2.7.11.1",
            "ec_super_class": "2",
            "ec_super_class_name": "transferase",
            "protein_family": "kinase_x",
            "protein_class": "enzyme  kinase",
            "ec_name": "EC kinase",
            "organism": "Mus musculus",
            "assay_type": "B",
        },
        "CHEMBL2": {
            "target": "Red; 3'-Pase",
            "target_id": "18",
            "ec_number": "1.1.1.1; 3.-",
            "ec_super_class": "1; 3",
        },
        "CHEMBL3": {},
    }
    assert dict(source(root).tasks(Split.TEST)[0].description) == {"assay_type": "B"}


def test_a_draw_of_no_support_asks_for_every_row_and_describes_each_class_alike(folder: Path) -> None:
    made = source(folder)
    task = made.tasks(Split.VALID)[0]
    support, query = made.draw(task, 0, 3)
    assert len(support) == 0
    assert query.tolist() == list(range(len(task)))
    told = replace(task, description={"target": "kinase"})
    assert made.describe(told, np.arange(2)).sum(1).tolist() == [1, 1]
    assert not source(folder, describe=False).describe(told, np.arange(2)).any()


def test_a_file_of_proteins_without_assays_is_refused_by_name(folder: Path) -> None:
    (folder / "targets").mkdir()
    (folder / "targets" / "valid_proteins.csv").write_text("name,target\nA,b\n")
    with pytest.raises(DataError, match=r"valid_proteins\.csv has no column chembl_id"):
        source(folder).tasks(Split.VALID)


@pytest.mark.data
def test_every_valid_assay_is_of_an_enzyme_and_no_train_assay_shares_its_target(fsmol: Path) -> None:
    train, valid = read_targets(fsmol, "train"), read_targets(fsmol, "valid")
    assert (len(train), len(valid)) == (4938, 40)
    assert sum("target" not in known for known in train.values()) == 1898
    assert Counter(known["ec_super_class"] for known in valid.values()) == {"2": 25, "3": 10, "1": 3, "4": 1, "7": 1}
    targets = [{known["target_id"] for known in fold.values()} for fold in (train, valid)]
    assert not targets[0] & targets[1]


def test_similarity_to_train_is_that_of_rdkit_s_nearest_training_molecule_without_held_out_ones(tmp_path: Path) -> None:
    def assay(texts: list[str]) -> FSMolRows:
        labels = np.arange(len(texts)) % 2 * 1.0
        return FSMolRows(texts, labels, labels, labels, ["="] * len(texts))

    train = {"A": assay(DRUGS[:3]), "B": assay(DRUGS[2:6]), HELDOUT: assay(DRUGS[6:9])}
    valid = {"C": assay(DRUGS[4:11]), "D": assay([DRUGS[7], DRUGS[0], DRUGS[7]])}
    write_folder(tmp_path / "fs-mol", {"train": train, "valid": valid})
    made = source(tmp_path / "fs-mol")
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = {text: generator.GetCountFingerprint(Chem.MolFromSmiles(text)) for text in DRUGS}
    for split in (Split.TRAIN, Split.HELDOUT, Split.VALID):
        for task in made.tasks(split):
            nearest = [
                max(DataStructs.TanimotoSimilarity(prints[text], prints[other]) for other in DRUGS[:6])
                for text in made.smiles(task.rows)
            ]
            found = made.similarity_to_train(task)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, nearest, atol=1e-6)
    joined = Task("own", np.arange(len(made.store)), np.zeros(len(made.store)), TaskKind.REGRESSION, 0)
    assert np.isfinite(source(tmp_path / "fs-mol").similarity_to_train(joined)).all()


def test_without_training_tasks_no_similarity_is_known(tmp_path: Path) -> None:
    write_folder(tmp_path / "own", {"valid": {"A": rows()}})
    made = source(tmp_path / "own")
    assert np.isnan(made.similarity_to_train(made.tasks(Split.VALID)[0])).all()


def test_percent_assays_are_no_regression_tasks_and_there_are_no_multiclass_ones(folder: Path) -> None:
    made = source(folder)
    assert names(made.tasks(Split.TRAIN, TaskKind.REGRESSION)) == ["CHEMBL1"]
    assert list(made.tasks(Split.TRAIN, TaskKind.MULTICLASS)) == []


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([50.0] * 13, False),  # all in [0, 100]: taken for percentages
        ([50.0] * 12 + [101.0], True),
        ([500.0] * 12 + [0.0], False),
        ([500.0] * 12 + [-1.0], False),
        ([500.0] * 12 + [float("inf")], False),
        ([500.0] * 12 + [float("nan")], False),
    ],
)
def test_adkf_ift_s_rule_looks_at_the_raw_values(values: list[float], kept: bool) -> None:
    assert _is_regression_task(rows(values), "adkf") is kept


def test_a_folder_without_folds_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"no train, valid or test folder in {tmp_path}\. Set MOLMETA_DATA"):
        source(tmp_path)


def test_a_binary_draw_is_stratified_and_leaves_every_other_row_to_the_query(folder: Path) -> None:
    made = source(folder)
    task = made.tasks(Split.VALID)[0]
    for seed in range(5):
        support, query = made.draw(task, 4, seed)
        assert sorted([*support, *query]) == list(range(len(task)))
        assert task.labels[support].tolist().count(1) == 2
    values = made.tasks(Split.VALID, TaskKind.REGRESSION)[0]
    support, query = made.draw(values, 4, 0)
    assert len(support) == 4
    assert sorted([*support, *query]) == list(range(len(values)))


def scikit_learn_s(labels: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Its stratified split of the rows, actives first; None where it refuses."""
    ordered = np.concatenate([np.flatnonzero(labels), np.flatnonzero(labels == 0)])
    splitter = StratifiedShuffleSplit(n_splits=1, train_size=n, test_size=len(labels) - n, random_state=seed)
    try:
        support, query = next(splitter.split(ordered, 1 - labels[ordered]))
    except ValueError:
        return None
    return ordered[support], ordered[query]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.5, 0.97, 1.0])
def test_a_draw_equals_scikit_learn_s_on_actives_first_and_is_refused_where_that_is(share: float) -> None:
    rng, refused = np.random.default_rng(int(100 * share)), 0
    for _ in range(120):
        length = int(rng.integers(3, 12 if rng.random() < 0.5 else 300))
        labels = (rng.random(length) < share).astype(np.int64)
        n, seed = int(rng.integers(-1, length - 1)), int(rng.integers(2**32))
        task, expected = Task("t", np.arange(length), labels, TaskKind.BINARY, 2), scikit_learn_s(labels, n, seed)
        if expected is None:
            refused += 1
            with pytest.raises(SupportError, match="no stratified support"):
                fsmol_draw(task, n, seed)
        else:
            assert [p.tolist() for p in fsmol_draw(task, n, seed)] == [p.tolist() for p in expected]
    assert 0 < refused < 100


@pytest.mark.parametrize(
    ("labels", "n", "message"),
    [
        ([0, 1] * 4, 7, "leaves fewer than 2"),
        ([0] * 9 + [1], 4, "no stratified support of 4"),
        ([0, 1] * 4, 1, "no str"),
    ],
)
def test_what_fs_mol_s_sampler_refuses_is_refused_with_the_task_s_name(labels: list[int], n: int, message: str) -> None:
    task = Task("CHEMBL7", np.arange(len(labels)), np.array(labels), TaskKind.BINARY, 2)
    with pytest.raises(SupportError, match=f"task CHEMBL7 has .*{message}"):
        fsmol_draw(task, n, 0)


def digest(draw: tuple[np.ndarray, np.ndarray]) -> str:
    text = "|".join(",".join(map(str, positions.tolist())) for positions in draw)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.data
def test_every_draw_on_valid_is_the_one_that_fs_mol_s_own_sampler_made(fsmol: Path) -> None:
    golden = json.loads((fsmol / "golden_splits_valid.json").read_text())
    checked = Counter[bool]()
    for name, sizes in golden.items():
        read = read_task_file(fsmol / "valid" / f"{name}.jsonl.gz")
        task = Task(name, np.arange(len(read)), read.labels.astype(np.int64), TaskKind.BINARY, 2)
        for size, expected in sizes.items():
            for seed, wanted in enumerate(expected):
                try:
                    found = digest(fsmol_draw(task, int(size), seed))
                except SupportError:
                    found = None
                assert found == wanted, f"{name}, support {size}, seed {seed}"
                checked[wanted is None] += 1
    assert len(golden) == 39
    assert checked[False] > 1000
    assert checked[True] > 0


@pytest.mark.data
def test_23_valid_tasks_are_regression_tasks_as_adkf_ift_counts_them(fsmol: Path) -> None:
    files = sorted((fsmol / "valid").glob("*.jsonl.gz"))
    assert len(files) == 39
    assert sum(_is_regression_task(read_task_file(f), "adkf") for f in files) == 23


@pytest.fixture(scope="module")
def structures(fsmol: Path) -> dict[str, set[str]]:
    """The SMILES of every train task."""
    found = {}
    for path in (fsmol / "train").glob("*.jsonl.gz"):
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        found[path.name.removesuffix(".jsonl.gz")] = {json.loads(line)["SMILES"] for line in lines}
    return found


@pytest.mark.data
def test_held_out_tasks_are_150_or_more_and_share_less_than_a_third_of_their_molecules_with_any_training_task(
    structures: dict[str, set[str]],
) -> None:
    held = heldout_tasks()
    assert len(held.heldout) >= 150
    assert set(held.heldout) | set(held.excluded) <= set(structures)
    assert not set(held.heldout) & set(held.excluded)
    training = set(structures) - set(held.heldout) - set(held.excluded)
    tasks_of = defaultdict(set)
    for name in training:
        for text in structures[name]:
            tasks_of[text].add(name)
    for name in held.heldout:
        shared = Counter(other for text in structures[name] for other in tasks_of.get(text, ()))
        for other, count in shared.items():
            assert 3 * count < min(len(structures[name]), len(structures[other])), f"{name} and {other}"


@pytest.mark.data
def test_held_out_tasks_share_no_target_with_a_training_task(fsmol: Path) -> None:
    held = heldout_tasks()
    with gzip.open(fsmol / "targets" / "target_info.csv.gz", "rt") as lines:
        target = {row["chembl_id"]: row["target_id"] for row in csv.DictReader(lines)}
    files = {path.name.removesuffix(".jsonl.gz") for path in (fsmol / "train").glob("*.jsonl.gz")}
    training = {target[name] for name in files - set(held.heldout) - set(held.excluded) if name in target}
    assert len(training) > 500
    assert not {target[name] for name in held.heldout if name in target} & training
