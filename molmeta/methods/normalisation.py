"""Batch normalisation where every task has weights of its own: which statistics a batch-norm layer uses.

    batch      of the rows at hand, a task's support and its queries apart, in training and in use: as in MAML's own
               experiments. A prediction depends on the other queries of the same call (transductive), and a layer
               that averages over rows alone cannot take one row
    frozen     those stored in the layer, which nothing here updates: for a backbone that was trained before. A fresh
               layer has stored mean 0 and variance 1
    per_step   MAML++ (Antoniou et al., 2019, arXiv:1810.09502, section 4): stored statistics, weights and biases of
               their own for the model before the first inner update and after each. Training normalises by the rows
               at hand and keeps running averages, which are what is used afterwards. The weights and biases are
               meta-learned and do not adapt
    none       batch-norm layers are refused

A backbone without batch-norm layers is the same under each. Layer, group and instance norm need no policy: no row
depends on another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from molmeta.errors import ConfigError

Policy = Literal["batch", "frozen", "per_step", "none"]
POLICIES = ("batch", "frozen", "per_step", "none")


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """The batch-norm layers of ``module``, by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, _BatchNorm)}


def check_policy(policy: Policy, layers: Mapping[str, _BatchNorm]) -> None:
    """Refuse batch-norm layers that ``policy`` cannot serve.

    Raises:
        ConfigError: names the layers.
    """
    if policy == "none" and layers:
        raise ConfigError(
            f'normalisation is "none", but the backbone has batch-norm layers ({", ".join(layers)}); '
            'choose "batch", "per_step", or "frozen" for a backbone that was trained before'
        )
    bare = [name for name, layer in layers.items() if layer.running_mean is None]
    if policy in ("frozen", "per_step") and bare:
        raise ConfigError(
            f'normalisation is "{policy}", but {", ".join(bare)} stores no statistics; choose "batch", or make the '
            "layer with track_running_stats=True"
        )


class StepNorms(nn.Module):
    """Statistics, weights and biases ``[steps + 1, channels]`` of each layer: a row for each number of updates done.

    Args:
        layers: batch-norm layers by their names in the learner. They stay as they are: theirs are not what is used.
        steps: inner updates in training; more of them use the last row.
    """

    def __init__(self, layers: Mapping[str, _BatchNorm], steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.affine = nn.ParameterDict()
        for name, layer in layers.items():
            for part, tensor in layer.named_parameters(recurse=False):
                self.affine[_key(name, part)] = tensor.detach().repeat(steps + 1, 1)
            for part in ("running_mean", "running_var"):
                self.register_buffer(_key(name, part), getattr(layer, part).detach().repeat(steps + 1, 1))

    def at(self, step: int) -> dict[str, torch.Tensor]:
        """What stands in the layers after ``step`` updates, by their parameters' and buffers' names; a copy."""
        tensors = {**dict(self.affine), **dict(self.named_buffers())}
        row = min(step, self.steps)
        return {_name(key): t[row] if t.requires_grad else t[row].clone() for key, t in tensors.items()}

    @torch.no_grad()
    def keep(self, step: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Store the running averages that a forward pass in training left in ``tensors``, which :meth:`at` gave."""
        for key, buffer in self.named_buffers():
            buffer[min(step, self.steps)].copy_(tensors[_name(key)])


def _key(layer: str, part: str) -> str:
    return f"{layer}.{part}".replace(".", "/")  # names in a module have no dots


def _name(key: str) -> str:
    return key.replace("/", ".")
