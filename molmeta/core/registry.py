"""Names for methods, backbones and sources. A registry holds import paths, so that listing it loads nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from molmeta.errors import ConfigError


class Registry:
    """Names to ``package.module:Name`` import paths.

    Args:
        what: the singular noun of its entries, for messages.
        entries: name to import path.
    """

    def __init__(self, what: str, entries: dict[str, str]) -> None:
        self.what = what
        self._entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Any:
        """As :meth:`load`."""
        return self.load(name)

    def add(self, name: str, path: str) -> None:
        """Register ``path`` under ``name``.

        Raises:
            ConfigError: another path has that name.
        """
        if self._entries.get(name, path) != path:
            raise ConfigError(f'{self.what} "{name}" is already {self._entries[name]}; choose another name')
        self._entries[name] = path

    def load(self, name: str) -> Any:
        """The object under a registered name, or at a ``package.module:Name`` path.

        Raises:
            ConfigError: no such name, module or attribute.
        """
        path = self._entries.get(name, name)
        if ":" not in path:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f' Did you mean "{close[0]}"?' if close else ""
            raise ConfigError(
                f'unknown {self.what} "{name}".{hint} Known: {", ".join(sorted(self._entries))}; '
                "or give your own as package.module:Name"
            )
        module, _, attribute = path.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            raise ConfigError(f'{self.what} "{name}": there is no module {error.name} to import') from error
        except AttributeError as error:
            raise ConfigError(f'{self.what} "{name}": module {module} has no {attribute}') from error
