"""What can be scored, by name: a model, a run, a baseline, a scikit-learn estimator or a function of one's own."""

from __future__ import annotations

import difflib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from molmeta.bundle import Bundle, shipped
from molmeta.config import to_mapping
from molmeta.core.ensemble import mix
from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Encoding, Laws, Learner, Prediction
from molmeta.core.random import seed_torch
from molmeta.core.task import Inputs, TaskKind
from molmeta.devices import choose_device
from molmeta.domains.molecules.fingerprints import Counts, CountsConfig
from molmeta.errors import ConfigError, ModelFileError
from molmeta.evaluation.fewshot import Model, ScoreFunction
from molmeta.export import member_of_run
from molmeta.methods.scikit import Sklearn
from molmeta.paths import import_from_here
from molmeta.recipe import make_learner
from molmeta.training_run import choose_recipe, shipped_recipes

_COUNTS = {"name": "counts"}
# What a practitioner has without meta-learning: each learns from the support alone.
BASELINES: Mapping[str, Mapping[str, Any]] = {
    "random-forest": {"name": "random_forest"},
    "random-forest-grid": {"name": "random_forest", "grid": True},
    "knn": {"name": "knn"},
    "similarity": {"name": "similarity"},
    "logistic": {"name": "logistic"},
    "gradient-boosting": {"name": "gradient_boosting"},
    "tanimoto-gp": {"name": "tanimoto_gp"},
    "tabpfn": {"name": "tabpfn"},
    # What probabilities are measured by: the support's share for every molecule, and a forest that was calibrated.
    "constant": {"name": "sklearn", "estimator": "sklearn.dummy:DummyClassifier", "params": {"strategy": "prior"}},
    "platt-forest": {"name": "sklearn", "estimator": "molmeta.scoring.platt:PlattForest"},
}


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something to score.

    Attributes:
        name: in tables.
        model: what predicts.
        bundle: the model file behind it, where there is one.
        about: what ``result.json`` says of it.
    """

    name: str
    model: Model | ScoreFunction
    bundle: Bundle | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def serves(self, kind: TaskKind) -> bool:
        """Whether it predicts tasks of this kind; a function serves two classes and numbers."""
        laws = getattr(self.model, "laws", None)
        return kind is not TaskKind.MULTICLASS if laws is None else kind in laws.kinds

    def needs_no_support(self, kind: TaskKind) -> bool:
        """Whether it predicts without an example: from descriptions of classes, or from what it knows beforehand."""
        laws = getattr(self.model, "laws", None)
        return laws is not None and (laws.described or (laws.empty_support and kind is TaskKind.BINARY))


class BundleModel:
    """A bundle as something to evaluate: its members' embeddings stand side by side in one Encoding."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        laws = [member.learner.laws for member in bundle.members]
        self.laws = Laws(
            kinds=bundle.kinds,
            transductive=bundle.transductive,
            encodes=all(law.encodes for law in laws),
            described=all(law.described for law in laws),
            empty_support=bundle.needs_no_support,
            shares_rows=all(law.shares_rows for law in laws),
        )
        self.device = bundle.device

    def encode(self, inputs: Inputs) -> Encoding:
        return Encoding(torch.cat([m.learner.encode(inputs).values for m in self.bundle.members], dim=1))

    def predict_episodes(self, batch: EpisodeBatch) -> list[Prediction]:
        by_member = [
            member.learner.predict_episodes(batch.with_inputs(part))
            for member, part in zip(self.bundle.members, self._parts(batch.inputs), strict=True)
            if batch.kind in member.learner.laws.kinds
        ]
        sizes = torch.bincount(batch.episode[batch.is_support], minlength=len(batch)).tolist()
        return [
            mix(each, self.bundle.temperature_at(size))
            for each, size in zip(zip(*by_member, strict=True), sizes, strict=True)
        ]

    def _parts(self, inputs: Inputs) -> tuple[Inputs, ...]:
        if not isinstance(inputs, Encoding):
            return self.bundle.encode(inputs)
        widths = [member.learner.backbone.width for member in self.bundle.members]
        return tuple(inputs.split(widths))


