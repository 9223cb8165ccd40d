from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from molmeta.core.backbone import Backbone
from molmeta.core.episode import Episode, EpisodeBatch, LabelledSet, collate_labels
from molmeta.core.learner import Encoding
from molmeta.core.task import Inputs, Task, TaskKind
from molmeta.domains.molecules.featurise import featurise
from molmeta.domains.molecules.gnn import GNN, GNNConfig
from molmeta.domains.molecules.inputs import MoleculeBatch
from molmeta.errors import ConfigError, InputError, SupportError
from molmeta.methods.maml import MAML, MAMLConfig

BINARY, MULTICLASS, REGRESSION = TaskKind.BINARY, TaskKind.MULTICLASS, TaskKind.REGRESSION
Shapes = Sequence[tuple[int, int, int]]  # (support rows, query rows, classes) an episode


class Net(Backbone):
    """Any torch layers as a backbone."""

    def __init__(self, width: int, *layers: nn.Module) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        out: torch.Tensor = self.layers(inputs)
        return out


def smooth() -> Net:
    return Net(4, nn.Linear(3, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh())


def batch_normed(dropout: float = 0.0) -> Net:
    return Net(4, nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 4), nn.Tanh())


def learner(backbone: Callable[[], Backbone] = smooth, seed: int = 0, **settings: Any) -> MAML:
    torch.manual_seed(seed)
    return MAML(backbone(), MAMLConfig(**{"inner_lr": 0.3, "inner_steps": 2, **settings})).double()


def draw(kind: TaskKind, shapes: Shapes, inputs: Inputs | None = None, seed: int = 0) -> EpisodeBatch:
    rng = np.random.default_rng(seed)
    episodes = []
    for i, (n, m, k) in enumerate(shapes):
        labels = np.arange(n + m) % k if kind.is_classification else rng.normal(5.0, 3.0, n + m)
        task = Task(str(i), np.arange(n + m), labels, kind, k)
        episodes.append(Episode(task, np.arange(n), np.arange(n, n + m)))
    rows = sum(n + m for n, m, _ in shapes)
    return collate_labels(episodes, torch.from_numpy(rng.normal(size=(rows, 3))) if inputs is None else inputs)


def gradients(model: MAML, batch: EpisodeBatch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model.meta_backward(batch)
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def slope(model: MAML, batch: EpisodeBatch, direction: dict[str, torch.Tensor], h: float = 1e-5) -> float:
    """The central difference of the whole meta-objective along ``direction``."""
    values = []
    for sign in (1, -1):
        moved = copy.deepcopy(model)
        with torch.no_grad():
            for name, p in moved.named_parameters():
                p.add_(direction[name], alpha=sign * h)
            values.append(float(moved.meta_loss(batch)[0]))
    return (values[0] - values[1]) / (2 * h)


def assert_gradient_is_the_slope(model: MAML, batch: EpisodeBatch, coordinates: int = 20) -> None:
    analytic = gradients(model, batch)
    names = list(analytic)
    rng = np.random.default_rng(1)
    directions = [{n: torch.from_numpy(np.asarray(rng.normal(size=tuple(g.shape)))) for n, g in analytic.items()}]
    for _ in range(coordinates):
        direction = {n: torch.zeros_like(g) for n, g in analytic.items()}
        chosen = direction[names[rng.integers(len(names))]].view(-1)
        chosen[rng.integers(len(chosen))] = 1.0
        directions.append(direction)
    along = torch.tensor([float(sum((analytic[n] * d[n]).sum() for n in names)) for d in directions])
    numeric = torch.tensor([slope(model, batch, d) for d in directions])
    assert along.abs().max() > 1e-3
    torch.testing.assert_close(along, numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "shapes", "settings"),
    [
        (BINARY, [(4, 6, 2), (7, 3, 2)], {"inner_steps": 3}),
        (MULTICLASS, [(3, 6, 3), (9, 4, 4)], {}),
        (MULTICLASS, [(6, 6, 3), (3, 5, 3)], {"head": "fixed", "ways": 3}),
        (MULTICLASS, [(6, 6, 3)], {"adapt": "head", "inner_steps": 3}),
        (REGRESSION, [(5, 6, 0), (8, 2, 0)], {"inner_lr": 0.1}),
    ],
)
def test_the_meta_gradient_is_the_finite_difference_of_the_meta_objective(
    kind: TaskKind, shapes: Shapes, settings: dict[str, Any]
) -> None:
    assert_gradient_is_the_slope(learner(**settings), draw(kind, shapes))


