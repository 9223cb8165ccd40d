"""Predicting a library, from a CSV of SMILES to a CSV of predictions, beside a random forest on the same rows.

    pytest tests/speed/test_library.py

One process: with more, both divide the same work. MOLMETA_SPEED_TASKS=n takes 10 n molecules. The floor is RDKit's
parse and count fingerprint. Nothing here is asserted about time.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator
from sklearn.ensemble import RandomForestClassifier

from molmeta.core.task import Split
from molmeta.domains.molecules.fsmol import FSMol
from molmeta.predicting.library import predict_library
from molmeta.predicting.request import PredictRequest
from tests.speed.conftest import Row
from tests.speed.test_data import CACHE

MOLECULES = 10 * int(os.environ.get("MOLMETA_SPEED_TASKS", "300"))
GENERATOR = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
pytestmark = pytest.mark.data


@pytest.fixture
def tables(fsmol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A support of 64 and a library, both of FS-Mol's valid compounds."""
    if CACHE:
        monkeypatch.setenv("MOLMETA_CACHE", CACHE)
    source = FSMol()
    tasks = source.tasks(Split.VALID)
    rows = np.unique(np.concatenate([task.rows for task in tasks]))
    library = [s for s in source.smiles(np.random.default_rng(0).permutation(rows)) if Chem.MolFromSmiles(s)]
    library = (library * (MOLECULES // len(library) + 1))[:MOLECULES]
    support, _ = source.draw(tasks[0], 64, 0)
    labelled = zip(source.smiles(tasks[0].rows[support]), tasks[0].labels[support].tolist(), strict=True)
    (tmp_path / "support.csv").write_text("smiles,active\n" + "\n".join(f"{s},{y}" for s, y in labelled))
    (tmp_path / "library.csv").write_text("smiles\n" + "\n".join(library))
    return tmp_path / "support.csv", tmp_path / "library.csv"


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def fingerprints(smiles: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.uint32]]:
    return np.stack([GENERATOR.GetCountFingerprintAsNumPy(Chem.MolFromSmiles(s)) for s in smiles])


def forest(support: Path, library: Path, out: Path) -> None:
    """What a practitioner writes."""
    known, unknown = read(support), read(library)
    model = RandomForestClassifier(100, random_state=0, n_jobs=1)
    model.fit(fingerprints([row["smiles"] for row in known]), [int(row["active"]) for row in known])
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["smiles", "probability"])
        for i in range(0, len(unknown), 2048):
            smiles = [row["smiles"] for row in unknown[i : i + 2048]]
            probability = model.predict_proba(fingerprints(smiles))[:, 1]
            writer.writerows(zip(smiles, probability.tolist(), strict=True))


@pytest.fixture(params=["default", "best"])
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ours(model: str, tables: tuple[Path, Path], tmp_path: Path) -> Callable[[], None]:
    @contextmanager
    def counting(*_: object) -> Iterator[Callable[[int], None]]:
        yield lambda _: None

    def run() -> None:
        support, library = map(str, tables)
        out = tmp_path / "ours.csv"
        request = PredictRequest(support=support, query=library, out=out, force=True, workers=1, model=model)
        predict_library(request, lambda _: None, counting)

    return run


def test_a_library(model: str, tables: tuple[Path, Path], ours: Callable[[], None], tmp_path: Path, row: Row) -> None:
    library = [line["smiles"] for line in read(tables[1])]
    with rdBase.BlockLogs():
        row(
            f"predict a library of {len(library):,} with {model}, a molecule",
            floor=lambda: fingerprints(library),
            molmeta=ours,
            peer=lambda: forest(*tables, tmp_path / "forest.csv"),
            per=len(library),
            repeats=3,
        )
    assert len(read(tmp_path / "ours.csv")) == len(read(tmp_path / "forest.csv")) == len(library)
