"""Randomness is keyed, not streamed: what is drawn depends on where it is used, not on what was drawn before.

Episode ``i`` of step ``s`` is drawn from a generator seeded by (seed, stream, s, i), so workers, ranks and resumed
runs draw the same.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def keyed_rng(seed: int, stream: str, *key: int) -> np.random.Generator:
    """A generator for one place in the program: the run's ``seed``, a named ``stream`` and a position in it."""
    return np.random.default_rng([seed, zlib.crc32(stream.encode()), *key])


def seed_torch(seed: int, step: int) -> None:
    """Seed torch's global generators (dropout, initialisation) for one step of a run."""
    torch.manual_seed(int(keyed_rng(seed, "torch", step).integers(2**63)))
