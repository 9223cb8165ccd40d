"""A network of one's own, by name: a class or function without a ``Config``, used as recipes use a Backbone class.

Its parameters that have a plain default (a number, a string, a truth value, or a tuple of one of these) are its
settings; the others keep their defaults.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, make_dataclass
from typing import Any

from torch import nn

from molmeta.core.backbone import Backbone, as_backbone
from molmeta.core.registry import Registry
from molmeta.errors import ConfigError


class NetworkMaker:
    """What makes a network, as what makes a Backbone: ``Config`` is its settings, and a call gives a Backbone.

    Args:
        make: an ``nn.Module`` class, or a function that returns a network.
        name: how to call it in messages.

    Raises:
        ConfigError: it is neither, or one of its parameters has no default.
    """

    def __init__(self, make: Callable[..., nn.Module], name: str) -> None:
        if isinstance(make, nn.Module):
            raise ConfigError(f'"{name}" is a network that was made; name its class, or a function that makes it')
        if not callable(make) or (isinstance(make, type) and not issubclass(make, nn.Module)):
            raise ConfigError(f'"{name}" is neither an nn.Module class nor a function that makes a network')
        self._make = make
        self.Config = _settings(make, name)

    def __call__(self, config: Any) -> Backbone:
        return as_backbone(self._make(**asdict(config)))


def _settings(make: Callable[..., nn.Module], name: str) -> type[Any]:
    parameters = inspect.signature(make).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    bare = [p.name for p in named if p.default is p.empty]
    if bare:
        raise ConfigError(f'"{name}" needs {", ".join(bare)}: give each parameter a default')
    hints = {p.name: _hint(p.default) for p in named}
    fields = [(p.name, hints[p.name], p.default) for p in named if hints[p.name] is not None]
    return make_dataclass("Settings", fields, frozen=True, kw_only=True)


def _hint(default: Any) -> Any:
    """The type of a setting with this default; None: it cannot be one."""
    if isinstance(default, (bool, int, float, str)):
        return type(default)
    if isinstance(default, tuple) and default and isinstance(default[0], (int, float, str)):
        return types.GenericAlias(tuple, (type(default[0]), ...))
    return None


def require_classes(registry: Registry, *tables: Mapping[str, Any] | None) -> None:
    """Refuse tables that name a function: a model file may come from anywhere, and must not say what to call.

    Raises:
        ConfigError: names it.
    """
    for table in tables:
        if table and not isinstance(registry.load(table["name"]), type):
            raise ConfigError(f'"{table["name"]}" is no class: a model file may name no function to call')
