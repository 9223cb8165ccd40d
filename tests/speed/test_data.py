"""From files to a meta-batch: featurising, opening FS-Mol, assembling, each beside its floor and a peer.

    MOLMETA_DATA=... MOLMETA_CACHE=... pytest tests/speed/test_data.py

With the cache of earlier runs, FS-Mol's store is there; else its molecules are featurised first, some minutes of work.
MOLMETA_SPEED_TASKS=n takes the first n train tasks alone. The peer is torch_geometric: ``from_smiles`` with RDKit's
fingerprint, and ``Batch.from_data_list`` of prepared ``Data``. Nothing here is asserted about time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator
from torch_geometric.data import Batch, Data
from torch_geometric.utils import from_smiles

from molmeta.core.episode import Episode, collate
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
from molmeta.training.batches import EpisodeConfig, MetaBatches
from tests.speed.conftest import Row

CACHE = os.environ.get("MOLMETA_CACHE")  # as it was before the tests got one of their own
TASKS = int(os.environ.get("MOLMETA_SPEED_TASKS", "0"))
MOLECULES, STEPS = 300, 8
pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def root(fsmol: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FS-Mol's folder, or one with links to a few of its train tasks."""
    if not TASKS:
        return fsmol
    some = tmp_path_factory.mktemp("fs-mol")
    (some / "train").mkdir()
    for file in sorted((fsmol / "train").glob("*.jsonl.gz"))[:TASKS]:
        (some / "train" / file.name).symlink_to(file)
    return some


@pytest.fixture(scope="module")
def source(root: Path) -> Iterator[FSMol]:
    with pytest.MonkeyPatch.context() as patch:
        if CACHE and not TASKS:
            patch.setenv("MOLMETA_CACHE", CACHE)
        yield FSMol(FSMolConfig(root=str(root), hold_out=not TASKS))


@pytest.fixture(scope="module")
def batches(source: FSMol) -> MetaBatches:
    config = EpisodeConfig(support_sizes=(16,), query_size=32)
    return MetaBatches(source, config, tasks_per_step=16)


LARGE = {
    "200 atoms": "CC(C)c1ccc(N)cc1" + "C(F)(O)NC(=O)" * 31 + "C",
    "charged": "[O-]C(=O)[C@@H]([NH3+])CC(=O)N/C=C/[N+](C)(C)CP([O-])([O-])=O.[Na+].[Na+]",
}
GENERATOR = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)


@pytest.fixture(params=["FS-Mol", *LARGE])
def texts(request: pytest.FixtureRequest, source: FSMol) -> tuple[str, list[str]]:
    name = request.param
    if name != "FS-Mol":
        return name, [LARGE[name]] * (MOLECULES // 10)
    rows = np.random.default_rng(0).permutation(len(source.store))[:MOLECULES]
    return name, [text for text in source.smiles(rows) if Chem.MolFromSmiles(text) is not None]


@pytest.mark.parametrize("canonical", [False, True])
def test_featurising(row: Row, texts: tuple[str, list[str]], canonical: bool) -> None:
    name, smiles = texts

    def floor() -> None:
        for text in smiles:
            GENERATOR.GetCountFingerprint(Chem.MolFromSmiles(text))

    def peer() -> None:
        for text in smiles:
            from_smiles(text)
            GENERATOR.GetCountFingerprint(Chem.MolFromSmiles(text))

    with rdBase.BlockLogs():
        work = f"featurise a molecule: {name}{' (and its canonical SMILES)' if canonical else ''}"
        row(work, floor, lambda: featurise(smiles, canonical), peer, per=len(smiles))


_FLOOR = """
for file in files:
    os.stat(file)
np.load(table)["molecules"], (table.parent / "smiles.txt").read_bytes()
"""
_OURS = """
source = FSMol(FSMolConfig(root=sys.argv[1], hold_out=False))
tasks = source.tasks(Split.TRAIN)
"""
_PEER = """
parsed = {}
for file in files:
    with gzip.open(file) as lines:
        parsed[file.name] = [json.loads(line) for line in lines]
"""
_CHILD = """
import gzip, json, os, sys, time
from pathlib import Path
import numpy as np
if sys.argv[2] == "molmeta":
    from molmeta.core.task import Split
    from molmeta.domains.molecules.fsmol import FSMol, FSMolConfig
def resident():
    return int(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1]) / 1024
before = resident()
if sys.argv[2] != "molmeta":
    files = sorted(Path(sys.argv[1]).glob("train/*.jsonl.gz"))
    table = max(Path(os.environ["MOLMETA_CACHE"]).glob("stores/*/tasks-*.npz"), key=os.path.getmtime)
start = time.process_time()
{work}
print(json.dumps([time.process_time() - start, before, resident()]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads resident memory from /proc")
def test_opening(row: Row, root: Path, source: FSMol, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a process of its own; memory is what the process holds, imports included."""
    if CACHE and not TASKS:
        monkeypatch.setenv("MOLMETA_CACHE", CACHE)
    works = {"floor": _FLOOR, "molmeta": _OURS, "peer": _PEER}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    memory = {}
    for _ in range(1 if row.benchmark.disabled else 5):
        for name, work in works.items():
            command = [sys.executable, "-c", _CHILD.replace("{work}", work), str(root), name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            took, before, after = json.loads(done.stdout.splitlines()[-1])
            seconds[name].append(took)
            memory[name] = f"{after:.0f} MB resident, {before:.0f} of it imports"
    found = {name: statistics.median(times) for name, times in seconds.items()}
    count = len(list((root / "train").glob("*.jsonl.gz")))
    row.keep(f"open FS-Mol train, {count:,} tasks ({memory['molmeta']}; peer: {memory['peer']})", found)
    row.benchmark.pedantic(lambda: FSMol(source.config), rounds=1)


def prepared(source: FSMol, rows: np.ndarray) -> dict[int, Data]:
    """The same features as torch_geometric holds them, a ``Data`` a molecule."""
    found = {}
    for r in np.unique(rows).tolist():
        one = source.gather(np.array([r]))
        found[r] = Data(
            x=one.atoms,
            edge_index=one.edge_index(),
            edge_attr=torch.cat([one.bond_features] * 2),
            bins=one.bins,
            counts=one.counts,
        )
    return found


def positions(episodes: list[Episode]) -> list[int]:
    return np.concatenate([e.task.rows[p] for e in episodes for p in (e.support, e.query)]).tolist()


@pytest.mark.parametrize("sampling", [False, True])
def test_assembling(row: Row, source: FSMol, batches: MetaBatches, sampling: bool) -> None:
    """16 tasks x (16 + 32) molecules, fewer of small tasks; the peer is given the rows. The floor copies the bytes."""
    steps = range(1 if row.benchmark.disabled else STEPS)
    drawn = [batches.episodes(step) for step in steps]
    rows = [positions(episodes) for episodes in drawn]
    data = prepared(source, np.concatenate(rows))
    tensors = [list(vars(source.gather(np.array(each))).values()) for each in rows]

    def molmeta() -> None:
        for step, episodes in zip(steps, drawn, strict=True):
            batches(step) if sampling else collate(source, episodes)

    row(
        f"assemble a meta-batch of {len(rows[0])} molecules{', sampling included' if sampling else ''}",
        floor=lambda: [[t.clone() for t in each] for each in tensors],
        molmeta=molmeta,
        peer=lambda: [Batch.from_data_list([data[r] for r in each]) for each in rows],
        per=len(rows),
    )
