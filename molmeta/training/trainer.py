"""The trainer: the readable loop. It never calls backward (the learner does) and never wraps the learner."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from molmeta.core.episode import EpisodeBatch
from molmeta.core.learner import Learner
from molmeta.core.random import seed_torch
from molmeta.errors import ConfigError, ModelFileError, MolmetaError
from molmeta.files import write_whole
from molmeta.training.state import load_tensors, optimizer_tensors, restore_optimizer, save_tensors

_LEFT_OUT = 20  # steps in a row without a finite gradient that end a run
Validate = Callable[[Learner], dict[str, float]]
Report = Callable[["Progress"], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    steps: int = 5000
    tasks_per_step: int = 16  # episodes in a meta-batch
    lr: float = 1e-3  # AdamW's, at the top of the schedule
    weight_decay: float = 1e-4
    clip: float = 1.0  # norm that the meta-gradient is cut to
    warmup: int = 100  # steps of linear warm-up; then a half cosine down to 0
    ema: float = 0.0  # decay of the weights' moving average, which is what is scored and kept; 0: none
    regression: float = 0.0  # share of the steps that draw regression tasks
    eval_every: int = 500  # steps between validations
    patience: int = 0  # validations without a better score before stopping; 0: never
    seed: int = 0
    init: str = ""  # a finished run whose backbone to start from, such as a multi-task model's (finetune)
    precision: Literal["float32", "bfloat16"] = "float32"  # bfloat16: autocast, on CUDA only

    def __post_init__(self) -> None:
        for name in ("steps", "tasks_per_step", "eval_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"[training].{name} is at least 1, not {getattr(self, name)}")
        for name in ("ema", "regression"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"[training].{name} lies in [0, 1], not {getattr(self, name)}")
        if not self.lr > 0:
            raise ConfigError(f"[training].lr is positive, not {self.lr}")


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after each step."""

    step: int
    steps: int
    logs: dict[str, float]
    best: float | None


class Trainer:
    """Meta-train a learner; every random draw is keyed by the step, so a resumed run equals an uninterrupted one.

    Args:
        learner: on the device where it is trained.
        batches: step -> the step's meta-batch.
        validate: scores the learner; ``score`` in its result decides which weights are kept.
        config: the settings.
        folder: the run's folder; holds ``state.safetensors`` (to resume) and ``history.jsonl``.
    """

    def __init__(
        self,
        learner: Learner,
        batches: Callable[[int], EpisodeBatch],
        validate: Validate,
        config: TrainingConfig,
        folder: Path,
    ) -> None:
        self.learner = learner
        self.batches = batches
        self.validate = validate
        self.config = config
        self.folder = folder
        self.optimizer = torch.optim.AdamW(
            learner.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        # The average's parameters still require gradients: methods that adapt them by gradient steps need that.
        self.average = copy.deepcopy(learner) if config.ema else learner
        self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        self.best_score = -math.inf
        self.history: list[dict[str, float]] = []
        self.step = 0
        self._left_out = 0  # steps in a row
        self.seconds = 0.0  # of training, earlier sittings included
        self._since = time.monotonic()
        if (folder / "state.safetensors").exists():
            self._restore()

    def run(self, report: Report | None = None) -> dict[str, torch.Tensor]:
        """Train from where the folder stands to the last step; returns the best weights."""
        self._since = time.monotonic()
        while self.step < self.config.steps and not self._out_of_patience():
            logs = self._train_step()
            self.step += 1
            if self.step % self.config.eval_every == 0 or self.step == self.config.steps:
                self._validate(logs)
                self._save()
            if report is not None:
                best = self.best_score if self.history else None
                report(Progress(self.step, self.config.steps, logs, best))
        return self.best

    def _train_step(self) -> dict[str, float]:
        seed_torch(self.config.seed, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * _schedule(self.step, self.config)
        self.learner.train()
        self.optimizer.zero_grad()
        batch = self.batches(self.step).to(self.learner.device)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            logs = self.learner.meta_backward(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.learner.parameters(), self.config.clip)
        if torch.isfinite(norm):  # a step whose gradient overflowed is left out, and shows in the log
            self.optimizer.step()
            self._left_out = 0
        else:
            self._left_out += 1
            self._stop_if_diverged()
        if self.config.ema:
            self._move_average()
        return {**logs, "gradient_norm": float(norm)}

    def _stop_if_diverged(self) -> None:
        """Steps left out again and again teach nothing: say so at once."""
        if self._left_out == _LEFT_OUT:
            raise MolmetaError(
                f"the gradients of {_LEFT_OUT} steps in a row, up to step {self.step + 1}, are not finite: training "
                "has diverged. Lower [training].lr or [method].inner_lr, or look at the inputs; what was "
                f"saved so far stands in {self.folder}"
            )

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        averaged, current = self.average.state_dict(), self.learner.state_dict()
        for name, tensor in averaged.items():
            if tensor.is_floating_point():
                tensor.lerp_(current[name], 1 - decay)
            else:
                tensor.copy_(current[name])

    def _validate(self, logs: dict[str, float]) -> None:
        scores = self.validate(self.average)
        self.history.append({"step": self.step, **logs, **scores})
        if scores["score"] > self.best_score:
            self.best_score = scores["score"]
            self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}

    def _out_of_patience(self) -> bool:
        if not self.config.patience or not self.history:
            return False
        scores = [-math.inf if math.isnan(entry["score"]) else entry["score"] for entry in self.history]
        return len(scores) - 1 - scores.index(max(scores)) >= self.config.patience

    def _save(self) -> None:
        parts = {
            "learner": self.learner.state_dict(),
            "average": self.average.state_dict() if self.config.ema else {},
            "best": self.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        header = {
            "step": self.step,
            "best_score": self.best_score,
            "history": self.history,
            "seconds": round(self.seconds, 1),
        }
        save_tensors(self.folder / "state.safetensors", tensors, header)
        lines = "".join(json.dumps(_finite(entry)) + "\n" for entry in self.history)
        write_whole(self.folder / "history.jsonl", lines.encode())

    def _restore(self) -> None:
        path = self.folder / "state.safetensors"
        tensors, header = load_tensors(path)

        def part(name: str) -> dict[str, torch.Tensor]:
            return {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}

        try:
            self.learner.load_state_dict(part("learner"))
            if self.config.ema:
                self.average.load_state_dict(part("average"))
            restore_optimizer(self.optimizer, part("optimizer"))
            self.best_score, self.history, self.step = header["best_score"], header["history"], header["step"]
            self.seconds = header["seconds"]
        except (RuntimeError, KeyError, ValueError) as error:
            raise ModelFileError(f"{path} was written by a run with other settings: {error}") from error
        device = self.learner.device
        self.best = {name: tensor.to(device) for name, tensor in part("best").items()}


def _finite(entry: dict[str, float]) -> dict[str, float | None]:
    """Strict JSON has no NaN: the gradient norm of a step that was left out is null."""
    return {name: value if math.isfinite(value) else None for name, value in entry.items()}


def _schedule(step: int, config: TrainingConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))
