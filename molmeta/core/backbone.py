"""A backbone turns inputs into embeddings; it knows nothing of tasks or labels. Any other network can be one, too."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from molmeta.core.task import Inputs
from molmeta.errors import ConfigError


class Backbone(nn.Module, ABC):
    """Inputs for ``n`` rows to embeddings ``[n, d]``, row by row: no row's embedding depends on another's.

    Attributes:
        width: ``d``.
        views: widths, summing to ``d``, of the parts of an embedding that stand for different views of the input;
            ``(width,)`` where they are not set. The first is learned, the others are constants of the input: no
            gradient is taken through them. A kernel may weigh them apart; most methods see one vector.
        stacks: whether it serves many tasks' weights at once, as :mod:`molmeta.core.stacked` says.
    """

    width: int
    views: tuple[int, ...]
    stacks: bool = False

    @abstractmethod
    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Embeddings ``[n, d]``."""

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        embedding: torch.Tensor = super().__call__(inputs)
        return embedding


class Wrapped(Backbone):
    """Any network as a backbone: what it gives for ``n`` rows, ``[n, width]``.

    Attributes:
        net: the network itself; its parameters are named ``backbone.net.`` and their own name.
    """

    def __init__(self, net: nn.Module, width: int) -> None:
        super().__init__()
        self.net, self.width, self.views = net, width, (width,)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Embeddings ``[n, width]``; images in bytes, ``[n, channels, height, width]`` uint8, are scaled to 0..1.

        Raises:
            ConfigError: the network gives something else.
        """
        if isinstance(inputs, torch.Tensor) and inputs.dtype == torch.uint8 and inputs.ndim == 4:
            inputs = inputs.to(next((p.dtype for p in self.net.parameters()), torch.get_default_dtype())) / 255
        embedding: torch.Tensor = self.net(inputs)
        if not isinstance(embedding, torch.Tensor) or embedding.shape != (len(inputs), self.width):
            raise ConfigError(_wrong_shape(embedding, len(inputs), self.width))
        return embedding


def as_backbone(net: nn.Module, width: int | None = None) -> Backbone:
    """Any network as a backbone; every learner's constructor calls this.

    Args:
        net: a Backbone, which is returned itself; or a network that takes ``n`` rows of inputs and gives ``[n, d]``.
        width: ``d``. Left out, it is the network's attribute ``width``, or that of its last layer, where the network
            is a linear layer or an ``nn.Sequential`` that ends in one, perhaps with norms, activations and dropout
            after it.

    Raises:
        ConfigError: the width is not known, or layers are lazy and have seen no input yet.
    """
    if not isinstance(net, nn.Module):
        raise ConfigError(f"a backbone is an nn.Module, not {net!r}")
    name = type(net).__name__
    if any(isinstance(p, UninitializedParameter) for p in net.parameters()):
        raise ConfigError(f"{name} has lazy layers, whose sizes are not known yet: give it a batch of inputs first")
    width = width or getattr(net, "width", None) or _last_width(net)
    if not isinstance(width, int):
        raise ConfigError(
            f"the width of {name}'s embeddings is not known: say it, as_backbone(net, width=64), or set net.width"
        )
    if not isinstance(net, Backbone):
        return Wrapped(net, width)
    for name, value in (("width", width), ("views", (width,))):
        if not hasattr(net, name):
            setattr(net, name, value)
    return net


def _last_width(net: nn.Module) -> int | None:
    """The width of ``[n, d]`` that a linear layer or a plain sequence gives, where the layers say it."""
    if isinstance(net, nn.Linear):
        return net.out_features
    if isinstance(net, nn.BatchNorm1d):
        return net.num_features
    if isinstance(net, (nn.LayerNorm, nn.RMSNorm)):
        return net.normalized_shape[0] if len(net.normalized_shape) == 1 else None
    if not isinstance(net, nn.Sequential) or type(net).forward is not nn.Sequential.forward:
        return None
    for layer in reversed(net):
        if not _keeps_width(layer):
            return _last_width(layer)
    return None


def _keeps_width(layer: nn.Module) -> bool:
    kinds = ("torch.nn.modules.activation", "torch.nn.modules.dropout")
    other = isinstance(layer, (nn.GLU, nn.MultiheadAttention))  # the former halves it
    return isinstance(layer, nn.Identity) or (type(layer).__module__ in kinds and not other)


def _wrong_shape(embedding: object, rows: int, width: int) -> str:
    if not isinstance(embedding, torch.Tensor):
        return f"the backbone's network gives a {type(embedding).__name__}, not a tensor [n, {width}]"
    shape = list(embedding.shape)
    way_out = f"say as_backbone(net, width={shape[-1]})" if len(shape) == 2 else "end it in nn.Flatten() or a mean"
    return f"the backbone's network gives {shape} for {rows} rows, not [{rows}, {width}]: {way_out}"
