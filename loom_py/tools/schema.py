"""A function's signature as a JSON schema, and a model's arguments checked against it.

pydantic does both. The parameters become the fields ``arg_0``, ``arg_1``, … of a model made on the
fly, under their real names as aliases, so that no parameter name can clash with pydantic's own.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError

from loom_py.errors import ToolArgumentsError, ToolDefinitionError
from loom_py.tools.annotations import label, resolve, signature_of
from loom_py.tools.problems import describe_arguments, describe_problems

__all__ = ["ArgumentSchema", "Parameter"]

_CONFIG = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, how it is passed, its type and its own default.

    ``own_default`` is what the function itself uses when the argument is left out, `Parameter.EMPTY`
    where it has none.
    """

    name: str
    positional_only: bool
    hint: Any
    own_default: Any

    EMPTY = inspect.Parameter.empty


class ArgumentSchema:
    """The arguments a function takes: their JSON schema, and how to check and bind them.

    Raises `ToolDefinitionError` for a signature that has no schema.
    """

    __slots__ = ("_by_spelling", "_model", "_name", "json_schema", "parameters")

    def __init__(
        self, function: Callable[..., Any], docs: Mapping[str, str], *, hidden: Iterable[str] = ()
    ) -> None:
        self._name = label(function)
        self.parameters = _parameters(function, frozenset(hidden))
        self._model = _make_model(self._name, self.parameters, docs)
        self.json_schema = _json_schema(self._name, self._model, self.parameters)
        self._by_spelling = _unique_spellings(parameter.name for parameter in self.parameters)

    def bind(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments for the call, checked and converted.

        Only arguments that were given are passed; for the others the function's own defaults apply.
        Raises `ToolArgumentsError` that lists every problem.
        """
        arguments = self._respelled(arguments)
        try:
            checked = self._model.model_validate(arguments)
        except ValidationError as exc:
            names = [parameter.name for parameter in self.parameters]
            problems = describe_problems(exc.errors(include_url=False), arguments, names)
            raise ToolArgumentsError("; ".join(problems), hint=self.expectation) from exc
        except Exception as exc:
            raise ToolArgumentsError(
                f"the arguments could not be checked: {type(exc).__name__}: {exc}", hint=self.expectation
            ) from exc
        return self._call_arguments(checked)

    @property
    def expectation(self) -> str:
        """The expected arguments in one line, for error messages."""
        return describe_arguments(self.json_schema)

    def _call_arguments(self, checked: BaseModel) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positional: list[Any] = []
        skipped: list[Any] = []
        keywords: dict[str, Any] = {}
        for number, parameter in enumerate(self.parameters):
            field = f"arg_{number}"
            given = field in checked.model_fields_set or parameter.own_default is Parameter.EMPTY
            if not parameter.positional_only:
                if given:
                    keywords[parameter.name] = getattr(checked, field)
            elif given:
                positional += [*skipped, getattr(checked, field)]
                skipped.clear()
            else:
                skipped.append(parameter.own_default)
        return tuple(positional), keywords

    def _respelled(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments under the parameters' own names, where only the spelling differs."""
        names = {parameter.name for parameter in self.parameters}
        strangers = [key for key in arguments if key not in names]
        if not strangers:
            return dict(arguments)
        meant = {key: self._by_spelling.get(_spelling(key)) for key in strangers}
        targets = list(meant.values())
        renamed = {
            key: name
            for key, name in meant.items()
            if name is not None and name not in arguments and targets.count(name) == 1
        }
        return {renamed.get(key, key): value for key, value in arguments.items()}


def _spelling(name: object) -> str:
    """``userId``, ``user-id``, ``User_ID`` → ``userid``."""
    return "".join(filter(str.isalnum, str(name))).casefold()


def _unique_spellings(names: Iterable[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in names:
        spelling = _spelling(name)
        found[spelling] = None if spelling in found else name
    return found


# ── signature → model ────────────────────────────────────────────────────────────────────


def _parameters(function: Callable[..., Any], hidden: frozenset[str]) -> tuple[Parameter, ...]:
    found = []
    for parameter in signature_of(function).parameters.values():
        if parameter.name in hidden:
            continue
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else "**"
            raise ToolDefinitionError(
                f"tool {label(function)!r} takes {stars}{parameter.name}: a model cannot be told what "
                "arguments that stands for",
                hint="Name each parameter, or take a list or dict as one parameter.",
            )
        hint = resolve(function, parameter)
        own_default = parameter.default
        if isinstance(own_default, FieldInfo):
            hint, own_default = Annotated[hint, own_default], Parameter.EMPTY
        positional_only = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        found.append(Parameter(parameter.name, positional_only, hint, own_default))
    return tuple(found)


def _make_model(name: str, parameters: tuple[Parameter, ...], docs: Mapping[str, str]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        f"arg_{number}": (parameter.hint, _field(parameter, docs.get(parameter.name)))
        for number, parameter in enumerate(parameters)
    }
    try:
        return create_model("Arguments", __config__=_CONFIG, **fields)
    except Exception as exc:
        raise _no_schema(name, parameters, exc) from exc


def _field(parameter: Parameter, doc: str | None) -> Any:
    facts: dict[str, Any] = {
        "alias": parameter.name,
        "validation_alias": parameter.name,
        "serialization_alias": parameter.name,
    }
    description, already = _annotated_description(parameter.hint)
    if not already and (description or doc):
        facts["description"] = description or doc
    if parameter.own_default is not Parameter.EMPTY:
        facts["default"] = parameter.own_default
    return Field(**facts)


def _annotated_description(hint: Any) -> tuple[str | None, bool]:
    """The text in ``Annotated[…, "text"]``; and whether a ``Field`` describes the parameter already."""
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    text = None
    for item in metadata:
        if isinstance(item, FieldInfo) and item.description is not None:
            return None, True
        words = item if isinstance(item, str) else getattr(item, "documentation", None)
        if text is None and isinstance(words, str):
            text = words
    return text, False


def _no_schema(name: str, parameters: tuple[Parameter, ...], cause: Exception) -> ToolDefinitionError:
    """The error for a type without a JSON schema, naming the parameter that has it."""
    reason = str(cause).strip().partition("\n")[0]
    for parameter in parameters:
        try:
            TypeAdapter(parameter.hint).json_schema()
        except Exception as exc:  # noqa: BLE001 (a type's own hooks may raise anything)
            reason = str(exc).strip().partition("\n")[0]
            where = f"parameter {parameter.name!r} of tool {name!r} has a type without a JSON schema"
            break
    else:
        where = f"the parameters of tool {name!r} have no JSON schema"
    return ToolDefinitionError(
        f"{where}: {reason}",
        hint="Use JSON types, enums, dataclasses, TypedDicts or pydantic models.",
    )


# ── model → JSON schema ──────────────────────────────────────────────────────────────────


class _Generator(GenerateJsonSchema):
    """pydantic's generator, silent about defaults JSON cannot show: they are left out."""

    def encode_default(self, dft: Any) -> Any:
        """The default as JSON; infinities and NaN have no JSON form and are left out too."""
        encoded = super().encode_default(dft)
        try:
            json.dumps(encoded, allow_nan=False)
        except ValueError as exc:
            raise PydanticSerializationError(str(exc)) from exc
        return encoded

    ignored_warning_kinds = frozenset({"non-serializable-default", "skipped-choice"})  # type: ignore[assignment]


_SCHEMA_MAPS = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
_SCHEMA_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SCHEMAS = frozenset(
    {
        "items",
        "additionalProperties",
        "contains",
        "else",
        "if",
        "not",
        "propertyNames",
        "then",
        "unevaluatedProperties",
    }
)


def _json_schema(name: str, model: type[BaseModel], parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    try:
        schema = model.model_json_schema(schema_generator=_Generator)
    except Exception as exc:
        raise _no_schema(name, parameters, exc) from exc
    schema.setdefault("properties", {})
    cleaned = _without_titles(schema)
    assert isinstance(cleaned, dict)
    return cleaned


def _without_titles(schema: Any) -> Any:
    """The schema without pydantic's titles. Properties, defaults and examples named so stay."""
    if not isinstance(schema, dict):
        return schema
    cleaned: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "title":
            continue
        if key in _SCHEMA_MAPS and isinstance(value, dict):
            cleaned[key] = {name: _without_titles(inner) for name, inner in value.items()}
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            cleaned[key] = [_without_titles(inner) for inner in value]
        else:
            cleaned[key] = _without_titles(value) if key in _SCHEMAS else value
    return cleaned