@pytest.mark.parametrize("normalisation", ["batch", "frozen"])
def test_the_meta_gradient_is_right_through_batch_norm(normalisation: str) -> None:
    model = learner(batch_normed, normalisation=normalisation)
    assert_gradient_is_the_slope(model, draw(BINARY, [(6, 6, 2), (4, 5, 2)]))


@pytest.mark.parametrize("kind", [BINARY, REGRESSION])
def test_the_meta_gradient_is_right_through_a_message_passing_network(kind: TaskKind) -> None:
    smiles = ["CCO", "c1ccccc1O", "CC(=O)N", "C[NH3+]", "N#CC", "OCC(F)Cl", "C1CC1", "O", "CC(C)=O", "CSC", "c1ccncc1"]
    molecules = MoleculeBatch.of(featurise(smiles).arrays)
    config = GNNConfig(width=8, hidden=8, layers=2, conv="gine", dropout=0.0)
    model = learner(lambda: GNN(config), inner_lr=0.05)
    assert_gradient_is_the_slope(model, draw(kind, [(4, 2, 2), (3, 2, 2)], molecules), coordinates=25)


@pytest.mark.parametrize("settings", [{"inner_steps": 0}, {"inner_lr": 0.0}])
@pytest.mark.parametrize("first_order", [False, True])
def test_without_adaptation_the_meta_gradient_is_the_plain_gradient(
    settings: dict[str, Any], first_order: bool
) -> None:
    model = learner(head="fixed", ways=3, first_order=first_order, **settings)
    batch = draw(MULTICLASS, [(6, 9, 3)])
    query = ~batch.is_support
    plain = torch.autograd.grad(
        F.cross_entropy(model(batch.inputs[query]), batch.labels[query]), list(model.parameters())
    )
    torch.testing.assert_close(list(gradients(model, batch).values()), list(plain))


def test_first_order_is_the_gradient_at_the_adapted_weights() -> None:
    batch = draw(MULTICLASS, [(6, 9, 3)])
    model = learner(head="fixed", ways=3, first_order=True)
    support, query = next(batch.episodes())
    there = copy.deepcopy(model)
    optimiser = torch.optim.SGD(there.parameters(), lr=model.config.inner_lr)
    for _ in range(model.config.inner_steps):
        optimiser.zero_grad()
        F.cross_entropy(there(support.inputs), support.labels).backward()
        optimiser.step()
    expected = torch.autograd.grad(F.cross_entropy(there(query.inputs), query.labels), list(there.parameters()))
    torch.testing.assert_close(list(gradients(model, batch).values()), list(expected))
    second_order = gradients(learner(head="fixed", ways=3), batch)
    assert not torch.allclose(second_order["head.weight"], expected[-2], rtol=1e-3)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("normalisation", ["batch", "frozen"])
def test_adapt_changes_nothing_in_the_learner_in_any_grad_mode(mode: Callable[[], Any], normalisation: str) -> None:
    model = learner(lambda: batch_normed(dropout=0.5), normalisation=normalisation)
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    with mode():
        support, query = next(draw(BINARY, [(6, 4, 2)]).episodes())
        first = model.adapt(support).predict(query.inputs).probabilities
        again = model.adapt(support).predict(query.inputs).probabilities
    torch.testing.assert_close(first, again, rtol=0, atol=0)  # dropout is off, though the learner is training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


