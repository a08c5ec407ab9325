"""Requests held against the service's own model, as botocore ships it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import botocore.session  # type: ignore[import-untyped]  # it ships no types

from loom_bedrock.emulator.exceptions import BedrockException

__all__ = ["check_shape", "input_shape"]

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
    "blob": (str,),
}


@cache
def input_shape(operation: str) -> Any:
    """The shape of an operation's input, such as ``Converse``."""
    session = botocore.session.Session()
    return session.get_service_model("bedrock-runtime").operation_model(operation).input_shape


def check_shape(operation: str, model: str, body: Any) -> None:
    """Raises a ``ValidationException`` that names everything in which the request differs from the model."""
    if not isinstance(body, dict):
        raise BedrockException(
            "SerializationException", "Start of structure or map found where not expected."
        )
    found = list(_problems({**body, "modelId": model}, input_shape(operation), ""))
    if found:
        count = f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected"
        raise BedrockException("ValidationException", f"{count}: {'; '.join(found)}")


def _problems(value: Any, shape: Any, path: str) -> Iterator[str]:
    kind = shape.type_name
    if getattr(shape, "is_document_type", False):
        return
    if not _is_a(value, kind):
        yield _unlike(path, f"Member must be a {kind}")
    elif kind == "structure":
        yield from _structure(value, shape, path)
    elif kind == "list":
        yield from _range(len(value), shape, path, "length ")
        for place, item in enumerate(value):
            yield from _problems(item, shape.member, f"{path}.{place}")
    elif kind == "map":
        for key, item in value.items():
            yield from _problems(item, shape.value, f"{path}.{key}")
    else:
        yield from _scalar(value, shape, path)


def _is_a(value: Any, kind: str) -> bool:
    is_bool = isinstance(value, bool)
    return isinstance(value, _TYPES.get(kind, (object,))) and is_bool == (kind == "boolean")


def _structure(value: Mapping[str, Any], shape: Any, path: str) -> Iterator[str]:
    members = shape.members
    for name in shape.required_members:
        if name not in value:
            yield _unlike(_under(path, name), "Member must not be null")
    for name, item in value.items():
        if name not in members:
            yield f"extraneous key [{_under(path, name)}] is not permitted"
        else:
            yield from _problems(item, members[name], _under(path, name))
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield f"Value at '{path}' must have exactly one member, not {', '.join(value) or 'none'}"


def _scalar(value: Any, shape: Any, path: str) -> Iterator[str]:
    if shape.type_name == "blob":
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            yield _unlike(path, "Member must be base64")
        return
    if shape.type_name != "string":
        yield from _range(value, shape, path, "value ")
        return
    yield from _range(len(value), shape, path, "length ")
    if (allowed := shape.enum) and value not in allowed:
        choices = ", ".join(allowed)
        yield _unlike(path, f"Member must satisfy enum value set: [{choices}]", value)
    pattern = shape.metadata.get("pattern")
    if pattern and not re.fullmatch(pattern, value):
        yield _unlike(path, f"Member must satisfy regular expression pattern: {pattern}", value)


def _range(size: float, shape: Any, path: str, what: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield _unlike(path, f"Member must have {what}greater than or equal to {low}")
    if high is not None and size > high:
        yield _unlike(path, f"Member must have {what}less than or equal to {high}")


def _unlike(path: str, wanted: str, value: str | None = None) -> str:
    shown = "" if value is None else f" '{value}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: {wanted}"


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
