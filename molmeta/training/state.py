"""The state of a run on disk: whole or not at all, and nothing that is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from molmeta.errors import ModelFileError
from molmeta.files import write_whole


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """Tensors and a JSON header as one safetensors file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(plain, metadata={"molmeta": json.dumps(header)}))


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote.

    Raises:
        ModelFileError: the file is missing, truncated, or not molmeta's.
    """
    if not path.is_file():
        raise ModelFileError(f"there is no model file {path}")
    if not os.access(path, os.R_OK):  # safetensors would say that it is not there
        raise ModelFileError(f"{path} cannot be read: permission denied")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is damaged or not a safetensors file ({error}). Fetch or train it again"
        ) from error
    if "molmeta" not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but not one that molmeta wrote")
    return tensors, json.loads(metadata["molmeta"])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimizer's per-parameter state, named ``<parameter index>.<entry>``."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": torch.as_tensor(value) for i, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give an optimizer the state that :func:`optimizer_tensors` took."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
