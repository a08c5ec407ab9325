"""What a data source looks like to an agent.

Any object with these methods is a `Backend`; `BaseBackend` gives most of them for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from loom_py.backends.results import Column, QueryResult, to_jsonable
from loom_py.tools import Tool

__all__ = ["Backend", "Capabilities", "Column", "Field", "ForeignKey", "QueryResult", "Resource", "Schema"]


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """The column of another resource that a field points to."""

    table: str
    column: str

    def to_dict(self) -> dict[str, Any]:
        """The key as JSON-compatible data."""
        return {"table": self.table, "column": self.column}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a resource. ``default`` is the source's own text of it."""

    name: str
    type: str = ""
    nullable: bool = True
    primary_key: bool = False
    foreign_key: ForeignKey | None = None
    description: str = ""
    default: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The field as JSON-compatible data."""
        return {
            "name": self.name,
            "type": self.type,
            "nullable": self.nullable,
            "primary_key": self.primary_key,
            "foreign_key": None if self.foreign_key is None else self.foreign_key.to_dict(),
            "description": self.description,
            "default": self.default,
        }

    def to_text(self) -> str:
        """One line that a model reads: ``origin TEXT not null, references airports.faa``."""
        facts = [f"{self.name} {self.type}".rstrip()]
        if self.primary_key:
            facts.append("primary key")
        if not self.nullable:
            facts.append("not null")
        if self.foreign_key is not None:
            facts.append(f"references {self.foreign_key.table}.{self.foreign_key.column}")
        return ", ".join(facts) + (f": {self.description}" if self.description else "")


@dataclass(frozen=True, slots=True)
class Schema:
    """The shape of one resource: a table's columns, a document's fields."""

    name: str
    type: str = "table"
    fields: tuple[Field, ...] = ()
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The schema as JSON-compatible data."""
        return {
            "name": self.name,
            "type": self.type,
            "fields": [item.to_dict() for item in self.fields],
            "description": self.description,
            "metadata": to_jsonable(self.metadata),
        }

    def to_text(self) -> str:
        """The schema as a model reads it, one field a line."""
        head = f"{self.type} {self.name}" + (f": {self.description}" if self.description else "")
        return "\n".join([head, *(f"- {item.to_text()}" for item in self.fields)])


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that can be queried: a table, a view, a file, an endpoint."""

    name: str
    type: str = "table"
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The resource as JSON-compatible data."""
        return {
            "name": self.name,
            "type": self.type,
            "description": self.description,
            "metadata": to_jsonable(self.metadata),
        }

    def to_text(self) -> str:
        """One line that a model reads."""
        kind = "" if self.type == "table" else f" ({self.type})"
        return f"{self.name}{kind}" + (f": {self.description}" if self.description else "")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    ``operations`` are the names `Backend.execute_custom_operation` takes; ``features`` are switches
    and ``limits`` numbers whose names carry their unit (``timeout_ms``).
    """

    supports_transactions: bool = False
    supports_concurrency: bool = True
    supports_streaming: bool = False
    max_concurrent_ops: int = 10
    operations: frozenset[str] = frozenset()
    features: Mapping[str, bool] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)

    def supports(self, operation: str) -> bool:
        """Whether ``operation`` is one of the custom operations."""
        return operation in self.operations

    def has_feature(self, name: str) -> bool:
        """Whether the feature is there and on."""
        return self.features.get(name, False)

    def limit(self, name: str) -> int | None:
        """The limit of that name, or ``None`` for no limit."""
        return self.limits.get(name)

    def to_dict(self) -> dict[str, Any]:
        """The capabilities as JSON-compatible data."""
        return {
            "supports_transactions": self.supports_transactions,
            "supports_concurrency": self.supports_concurrency,
            "supports_streaming": self.supports_streaming,
            "max_concurrent_ops": self.max_concurrent_ops,
            "operations": sorted(self.operations),
            "features": dict(self.features),
            "limits": dict(self.limits),
        }


@runtime_checkable
class Backend(Protocol):
    """A data source an agent can ask. Every verb raises a `BackendError` when it fails."""

    @property
    def name(self) -> str:
        """The name of the source in messages and logs; holds no secret."""
        ...

    def execute_query(
        self,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> QueryResult:
        """Run ``query``; at most ``limit`` rows, ``offset`` rows skipped."""
        ...

    def get_schema(self, resource: str) -> Schema:
        """The fields of one resource."""
        ...

    def list_resources(self, filters: Mapping[str, Any] | None = None) -> Sequence[Resource]:
        """What can be queried."""
        ...

    def get_metadata(self, resource: str) -> Mapping[str, Any]:
        """JSON-compatible facts about one resource."""
        ...

    def ping(self) -> None:
        """Raise `BackendConnectionError` unless the source answers."""
        ...

    def capabilities(self) -> Capabilities:
        """What this backend can do. Needs no connection."""
        ...

    def execute_custom_operation(self, operation: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Run one of the operations that `capabilities` lists."""
        ...

    def close(self) -> None:
        """Let go of every connection. May be called again."""
        ...

    async def aexecute_query(
        self,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> QueryResult:
        """`execute_query`, without blocking the event loop."""
        ...

    async def aget_schema(self, resource: str) -> Schema:
        """`get_schema`, without blocking the event loop."""
        ...

    async def alist_resources(self, filters: Mapping[str, Any] | None = None) -> Sequence[Resource]:
        """`list_resources`, without blocking the event loop."""
        ...

    async def aget_metadata(self, resource: str) -> Mapping[str, Any]:
        """`get_metadata`, without blocking the event loop."""
        ...

    async def aping(self) -> None:
        """`ping`, without blocking the event loop."""
        ...

    async def aexecute_custom_operation(
        self, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> Any:
        """`execute_custom_operation`, without blocking the event loop."""
        ...

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        ...

    def tools(self) -> Sequence[Tool[..., Any]]:
        """The tools an agent with this backend gets by itself."""
        ...
