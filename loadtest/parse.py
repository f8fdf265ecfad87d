"""TOML parsed into frozen dataclasses. An unknown or missing key or a wrong type is an error naming file and key."""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import tomllib

from loadtest.errors import LoadtestError

T = TypeVar("T")
WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file; `what` names its kind in the message. Raises LoadtestError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadtestError(f"cannot read the {what} {path}: {error.strerror}") from error
    except ValueError as error:
        raise LoadtestError(f"{path} is not TOML: {error}") from error


def parse(kind: type[T], values: Any, *, file: str, key: str = "") -> T:
    """Build the dataclass `kind` from a table, nested dataclasses included; raises LoadtestError."""
    if not isinstance(values, Mapping):
        raise LoadtestError(f"{file}: {key} is {values!r}, expected a table")
    prefix = f"{key}." if key else ""
    known = {field.name: field for field in fields(kind) if field.init}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise LoadtestError(f"{file}: there is no {prefix}{name}, expected {', '.join(known)}")
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise LoadtestError(f"{file}: {prefix}{name} is missing")
    hints = typing.get_type_hints(kind)
    parsed = {name: _value(hints[name], value, file, prefix + name) for name, value in values.items()}
    try:
        return kind(**parsed)
    except ValueError as error:
        raise LoadtestError(f"{file}: {prefix}{error}") from error


def _value(kind: Any, value: Any, file: str, key: str) -> Any:
    if typing.get_origin(kind) is types.UnionType:  # X | None: TOML has no null, JSON has
        return None if value is None else _value(typing.get_args(kind)[0], value, file, key)
    if typing.get_origin(kind) is Mapping:
        if not isinstance(value, Mapping):
            raise LoadtestError(f"{file}: {key} is {value!r}, expected a table")
        return value
    if typing.get_origin(kind) is tuple:
        return _tuple(typing.get_args(kind), value, file, key)
    if is_dataclass(kind):
        return parse(kind, value, file=file, key=key)  # type: ignore[arg-type]
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise LoadtestError(f"{file}: {key} is {value!r}, expected {WORDS[kind]}")
    return value


def _tuple(kinds: tuple[Any, ...], value: Any, file: str, key: str) -> tuple[Any, ...]:
    """Parse `tuple[X, ...]` or a fixed number of values."""
    if not isinstance(value, list | tuple):
        raise LoadtestError(f"{file}: {key} is {value!r}, expected a list")
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise LoadtestError(f"{file}: {key} is {value!r}, expected {len(kinds)} values")
    return tuple(
        _value(kind, entry, file, f"{key}[{i}]") for i, (kind, entry) in enumerate(zip(kinds, value, strict=True))
    )
