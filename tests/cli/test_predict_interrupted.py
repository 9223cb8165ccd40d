"""``molmeta predict``, interrupted: it goes on where it stopped, and from nothing else."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from molmeta.predicting import library
from tests.bundles import DRUGS
from tests.cli.conftest import table, write


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("molmeta.predicting.request.BLOCK_ROWS", 3)


def interrupt_after(monkeypatch, blocks: int, error: BaseException | None = None) -> list[int]:
    """Let ``predict_molecules`` fail after some blocks; returns how often it was called."""
    calls: list[int] = []
    real = library.predict_molecules

    def limited(models, molecules):
        calls.append(len(molecules))
        if len(calls) > blocks:
            raise error or KeyboardInterrupt
        return real(models, molecules)

    monkeypatch.setattr(library, "predict_molecules", limited)
    return calls


@pytest.mark.parametrize("out", ["out.csv", "out.tsv.gz"])
def test_an_interrupted_prediction_goes_on_where_it_stopped(folder, run, small_blocks, out):
    write("query.csv", "smiles", [(s,) for s in ["C1CC", *DRUGS]])
    arguments = ["--on-invalid", "drop", "-o"]
    assert run(*arguments, f"whole_{out}")[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2)
        code, _, err = run(*arguments, out)
    assert code == 130
    assert "Interrupted after row 6" in err
    assert not Path(out).exists()
    with Path(f"{out}.partial").open("ab") as partial:
        partial.write(b"half a row, torn by a kill")
    with pytest.MonkeyPatch.context() as patch:
        calls = interrupt_after(patch, 99)
        code, _, err = run(*arguments, out)
    assert code == 0
    assert "Going on after row 6" in err
    assert "1 of 13 molecules cannot be used" in err
    assert len(calls) == 3
    read = gzip.open if out.endswith("gz") else open
    with read(out) as a, read(f"whole_{out}") as b:
        assert a.read() == b.read()
    assert not [p.name for p in folder.iterdir() if "partial" in p.name or "progress" in p.name]


def test_another_command_does_not_go_on_from_it(folder, run, small_blocks, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2)
        run("-o", "out.csv")
    run("-o", "whole.csv", "--prior", "0.1")
    code, _, err = run("-o", "out.csv", "--prior", "0.1")
    assert code == 0
    assert "it is replaced" in err
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_a_changed_query_starts_over(folder, run, small_blocks):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2)
        run("-o", "out.csv")
    write("query.csv", "id,smiles,note", [(i, s, "changed") for i, s in enumerate(DRUGS)])
    code, _, err = run("-o", "out.csv")
    assert (code, len(table("out.csv"))) == (0, 12)
    assert "it is replaced" in err
    assert set(table("out.csv")["note"]) == {"changed"}


def test_a_full_disk_leaves_a_job_to_go_on_with(folder, run, small_blocks):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 1, OSError(28, "No space left on device"))
        code, _, err = run("-o", "out.csv")
    assert code == 2
    assert "No space left" in err
    assert not Path("out.csv").exists()
    assert "Going on after row 3" in run("-o", "out.csv")[2]


def test_a_query_that_is_damaged_half_way_leaves_nothing(folder, run, small_blocks):
    write("query.csv", "smiles,id", [*((s, 1) for s in DRUGS), ("CCO",)])
    code, _, err = run("-o", "out.csv")
    assert code == 2
    assert "row 13 has 1 field" in err
    assert sorted(p.name for p in folder.iterdir()) == ["query.csv", "support.csv"]


@pytest.mark.slow
def test_a_killed_prediction_goes_on(folder, model):
    molecules = [(f"{s}.{'C' * (i % 40 + 1)}",) for i in range(1500) for s in DRUGS]
    write("query.csv", "smiles", molecules)
    command = [sys.executable, "-c", "from molmeta.cli import main; raise SystemExit(main())", "predict"]
    command += ["--support", "support.csv", "--query", "query.csv", "--model", str(model), "-o", "out.csv"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as job:
        while not Path("out.csv.progress").exists() and job.poll() is None:
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)
    assert Path("out.csv.partial").exists()
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "Going on after row" in again.stderr
    assert table("out.csv")["smiles"].tolist() == [row[0] for row in molecules]
    assert table("out.csv")["active_molmeta_probability"].ne("").all()
