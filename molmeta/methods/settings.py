"""The settings that gradient-based methods share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from molmeta.core.registry import Registry
from molmeta.errors import ConfigError
from molmeta.methods import inner_loop
from molmeta.methods.normalisation import POLICIES, Policy

# Called without arguments they give an inner optimiser for one task. Add one's own, or name it package.module:name.
OPTIMISERS = Registry(
    "inner optimiser",
    {
        "sgd": "molmeta.methods.settings:plain",
        "momentum": "molmeta.methods.inner_loop:momentum",
        "adam": "molmeta.methods.inner_loop:adam",
    },
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientConfig:
    inner_lr: float = 0.05  # step size on the support set
    inner_steps: int = 5  # gradient steps a task
    test_inner_steps: int | None = None  # in adapt(); None: as inner_steps
    optimiser: str = "sgd"  # of the inner steps: "sgd", "momentum", "adam", or one's own package.module:name
    first_order: bool = False  # True: cheaper, ignores second derivatives
    head: Literal["tied", "fixed"] = "tied"  # fixed: a learned row for each of `ways` classes, as in the papers
    ways: int = 5  # classes of the fixed head
    adapt: str = "all"  # "all", or names, starts of names or patterns, with commas: "head", "head, backbone.*.bias"
    normalisation: Policy = "batch"  # of batch-norm layers: "batch", "frozen", "per_step", "none" (normalisation.py)
    scale_labels: bool = True  # regression: learn (label - mean) / deviation of the support; False: labels as given

    def __post_init__(self) -> None:
        steps = {"inner_steps": self.inner_steps, "test_inner_steps": self.test_inner_steps}
        problems = [f"{name} is {n}, but a step count is 0 or more" for name, n in steps.items() if n and n < 0]
        if not (math.isfinite(self.inner_lr) and self.inner_lr >= 0):
            problems.append(f"inner_lr is {self.inner_lr}, but a step size is finite and 0 or more")
        if self.head not in ("tied", "fixed"):
            problems.append(f'head is "{self.head}"; choose "tied" or "fixed"')
        if self.normalisation not in POLICIES:
            problems.append(f'normalisation is "{self.normalisation}"; choose one of {", ".join(POLICIES)}')
        if self.ways < 2:
            problems.append(f"ways is {self.ways}, but a classifier has 2 classes or more")
        if problems:
            raise ConfigError("; ".join(problems))

    def parts(self) -> list[str]:
        """What ``adapt`` lists."""
        return [part.strip() for part in self.adapt.split(",") if part.strip()]


def is_part(name: str, part: str) -> bool:
    """Whether the parameter ``name`` is meant by ``part``, one of those that ``adapt`` lists."""
    return part in ("all", name) or name.startswith(f"{part}.") or fnmatchcase(name, part)


def plain() -> inner_loop.Optimiser:
    """Gradient descent."""
    return inner_loop.sgd