def test_meta_training_leaves_batch_norm_statistics_alone() -> None:
    model = learner(batch_normed, normalisation="batch")
    before = {n: b.clone() for n, b in model.named_buffers()}
    model.meta_backward(draw(BINARY, [(6, 4, 2), (4, 4, 2)]))
    torch.testing.assert_close(dict(model.named_buffers()), before, rtol=0, atol=0)


def test_a_predictor_stands_by_itself_when_the_learner_changes() -> None:
    model = learner(lambda: batch_normed(dropout=0.5)).eval()
    support, query = next(draw(REGRESSION, [(6, 4, 0)]).episodes())
    predictor = model.adapt(support)
    before = predictor.predict(query.inputs)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    model.train()
    after = predictor.predict(query.inputs)
    torch.testing.assert_close(after.mean, before.mean, rtol=0, atol=0)
    torch.testing.assert_close(after.deviation, before.deviation, rtol=0, atol=0)


def probabilities(model: MAML, support: LabelledSet, query: LabelledSet) -> torch.Tensor:
    found = model.adapt(support).predict(query.inputs).probabilities
    assert found is not None
    return found


@pytest.mark.parametrize("head", ["tied", "fixed"])
def test_only_the_tied_head_is_class_equivariant(head: str) -> None:
    model = learner(head=head, ways=3)
    support, query = next(draw(MULTICLASS, [(9, 5, 3)]).episodes())
    renumber = torch.tensor([2, 0, 1])  # class c becomes renumber[c]
    plain = probabilities(model, support, query)
    renumbered = probabilities(model, replace(support, labels=renumber[support.labels]), query)
    assert torch.allclose(renumbered[:, renumber], plain) == model.laws.class_equivariant == (head == "tied")


def test_the_tied_head_serves_any_number_of_ways_and_every_kind() -> None:
    model = learner()
    for kind, k in ((BINARY, 2), (MULTICLASS, 3), (MULTICLASS, 7)):
        support, query = next(draw(kind, [(k, 4, k)]).episodes())  # one example a class
        found = probabilities(model, support, query)
        assert found.shape == (4, k)
        torch.testing.assert_close(found.sum(dim=1), torch.ones(4, dtype=torch.float64))
    assert model.laws.any_way
    assert model.laws.kinds == set(TaskKind)


def test_the_fixed_head_refuses_other_tasks_and_names_the_way_out() -> None:
    model = learner(head="fixed", ways=3)
    support, _ = next(draw(MULTICLASS, [(4, 4, 4)]).episodes())
    with pytest.raises(SupportError, match=r'has 3 classes, but the support set has 4; .*head to "tied"'):
        model.adapt(support)
    with pytest.raises(SupportError, match="serves multiclass tasks, not binary"):
        model.meta_backward(draw(BINARY, [(4, 4, 2)]))


def test_one_episode_alone_equals_the_same_episode_in_a_ragged_batch() -> None:
    model = learner()
    together = draw(MULTICLASS, [(3, 6, 3), (9, 1, 4), (2, 5, 2)])
    losses, grads = [], []
    for i in range(3):
        rows = torch.nonzero(together.episode == i).flatten()
        alone = replace(
            together,
            **{n: getattr(together, n)[rows] for n in ("inputs", "labels", "is_support")},
            **{n: getattr(together, n)[i : i + 1] for n in ("num_classes", "target_loc", "target_scale")},
            episode=torch.zeros(len(rows), dtype=torch.int64),
        )
        losses.append(model.meta_backward(alone)["loss"])
        grads.append(gradients(model, alone))
        (prediction,) = model.predict_episodes(alone)
        torch.testing.assert_close(prediction.probabilities, model.predict_episodes(together)[i].probabilities)
    assert model.meta_backward(together)["loss"] == pytest.approx(np.mean(losses))
    mean = {name: sum(g[name] for g in grads) / 3 for name in grads[0]}
    torch.testing.assert_close(gradients(model, together), mean)


