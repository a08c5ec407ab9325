"""Tool schemas in the simple form the engine reads; what the agent validates stays as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loom_py.messages import ToolSpec

__all__ = ["engine_tools"]

_KEPT = (
    "type", "description", "enum", "const", "format", "pattern", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems",
)  # fmt: skip
_MAX_DEPTH = 6
"""A schema that refers to itself is cut here."""


def engine_tools(tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
    """The tools for the engine: always the same keys in the same order, without ``$ref`` and unions.

    The order matters: the model reads the schema as text and decides a little differently on
    another. Of a union the first member that is not ``null`` is kept.
    """
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "parameters": _simplified(tool.parameters, tool.parameters, 0),
        }
        for tool in tools
    ]


def _simplified(schema: Any, root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH or not isinstance(schema, Mapping):
        return {"type": "string"}
    schema = _resolved(schema, root)
    simple = {key: schema[key] for key in _KEPT if key in schema}
    kind = _kind(schema)
    simple = {"type": kind, **{key: value for key, value in simple.items() if key != "type"}}
    if "const" in simple and "enum" not in simple:
        simple["enum"] = [simple.pop("const")]
    if kind == "array":
        simple["items"] = _simplified(schema.get("items", {}), root, depth + 1)
    if kind == "object":
        inner = schema.get("properties") or {}
        simple["properties"] = {name: _simplified(value, root, depth + 1) for name, value in inner.items()}
        simple["required"] = [name for name in schema.get("required", ()) if name in inner]
        simple["additionalProperties"] = False
    return simple


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """``schema`` with its reference, union or ``allOf`` replaced by what they lead to."""
    for _ in range(_MAX_DEPTH):
        own = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "oneOf", "allOf")}
        if "$ref" in schema:
            target = _target(str(schema["$ref"]), root)
        else:
            members = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
            if not isinstance(members, Sequence) or not members:
                return schema
            target = next((member for member in members if not _is_null(member)), {})
        schema = {**target, **own}
    return {}


def _target(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        step = step.replace("~1", "/").replace("~0", "~")
        node = node.get(step, {}) if isinstance(node, Mapping) else {}
    return node if isinstance(node, Mapping) else {}


def _is_null(member: Any) -> bool:
    return not isinstance(member, Mapping) or member.get("type") == "null"


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = next((one for one in kind if one != "null"), None)
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    if "items" in schema:
        return "array"
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    return _KINDS.get(type(values[0]), "string") if values else "string"


_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}
