"""Hashes of what surrounds an atom."""

from __future__ import annotations

import torch

_MULTIPLIERS = -7046029254386353131, -4417276706812531889  # odd: SplitMix64's and its like, modulo 2^64


def mixed(number: torch.Tensor) -> torch.Tensor:
    """A hash of int64 numbers, which wrap around."""
    number = number * _MULTIPLIERS[0]
    number = (number ^ (number >> 29)) * _MULTIPLIERS[1]
    return number ^ (number >> 32)
