"""Which device to compute on, and how a process of our own keeps its memory."""

from __future__ import annotations

import ctypes

import torch

from molmeta.errors import DeviceError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let this process keep what it frees, to use it again: zeroing fresh pages can take half of a training step.

    For a process that is ours (the command line), not for a library's caller. Does nothing but on glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the first CUDA device, or the CPU where there is none.

    Raises:
        DeviceError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f'"{name}" is not a device; use auto, cpu, cuda or cuda:N') from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f'molmeta computes on cpu and cuda devices, not "{name}"')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DeviceError(f'"{name}" was asked for, but this machine has {count} CUDA devices. Use --device cpu')
    return device
