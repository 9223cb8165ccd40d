"""What the tests of several verbs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import tiny_bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    tiny_bundle(members=2).save(path)
    return path
