"""Tool definitions as Azure accepts them: legal names, clean schemas, nothing lost."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loom_py.messages import ToolSpec

__all__ = ["EncodedTools", "clean_schema", "encode_tools", "legal_name"]

MAX_NAME = 64
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The pattern every version of the service accepts; newer ones also allow dots and more length."""

_PREFIX = "functions."
"""What models put before a tool's name now and then, and the service then refuses in a history."""


def legal_name(name: str) -> str:
    """``name`` with everything the service refuses replaced by ``_``, at most 64 characters.

    A long name keeps its beginning and gets a digest, so that two long names stay apart.
    """
    legal = _ILLEGAL.sub("_", name) or "_"
    return legal if len(legal) <= MAX_NAME else _with_digest(legal, name)


def _with_digest(legal: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{legal[: MAX_NAME - 9]}_{digest}"


@dataclass(frozen=True, slots=True)
class EncodedTools:
    """The tools of one request: their wire definitions and the way back from wire names.

    It belongs to the request it was made for and is never changed, so concurrent requests on one
    client cannot mix their names.
    """

    definitions: tuple[dict[str, Any], ...] = ()
    to_wire: Mapping[str, str] = field(default_factory=dict)
    from_wire: Mapping[str, str] = field(default_factory=dict)
    _json: list[bytes] = field(default_factory=list, repr=False, compare=False)

    def json(self, dumps: Callable[[Any], bytes]) -> bytes:
        """The definitions as JSON, written by ``dumps`` the first time and kept."""
        if not self._json:
            self._json.append(dumps(self.definitions))
        return self._json[0]

    def wire_name(self, name: str) -> str:
        """The name to send for the tool ``name``, also one that is not among the tools."""
        known = self.to_wire.get(name)
        return legal_name(name.removeprefix(_PREFIX)) if known is None else known

    def own_name(self, wire_name: str) -> str:
        """The tool the model meant by ``wire_name``."""
        known = self.from_wire.get(wire_name)
        if known is None:
            bare = wire_name.removeprefix(_PREFIX)
            known = self.from_wire.get(bare, bare)
        return known


NO_TOOLS = EncodedTools()


def encode_tools(tools: Sequence[ToolSpec]) -> EncodedTools:
    """The wire form of ``tools``. Names that are legal already are kept as they are."""
    if not tools:
        return NO_TOOLS
    to_wire = _wire_names([tool.name for tool in tools])
    definitions = tuple(
        {
            "type": "function",
            "function": {
                "name": to_wire[tool.name],
                "description": tool.description,
                "parameters": _parameters(tool.parameters),
            },
        }
        for tool in tools
    )
    return EncodedTools(definitions, to_wire, {wire: own for own, wire in to_wire.items()})


def _wire_names(names: Iterable[str]) -> dict[str, str]:
    names = list(dict.fromkeys(names))
    taken = {name for name in names if _LEGAL.fullmatch(name)}
    to_wire = {name: name for name in taken}
    for name in names:
        if name in taken:
            continue
        wire = legal_name(name)
        salted = name
        while wire in taken:
            wire = _with_digest(wire, salted)
            salted += "'"
        taken.add(wire)
        to_wire[name] = wire
    return to_wire


# ── schemas ──────────────────────────────────────────────────────────────────────────────

_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_SCHEMA_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SCHEMAS = frozenset(
    {
        "items",
        "additionalProperties",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
    }
)


def _parameters(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    cleaned = clean_schema(schema or {})
    if "type" not in cleaned:  # arguments are an object whatever composes them, and must say so
        cleaned["type"] = "object"
        cleaned.setdefault("properties", {})
    return cleaned


def clean_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """``schema`` as the service accepts it, with nothing of its meaning lost.

    Empty arrays and empty-string defaults are left out (the service refuses them), objects always
    have ``properties``, and a missing ``type`` is filled in where the keywords make it plain.
    Names of properties are never taken for keywords, nor values for schemas.
    """
    cleaned: dict[str, Any] = {}
    for key, value in schema.items():
        if (_is_empty_array(value) and key != "const") or (key == "default" and value == ""):
            continue
        cleaned[key] = _clean_value(key, value)
    _fill_in_type(cleaned)
    if _is_object(cleaned.get("type")) and not isinstance(cleaned.get("properties"), Mapping):
        cleaned["properties"] = {}
    return cleaned


def _is_empty_array(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and not value


def _clean_value(key: str, value: Any) -> Any:
    if key in _SCHEMA_MAPS and isinstance(value, Mapping):
        return {name: _clean_any(sub) for name, sub in value.items()}
    if key in _SCHEMA_LISTS and isinstance(value, (list, tuple)):
        return [_clean_any(sub) for sub in value]
    if key in _SCHEMAS:
        return [_clean_any(sub) for sub in value] if isinstance(value, (list, tuple)) else _clean_any(value)
    return value


def _clean_any(value: Any) -> Any:
    return clean_schema(value) if isinstance(value, Mapping) else value


def _fill_in_type(schema: dict[str, Any]) -> None:
    if "type" in schema or "$ref" in schema:
        return
    if "properties" in schema:
        schema["type"] = "object"
    elif "items" in schema or "prefixItems" in schema:
        schema["type"] = "array"
    elif isinstance(values := schema.get("enum"), (list, tuple)) and all(isinstance(v, str) for v in values):
        schema["type"] = "string"


def _is_object(kind: Any) -> bool:
    return kind == "object" or (isinstance(kind, (list, tuple)) and "object" in kind)
