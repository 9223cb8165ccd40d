"""A plain network and a loop of one's own, with any method: ``python examples/plain_network.py [method]``.

A class is a mixture of 8 patterns of 28 x 28 pixels, under noise. Meta-training finds the patterns, so that learners
know what to look at when they meet 5 new classes, with one example of each.
"""

import sys

import numpy as np
import torch
from torch import nn

from molmeta import METHODS, Episode, Task, TaskKind, collate, ways_and_shots

torch.manual_seed(0)
rng, classes = np.random.default_rng(0), np.repeat(np.arange(100), 20)
images = (torch.randn(100, 8) @ torch.randn(8, 784))[classes] + 8 * torch.randn(2000, 784)
images = images.view(-1, 1, 28, 28) / 8
train = Task("train", np.arange(1600), classes[:1600], TaskKind.MULTICLASS, num_classes=80)
new = Task("new", np.arange(1600, 2000), classes[1600:] - 80, TaskKind.MULTICLASS, num_classes=20)

network = nn.Sequential(nn.Flatten(), nn.Linear(784, 64))
learner = METHODS[sys.argv[1] if len(sys.argv) > 1 else "protonet"](network)


def draw(task, episodes, ways):
    """A batch of one-shot episodes with 5 queries a class."""
    return collate(images, [Episode(task, *ways_and_shots(task.labels, ways, 1, 5, rng)) for _ in range(episodes)])


def accuracy():
    """Share of right queries among 5 new classes: ``support`` and ``query`` are LabelledSets, of tensors."""
    right = []
    for support, query in draw(new, 100, ways=5).episodes():
        probabilities = learner.adapt(support).predict(query.inputs).probabilities
        right.append(float((probabilities.argmax(1) == query.labels).double().mean()))
    return np.mean(right)


before, optimizer = accuracy(), torch.optim.Adam(learner.parameters(), lr=1e-3)
for _ in range(100):
    optimizer.zero_grad()
    learner.meta_backward(draw(train, 2, ways=20))
    optimizer.step()
after = accuracy()
print(f"5-way 1-shot accuracy on new classes: untrained {before:.3f}, meta-trained {after:.3f}")
assert after > before + 0.3
