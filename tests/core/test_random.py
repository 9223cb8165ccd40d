from __future__ import annotations

import subprocess
import sys

import torch

from molmeta.core.random import keyed_rng, seed_torch


def numbers(*key: int, seed: int = 0, stream: str = "step") -> list[int]:
    return keyed_rng(seed, stream, *key).integers(2**40, size=8).tolist()


def test_a_key_draws_the_same_whatever_was_drawn_before() -> None:
    expected = numbers(3, 1)
    for step in range(3):
        numbers(step)
    assert numbers(3, 1) == expected


def test_seed_stream_and_every_part_of_the_key_matter() -> None:
    variants = [numbers(3, 1), numbers(3, 2), numbers(4, 1), numbers(3), numbers(3, 1, seed=1)]
    variants.append(numbers(3, 1, stream="episode"))
    assert len({tuple(v) for v in variants}) == len(variants)


def test_another_process_draws_the_same() -> None:
    code = "from molmeta.core.random import keyed_rng; print(keyed_rng(7, 'draw CHEMBL1', 16).integers(2**40))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(found) == keyed_rng(7, "draw CHEMBL1", 16).integers(2**40)


def test_torch_is_seeded_by_run_and_step() -> None:
    drawn = []
    for seed, step in ((0, 5), (0, 5), (0, 6), (1, 5)):
        seed_torch(seed, step)
        drawn.append(torch.rand(4).tolist())
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[0] != drawn[3]
