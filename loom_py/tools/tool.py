"""`Tool`: a function a model may call; made with the `tool` decorator or `as_tool`."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
    overload,
)

from loom_py.errors import ToolDefinitionError
from loom_py.messages import JSONObject, ToolSpec
from loom_py.tools.annotations import label
from loom_py.tools.docstrings import parse_docstring

if TYPE_CHECKING:
    from loom_py.tools.schema import ArgumentSchema

__all__ = ["Tool", "as_tool", "check_timeout", "tool"]

P = ParamSpec("P")
P2 = ParamSpec("P2")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

MAX_NAME = 256


class Tool(Generic[P, R_co]):
    """A function a model may call. It is still the function: calling it calls that.

    Attributes:
        name: what the model calls it, 1 to 256 characters; a provider makes it legal on its wire.
        description: what the model is told it is for.
        parameters: the JSON schema of its arguments, an object schema.
        timeout: seconds one call may take; ``None`` leaves that to the executor.
        function: the function, bound to its object if it is a method.
        is_async: whether a call gives an awaitable.
    """

    name: str
    description: str
    parameters: JSONObject
    timeout: float | None
    function: Callable[P, R_co]
    is_async: bool
    _spec: ToolSpec | None = None
    __name__: str
    __qualname__: str
    __wrapped__: Any
    _schema: ArgumentSchema

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Prefer `tool`, `as_tool` or `from_function`; the arguments are those of `from_function`."""
        from loom_py.tools.schema import ArgumentSchema  # it brings pydantic, which only tools need

        self._descriptor: Any = function if isinstance(function, (staticmethod, classmethod)) else None
        target: Any = function if self._descriptor is None else self._descriptor.__func__
        if not callable(target):
            raise ToolDefinitionError(
                f"{target!r} is not callable, so it cannot be a tool",
                field="tools",
                hint="Pass a function, a method or a Tool.",
            )
        self.name = _checked_name(target, name)
        self.timeout = check_timeout(timeout, f"the timeout of tool {self.name!r}")
        self._self_name = _self_parameter(target, self._descriptor)
        summary, docs = parse_docstring(_docstring(target))
        self.description = summary if description is None else inspect.cleandoc(description).strip()
        self._schema = ArgumentSchema(target, docs, hidden=_hidden(target, self._self_name))
        self.parameters = self._schema.json_schema
        self.function = cast("Callable[P, R_co]", target)
        self.is_async = _is_async(target)
        self._look_like(target)

    def _look_like(self, target: Any) -> None:
        """Carry the function's name, docstring and signature, as any decorated function does."""
        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            if isinstance(value := getattr(target, attribute, None), str):
                setattr(self, attribute, value)
        self.__wrapped__ = target

    @classmethod
    def from_function(
        cls,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
    ) -> Tool[P, R_co]:
        """The tool that calls ``function``, sync or async.

        ``name`` is the function's own unless given, ``description`` that of its docstring;
        ``timeout`` is in seconds. Raises `ToolDefinitionError` for a function whose arguments have
        no JSON schema, a name that is empty or too long, and a timeout that is not above 0.
        """
        return Tool(function, name=name, description=description, timeout=timeout)

    @property
    def spec(self) -> ToolSpec:
        """What a model is told of this tool."""
        known = self._spec
        if known is None or not self._is_told_by(known):
            known = self._spec = ToolSpec(self.name, self.description, self.parameters)
        return known

    def _is_told_by(self, spec: ToolSpec) -> bool:
        return (
            spec.name is self.name
            and spec.description is self.description
            and spec.parameters is self.parameters
        )

    @property
    def needs_self(self) -> bool:
        """Whether this is a method that is not bound to an object yet, and so cannot run."""
        return self._self_name is not None

    def bind(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments a model sent, checked and converted, as ``args`` and ``kwargs`` of the call.

        Raises `ToolArgumentsError`: its message lists every problem by the argument's path, its
        hint the arguments that are expected.
        """
        return self._schema.bind(arguments)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, as if it had never been made a tool."""
        return self.function(*args, **kwargs)

    @overload
    def __get__(self, obj: None, owner: type | None = None, /) -> Self: ...
    @overload
    def __get__(self: Tool[Concatenate[S, P2], R], obj: S, owner: type | None = None, /) -> Tool[P2, R]: ...
    @overload
    def __get__(self, obj: object, owner: type | None = None, /) -> Tool[..., R_co]: ...
    def __get__(self, obj: object, owner: type | None = None, /) -> Any:
        """For a method of a class: the tool bound to ``obj``, as ``obj.method`` is for functions."""
        if self._self_name is None:
            return self
        if isinstance(self._descriptor, classmethod):
            return self._bound_to(owner if owner is not None else type(obj))
        return self if obj is None else self._bound_to(obj)

    def _bound_to(self, obj: object) -> Tool[..., R_co]:
        bound = copy.copy(cast("Tool[..., R_co]", self))
        bound.function = types.MethodType(cast("Callable[..., R_co]", self.function), obj)
        bound.__wrapped__ = bound.function
        bound._self_name = None
        return bound

    def __repr__(self) -> str:
        arguments = ", ".join(self.parameters["properties"])
        facts = ", async" if self.is_async else ""
        if self.timeout is not None:
            facts += f", timeout={self.timeout:g} s"
        return f"<Tool {self.name}({arguments}){facts}>"


class ToolDecorator(Protocol):
    """What ``tool(name=…)`` gives: it makes a `Tool` of the function below it."""

    def __call__(self, function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
) -> Tool[P, R]: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, timeout: float | None = None
) -> ToolDecorator: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
) -> Any:
    """Make a tool of a sync or async function, a method included.

    ::

        @tool
        def get_weather(city: str, days: int = 1) -> str:
            '''The forecast for a city.

            Args:
                city: English name of the city.
            '''

        @tool(name="search", timeout=5)
        async def search_everything(query: str) -> list[str]: ...

    The model sees the JSON schema of the annotations and the text of the docstring. ``timeout`` is
    in seconds. Raises `ToolDefinitionError`, see `Tool.from_function`.
    """
    if function is None:
        return functools.partial(tool, name=name, description=description, timeout=timeout)
    if isinstance(function, str):
        raise ToolDefinitionError(
            f"@tool({function!r}) gives the name by position", field="tools", hint=f"@tool(name={function!r})"
        )
    if isinstance(function, Tool):
        function = function._descriptor or function.function
    return Tool(function, name=name, description=description, timeout=timeout)


