from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Learner
from molmeta.core.task import TaskKind
from molmeta.errors import ConfigError, ModelFileError, MolmetaError
from molmeta.methods.gp import GaussianProcess
from molmeta.methods.maml import MAML, MAMLConfig
from molmeta.methods.protonet import ProtoNet
from molmeta.training.batches import EpisodeConfig, MetaBatches
from molmeta.training.state import load_tensors, save_tensors
from molmeta.training.trainer import Progress, Trainer, TrainingConfig
from tests.toy import Net, NetConfig, Source, episodes

METHODS: dict[str, Callable[[], Learner]] = {
    "protonet": lambda: ProtoNet(Net()),
    "gp": lambda: GaussianProcess(Net()),
    "maml": lambda: MAML(Net(), MAMLConfig(inner_steps=2)),
}


def batches(seed: int = 0) -> MetaBatches:
    config = EpisodeConfig(support_sizes=(4, 8), query_size=12)
    return MetaBatches(Source(), config, tasks_per_step=3, regression=0.0, seed=seed)


def loss_of(learner: Learner) -> dict[str, float]:
    """Minus the loss on fixed episodes."""
    learner.eval()
    with torch.enable_grad():
        return {"score": -float(learner.meta_loss(batches()(10**6))[0].detach())}


def trainer(
    folder: Path, method: str = "protonet", validate: Any = loss_of, draw: Any = None, **settings: Any
) -> Trainer:
    torch.manual_seed(0)
    config = TrainingConfig(**{"steps": 20, "eval_every": 5, "warmup": 5, **settings})
    return Trainer(METHODS[method](), draw or batches(), validate, config, folder)


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_of_unseen_episodes_falls(method: str, tmp_path: Path) -> None:
    def unseen(learner: Learner) -> float:
        learner.eval()
        return sum(float(learner.meta_loss(batches()(10**6 + i))[0].detach()) for i in range(12)) / 12

    made = trainer(tmp_path, method, steps=40, lr=1e-2, eval_every=40)
    before = unseen(made.learner)
    made.run()
    assert unseen(made.learner) < before - 0.05


def test_the_weights_that_are_kept_are_those_of_the_best_score(tmp_path: Path) -> None:
    said = iter([0.1, 0.9, 0.5, 0.9])
    seen = []

    def validate(learner: Learner) -> dict[str, float]:
        seen.append(copy.deepcopy(learner.state_dict()))
        return {"score": next(said)}

    best = trainer(tmp_path, validate=validate).run()
    torch.testing.assert_close(best, seen[1], rtol=0, atol=0)


def test_patience_stops_after_so_many_validations_without_a_better_score(tmp_path: Path) -> None:
    said = iter([math.nan, 0.5, 0.4, math.nan, 0.3, 0.9])
    made = trainer(tmp_path, validate=lambda _: {"score": next(said)}, steps=100, patience=3)
    made.run()
    assert [entry["step"] for entry in made.history] == [5, 10, 15, 20, 25]
    assert made.best_score == 0.5
    again = trainer(tmp_path, validate=lambda _: {"score": 1.0}, steps=100, patience=3)
    again.run()
    assert again.step == 25  # a stopped run stays stopped


class Overflowing:
    """Batches of which some have inputs that overflow."""

    def __init__(self, *at: int) -> None:
        self.at, self.drawn = at, batches()

    def __call__(self, step: int) -> EpisodeBatch:
        batch = self.drawn(step)
        return batch.with_inputs(batch.inputs * math.inf) if step in self.at else batch  # type: ignore[operator]


def test_a_step_without_a_finite_gradient_is_left_out_and_shows_in_the_history(tmp_path: Path) -> None:
    made = trainer(tmp_path, steps=4, eval_every=1, draw=Overflowing(2))
    weights = []
    made.run(lambda _: weights.append(copy.deepcopy(made.learner.state_dict())))
    torch.testing.assert_close(weights[2], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[3]["backbone.net.0.weight"], weights[2]["backbone.net.0.weight"])
    assert all(torch.isfinite(t).all() for t in weights[3].values())
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "history.jsonl").open()]
    assert [line["gradient_norm"] is None for line in lines] == [False, False, True, False]


def test_a_run_that_only_leaves_steps_out_ends_and_keeps_what_it_has(tmp_path: Path) -> None:
    made = trainer(tmp_path, steps=60, draw=Overflowing(*range(10, 60)))
    with pytest.raises(MolmetaError, match="20 steps in a row, up to step 30, are not finite"):
        made.run()
    assert trainer(tmp_path, steps=60).step == 25


def test_the_gradient_is_cut_to_its_norm(tmp_path: Path) -> None:
    made = trainer(tmp_path, steps=1, clip=1e-3)
    made.run()
    grads = [p.grad for p in made.learner.parameters() if p.grad is not None]
    assert torch.linalg.vector_norm(torch.stack([g.norm() for g in grads])) == pytest.approx(1e-3, rel=1e-3)
    assert made.history[0]["gradient_norm"] > 1e-3


