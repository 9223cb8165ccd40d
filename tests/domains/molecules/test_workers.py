"""Featurising a stream: in order, once a distinct molecule, and with workers that end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np

from molmeta.domains.molecules import workers
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.workers import featurise_distinct, featurise_stream
from tests.bundles import DRUGS


def test_several_processes_give_what_one_gives():
    chunks = [DRUGS[:5], ["C1CC", *DRUGS[5:7]], [], DRUGS[7:], ["CCO"]]
    alone = list(featurise_stream(chunks, list, 1))
    together = list(featurise_stream(chunks, list, 2))
    assert [chunk for chunk, _ in together] == chunks
    for (_, a), (_, b) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.arrays.bins, b.arrays.bins)
        assert a.reasons == b.reasons


def test_a_repeated_molecule_is_featurised_once_and_stands_in_every_row(monkeypatch):
    seen = []
    monkeypatch.setattr(workers, "featurise", lambda smiles, *_: seen.extend(smiles) or featurise(smiles))
    rows = ["CCO", "C1CC", "CCN", "CCO", "C1CC", "CCO"]
    got, expected = featurise_distinct(rows), featurise(rows)
    assert seen == ["CCO", "C1CC", "CCN"]
    for name in ("atoms", "bonds", "bins", "counts", "bin_offsets"):
        np.testing.assert_array_equal(getattr(got.arrays, name), getattr(expected.arrays, name))
    assert (got.reasons, got.canonical) == (expected.reasons, expected.canonical)


def test_a_stream_is_read_only_a_little_ahead():
    read = []
    stream = featurise_stream((read.append(i) or [DRUGS[i % 12]] for i in range(1000)), list, 1)
    next(stream)
    assert len(read) < 10


_PARENT = """
import sys
from molmeta.domains.molecules.workers import featurise_stream
def chunks():
    while True:
        yield ["CCO"]
if __name__ == "__main__":
    from multiprocessing import active_children
    for i, _ in enumerate(featurise_stream(chunks(), list, 2)):
        if i == 3:
            print(*(child.pid for child in active_children()), flush=True)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=env) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert pids
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
