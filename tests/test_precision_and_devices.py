"""Mixed precision, and what a GPU must give."""

import numpy as np
import pytest
import torch

from molmeta.core.episode import Episode, collate_labels
from molmeta.core.learner import Learner
from molmeta.core.task import Task, TaskKind
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.recipe import make_learner
from tests.assays import MOLECULES

BACKBONES = [
    {"name": "fingerprint", "hidden": 32, "width": 16, "keep_counts": True, "dropout": 0.0, "input_dropout": 0.0},
    {"name": "gnn", "hidden": 16, "layers": 2, "width": 16, "dropout": 0.0},
]


def episode_batch():
    labels = np.arange(len(MOLECULES)) % 2
    task = Task("toy", np.arange(len(MOLECULES)), labels, TaskKind.BINARY, 2)
    episode = Episode(task, np.arange(16), np.arange(16, len(MOLECULES)))
    return collate_labels([episode], MoleculeBatch.of(featurise(MOLECULES).arrays))


def learner_of(method: str, backbone: dict) -> Learner:
    torch.manual_seed(0)
    return make_learner({"name": method}, backbone)


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda table: table["name"])
@pytest.mark.parametrize("method", ["gp", "protonet"])
def test_bfloat16_autocast_changes_the_loss_by_its_rounding_alone(method: str, backbone: dict) -> None:
    learner, batch = learner_of(method, backbone), episode_batch()
    exact, _ = learner.meta_loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = learner.meta_loss(batch)
    rounded.backward()
    assert float(rounded.detach()) == pytest.approx(float(exact.detach()), rel=0.05)
    assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda table: table["name"])
@pytest.mark.parametrize("method", ["gp", "protonet", "maml"])
def test_a_gpu_gives_the_gradient_of_the_cpu(method: str, backbone: dict) -> None:
    batch = episode_batch()
    gradients = []
    for device in ("cpu", "cuda"):
        learner = learner_of(method, backbone).to(device)
        learner.meta_backward(batch.to(device))
        gradients.append([p.grad.cpu() for p in learner.parameters() if p.grad is not None])
    for cpu, cuda in zip(*gradients, strict=True):
        torch.testing.assert_close(cuda, cpu, rtol=1e-3, atol=1e-5)