def as_tool(obj: object) -> Tool[..., Any]:
    """``obj`` as a tool: a `Tool` as it is, any other callable made into one.

    Raises `ToolDefinitionError` for anything else, and for a method without its object.
    """
    if isinstance(obj, types.MethodType) and isinstance(obj.__func__, Tool):
        return obj.__func__._bound_to(obj.__self__)
    if not isinstance(obj, Tool) and not callable(obj):
        raise ToolDefinitionError(
            f"{obj!r} is neither a tool nor callable",
            field="tools",
            hint="Pass a function, a method or a Tool.",
        )
    made: Tool[..., Any] = obj if isinstance(obj, Tool) else Tool(obj)
    if made.needs_self:
        raise ToolDefinitionError(
            f"{label(made.function)!r} is a method without an object to call it on",
            field="tools",
            hint=f"Pass the method of an instance: instance.{made.name}",
        )
    return made


def check_timeout(timeout: float | None, what: str) -> float | None:
    """``timeout`` as it is. Raises `ToolDefinitionError` unless it is ``None`` or a number above 0."""
    if timeout is None:
        return None
    if type(timeout) not in (int, float) or not math.isfinite(timeout) or timeout <= 0:
        raise ToolDefinitionError(
            f"{what} must be a number of seconds above 0, not {timeout!r}",
            field="timeout",
            hint="Leave it None for no limit.",
        )
    return timeout


# ── what a callable tells of itself ──────────────────────────────────────────────────────


def _beneath_partial(target: Any) -> Any:
    return target.func if isinstance(target, functools.partial) else target


def _checked_name(target: Any, name: object) -> str:
    if name is None:
        base = _beneath_partial(target)
        name = getattr(base, "__name__", None) or type(base).__name__
        if name == "<lambda>":
            raise ToolDefinitionError(
                "a lambda has no name a model could call",
                field="tools",
                hint="Write a function, or give one: tool(name=…)(…)",
            )
    if not isinstance(name, str) or not name.strip():
        raise ToolDefinitionError(
            f"the name of tool {label(target)!r} must be a text that is not empty, not {name!r}",
            field="name",
            hint="Leave name out to use the function's own.",
        )
    if len(name) > MAX_NAME:
        raise ToolDefinitionError(
            f"the name of tool {label(target)!r} has {len(name)} characters, the most is {MAX_NAME}",
            field="name",
            hint="Give a shorter one: @tool(name=…)",
        )
    return name


def _docstring(target: Any) -> str | None:
    base = _beneath_partial(target)
    if inspect.isroutine(base) or inspect.isclass(base) or hasattr(base, "__wrapped__"):
        return inspect.getdoc(base)
    return getattr(type(base).__call__, "__doc__", None) or inspect.getdoc(base)


def _self_parameter(target: Any, descriptor: object) -> str | None:
    """The name of the parameter that the object of a method goes to, where it is not bound yet.

    A function is taken for a method if it was defined in the body of a class and its first
    parameter is called ``self`` or ``cls``.
    """
    if isinstance(descriptor, staticmethod) or not inspect.isfunction(target):
        return None
    first = next(iter(inspect.signature(target).parameters), None)
    if isinstance(descriptor, classmethod):
        return first
    scope = target.__qualname__.rpartition(".")[0]
    in_class = bool(scope) and not scope.endswith("<locals>")
    return first if in_class and first in ("self", "cls") else None


def _hidden(target: Any, self_name: str | None) -> set[str]:
    """Parameters that are not the model's to give: the object, and what a partial has fixed."""
    hidden = set(target.keywords) if isinstance(target, functools.partial) else set()
    return hidden if self_name is None else hidden | {self_name}


def _is_async(target: Any) -> bool:
    base = _beneath_partial(target)
    candidates = (base, getattr(base, "__call__", None))  # noqa: B004 (the method itself is wanted)
    return any(
        inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate)
        for candidate in candidates
    )
