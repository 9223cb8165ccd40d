"""Settings: frozen dataclasses <-> TOML. Unknown keys are refused with a suggestion; wrong types by name."""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from molmeta.errors import ConfigError

T = TypeVar("T")


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str) -> T:
    """Make a settings dataclass from a mapping, nested tables included.

    Args:
        cls: a dataclass whose fields all have defaults.
        mapping: names to values, as TOML gives them.
        where: how to call the table in messages, such as ``[method]``.

    Raises:
        ConfigError: names every unknown setting and every value of a wrong type.
    """
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    problems, values = [], {}
    for name, value in mapping.items():
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(names)}"
            problems.append(f'unknown setting "{name}" in {where}. {hint}')
            continue
        try:
            values[name] = _convert(hints[name], value, f"{where}.{name}")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is a table of settings, not {value!r}")
        return from_mapping(typing.cast(type[Any], hint), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(f"{where} is one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
        return value
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        if (value is None or value == "") and type(None) in options:
            return None
        return _convert(next(o for o in options if o is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} is a list, not {value!r}")
        return tuple(_convert(get_args(hint)[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} is a {hint.__name__}, not {value!r}")
    return value


def to_mapping(config: Any) -> dict[str, Any]:
    """The settings as a mapping that :func:`from_mapping` reads back; None is left out (TOML has none)."""
    table: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            table[field.name] = to_mapping(value)
        elif value is not None:
            table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def to_toml(mapping: Mapping[str, Any], prefix: str = "") -> str:
    """A mapping of numbers, strings, lists and tables as TOML."""
    plain = [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in mapping.items() if not isinstance(v, Mapping)]
    tables = [
        f"[{prefix}{k}]\n{to_toml(v, f'{prefix}{k}.')}".rstrip() for k, v in mapping.items() if isinstance(v, Mapping)
    ]
    return "\n\n".join(["\n".join(plain), *tables] if plain else tables).strip() + "\n"


def override(mapping: dict[str, Any], assignment: str) -> None:
    """Apply one ``table.name=value`` (a value as in TOML; a bare word is a string) to ``mapping``, in place.

    Raises:
        ConfigError: it is not of that form.
    """
    import tomllib

    path, equals, text = assignment.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or len(keys) < 2 or not all(keys):
        raise ConfigError(f'"{assignment}" is not of the form table.name=value, such as method.inner_lr=0.01')
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = mapping
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f'"{assignment}": {key} is a value, not a table')
    table[keys[-1]] = value
