"""A user a task: ratings of new items from five of that user's own. ``python examples/personalise.py``.

An item has 20 attributes. Users' tastes differ along 3 directions that nobody is told; other users' ratings show them.
Controls: the user's mean rating; and the best that can be done, Bayes' rule with the directions known.
"""

import numpy as np
import torch

from molmeta.core.episode import Episode, collate_labels
from molmeta.core.random import keyed_rng
from molmeta.core.task import Task, TaskKind
from molmeta.domains.functions.mlp import MLP, MLPConfig
from molmeta.methods.r2d2 import R2D2

ATTRIBUTES, DIRECTIONS, NOISE, RATED, ASKED = 20, 3, 0.5, 5, 20
TASTES = np.linalg.qr(keyed_rng(0, "tastes").normal(size=(ATTRIBUTES, DIRECTIONS)))[0]


def users(count, *key):
    """A batch of ``count`` users, 5 ratings each to learn from and 20 to predict."""
    rng, rows = keyed_rng(0, "users", *key), np.arange(RATED + ASKED)
    items = rng.normal(size=(count, RATED + ASKED, ATTRIBUTES))
    tastes = rng.normal(size=(count, DIRECTIONS)) @ TASTES.T
    ratings = 3 + np.einsum("uia,ua->ui", items, tastes) + NOISE * rng.normal(size=items.shape[:2])
    tasks = [Task(str(i), rows, r, TaskKind.REGRESSION, 0) for i, r in enumerate(ratings)]
    drawn = [Episode(task, rows[:RATED], rows[RATED:]) for task in tasks]
    return collate_labels(drawn, torch.from_numpy(items.reshape(-1, ATTRIBUTES)).float())


def error(predict, batch):
    """Root mean square error of ``predict(support, items)`` over all users."""
    pairs = [(predict(support, query.inputs), query.labels) for support, query in batch.episodes()]
    return float(torch.cat([(found - truth) ** 2 for found, truth in pairs]).mean().sqrt())


def best(support, items):
    """The posterior mean of Bayesian linear regression along the true directions."""
    plane = torch.from_numpy(TASTES).float()
    seen = support.inputs @ plane
    precision = seen.T @ seen / NOISE**2 + torch.eye(DIRECTIONS)
    return 3 + items @ plane @ torch.linalg.solve(precision, seen.T @ (support.labels - 3) / NOISE**2)


torch.manual_seed(0)
learner, test = R2D2(MLP(MLPConfig(inputs=ATTRIBUTES, hidden=(), width=8))), users(200, 1)
optimizer = torch.optim.Adam(learner.parameters(), lr=2e-2)
for step in range(120):
    optimizer.zero_grad()
    learner.meta_backward(users(16, 0, step))
    optimizer.step()
with torch.no_grad():
    personal = error(lambda support, items: learner.adapt(support).predict(items).mean, test)
    mean = error(lambda support, items: support.labels.mean().expand(len(items)), test)
print(f"rmse: adapted to the user {personal:.3f}, the user's mean {mean:.3f}, best possible {error(best, test):.3f}")
assert personal < 0.75 * mean
