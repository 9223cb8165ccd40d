"""A run that is killed, for good, in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from molmeta.recipe import Recipe
from molmeta.training.state import load_tensors
from molmeta.training_run import run_training

STEPS = 120


def recipe(ema: float, pause: float) -> dict[str, object]:
    return {
        "method": {"name": "gp"},
        "backbone": {"name": "tests.toy:Net"},
        "source": {"name": "tests.toy:Source", "pause": pause, "tasks": 3},
        "episodes": {"support_sizes": [4, 8], "query_size": 8},
        "training": {"steps": STEPS, "tasks_per_step": 2, "eval_every": 12, "ema": ema, "regression": 0.3, "lr": 0.01},
        "validation": {"support_sizes": [6], "seeds": 1, "heldout_tasks": 2},
    }


def start(folder: Path, ema: float, pause: float) -> subprocess.Popen[bytes]:
    code = (
        "import json, sys; from pathlib import Path; from molmeta.recipe import Recipe;"
        "from molmeta.training_run import run_training;"
        "run_training(Recipe.of(json.loads(sys.argv[2])), Path(sys.argv[1]), device='cpu', threads=1)"
    )
    return subprocess.Popen([sys.executable, "-c", code, str(folder), json.dumps(recipe(ema, pause))])


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        if path.exists():
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    pytest.fail(f"{path} did not appear in 30 seconds")


@pytest.mark.parametrize("ema", [0.0, 0.95])
def test_killed_at_a_random_moment_and_run_again_it_equals_the_uninterrupted_run_bit_for_bit(
    ema: float, tmp_path: Path
) -> None:
    # The pause makes the run last long enough to be killed; it is a setting, so both runs have it.
    pause = 0.005
    run_training(Recipe.of(recipe(ema, pause)), tmp_path / "whole", device="cpu", threads=1)
    killed = start(tmp_path / "parts", ema, pause)
    wait_for(tmp_path / "parts" / "state.safetensors", killed)
    time.sleep(np.random.default_rng().uniform(0, 0.4))
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    _, header = load_tensors(tmp_path / "parts" / "state.safetensors")
    assert 0 < header["step"] < STEPS
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    run_training(Recipe.of(recipe(ema, pause)), tmp_path / "parts", device="cpu", threads=1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for name in ("model.safetensors", "history.jsonl", "config.toml"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes(), name
    states = [load_tensors(folder / "state.safetensors")[0] for folder in (whole, parts)]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    assert not list(parts.glob("*.partial"))
    assert not list(parts.glob(".*.partial"))
