"""What every method promises, whatever its laws."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Learner
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError, SupportError
from molmeta.methods.reptile import Reptile
from tests.checks import single
from tests.contract.case import CLASSES, MULTICLASS, Case, close, numbers

pytestmark = pytest.mark.usefixtures("float64")


def test_it_serves_the_kinds_that_it_states_and_refuses_the_others(case: Case) -> None:
    for kind in TaskKind:
        support, query = case.one(kind)
        if kind not in case.laws.kinds:
            with pytest.raises(SupportError, match=f"not {kind}"):
                case.learner.adapt(support)
            with pytest.raises(SupportError, match=f"not {kind}"):
                case.learner.predict_episodes(case.batch(kind, [(9, 7)]))
            continue
        found = case.predict(support, query.inputs)
        assert found.shape in ([(7, CLASSES[kind])] if kind.is_classification else [(7, 1), (7, 2)])
        assert torch.isfinite(found).all()
        assert np.ptp(found[:, 0].numpy()) > 1e-5  # the queries are told apart
        if kind.is_classification:
            torch.testing.assert_close(found.sum(1), torch.ones(7), check_dtype=False)
        else:
            assert (found[:, 1:] > 0).all()


def test_adapting_and_predicting_change_nothing_in_the_learner(case: Case) -> None:
    case.learner.train()
    next(case.learner.children()).eval()
    modes = [module.training for module in case.learner.modules()]
    before = copy.deepcopy(case.learner.state_dict())
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        case.learner.adapt(support).predict(query.inputs)
        case.learner.predict_episodes(case.batch(kind, [(6, 3), (4, 2)]))
    torch.testing.assert_close(case.learner.state_dict(), before, rtol=0, atol=0)
    assert [module.training for module in case.learner.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in case.learner.parameters())


def ragged(case: Case, kind: TaskKind) -> EpisodeBatch:
    """Episodes whose supports, shots and queries differ in size, and whose ways do where that may be."""
    ways = (3, 2, 5, 3) if kind is MULTICLASS and case.laws.any_way else None
    fewest = 1 + case.laws.transductive  # one row has no batch statistics
    return case.batch(kind, [(10, 7), (3, 2), (12, fewest), (5, 11)], ways)


def test_an_episode_alone_is_predicted_as_in_a_ragged_batch(case: Case) -> None:
    for kind in case.laws.kinds:
        batch = ragged(case, kind)
        together = case.learner.predict_episodes(batch)
        for (support, query), found in zip(batch.episodes(), map(numbers, together), strict=True):
            assert found.shape[0] == len(query)
            assert close(case.predict(support, query.inputs), found)


def test_a_ragged_batch_has_the_mean_loss_of_its_episodes(case: Case) -> None:
    if not case.laws.meta_trained:
        pytest.skip("nothing is meta-trained")
    for kind in case.laws.kinds:
        batch = ragged(case, kind)
        with torch.no_grad():
            alone = [case.learner.meta_loss(single(batch, i))[0] for i in range(len(batch))]
            assert close(case.learner.meta_loss(batch)[0], torch.stack(alone).mean())


def test_saved_weights_predict_the_same_in_a_new_learner(case: Case) -> None:
    other = case.make(seed=1)
    other.load_state_dict(case.learner.state_dict())
    for kind in case.laws.kinds:
        support, query = case.one(kind)
        found = numbers(other.adapt(support).predict(query.inputs))
        torch.testing.assert_close(found, case.predict(support, query.inputs), rtol=0, atol=0)


def gradients(learner: Learner, batch: EpisodeBatch) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    assert np.isfinite(learner.meta_backward(batch)["loss"])
    return {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}


def test_the_same_seed_gives_the_same_meta_gradient_and_all_of_it_is_finite(case: Case) -> None:
    if not case.laws.meta_trained:
        with pytest.raises(ConfigError, match="nothing to meta-train"):
            case.learner.meta_backward(case.batch(max(case.laws.kinds), [(6, 5)]))
        return
    for kind in case.laws.kinds:
        batch = case.batch(kind, [(6, 5), (3 + (kind is not MULTICLASS), 3)])
        one, other = (gradients(case.make(seed=0).train(), batch) for _ in range(2))
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        assert all(torch.isfinite(g).all() for g in one.values())
        learned = [g for name, g in one.items() if name.startswith("backbone.")]
        assert not list(case.learner.backbone.parameters()) or any(g.abs().sum() > 0 for g in learned)


def test_a_loss_falls(case: Case) -> None:
    if not case.laws.meta_trained:
        pytest.skip("nothing is meta-trained")
    kind = min(case.laws.kinds)  # binary, where it is served: its classes follow the inputs
    batch, learner = case.batch(kind, [(6, 6)]), case.learner
    if isinstance(learner, Reptile):
        optimizer: torch.optim.Optimizer = torch.optim.SGD(learner.parameters(), lr=1.0)  # the paper's eps
    else:
        optimizer = torch.optim.Adam(learner.parameters(), lr=1e-4)
    losses = []
    for _ in range(6):
        torch.manual_seed(0)
        optimizer.zero_grad()
        losses.append(learner.meta_backward(batch)["loss"])
        optimizer.step()
    assert losses[-1] < losses[0]


def test_the_learner_may_be_used_where_no_gradient_is_taken(case: Case) -> None:
    kind = max(case.laws.kinds)
    support, query = case.one(kind)
    expected = case.predict(support, query.inputs)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            found = case.predict(replace(support), query.inputs)
        assert not found.requires_grad
        assert close(found, expected)
