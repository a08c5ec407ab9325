"""Guardrails around a tool that runs queries."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from loom_py.guardrails.engine import Guardrails
from loom_py.tools import Tool

__all__ = ["guard_tool"]


def guard_tool(tool: Tool[..., str], guardrails: Guardrails, *, backend: Any = None) -> Tool[..., str]:
    """``tool`` with ``guardrails`` around it. Its first argument must be the text of the query.

    It keeps name, description, timeout and arguments. ``backend`` is asked what it knows of a query
    where it is a `ChecksQueries`.
    """
    function: Callable[..., str] = tool.function
    first = next(iter(inspect.signature(function).parameters))
    signature = inspect.signature(function)

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> str:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        query = given.arguments[first]
        others = [value for name, value in given.arguments.items() if name != first]
        return guardrails.run(
            query,
            functools.partial(function, *given.args, **given.kwargs),
            backend=backend,
            source=f"{tool.name}{others}",
        )

    return Tool.from_function(guarded, name=tool.name, description=tool.description, timeout=tool.timeout)
