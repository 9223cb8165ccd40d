"""What every test shares: one torch thread, a cache of its own, and the marker of tests that read real data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from molmeta.paths import data_dir

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = "MOLMETA_DATA is not set" if "MOLMETA_DATA" not in os.environ else ""
    for item in items:
        if missing and item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that a test builds is found by another session, or by the person who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOLMETA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def float64() -> Iterator[None]:
    """Modules made in the test are of double precision, fingerprints included."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def fsmol() -> Path:
    """The real FS-Mol folder; for tests that are marked ``data``."""
    return data_dir() / "fs-mol"
