"""Words for what is wrong with a tool's arguments, so that the model can mend its call."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["describe_arguments", "describe_problems"]

_SHOWN = 80  # characters of a wrong value that are repeated to the model
_EXPECTED = 2000  # characters the list of expected arguments may have


def describe_problems(errors: Sequence[Any], arguments: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """One line per problem of a validation: ``days: input should be …, got 9``."""
    lines: dict[str, None] = {}
    for error in errors:
        path = _path(error["loc"], arguments, missing=error["type"].startswith("missing"))
        lines[f"{path}: {_problem(error, known)}" if path else _problem(error, known)] = None
    return list(lines)


def _problem(error: Any, known: Sequence[str]) -> str:
    kind, message = error["type"], str(error["msg"])
    if kind == "extra_forbidden" and len(error["loc"]) == 1:
        return _unknown(str(error["loc"][0]), known)
    if kind == "extra_forbidden":
        return "unknown field"
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message[:1].lower() + message[1:]
    if kind.startswith("missing"):
        return message
    return f"{message}, got {_short(error['input'])}"


def _unknown(name: str, known: Sequence[str]) -> str:
    if not known:
        return "unknown argument; the tool takes no arguments"
    close = difflib.get_close_matches(name, known, n=1)
    meant = f", did you mean {close[0]!r}?" if close else ""
    return f"unknown argument{meant} (known arguments: {', '.join(known)})"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (a value's own repr may raise anything)
        text = f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _path(location: Sequence[str | int], value: Any, *, missing: bool) -> str:
    """The place as ``orders[0].city``, without the names pydantic gives to the members of a union."""
    path = ""
    for number, step in enumerate(location):
        last = number == len(location) - 1
        if isinstance(step, int) and isinstance(value, (list, tuple)):
            path += f"[{step}]"
            value = value[step] if 0 <= step < len(value) else None
        elif isinstance(value, Mapping) and step in value:
            path += f".{step}" if path else str(step)
            value = value[step]
        elif last and missing:
            path += f".{step}" if path else str(step)
    return path


# ── expected arguments ───────────────────────────────────────────────────────────────────


def describe_arguments(schema: Mapping[str, Any]) -> str:
    """The arguments of an object schema in one line: ``city (string, required), days (integer)``."""
    properties = schema.get("properties") or {}
    if not properties:
        return "The tool takes no arguments: send {}."
    required = set(schema.get("required", ()))
    definitions = schema.get("$defs", {})
    parts = []
    for name, inner in properties.items():
        facts = [_kind(inner, definitions, depth=2)]
        if name in required:
            facts.append("required")
        elif "default" in inner:
            facts.append(f"default {_short(inner['default'])}")
        parts.append(f"{name} ({', '.join(facts)})")
    text = ", ".join(parts)
    return f"Expected arguments: {text if len(text) <= _EXPECTED else text[:_EXPECTED] + '…'}"


def _kind(schema: Any, definitions: Mapping[str, Any], depth: int) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if "$ref" in schema:
        schema = definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(repr(choice) for choice in schema["enum"])
    members = schema.get("anyOf") or schema.get("oneOf")
    if members:
        return " or ".join(dict.fromkeys(_kind(member, definitions, depth) for member in members))
    return _plain_kind(schema, definitions, depth)


def _plain_kind(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> str:
    kind = str(schema.get("type", "any"))
    if kind == "array" and "items" in schema and depth:
        return f"array of {_kind(schema['items'], definitions, depth - 1)}"
    if kind == "object" and schema.get("properties") and depth:
        required = set(schema.get("required", ()))
        fields = (
            f"{name}: {_kind(inner, definitions, depth - 1)}{'' if name in required else ', optional'}"
            for name, inner in schema["properties"].items()
        )
        return f"object with {{{'; '.join(fields)}}}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    if low is not None or high is not None:
        return f"{kind} of at least {low}" if high is None else f"{kind} of at most {high}"
    return f"{kind} ({schema['format']})" if "format" in schema else kind
