"""The small checks of a request's JSON, worded as the service words them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loom_py.emulator.wire_errors import WireError, invalid_request

__all__ = [
    "empty_array",
    "json_array",
    "json_object",
    "kind_of",
    "no_constant",
    "number",
    "quoted",
    "required_string",
    "typed",
    "unparsable",
    "wrong_type",
]


def number(
    body: Mapping[str, Any], key: str, kind: type[float], low: float | None = None, high: float | None = None
) -> Any:
    """A number in ``body``, or ``None``. Raises `WireError` (400) outside ``low`` to ``high``."""
    value = body.get(key)
    if value is None:
        return None
    noun = "integer" if kind is int else "decimal"
    accepted = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise wrong_type(key, "an integer" if kind is int else "a decimal", value)
    if low is not None and value < low:
        raise invalid_request(
            f"Invalid '{key}': {noun} below minimum value. Expected a value >= {low}, "
            f"but got {value} instead.",
            key,
            f"{noun}_below_min_value",
        )
    if high is not None and value > high:
        raise invalid_request(
            f"Invalid '{key}': {noun} above maximum value. Expected a value <= {high}, "
            f"but got {value} instead.",
            key,
            f"{noun}_above_max_value",
        )
    return value


def typed(item: Mapping[str, Any], key: str, kind: Any, noun: str, where: str = "") -> Any:
    """The value at ``key`` if it is of ``kind`` or missing. Raises `WireError` (400)."""
    value = item.get(key)
    if value is None or isinstance(value, kind):
        return value
    raise wrong_type(f"{where}.{key}" if where else key, noun, value)


def required_string(item: Mapping[str, Any], key: str, where: str) -> str:
    """The string at ``key``. Raises `WireError` (400) where there is none."""
    value = typed(item, key, str, "a string", where)
    if value is None:
        raise invalid_request(
            f"Missing required parameter: '{where}.{key}'.", f"{where}.{key}", "missing_required_parameter"
        )
    return str(value)


def json_object(value: Any, where: str) -> Mapping[str, Any]:
    """``value`` if it is an object. Raises `WireError` (400)."""
    if isinstance(value, Mapping):
        return value
    if value is None:
        raise invalid_request(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    raise wrong_type(where, "an object", value)


def json_array(value: Any, where: str, of: str) -> Sequence[Any]:
    """``value`` if it is an array. Raises `WireError` (400)."""
    if isinstance(value, list):
        return value
    raise wrong_type(where, f"an array of {of}", value)


def wrong_type(where: str, expected: str, value: object) -> WireError:
    """400 for a value of another type."""
    return invalid_request(
        f"Invalid type for '{where}': expected {expected}, but got {kind_of(value)} instead.",
        where,
        "invalid_type",
    )


def empty_array(where: str) -> WireError:
    """400 for an array that must not be empty."""
    return invalid_request(
        f"Invalid '{where}': empty array. Expected an array with minimum length 1, "
        "but got an empty array instead.",
        where,
        "empty_array",
    )


def unparsable() -> WireError:
    """400 for a body that is not JSON."""
    return invalid_request(
        "We could not parse the JSON body of your request. The API expects a JSON payload, "
        "but what was sent was not valid JSON."
    )


def no_constant(name: str) -> Any:
    """Refuse NaN and Infinity, which Python's parser would take."""
    raise ValueError(f"{name} is not JSON")


def quoted(value: object) -> str:
    """``value`` as the service quotes it."""
    return f"'{value}'" if isinstance(value, str) else json.dumps(value, default=str)


_KINDS = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def kind_of(value: object) -> str:
    """What the service calls the type of ``value``."""
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)
