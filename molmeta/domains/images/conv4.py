"""Conv-4, the encoder of few-shot image classification (Vinyals et al., 2016, arXiv:1606.04080, section 4.1).

    z = flatten(block^4(x)),   block = pool2 . ReLU . norm . conv3x3 (64 channels)

A 28x28 image gives 64 numbers, an 84x84 one 1,600. Two published variants:

    Relation networks (Sung et al., 2018)   the first two blocks alone pool: pools = 2 (feature maps of 64 x 7 x 7)
    MAML on Omniglot (Finn et al., 2017)    strided convolutions, no pooling, then the mean over the map:
                                            downsample = "stride", flatten = false

What batch normalisation means here:

- In training mode it normalises with the rows of one call. For a metric method that is the whole flat meta-batch: with
  ``tasks_per_step = 1``, as the papers train, these are the episode's own support and query; with more, episodes share
  their statistics while training. To keep them apart, choose "group", or "none".
- In evaluation mode it uses running statistics, so that a row's embedding depends on that row alone.
- Gradient methods normalise by their own policy (MAML's ``normalisation``): batches there are one task's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from molmeta.core.backbone import Backbone
from molmeta.core.task import Inputs
from molmeta.errors import ConfigError, InputError

BLOCKS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Conv4Config:
    channels: int = 1  # of the images: 1 grey, 3 RGB
    size: int = 28  # height and width of the images
    hidden: int = 64  # channels of every block
    pools: int = 4  # the first so many blocks halve height and width
    downsample: Literal["max", "stride"] = "max"  # they do so by max pooling, or by the convolution's stride
    normalisation: Literal["batch", "group", "none"] = "batch"  # group: eight groups, row by row
    flatten: bool = True  # the whole map, [n, hidden * h * w]; false: its mean over places, [n, hidden]

    def __post_init__(self) -> None:
        problems = [
            f"{name} is 1 or more, not {getattr(self, name)}"
            for name in ("channels", "size", "hidden")
            if getattr(self, name) < 1
        ]
        if not 0 <= self.pools <= BLOCKS:
            problems.append(f"pools lies in 0 to {BLOCKS}, not {self.pools}")
        elif self.side < 1:
            problems.append(f"an image of size {self.size} is too small to be halved {self.pools} times")
        if problems:
            raise ConfigError("[backbone]: " + "; ".join(problems))

    @property
    def side(self) -> int:
        """Height and width of the last feature map: pooling rounds down, a stride rounds up."""
        halved = 1 << self.pools
        return self.size // halved if self.downsample == "max" else -(-self.size // halved)


class Conv4(Backbone):
    """Four convolutional blocks over images ``[n, channels, size, size]``: uint8 (scaled to 0..1 here), or floats.

    Attributes:
        map_shape: ``(hidden, h, w)`` of the last feature map; where ``flatten`` is set, an embedding is that map in
            this order.
    """

    Config = Conv4Config

    def __init__(self, config: Conv4Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Conv4Config()
        self.map_shape = (config.hidden, config.side, config.side)
        self.width = math.prod(self.map_shape) if config.flatten else config.hidden
        self.views = (self.width,)
        inputs = [config.channels, *[config.hidden] * (BLOCKS - 1)]
        self.blocks = nn.Sequential(*(_block(config, n, halve=i < config.pools) for i, n in enumerate(inputs)))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Embeddings ``[n, width]``.

        Raises:
            InputError: these are not images of the configured channels and size.
        """
        wanted = (self.config.channels, self.config.size, self.config.size)
        if not isinstance(inputs, torch.Tensor) or inputs.shape[1:] != wanted:
            found = list(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else type(inputs).__name__
            raise InputError(
                f"conv4 embeds images of (channels, height, width) = {list(wanted)}, not {found}; "
                "set backbone.channels and backbone.size to the images' own"
            )
        weight = next(self.parameters())
        # Channels last: half the time on a CPU.
        images = inputs.to(weight.dtype, memory_format=torch.channels_last, copy=True)
        images = images if inputs.is_floating_point() else images / 255
        maps: torch.Tensor = self.blocks(images)
        return maps.flatten(1) if self.config.flatten else maps.mean((2, 3))


def _block(config: Conv4Config, inputs: int, *, halve: bool) -> nn.Sequential:
    strided = halve and config.downsample == "stride"
    norm: nn.Module = nn.Identity()
    if config.normalisation == "batch":
        norm = nn.BatchNorm2d(config.hidden)
    elif config.normalisation == "group":
        norm = nn.GroupNorm(math.gcd(8, config.hidden), config.hidden)
    convolution = nn.Conv2d(inputs, config.hidden, 3, stride=2 if strided else 1, padding=1)
    pool = [nn.MaxPool2d(2)] if halve and not strided else []
    # ReLU rises, so it may as well follow the pooling: the same function, at a quarter of ReLU's work.
    return nn.Sequential(convolution, norm, *pool, nn.ReLU())
