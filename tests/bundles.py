"""A tiny model with random weights, for tests of everything around a model."""

from __future__ import annotations

import numpy as np
import torch

from molmeta.bundle import Bundle, Member
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.nearest import Counts
from molmeta.domains.molecules.reference import Reference
from molmeta.recipe import make_learner

BACKBONE = {"name": "fingerprint", "hidden": 32, "width": 16}
DRUGS = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "CC(=O)Nc1ccc(O)cc1",
    "OC(=O)c1ccccc1O",
    "COc1ccc2cc(ccc2c1)C(C)C(=O)O",
    "CN1CCC[C@H]1c1cccnc1",
    "CC(C)NCC(O)COc1cccc2ccccc12",
    "Clc1ccccc1",
    "CCO",
    "c1ccncc1",
    "CCN(CC)CC",
]


def tiny_bundle(method: str = "gp", members: int = 1, reference: bool = True) -> Bundle:
    """A bundle of freshly initialised learners."""
    torch.manual_seed(0)
    tables = {"name": method}
    made = [Member(tables, BACKBONE, make_learner(tables, BACKBONE)) for _ in range(members)]
    sample = Counts.of(featurise(DRUGS[:4]).arrays)
    card = {"name": "tiny", "licence": "none"}
    return Bundle(made, card, Reference(sample) if reference else None)


def labels(n: int) -> np.ndarray:
    """0, 1, 0, 1, ..."""
    return np.arange(n) % 2
