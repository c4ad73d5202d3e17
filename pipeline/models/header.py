"""Frozen dataclasses of plain values, written as JSON and read back with every key and type checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline.errors import CheckpointError


def read_fields(types: Mapping[str, Any], value: object, where: str) -> dict[str, Any]:
    """The JSON object `value` as Python values of `types`, by key.

    Types are bool, int, float, str, Literal of these, X | None, tuple[X, ...], Mapping[str, X] and dataclasses.
    Raises CheckpointError, naming the key below `where`, for keys that lack, keys too many and other types.
    """
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected an object, got {value!r}")
    if missing := [key for key in types if key not in value]:
        raise CheckpointError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(value.keys() - types.keys()):
        raise CheckpointError(f"{where} has the unknown keys {', '.join(unknown)}")
    return {key: _read(kind, value[key], f"{where}.{key}") for key, kind in types.items()}


def _read(kind: Any, value: object, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _read(_not_none(arguments), value, where)
    if origin is Literal:
        return _read_choice(arguments, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], element, f"{where}[{i}]") for i, element in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _read(arguments[1], element, f"{where}.{key}") for key, element in value.items()}
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    return _read_plain(kind, value, where)


def _read_plain(kind: Any, value: object, where: str) -> Any:
    if kind is float and type(value) in (int, float) and math.isfinite(value):  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    if kind in (bool, int, str) and type(value) is kind:
        return value
    raise CheckpointError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}")


def _read_dataclass(kind: Any, value: object, where: str) -> Any:
    fields = read_fields(get_type_hints(kind), value, where)
    try:
        return kind(**fields)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _read_choice(choices: tuple[Any, ...], value: object, where: str) -> Any:
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return value
    raise CheckpointError(f"{where}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def _not_none(arguments: tuple[Any, ...]) -> Any:
    return next(argument for argument in arguments if argument is not NoneType)
