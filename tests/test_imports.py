"""What is loaded, and when: the package and its help are light."""

from __future__ import annotations

import subprocess
import sys

import pytest

import molmeta

HEAVY = ("torch", "rdkit", "pandas", "sklearn", "scipy", "numpy")


@pytest.mark.parametrize("code", ["import molmeta", "from molmeta.cli import main; assert main(['--help']) == 0"])
def test_the_package_and_its_help_load_nothing_heavy(code):
    check = f"import sys; {code}; print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_every_public_name_is_there():
    assert all(getattr(molmeta, name) is not None for name in molmeta.__all__)
    assert set(molmeta.__all__) <= set(dir(molmeta))
    with pytest.raises(AttributeError, match="no attribute 'FewShot'"):
        molmeta.FewShot  # noqa: B018
