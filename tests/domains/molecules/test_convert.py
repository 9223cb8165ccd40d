"""A person's own assays become a folder that trains, or are refused by row."""

from pathlib import Path

import pytest

from molmeta.core.task import Split
from molmeta.domains.molecules.convert import convert
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
from molmeta.errors import ConfigError, InputError
from tests.assays import MOLECULES, own_assays


def test_every_assay_lands_in_one_fold_with_its_labels(tmp_path: Path) -> None:
    folds = convert(str(own_assays(tmp_path / "own.csv")), tmp_path / "own", shares=(0.6, 0.2, 0.2))
    source = FSMol(FSMolConfig(root=str(tmp_path / "own"), hold_out=False))
    found = {task.name: task for split in (Split.TRAIN, Split.VALID, Split.TEST) for task in source.tasks(split)}
    assert sorted(found) == sorted(assay.name for fold in folds.values() for assay in fold)
    assert [len(folds[fold]) for fold in ("train", "valid", "test")] == [4, 2, 1]
    chlorine = dict(zip(MOLECULES, found["has_0"].labels, strict=True))
    assert chlorine["CCc1ccc(Cl)cc1"] == 1
    assert chlorine["CCc1ccc(F)cc1"] == 0


def test_a_molecule_that_cannot_be_read_is_refused_by_row(tmp_path: Path) -> None:
    table = own_assays(tmp_path / "own.csv")
    table.write_text(table.read_text().replace("Cc1ccc(O)cc1,", "Cc1ccc(O)cc,", 1))
    with pytest.raises(InputError, match=r"(?s)1 of 48 molecules.*\b2\b.*never closed"):
        convert(str(table), tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_an_own_folder_with_a_bad_molecule_is_refused_or_drops_it_on_request(tmp_path: Path) -> None:
    convert(str(own_assays(tmp_path / "own.csv")), tmp_path / "own", shares=(1.0, 0.0, 0.0))
    import gzip

    bad = tmp_path / "own" / "train" / "long.jsonl.gz"
    text = gzip.decompress(bad.read_bytes()).decode().replace('"Cc1ccc(Cl)cc1"', '"Cc1ccc(Cl)cc"')
    bad.write_bytes(gzip.compress(text.encode()))
    settings = {"root": str(tmp_path / "own"), "hold_out": False}
    with pytest.raises(InputError, match=r"train/long row 1"):
        FSMol(FSMolConfig(**settings))
    dropped = FSMol(FSMolConfig(**settings, on_invalid="drop"))
    assert {len(task) for task in dropped.tasks(Split.TRAIN)} == {47, 48}


def test_shares_that_do_not_sum_to_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        convert(str(own_assays(tmp_path / "own.csv")), tmp_path / "own", shares=(0.9, 0.2, 0.0))
