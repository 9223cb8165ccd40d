"""Image files -> one uint8 array ``[n, channels, size, size]``, decoded once and kept in the cache."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from molmeta.errors import DataError
from molmeta.paths import cache_dir

Images = NDArray[np.uint8]
Progress = Callable[[int], None]  # called with the number of images decoded since the last call
NEAREST, LANCZOS = Image.Resampling.NEAREST, Image.Resampling.LANCZOS


def read_image(content: bytes, where: str, size: int, channels: int, resample: Image.Resampling) -> Images:
    """One image file as ``[channels, size, size]``, stretched to a square; grey for one channel, RGB for three.

    Raises:
        DataError: names ``where``: it is not an image, or is damaged.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB").resize((size, size), resample))
    except UnidentifiedImageError as error:
        raise DataError(f"{where} is not an image that Pillow can read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} is a damaged image ({error})") from error
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def cached_images(name: str, shape: tuple[int, int, int, int], fill: Callable[[Images], None]) -> Images:
    """The array called ``name``, memory-mapped from the cache; made by ``fill``, which writes all of it, if absent.

    Args:
        name: tells its content: equal names hold equal images.
        shape: ``[n, channels, size, size]``.
        fill: is given the array to write to.

    Raises:
        DataError: the cached file is damaged.
    """
    path = cache_dir() / "images" / f"{name}.npy"
    if not path.exists():
        _write(path, shape, fill)
    try:
        images = np.load(path, mmap_mode="r")
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(f"it holds {images.dtype} {list(images.shape)}, not uint8 {list(shape)}")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}). Delete it: it is made again") from error
    return np.asarray(images)  # the same memory, without memmap's slower indexing


def _write(path: Path, shape: tuple[int, int, int, int], fill: Callable[[Images], None]) -> None:
    """Beside its place, then renamed: it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        fill(images)
        images.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
