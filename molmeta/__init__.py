"""molmeta: predict properties of new molecules from a few labelled ones.

    from molmeta import FewShotClassifier
    model = FewShotClassifier().fit(smiles, y)
    model.predict_proba(others)

The meta-learning core under it, for any network and any data (docs/core.md):

    from molmeta import METHODS, LabelledSet, TaskKind
    learner = METHODS["maml"](network)
    learner.adapt(LabelledSet(x, y, TaskKind.MULTICLASS, num_classes=5)).predict(others).probabilities

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
    from molmeta.core.backbone import Backbone, as_backbone
    from molmeta.core.episode import Episode, EpisodeBatch, LabelledSet, collate
    from molmeta.core.learner import Learner, Prediction, Predictor
    from molmeta.core.sampling import ways_and_shots
    from molmeta.core.task import Split, Task, TaskKind
    from molmeta.domains import BACKBONES, SOURCES
    from molmeta.estimators import FewShotClassifier, FewShotRegressor
    from molmeta.methods import METHODS
    from molmeta.scoring import evaluate

    __version__: str

_LAZY = {
    "BACKBONES": "domains",
    "METHODS": "methods",
    "SOURCES": "domains",
    "Backbone": "core.backbone",
    "Bundle": "bundle",
    "Episode": "core.episode",
    "EpisodeBatch": "core.episode",
    "FewShotClassifier": "estimators",
    "FewShotRegressor": "estimators",
    "LabelledSet": "core.episode",
    "Learner": "core.learner",
    "Prediction": "core.learner",
    "Predictor": "core.learner",
    "Split": "core.task",
    "Task": "core.task",
    "TaskKind": "core.task",
    "as_backbone": "core.backbone",
    "collate": "core.episode",
    "evaluate": "scoring",
    "ways_and_shots": "core.sampling",
}

__all__ = [
    "BACKBONES",
    "METHODS",
    "SOURCES",
    "Backbone",
    "Bundle",
    "ConfigError",
    "DataError",
    "DeviceError",
    "Episode",
    "EpisodeBatch",
    "FewShotClassifier",
    "FewShotRegressor",
    "InputError",
    "LabelledSet",
    "Learner",
    "ModelFileError",
    "MolmetaError",
    "Prediction",
    "Predictor",
    "Split",
    "SupportError",
    "Task",
    "TaskKind",
    "as_backbone",
    "collate",
    "evaluate",
    "ways_and_shots",
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
