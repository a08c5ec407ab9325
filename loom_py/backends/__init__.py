"""Data sources for agents: the `Backend` protocol, a base class for your own, and SQL databases.

`SQLBackend` needs the extra ``sql``; it is looked for only when one is constructed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loom_py.backends.base import BaseBackend, tools_of
    from loom_py.backends.protocol import Backend, Capabilities, Field, ForeignKey, Resource, Schema
    from loom_py.backends.results import Column, QueryResult
    from loom_py.backends.sql import SQLBackend

__all__ = [
    "Backend",
    "BaseBackend",
    "Capabilities",
    "Column",
    "Field",
    "ForeignKey",
    "QueryResult",
    "Resource",
    "SQLBackend",
    "Schema",
    "tools_of",
]

_HOMES = {
    "Backend": "protocol",
    "BaseBackend": "base",
    "Capabilities": "protocol",
    "Column": "results",
    "Field": "protocol",
    "ForeignKey": "protocol",
    "QueryResult": "results",
    "Resource": "protocol",
    "SQLBackend": "sql",
    "Schema": "protocol",
    "tools_of": "base",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