def test_regression_predictions_follow_the_unit_of_the_labels() -> None:
    model = learner(inner_lr=0.1)
    support, query = next(draw(REGRESSION, [(6, 4, 0)]).episodes())
    plain = model.adapt(support).predict(query.inputs)
    other = model.adapt(replace(support, labels=support.labels * 1000 - 7)).predict(query.inputs)
    assert plain.mean is not None
    assert plain.deviation is not None
    torch.testing.assert_close(other.mean, plain.mean * 1000 - 7, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(other.deviation, plain.deviation * 1000, rtol=1e-5, atol=1e-3)


def test_a_constant_regression_support_gives_finite_predictions_near_it() -> None:
    support, query = next(draw(REGRESSION, [(5, 4, 0)]).episodes())
    found = learner(inner_lr=0.1).adapt(replace(support, labels=torch.full((5,), 0.1))).predict(query.inputs)
    assert found.mean is not None
    assert ((found.mean - 0.1).abs() < 3).all()


@pytest.mark.parametrize("first_order", [False, True])
def test_each_task_frees_its_graph_before_the_next_and_nothing_outlives_an_update(first_order: bool) -> None:
    live: WeakSet[Saved] = WeakSet()
    peak = 0

    class Saved:
        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal peak
            self.tensor = tensor
            live.add(self)
            peak = max(peak, len(live))

    model = learner(first_order=first_order)
    peaks = []
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        for tasks in (1, 5) * 10:
            peak = 0
            model.meta_backward(draw(BINARY, [(6, 4, 2)] * tasks))
            assert len(live) == 0
            peaks.append(peak)
    assert 0 < peaks[0] == max(peaks)


def sinusoids(tasks: int, seed: int, shots: int = 10) -> EpisodeBatch:
    """Finn et al., section 5.1: amplitude 0.1 to 5, phase 0 to pi, x in -5 to 5."""
    rng = np.random.default_rng(seed)
    size = 2 * shots
    x = rng.uniform(-5, 5, (tasks, size))
    y = rng.uniform(0.1, 5, (tasks, 1)) * np.sin(x - rng.uniform(0, np.pi, (tasks, 1)))
    rows = np.arange(size)
    episodes = [Episode(Task(str(i), rows, y[i], REGRESSION, 0), rows[:shots], rows[shots:]) for i in range(tasks)]
    return collate_labels(episodes, torch.from_numpy(x.reshape(-1, 1)))


def error(model: MAML, batch: EpisodeBatch) -> float:
    """Mean squared error over the query rows."""
    found = torch.cat([p.scores() for p in model.predict_episodes(batch)])
    return float((found - batch.labels[~batch.is_support]).square().mean())


def test_meta_training_on_sinusoids_beats_no_adaptation_and_no_meta_training() -> None:
    def net() -> Net:
        return Net(24, nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh())

    model = learner(net, inner_lr=0.05, inner_steps=2, scale_labels=False)
    test = sinusoids(40, seed=0)
    untrained = error(model, test)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for i in range(120):
        optimiser.zero_grad()
        model.meta_backward(sinusoids(4, seed=i + 1))
        optimiser.step()
    adapted = error(model, test)
    model.config = replace(model.config, test_inner_steps=0)
    assert adapted < 0.5 * untrained
    assert adapted < 0.5 * error(model, test)


def test_an_encoding_is_refused_in_words() -> None:
    support, query = next(draw(BINARY, [(4, 4, 2)]).episodes())
    model = learner()
    with pytest.raises(InputError, match="give raw inputs, not an Encoding"):
        model.adapt(replace(support, inputs=Encoding(support.inputs)))
    with pytest.raises(InputError, match="give raw inputs, not an Encoding"):
        model.adapt(support).predict(Encoding(query.inputs))


def test_settings_out_of_range_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"inner_steps is -1.*inner_lr is nan.*head is \"tide\".*ways is 1"):
        MAMLConfig(inner_steps=-1, inner_lr=float("nan"), head="tide", ways=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r'adapt is "haed".*try "all", "head", "backbone.layers"'):
        learner(adapt="haed")
