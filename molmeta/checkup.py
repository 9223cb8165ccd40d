"""What ``molmeta doctor`` looks at."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import torch

from molmeta.bundle import Bundle
from molmeta.catalogue import DATASETS
from molmeta.errors import MolmetaError
from molmeta.estimators import FewShotClassifier
from molmeta.paths import cache_dir, data_dir


@dataclass(frozen=True)
class Finding:
    """One line of the check-up."""

    what: str
    found: str
    good: bool = True


def checkup(model: str) -> Iterator[Finding]:
    """Versions, device, data and one prediction, in order; nothing is raised and nothing is written."""
    yield Finding("python", platform.python_version())
    yield from _versions()
    cuda = torch.cuda.is_available()
    yield Finding("device", torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads")
    yield Finding("data", f"{data_dir()} (MOLMETA_DATA)")
    for dataset in DATASETS.values():
        state = dataset.state()
        hint = "" if state == "here" else f'; "molmeta data fetch {dataset.name}"'
        yield Finding(f"  {dataset.name}", state + hint)
    yield Finding("cache", f"{cache_dir()} (MOLMETA_CACHE)")
    yield _prediction(model)


def _versions() -> Iterator[Finding]:
    for requirement in ["molmeta", *(r for r in requires("molmeta") or [] if "extra ==" not in r)]:
        name = requirement.split(">")[0].split(";")[0].strip()
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, f"not installed; pip install {name}", good=False)


def _prediction(model: str) -> Finding:
    try:
        bundle = Bundle.load(model)
        started = time.perf_counter()
        classifier = FewShotClassifier(model).fit(["CCO", "CCN", "c1ccccc1", "c1ccncc1"], [0, 0, 1, 1])
        classifier.predict_proba(["CCCO"])
    except MolmetaError as error:
        return Finding("model", str(error), good=False)
    seconds = time.perf_counter() - started
    return Finding("model", f"{bundle.card.get('name', model)} predicts ({1000 * seconds:.0f} ms)")
