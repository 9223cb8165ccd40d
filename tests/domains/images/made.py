"""Made-up drawings, and files of them in the layout of the official ones."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image


def drawing(character: int, i: int = 0) -> Image.Image:
    """Drawing ``i`` of a character: black strokes on white, 105x105, one bit a pixel; drawings differ by a shift."""
    rng = np.random.default_rng(character)
    paper = np.ones((105, 105), bool)
    for _ in range(4):
        y, x = rng.integers(10, 80, 2)
        paper[y : y + rng.integers(3, 30), x : x + rng.integers(3, 20)] = False
    shifted = np.roll(paper, np.random.default_rng(i).integers(-4, 5, 2), axis=(0, 1))
    return Image.fromarray(shifted).convert("1")


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def photo(seed: int, width: int = 30, height: int = 20) -> Image.Image:
    """Noise in colour."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def zipped(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    with ZipFile(path, "w") as file:
        for name, content in files:
            file.writestr(name, content)
    return path
