"""The examples run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs_as_it_stands(script: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "MOLMETA_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_code_in_the_documentation_of_the_core_runs() -> None:
    text = (EXAMPLES.parent / "docs" / "core.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0].replace("range(1000)", "range(2)")
    given = {
        "images": torch.rand(120, 1, 28, 28),
        "classes": np.repeat(np.arange(6), 20),
        "k": 6,
        "new_images": torch.rand(5, 1, 28, 28),
        "new_labels": torch.arange(5),
        "other_images": torch.rand(7, 1, 28, 28),
    }
    exec(code, given)
    assert given["probabilities"].shape == (7, 5)
