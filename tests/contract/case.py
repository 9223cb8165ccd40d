"""A method on a backbone, and episodes to try it on."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from molmeta.core.episode import Episode, EpisodeBatch, LabelledSet, collate_labels
from molmeta.core.learner import Learner, Prediction
from molmeta.core.task import Inputs, IntArray, Task, TaskKind
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.domains.molecules.profiles import Profiles
from molmeta.domains.text.inputs import TextBatch
from molmeta.recipe import make_learner
from tests.bundles import DRUGS
from tests.contract.cases import ALL, BACKBONES

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
CLASSES = {BINARY: 2, MULTICLASS: 3, REGRESSION: 0}
ROWS = 30
MOLECULES = [*DRUGS, *(f"{'C' * i}{end}" for i in range(1, 10) for end in ("O", "N(C)C"))]
VERBS, NOUNS = ("book", "cancel", "show", "pay", "lose"), ("flight", "card", "bill", "table", "alarm", "list")


class Case:
    """A learner of torch's default precision, off its starting point, in evaluation mode; and episodes."""

    def __init__(self, method: str, backbone: str) -> None:
        self.method, self.backbone = method, backbone
        self.learner = self.make(seed=0)
        self.laws = self.learner.laws
        self.inputs = inputs_for(BACKBONES[backbone]["name"], torch.get_default_dtype())

    def make(self, seed: int) -> Learner:
        torch.manual_seed(seed)
        learner = make_learner(ALL[self.method][0], BACKBONES[self.backbone]).to(torch.get_default_dtype())
        if isinstance(learner.backbone, Profiles):
            learner.backbone.read(*measured())
        with torch.no_grad():
            for name, parameter in learner.named_parameters():
                scale = 0.005 if name.endswith("log_weights") else 0.2  # of tokens: wordllama takes them times 30
                parameter.add_(scale * torch.randn_like(parameter))
        return learner.eval()

    def batch(
        self, kind: TaskKind, sizes: list[tuple[int, int]], ways: tuple[int, ...] | int | None = None
    ) -> EpisodeBatch:
        """Ragged episodes over the rows; classes take turns, and two classes follow the inputs."""
        each = (CLASSES[kind] if ways is None else ways,) * len(sizes) if not isinstance(ways, tuple) else ways
        rng = np.random.default_rng(0)
        made = []
        for i, ((n, m), k) in enumerate(zip(sizes, each, strict=True)):
            rows = np.stack([rng.permutation(ROWS // 2) * 2, rng.permutation(ROWS // 2) * 2 + 1], 1).ravel()[: n + m]
            labels = np.arange(n + m) % k if kind.is_classification else rng.normal(6, 2, n + m)
            made.append(Episode(Task(str(i), rows, labels, kind, k), np.arange(n), np.arange(n, n + m)))
        rows = np.concatenate([e.task.rows for e in made])
        described = self.inputs[torch.arange(sum(each))] if self.laws.described else None
        return collate_labels(made, self.inputs[torch.from_numpy(rows)], described)

    def one(self, kind: TaskKind, n: int = 9, m: int = 7, ways: int | None = None) -> tuple[LabelledSet, LabelledSet]:
        ((support, query),) = self.batch(kind, [(n, m)], ways).episodes()
        return support, query

    def predict(self, support: LabelledSet, inputs: Inputs) -> torch.Tensor:
        return numbers(self.learner.adapt(support).predict(inputs))


@lru_cache
def inputs_for(backbone: str, dtype: torch.dtype) -> Inputs:
    """Rows of the domain that a backbone is for."""
    some = torch.Generator().manual_seed(0)
    if ":" in backbone or backbone == "mlp":
        return torch.randn(ROWS, 2, generator=some, dtype=dtype) + torch.arange(ROWS)[:, None] % 2
    if backbone == "conv4":
        return torch.randint(0, 256, (ROWS, 1, 8, 8), dtype=torch.uint8, generator=some)
    if backbone in ("text_bag", "wordllama"):
        return TextBatch.of([f"{verb} my {noun} please" for verb in VERBS for noun in NOUNS])
    return MoleculeBatch.of(featurise(MOLECULES).arrays)


def measured() -> tuple[Any, list[Task]]:
    """What some assays say of two thirds of the molecules; the others are known by their structure alone."""

    class Molecules:
        def gather(self, rows: IntArray) -> Inputs:
            return inputs_for("counts", torch.get_default_dtype())[torch.from_numpy(rows)]

    rng = np.random.default_rng(1)
    rows = [rng.permutation(2 * ROWS // 3)[:15] for _ in range(6)]
    return Molecules(), [Task(f"measured {i}", each, rng.integers(0, 2, 15), BINARY, 2) for i, each in enumerate(rows)]


def numbers(prediction: Prediction) -> torch.Tensor:
    """All that a prediction says, ``[m, ...]``."""
    if prediction.probabilities is not None:
        return prediction.probabilities
    assert prediction.mean is not None
    if prediction.deviation is None:
        return prediction.mean[:, None]
    return torch.stack([prediction.mean, prediction.deviation.to(prediction.mean)], dim=1)


def close(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.allclose(left.double(), right.double(), rtol=1e-4, atol=1e-6)
