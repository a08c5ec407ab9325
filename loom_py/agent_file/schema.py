"""The JSON schema of an agent's file, for editors: written from the same fields that read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loom_py.agent_file.fields import MISSING, Field, fields_of
from loom_py.agent_file.imports import PATTERN
from loom_py.agent_file.sections import (
    DEPLOYMENTS,
    SECTIONS,
    SQL_FORMS,
    azure_fields,
    deployment_fields,
    price_fields,
    section,
)
from loom_py.agent_file.words import WORDS
from loom_py.backends.sql import SQLBackend

__all__ = ["json_schema"]

Schema = dict[str, Any]

_REFERENCE: Schema = {"type": "string", "pattern": r"\$\{[^}]+\}"}
_IMPORT: Schema = {"type": "string", "pattern": PATTERN}
_TEXT: Schema = {"type": "string", "minLength": 1}


def json_schema() -> Schema:
    """The JSON schema (draft 2020-12) of a document of an agent's file.

    Settings of providers and backends that packages offer are open; all else is closed. A number or a
    truth value may also be text with a ``${NAME}``.
    """
    words = WORDS["agent"]
    backend = {"anyOf": [_TEXT, {"$ref": "#/$defs/backend"}]}
    budget = {"$ref": "#/$defs/budget"}
    properties: dict[str, Schema] = {
        "kind": {"const": "Agent"},
        "name": {**_TEXT, "default": "agent"},
        "llm": {"anyOf": [_TEXT, {"$ref": "#/$defs/azure"}, _script(), {"$ref": "#/$defs/provider"}]},
        "backend": {"anyOf": [_TEXT, {"$ref": "#/$defs/backend"}, {"type": "array", "items": backend}]},
        "backends": {"type": "array", "items": backend},
        "tools": {"anyOf": [_IMPORT, {"type": "array", "items": _IMPORT}]},
        "system_prompt": {"anyOf": [_TEXT, _object({"file": _said(_TEXT, "prompt", "file")}, ["file"])]},
        "output": _IMPORT,
        "limits": _switch(_section("limits")),
        "resilience": _object(_resilience()),
        "budget": {"anyOf": [budget, {"type": "array", "items": budget}]},
        "guardrails": _switch(_section("guardrails")),
        "listeners": {"anyOf": [_IMPORT, {"type": "array", "items": _IMPORT}]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An agent of loom_py",
        "description": "An agent as a file: the model, the tools, and what becomes of failures and money.",
        **_object(
            {name: {**each, "description": words[name]} for name, each in properties.items()}, ["kind"]
        ),
        "patternProperties": {"^x-": {"description": "Read by nobody: a place for anchors."}},
        "$defs": {
            "azure": _azure(),
            "provider": _provider(),
            "deployment": _deployment(),
            "backend": _backend(),
            "budget": _section("budget"),
            "price": _object(_fields(price_fields()), ["input", "output"]),
        },
    }


def _object(properties: Mapping[str, Schema], required: list[str] | None = None) -> Schema:
    needed = {"required": required} if required else {}
    return {"type": "object", "properties": dict(properties), **needed, "additionalProperties": False}


def _switch(given: Schema) -> Schema:
    """A section that nothing, or ``true``, takes with its defaults."""
    return {"anyOf": [given, {"enum": [True, None]}]}


def _said(given: Schema, part: str, name: str) -> Schema:
    return {**given, "description": WORDS[part][name]}


def _resilience() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for place in SECTIONS:
        group, _, name = place.rpartition(".")
        if group != "resilience":
            continue
        given = _section(place)
        if name == "failover":
            given = {"anyOf": [given, {"type": "array", "items": _member()}]}
        elif "required" not in given:
            given = _switch(given)
        found[name] = _said(given, "resilience", name)
    return found


def _section(place: str) -> Schema:
    fields = section(place).fields
    return _object(_fields(fields), [name for name, each in fields.items() if each.default is MISSING])


def _fields(fields: Mapping[str, Field]) -> dict[str, Schema]:
    return {name: _field(each) for name, each in fields.items()}


def _field(field: Field) -> Schema:
    said: Schema = {"description": field.description}
    default = field.default
    if isinstance(default, (bool, int, float, str)):
        said["default"] = default
    if field.name == DEPLOYMENTS:
        return {"type": "array", "items": _member(), **said}
    if field.name == "assumed_price":
        return {"anyOf": [{"$ref": "#/$defs/price"}, {"type": "null"}], **said}
    if field.form == "mapping":
        return {"type": ["object", "null"], **said}
    if field.form == "import":
        given = {"type": "array", "items": _IMPORT} if field.type == list[str] else _import(field)
        return {**given, **said}
    return {**_or_reference(_bare(field.adapter.json_schema())), **said}


def _import(field: Field) -> Schema:
    null = [] if field.default is MISSING else [{"type": "null"}]
    return {"anyOf": [_IMPORT, *null]}


def _or_reference(given: Schema) -> Schema:
    """``given``, or a reference to a variable where text does not fit anyway."""
    options: list[Schema] = given.get("anyOf", [given])
    if any(each.get("type") == "string" and "enum" not in each for each in options) or not given:
        return given
    return {"anyOf": [*options, _REFERENCE]}


def _bare(given: Schema) -> Schema:
    return {key: value for key, value in given.items() if key not in ("title", "default")}


def _azure() -> Schema:
    fields = _fields(azure_fields())
    own: Schema = {
        "provider": {
            "type": "string",
            "pattern": r"^\s*[Aa][Zz][Uu][Rr][Ee][-_][Oo][Pp][Ee][Nn][Aa][Ii]\s*(:.*)?$",
            "description": WORDS["llm"]["provider"],
        },
        DEPLOYMENTS: {
            "type": "array",
            "items": _member(),
            "description": WORDS["azure"][DEPLOYMENTS],
        },
    }
    names = dict.fromkeys(("deployment", "model"), fields["deployment_id"])
    return _object({**own, **fields, **names}, ["provider"])


def _provider() -> Schema:
    """Any other provider: its settings are its own."""
    azure: Schema = _azure()["properties"]["provider"]
    return {
        "type": "object",
        "properties": {
            "provider": {
                "type": "string",
                "not": {"pattern": azure["pattern"]},
                "description": WORDS["llm"]["provider"],
            },
            "script": False,
        },
        "required": ["provider"],
    }


def _script() -> Schema:
    steps = {"type": "array", "minItems": 1}
    whole = _object(
        {
            "steps": {**steps, "description": "The answers, in order."},
            "repeat": {"type": "boolean", "description": "Begin again at the end."},
        },
        ["steps"],
    )
    return _object({"script": _said({"anyOf": [steps, whole]}, "llm", "script")}, ["script"])


def _member() -> Schema:
    return {"anyOf": [_TEXT, {"$ref": "#/$defs/deployment"}]}


def _deployment() -> Schema:
    """A member of a pool; the settings of other providers than Azure's are open."""
    pattern = _azure()["properties"]["provider"]["pattern"]
    own, azure = _fields(deployment_fields()), _fields(azure_fields())
    names = dict.fromkeys(("deployment", "model"), azure["deployment_id"])
    other = {"properties": {"provider": {"not": {"pattern": pattern}}}, "required": ["provider"]}
    return {
        "type": "object",
        "properties": own,
        "if": other,
        "else": _object({**azure, **names, **own}),
    }


def _backend() -> Schema:
    """A backend; the settings of other kinds than ``sql`` are open."""
    fields = fields_of(SQLBackend, "backend", **SQL_FORMS)
    kind: Schema = {"type": "string", "default": "sql", "description": WORDS["backend"]["kind"]}
    other = {"properties": {"kind": {"not": {"const": "sql"}}}, "required": ["kind"]}
    return {
        "type": "object",
        "properties": {"kind": kind},
        "if": other,
        "else": _object({"kind": kind, **_fields(fields)}, ["url"]),
    }
