"""The fields of a section: names, types and defaults are those of the class or function that takes them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from loom_py.agent_file.nodes import FAILED, Node
from loom_py.agent_file.problems import Problems
from loom_py.agent_file.words import WORDS

__all__ = ["MISSING", "Field", "fields_of", "is_secret", "wanted"]

MISSING = inspect.Parameter.empty
"""The default of a field that must be given."""

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}
_SECRETS = ("key", "token", "secret", "password", "passphrase")
_SECRET_MAPPINGS = ("headers", "credentials")


@dataclass(frozen=True)
class Field:
    """One setting: its ``name``, ``type`` and ``default`` (`MISSING` if it must be given).

    ``form`` is how it is written: a ``value`` of its type, the ``import`` path of an object, or a
    ``mapping`` that the class that takes it checks by itself. ``schema`` is the JSON schema of a value
    whose type does not say it.
    """

    name: str
    type: Any
    default: Any
    section: str
    form: Literal["value", "import", "mapping"] = "value"
    schema: Mapping[str, Any] | None = None

    @property
    def description(self) -> str:
        """What it is, for people and editors."""
        return WORDS[self.section][self.name]

    @property
    def is_secret(self) -> bool:
        """Whether its value must never be shown."""
        return is_secret(self.name)

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Checks a value as it is written in a file."""
        return TypeAdapter(self.type, config=ConfigDict(arbitrary_types_allowed=True))

    def read(self, node: Node, problems: Problems) -> Any:
        """The value of ``node``; `FAILED` where it is none of this field's."""
        if node.holds_broken():
            return FAILED
        value = node.plain()
        try:
            return self.adapter.validate_python(value, strict=not node.is_lax)
        except (ValidationError, OverflowError):
            shown = "" if self.is_secret else f", not {_shown(node)}"
            hint = None
            if isinstance(value, bool) and self.type in (str, str | None):
                hint = "Put it in quotes to make it text."
            problems.add(node, f"{self.name} must be {wanted(self.type)}{shown}", hint)
            return FAILED


def fields_of(
    taker: Callable[..., Any],
    section: str,
    *,
    only: Iterable[str] | None = None,
    without: Iterable[str] = (),
    **forms: Any,
) -> dict[str, Field]:
    """The keyword parameters of ``taker`` as fields of ``section``.

    ``forms`` says of a field how it is written where its type alone does not: ``"import"``, or a type
    for a value.
    """
    fields: dict[str, Field] = {}
    for name, parameter in inspect.signature(taker).parameters.items():
        is_plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if not is_plain or name in set(without) | {"self"} or (only is not None and name not in only):
            continue
        form = forms.get(name)
        if form == "import":
            fields[name] = Field(name, str, parameter.default, section, "import")
        else:
            kind = form if form is not None else _hint(taker, parameter)
            fields[name] = Field(name, kind, parameter.default, section)
    return fields


def _hint(taker: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type of a parameter; its annotation may be text."""
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    function = inspect.unwrap(taker)
    module = sys.modules[function.__module__]
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return get_type_hints(holder, globalns=vars(module))["it"]


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds what nobody may see: ``api_key``, ``entra_token``, …"""
    last = name.lower().replace("-", "_").rpartition(".")[2]
    return any(last == word or last.endswith(f"_{word}") for word in _SECRETS) or last.endswith(
        _SECRET_MAPPINGS
    )


def wanted(kind: Any) -> str:
    """What a type takes, in words."""
    origin = get_origin(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(each) for each in get_args(kind))
    if origin in (Union, UnionType):
        parts = [each for each in get_args(kind) if each is not type(None)]
        words = list(dict.fromkeys(map(wanted, parts)))
        return " or ".join(words)
    if kind in _WORDS:
        return _WORDS[kind]
    if origin in (list, tuple, set, frozenset) or kind in (list, tuple):
        return "a list"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return "a list"
    return "a value of its type"


def _shown(node: Node) -> str:
    if isinstance(node.value, (Mapping, tuple)):
        return node.kind
    if node.value is None:
        return "nothing"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    text = repr(node.value)
    return text if len(text) <= 60 or node.variables else f"{text[:59]}…"