def test_the_learning_rate_warms_up_then_falls_as_half_a_cosine(tmp_path: Path) -> None:
    made = trainer(tmp_path, steps=25, warmup=5, lr=0.1)
    rates = []
    made.run(lambda _: rates.append(made.optimizer.param_groups[0]["lr"]))
    expected = [0.1 * (i + 1) / 5 for i in range(5)]
    expected += [0.05 * (1 + math.cos(math.pi * i / 20)) for i in range(20)]
    assert rates == pytest.approx(expected)


def test_the_average_is_the_decayed_mean_of_the_weights_so_far(tmp_path: Path) -> None:
    rising = itertools.count()
    made = trainer(tmp_path, ema=0.9, steps=30, validate=lambda _: {"score": float(next(rising))})
    name = "backbone.net.0.weight"
    average = made.learner.state_dict()[name].clone()
    step = 0

    def follow(_: Progress) -> None:
        nonlocal average, step
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * made.learner.state_dict()[name]
        step += 1

    best = made.run(follow)
    torch.testing.assert_close(made.average.state_dict()[name], average)
    assert not torch.equal(made.learner.state_dict()[name], average)
    assert torch.equal(best[name], made.average.state_dict()[name])  # the average is what is scored and kept


def test_the_trainer_reports_every_step_with_the_best_score_so_far(tmp_path: Path) -> None:
    reports: list[Progress] = []
    trainer(tmp_path, steps=10).run(reports.append)
    assert [r.step for r in reports] == list(range(1, 11))
    assert [r.best is None for r in reports] == [True] * 4 + [False] * 6
    assert all("loss" in r.logs for r in reports)


class Stopped(Exception):  # noqa: N818
    """What the test raises in place of a kill."""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_run_stopped_at_any_step_and_resumed_equals_the_uninterrupted_one(
    method: str, ema: float, tmp_path: Path
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = trainer(tmp_path / "whole", method, ema=ema)
    expected = whole.run()
    for stop_at in (3, 5, 6, 14):

        def stop(progress: Progress, at: int = stop_at) -> None:
            if progress.step == at:
                raise Stopped

        with pytest.raises(Stopped):
            trainer(tmp_path / "parts", method, ema=ema).run(stop)
    resumed = trainer(tmp_path / "parts", method, ema=ema)
    assert resumed.step == 10
    torch.testing.assert_close(resumed.run(), expected, rtol=0, atol=0)
    assert resumed.history == whole.history
    histories = [(tmp_path / name / "history.jsonl").read_bytes() for name in ("whole", "parts")]
    assert histories[0] == histories[1]
    torch.testing.assert_close(resumed.learner.state_dict(), whole.learner.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("left", [0, 7, 200, -1])
def test_a_truncated_state_is_refused_by_name(left: int, tmp_path: Path) -> None:
    trainer(tmp_path, steps=5).run()
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:left])
    with pytest.raises(ModelFileError, match=rf"{state} is damaged or not a safetensors file"):
        trainer(tmp_path, steps=5)


def test_a_state_of_another_learner_or_program_is_refused_by_name(tmp_path: Path) -> None:
    trainer(tmp_path, "gp", steps=5).run()
    with pytest.raises(ModelFileError, match=rf"{tmp_path / 'state.safetensors'} was written by a run with other"):
        trainer(tmp_path, "protonet", steps=5)
    save_file({"x": torch.zeros(1)}, tmp_path / "state.safetensors")
    with pytest.raises(ModelFileError, match="not one that molmeta wrote"):
        trainer(tmp_path, steps=5)


def test_a_model_in_place_of_a_state_is_refused_by_name(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    tensors = {f"learner/{name}": tensor for name, tensor in made.learner.state_dict().items()}
    save_tensors(tmp_path / "state.safetensors", tensors, {"recipe": {}})
    with pytest.raises(ModelFileError, match="was written by a run with other settings"):
        trainer(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=f"there is no model file {tmp_path / 'x'}"):
        load_tensors(tmp_path / "x")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is at least 1, not 0"),
        ({"eval_every": 0}, "eval_every is at least 1"),
        ({"ema": 1.5}, r"ema lies in \[0, 1\], not 1.5"),
        ({"regression": -0.1}, r"regression lies in \[0, 1\]"),
        ({"lr": 0.0}, "lr is positive"),
        ({"lr": math.nan}, "lr is positive"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**settings)


def test_the_trainer_leaves_the_backward_pass_to_the_learner(tmp_path: Path) -> None:
    class Writes(ProtoNet):
        """Writes its gradient itself, without autograd."""

        def meta_backward(self, batch: EpisodeBatch) -> dict[str, float]:
            for parameter in self.parameters():
                parameter.grad = torch.ones_like(parameter)
            return {"loss": 1.0}

    learner = Writes(Net(NetConfig(dropout=0.0)))
    before = learner.backbone.net[0].bias.detach().clone()
    draw = lambda step: episodes(TaskKind.BINARY, [(4, 4, 2)])  # noqa: E731
    config = TrainingConfig(steps=1, warmup=0, lr=0.01, weight_decay=0.0)
    Trainer(learner, draw, lambda _: {"score": 0.0}, config, tmp_path).run()
    torch.testing.assert_close(learner.backbone.net[0].bias.detach(), before - 0.01)
