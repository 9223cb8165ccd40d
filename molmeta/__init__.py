"""molmeta: predict properties of new molecules from a few labelled ones.

    from molmeta import FewShotClassifier
    model = FewShotClassifier().fit(smiles, y)
    model.predict_proba(others)

Public names are loaded when they are first used: ``import molmeta`` loads neither torch nor RDKit.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from molmeta.errors import (
    ConfigError,
    DataError,
    DeviceError,
    InputError,
    ModelFileError,
    MolmetaError,
    SupportError,
)

if TYPE_CHECKING:
    from molmeta.bundle import Bundle
    from molmeta.estimators import FewShotClassifier, FewShotRegressor
    from molmeta.scoring import evaluate

    __version__: str

_LAZY = {
    "Bundle": "bundle",
    "FewShotClassifier": "estimators",
    "FewShotRegressor": "estimators",
    "evaluate": "scoring",
}

__all__ = [
    "Bundle",
    "ConfigError",
    "DataError",
    "DeviceError",
    "FewShotClassifier",
    "FewShotRegressor",
    "InputError",
    "ModelFileError",
    "MolmetaError",
    "SupportError",
    "evaluate",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("molmeta")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"molmeta.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, "__version__"])
