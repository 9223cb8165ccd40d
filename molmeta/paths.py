"""Where things stand on disk: originals under ``MOLMETA_DATA``, caches under ``MOLMETA_CACHE``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs


def data_dir() -> Path:
    """The folder of data sets: ``MOLMETA_DATA``, or the platform's data folder. Only ``data fetch`` writes there."""
    return Path(os.environ.get("MOLMETA_DATA") or platformdirs.user_data_path("molmeta"))


def cache_dir() -> Path:
    """The folder of what can be built again: ``MOLMETA_CACHE``, or the platform's cache folder."""
    return Path(os.environ.get("MOLMETA_CACHE") or platformdirs.user_cache_path("molmeta"))


def datasets_dir() -> Path:
    """The data set cards, task lists and the demo assay that come with the package (checkout, editable or wheel)."""
    installed = Path(__file__).parent / "_datasets"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "datasets"


def import_from_here() -> None:
    """Let modules beside which a command is typed be imported: a network or a task source of one's own."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
