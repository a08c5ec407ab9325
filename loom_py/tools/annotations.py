"""What type each parameter of a function has: annotations resolved to types pydantic can read."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

import typing_extensions

from loom_py.errors import ToolDefinitionError

__all__ = ["inner_function", "label", "modern", "resolve", "signature_of"]


def label(function: object) -> str:
    """How messages call ``function``: its qualified name without the scopes it was defined in."""
    inner = inner_function(function)
    name = getattr(inner, "__qualname__", None) or type(function).__qualname__
    return str(name).rpartition("<locals>.")[2]


def inner_function(function: object) -> object:
    """The plain function beneath partials, bound methods, decorators and callable objects."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, (types.MethodType, staticmethod, classmethod)):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = getattr(function, "__wrapped__")  # noqa: B009 (no class declares it)
        elif callable(function) and not isinstance(
            function, (type, types.FunctionType, types.BuiltinFunctionType)
        ):
            call = getattr(type(function), "__call__", None)  # noqa: B004 (the method itself is wanted)
            if not isinstance(call, types.FunctionType):
                return function
            function = call
        else:
            return function


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of ``function``. Raises `ToolDefinitionError` where Python knows none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError, NameError) as exc:
        raise ToolDefinitionError(
            f"the signature of {label(function)!r} cannot be read: {exc}",
            hint="Wrap it in a small function with annotated parameters.",
        ) from exc


def resolve(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type of ``parameter``, with string annotations evaluated.

    A name that the function's module does not have is looked up in the scopes that are being
    executed in that module, so that types defined inside a function work too. Raises
    `ToolDefinitionError` for a missing annotation and for one that cannot be evaluated.
    """
    if parameter.annotation is inspect.Parameter.empty:
        raise ToolDefinitionError(
            f"parameter {parameter.name!r} of tool {label(function)!r} has no type annotation",
            hint=f"Annotate it, for example `{parameter.name}: str`.",
        )
    try:
        hint = _evaluate(parameter.annotation, *_namespaces(function))
    except Exception as exc:
        raise ToolDefinitionError(
            f"the annotation {_shown(parameter.annotation)} of parameter {parameter.name!r} of tool "
            f"{label(function)!r} cannot be resolved: {exc}",
            hint="Import the type at run time (not only under TYPE_CHECKING), at the top of the module.",
        ) from exc
    if parameter.default is None and not _allows_none(hint):
        hint = Union[hint, None]  # noqa: UP007 (hint may be of a kind that has no |)
    return modern(hint)


def _shown(annotation: object) -> str:
    return repr(annotation) if isinstance(annotation, str) else str(annotation)


def _namespaces(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    inner = inner_function(function)
    if isinstance(inner, type):
        module = sys.modules.get(inner.__module__)
        inner_globals = {} if module is None else vars(module)
    else:
        inner_globals = getattr(inner, "__globals__", {})
    parameters = getattr(inner, "__type_params__", ())
    return inner_globals, {parameter.__name__: parameter for parameter in parameters}


def _evaluate(annotation: Any, global_names: dict[str, Any], local_names: dict[str, Any]) -> Any:
    scopes = _scopes(global_names)
    while True:
        try:
            holder: Any = types.SimpleNamespace(__annotations__={"it": annotation})
            return typing.get_type_hints(holder, global_names, local_names, include_extras=True)["it"]
        except NameError as exc:
            name = exc.name or ""
            found = next((scope[name] for scope in scopes if name in scope), None)
            if not name or found is None:
                raise
            local_names = {**local_names, name: found}
            scopes = _scopes(global_names)


def _scopes(global_names: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The local names of the running functions of one module, innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals is global_names:
            yield frame.f_locals
        frame = frame.f_back


def _allows_none(hint: Any) -> bool:
    if hint is None or hint is type(None) or hint is Any or hint is object:
        return True
    origin = get_origin(hint)
    if origin is Annotated:
        return _allows_none(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return any(_allows_none(member) for member in get_args(hint))
    return origin is typing.Literal and None in get_args(hint)


def modern(hint: Any) -> Any:
    """``hint`` with each `typing.TypedDict` as the kind pydantic reads on every Python version."""
    if sys.version_info >= (3, 12):
        return hint
    if typing.is_typeddict(hint) and type(hint).__module__ == "typing":
        return _modern_typed_dict(hint)
    arguments = get_args(hint)
    origin = get_origin(hint)
    if not arguments or origin is typing.Literal:
        return hint
    if origin is Annotated:
        base, *metadata = arguments
        return Annotated[(modern(base), *metadata)]
    changed = tuple(modern(argument) for argument in arguments)
    if all(new is old for new, old in zip(changed, arguments, strict=True)):
        return hint
    if origin in (Union, types.UnionType):
        return Union[changed]  # noqa: UP007 (the members are values)
    return origin[changed] if origin is not None else hint


_REQUIRED = (typing.Required, typing_extensions.Required)
_NOT_REQUIRED = (typing.NotRequired, typing_extensions.NotRequired)


def _modern_typed_dict(hint: Any) -> Any:
    fields: dict[str, Any] = {}
    for name, kind in typing_extensions.get_type_hints(hint, include_extras=True).items():
        optional, inner = name in hint.__optional_keys__, modern(kind)
        if get_origin(inner) in _REQUIRED + _NOT_REQUIRED:
            # String annotations hide these from the class itself, so its own key sets are wrong.
            optional = get_origin(inner) in _NOT_REQUIRED
            inner = get_args(inner)[0]
        fields[name] = typing_extensions.NotRequired[inner] if optional else inner
    made = typing_extensions.TypedDict(hint.__name__, fields)  # type: ignore[misc] # made at run time
    made.__doc__ = hint.__doc__
    made.__module__ = hint.__module__
    return made
