"""Structured output: a type the model's answer must fit, as schema, instructions and validation.

`OutputSpec` is made of any type pydantic knows: a model, a dataclass, a TypedDict, a union, a list.
Where the model keeps to a JSON schema by itself the schema goes along as ``response_format``;
elsewhere the answer is asked for as the arguments of one more tool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, cast, get_args, get_origin

from loom_py.errors import ConfigError, OutputValidationError
from loom_py.messages import Response, ToolCall, ToolSpec
from loom_py.tools.annotations import modern

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["OUTPUT_TOOL", "OutputSpec", "output_spec", "strict_schema"]

T = TypeVar("T")

OUTPUT_TOOL = "final_answer"
"""The tool by which a model without JSON schemas gives its answer."""

WRAPPED = "result"
"""The property that holds an answer which is no object by itself, such as a list or a union."""


class OutputSpec(Generic[T]):
    """What an answer must be, and how to ask for it.

    Raises `ConfigError` for a type that has no JSON schema.
    """

    def __init__(self, kind: Any) -> None:
        from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

        self.kind = kind
        self.name = _name(kind)
        try:
            self._adapter: TypeAdapter[T] = TypeAdapter(modern(kind))
            schema = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as exc:
            raise ConfigError(
                f"{self.name} cannot be an output: {exc.message.splitlines()[0]}",
                field="output",
                hint="Use a pydantic model, a dataclass, a TypedDict, or a union or list of them.",
            ) from None
        schema = _at_the_root(schema)
        self._is_wrapped = not _is_object(schema)
        self.schema = _wrapped(schema) if self._is_wrapped else schema

    def __repr__(self) -> str:
        return f"OutputSpec({self.name})"

    @cached_property
    def response_format(self) -> dict[str, Any]:
        """The ``response_format`` of a request: the schema, strict where its shape allows that."""
        strict = strict_schema(self.schema)
        json_schema = {"name": self.name, "schema": strict or self.schema, "strict": strict is not None}
        return {"type": "json_schema", "json_schema": json_schema}

    @cached_property
    def tool(self) -> ToolSpec:
        """The tool whose arguments are the answer."""
        return ToolSpec(OUTPUT_TOOL, f"Give the final answer, as {self.name}.", self.schema)

    def call_in(self, reply: Response) -> ToolCall | None:
        """The call by which ``reply`` gives the answer, if it does."""
        return next((call for call in reply.tool_calls if call.name == OUTPUT_TOOL), None)

    def parse(self, text: str) -> T:
        """The value that JSON ``text`` is.

        Raises `OutputValidationError`, whose message tells the model every problem by its path.
        """
        from pydantic import ValidationError

        try:
            data = json.loads(_unfenced(text))
        except (ValueError, RecursionError) as exc:
            raise OutputValidationError(f"the answer is not JSON: {exc}", text=text) from None
        if self._is_wrapped and isinstance(data, dict) and WRAPPED in data:
            data = data[WRAPPED]
        try:
            return self._adapter.validate_json(json.dumps(data))
        except ValidationError as exc:
            problems = "; ".join(map(_line, exc.errors(include_url=False, include_input=False)))
        except RecursionError:
            problems = "the answer is nested too deeply"
        raise OutputValidationError(problems, text=text)


@lru_cache(maxsize=256)
def _kept_spec(kind: Any) -> OutputSpec[Any]:
    return OutputSpec(kind)


def output_spec(kind: Any) -> OutputSpec[Any]:
    """The `OutputSpec` of a type, made once where the type can be kept."""
    try:
        return _kept_spec(kind)
    except TypeError:  # not hashable
        return OutputSpec(kind)


def _unfenced(text: str) -> str:
    """``text`` without the code fence that models put around JSON now and then."""
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", text, re.DOTALL)
    return fenced[1] if fenced else text


def _line(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    message = error["msg"][:1].lower() + error["msg"][1:]
    return f"{where}: {message}" if where else message


def _name(kind: Any) -> str:
    """A name for the schema, of the letters the service takes."""
    arguments = [getattr(part, "__name__", str(part)) for part in get_args(kind)]
    if get_origin(kind) in {Union, UnionType}:
        name = "_or_".join(arguments)
    else:
        name = "_of_".join([getattr(kind, "__name__", str(kind)), *arguments])
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:64] or "output"


def _is_object(schema: Mapping[str, Any]) -> bool:
    """Whether a schema describes one object, which is what the services take at the top."""
    return schema.get("type") == "object" and "properties" in schema


def _at_the_root(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` with its object at the top, where a recursive type has only a reference to it."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    definition = schema.get("$defs", {}).get(name)
    return schema if definition is None else {**definition, "$defs": schema["$defs"]}


def _wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    inner = {key: value for key, value in schema.items() if key != "$defs"}
    outer: dict[str, Any] = {"type": "object", "properties": {WRAPPED: inner}, "required": [WRAPPED]}
    return {**outer, "$defs": schema["$defs"]} if "$defs" in schema else outer


# ── strict schemas ───────────────────────────────────────────────────────────────────────

_KINDS = frozenset({"type", "$ref", "anyOf", "enum", "const"})
_MAPS = frozenset({"properties", "$defs", "definitions"})
_DROPPED = frozenset({"default", "title", "examples", "deprecated", "readOnly", "writeOnly"})
_TOLD = frozenset(
    {"minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum"}
    | {"exclusiveMaximum", "multipleOf", "minItems", "maxItems", "uniqueItems"}
)
"""Keywords that strict mode does not take (Azure's documentation of structured outputs). They go into
the description, for the model to heed; whether it did is checked when its answer is read."""

_UNSUPPORTED = frozenset({"oneOf", "allOf", "not", "prefixItems", "patternProperties", "propertyNames"}) | {
    *("if", "then", "else", "dependentRequired", "dependentSchemas", "contains", "contentSchema"),
    *("minProperties", "maxProperties", "unevaluatedProperties", "unevaluatedItems"),
}


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """``schema`` in the subset that strict mode takes; ``None`` where it does not fit.

    Strict mode wants every property required and no others allowed. A property with a default
    becomes required: the model then states it. Open mappings (``dict[str, int]``) and alternatives
    by ``oneOf`` have no strict form, save a pydantic discriminated union, which becomes ``anyOf``.
    """
    try:
        return cast("dict[str, Any]", _strict(schema))
    except _NotStrictError:
        return None


class _NotStrictError(Exception):
    """A schema that has no strict form."""


def _strict(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    told: list[str] = []
    for key, value in schema.items():
        if key in _DROPPED:
            continue
        if key in _TOLD:
            told.append(f"{key}: {json.dumps(value)}")
        elif key == "oneOf" and "discriminator" in schema:
            made["anyOf"] = [_strict(sub) for sub in value]
        elif key in _UNSUPPORTED:
            raise _NotStrictError
        elif key in _MAPS and isinstance(value, Mapping):
            made[key] = {name: _strict(sub) for name, sub in value.items()}
        elif key == "anyOf":
            made[key] = [_strict(sub) for sub in value]
        elif key == "items":
            made[key] = _strict(value)
        elif key != "discriminator":
            made[key] = value
    if told:
        made["description"] = f"{made.get('description', '')} ({', '.join(told)})".strip()
    return _closed(made)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema and len(schema) > 1 and "$defs" not in schema:
        schema = {"$ref": schema["$ref"]}  # a reference stands alone
    if _KINDS.isdisjoint(schema) or (schema.get("type") == "array" and "items" not in schema):
        raise _NotStrictError  # anything may be there
    if schema.get("type") == "object":
        if "properties" not in schema or schema.get("additionalProperties"):
            raise _NotStrictError
        schema["additionalProperties"] = False
        schema["required"] = list(schema["properties"])
    return schema
