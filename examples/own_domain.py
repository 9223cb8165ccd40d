"""A domain of one's own, a task source and a backbone in about 30 lines: ``python examples/own_domain.py``.

An input is a closed curve of 32 points, a class is a shape, disturbed and turned at random. Any method, the trainer and
the command line then serve them: ``molmeta train --source own_domain:Curves --backbone own_domain:CurveNet ...``.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from molmeta.core.backbone import Backbone
from molmeta.core.random import keyed_rng
from molmeta.core.sampling import ways_and_shots
from molmeta.core.task import Task, TaskKind
from molmeta.training_run import choose_recipe, run_training

FIRST, LABELS = {"train": 0, "valid": 800, "test": 1600}, np.repeat(np.arange(40), 20)  # 20 curves a shape


@dataclass(frozen=True, kw_only=True)
class Settings:
    noise: float = 0.5  # of the source
    width: int = 32  # of the backbone


class Curves:
    def __init__(self, config):
        rng, angles = keyed_rng(0, "curves"), np.arange(32) * np.pi / 16
        waves = rng.normal(size=(120, 4)) + 1j * rng.normal(size=(120, 4))
        shapes = np.repeat(waves @ np.exp(1j * np.outer([1, -1, 2, 3], angles)), 20, axis=0)
        points = (shapes * np.exp(2j * np.pi * rng.random((2400, 1)))).view(float)  # [2400, 64]: x, y, x, y, ...
        self.points = torch.from_numpy(points + config.noise * rng.normal(size=points.shape)).float()

    def tasks(self, split, kind=TaskKind.BINARY):
        if kind is not TaskKind.MULTICLASS or split not in FIRST:
            return []
        return [Task(f"curves/{split}", FIRST[split] + np.arange(800), LABELS, kind, num_classes=40)]

    def gather(self, rows):
        return self.points[torch.from_numpy(rows)]

    def draw(self, task, shots, seed):
        return ways_and_shots(task.labels, 5, shots, 10, keyed_rng(seed, task.name, shots))


class CurveNet(Backbone):
    def __init__(self, config):
        super().__init__()
        self.width, self.views = config.width, (config.width,)
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, config.width))

    def forward(self, inputs):
        return self.net(inputs)


Curves.Config = CurveNet.Config = Settings

if __name__ == "__main__":
    settings = "source.name=__main__:Curves backbone.name=__main__:CurveNet method.name=protonet training.lr=3e-3"
    settings += " episodes.sampler=ways_and_shots episodes.support_sizes=[1,5] episodes.query_size=10 training.steps=90"
    settings += " training.warmup=1 training.eval_every=30 validation.support_sizes=[1] validation.seeds=100"
    with tempfile.TemporaryDirectory() as folder:
        history = run_training(choose_recipe(None, settings.split()), Path(folder)).history
    for line in history:
        print(f"step {line['step']:>3}  5-way 1-shot accuracy on unseen shapes: {line['valid_accuracy_1']:.3f}")
    assert history[-1]["valid_accuracy_1"] > 0.8