def load_candidate(
    model: str | Bundle | Learner | ScoreFunction, device: str = "auto", settings: Sequence[str] = ()
) -> Candidate:
    """A model to score.

    Args:
        model: a bundle by name or file, a run folder, a recipe by name or file (its method as it is before training:
            references that learn nothing, controls), a baseline (see ``BASELINES``), ``module:name`` of a scikit-learn
            estimator (over count fingerprints) or of a function ``(support, query SMILES) -> scores``; or such a thing
            itself.
        device: auto, cpu, cuda or cuda:N.
        settings: of a run's or recipe's method or backbone, changed before it is scored: ``method.inner_steps=10``.

    Raises:
        ModelFileError: a name that is none of these.
        ConfigError: there is no such module, or the thing in it is not one of these.
    """
    if settings and not isinstance(model, str):
        raise ConfigError(
            f"{settings[0]}: what a run folder or a recipe says can be changed, not a model that was made"
        )
    if isinstance(model, Bundle):
        return _of_bundle(str(model.card.get("name", "bundle")), model)
    if isinstance(model, Learner):
        return _of_learner(type(model).__name__, model)
    if not isinstance(model, str):
        return _of_object(model)
    folder = Path(model)
    if (folder / "config.toml").is_file():
        return _of_run(folder, device, settings)
    if folder.suffix == ".toml" or model in shipped_recipes():
        return _of_recipe(folder, device, settings)
    if settings:
        raise ConfigError(f"{settings[0]}: what a run folder or a recipe says can be changed, not the model {model}")
    if model in BASELINES:
        return _of_learner(model, make_learner(BASELINES[model], _COUNTS))
    if ":" in model and not folder.exists():
        return _imported(model)
    if model not in shipped() and not folder.exists():
        known = [*shipped(), *BASELINES, *shipped_recipes()]
        close = difflib.get_close_matches(model, known, n=1)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        raise ModelFileError(
            f'there is no model "{model}".{hint} Known: {", ".join(known)}; or give a .safetensors file, a run folder, '
            "a recipe (.toml), or module:name of an estimator or function"
        )
    return _of_bundle(folder.stem, Bundle.load(model).to(choose_device(device)))


def _of_run(folder: Path, device: str, settings: Sequence[str]) -> Candidate:
    card = folder / "card.json"
    read = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    found = _of_bundle(folder.name, Bundle([member_of_run(folder, settings)], read).to(choose_device(device)))
    return replace(found, about={**found.about, "changed": list(settings)}) if settings else found


def _of_recipe(path: Path, device: str, settings: Sequence[str]) -> Candidate:
    """The method as it is before any training, from the recipe's seed."""
    recipe = choose_recipe(path, settings)
    seed_torch(recipe.training.seed, -1 % 2**31)
    learner = make_learner(recipe.method, recipe.backbone).to(choose_device(device))
    found = _of_learner(path.stem, learner)
    return replace(found, about={**found.about, "recipe": {"method": recipe.method, "backbone": recipe.backbone}})


def _of_bundle(name: str, bundle: Bundle) -> Candidate:
    kept = {key: bundle.card[key] for key in ("name", "licence", "commands", "command", "seeds") if key in bundle.card}
    return Candidate(name, BundleModel(bundle), bundle, {**kept, "digest": bundle.digest})


def _imported(path: str) -> Candidate:
    module, _, attribute = path.partition(":")
    import_from_here()
    try:
        found: Callable[..., Any] = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise ConfigError(f'"{path}": there is no module {error.name} to import here') from error
    except AttributeError as error:
        raise ConfigError(f'"{path}": module {module} has no {attribute}') from error
    if hasattr(found, "fit"):
        return _of_learner(attribute, make_learner({"name": "sklearn", "estimator": path}, _COUNTS))
    source = Path(getattr(sys.modules[module], "__file__", None) or "")
    code = hashlib.sha256(source.read_bytes()).hexdigest()[:16] if source.is_file() else ""
    return replace(_of_object(found), name=attribute, about={"function": path, "code": code})


def _of_learner(name: str, learner: Learner) -> Candidate:
    """Told apart from others by its settings and weights."""
    digest = hashlib.sha256()
    for key, tensor in learner.state_dict().items():
        digest.update(key.encode() + tensor.cpu().contiguous().numpy().tobytes())
    config = getattr(learner, "config", None)
    return Candidate(
        name,
        learner,
        about={
            "method": f"{type(learner).__module__}:{type(learner).__name__}",
            "settings": to_mapping(config) if is_dataclass(config) else str(config),
            "digest": digest.hexdigest()[:16],
        },
    )


def _of_object(found: Any) -> Candidate:
    name = getattr(found, "__name__", type(found).__name__)
    if hasattr(found, "fit"):
        learner = Sklearn(Counts(CountsConfig()), estimator=found)
        return Candidate(name, learner, about={"estimator": repr(found), "class": f"{type(found).__module__}:{name}"})
    if not callable(found):
        raise ConfigError(
            f"{found!r:.60} is neither a model, a scikit-learn estimator nor a function of support and query"
        )
    # Nobody can tell whether a function of the same name is the same: its result is not gone on with.
    return Candidate(name, found, about={"function": name, "once": uuid4().hex})
