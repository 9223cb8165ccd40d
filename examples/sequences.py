"""A DNA motif a task, as the promoters of different organisms: ``python examples/sequences.py``.

An organism's promoters hold its motif of 6 bases somewhere in 30 random ones, its other sequences hold none; only 20
labelled sequences tell which motif. Controls: the same model given another organism's support, and before training.
"""

import numpy as np
import torch
from torch import nn

from molmeta.core.backbone import Backbone
from molmeta.core.episode import Episode, collate_labels
from molmeta.core.random import keyed_rng
from molmeta.core.task import Task, TaskKind
from molmeta.methods.protonet import ProtoNet, ProtoNetConfig

BASES, LENGTH, MOTIF, SUPPORT, QUERY = 4, 30, 6, 20, 40


class MotifNet(Backbone):
    """Bases ``[n, 30]`` -> 256 filters of 4 bases -> the strongest match of each ``[n, 256]``."""

    def __init__(self):
        super().__init__()
        self.width, self.views, self.filters = 256, (256,), nn.Conv1d(BASES, 256, kernel_size=4)

    def forward(self, inputs):
        return self.filters(nn.functional.one_hot(inputs, BASES).float().mT).relu().amax(2)


def organisms(count, *key):
    """A batch of ``count`` tasks, each with a motif of its own; every second sequence holds it."""
    sequences = keyed_rng(0, "sequences", *key).integers(BASES, size=(count, SUPPORT + QUERY, LENGTH))
    rows, rng = np.arange(SUPPORT + QUERY), keyed_rng(0, "motifs", *key)
    for organism, motif in zip(sequences, rng.integers(BASES, size=(count, MOTIF)), strict=True):
        for row in rows[1::2]:
            organism[row, (start := rng.integers(LENGTH - MOTIF + 1)) : start + MOTIF] = motif
    task = Task("organism", rows, rows % 2, TaskKind.BINARY, 2)
    drawn = [Episode(task, rows[:SUPPORT], rows[SUPPORT:])] * count
    return collate_labels(drawn, torch.from_numpy(sequences.reshape(-1, LENGTH)))


@torch.no_grad()
def accuracy(learner, batch, shift=0):
    """Share of right queries, each task's after adapting to the support of the task ``shift`` before it."""
    supports, queries = zip(*batch.episodes(), strict=True)
    found = [learner.adapt(supports[i - shift]).predict(query.inputs).probabilities for i, query in enumerate(queries)]
    return float((torch.cat(found).argmax(1) == torch.cat([query.labels for query in queries])).double().mean())


torch.manual_seed(0)
learner, test = ProtoNet(MotifNet(), ProtoNetConfig(distance="cosine")), organisms(40, 1)
untrained, optimizer = accuracy(learner, test), torch.optim.Adam(learner.parameters(), lr=5e-3)
for step in range(80):
    optimizer.zero_grad()
    learner.meta_backward(organisms(8, 0, step))
    optimizer.step()
adapted, other = accuracy(learner, test), accuracy(learner, test, shift=1)
print(f"adapted {adapted:.3f}, to another organism {other:.3f}, adapted but not meta-trained {untrained:.3f}")
assert adapted > max(other + 0.25, untrained + 0.02)
