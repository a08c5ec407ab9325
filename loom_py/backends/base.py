"""The base class of backends: write the blocking verbs, get the rest."""

from __future__ import annotations

import difflib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loom_py._closing import Closing
from loom_py._concurrency import run_in_thread
from loom_py.backends.protocol import Backend, Capabilities, QueryResult, Resource, Schema
from loom_py.backends.results import to_jsonable
from loom_py.errors import BackendError
from loom_py.guardrails import Guardrails, guard_tool
from loom_py.tools import Tool

__all__ = ["BaseBackend", "tools_of"]


class BaseBackend(Closing, ABC):
    """A backend whose author writes `execute_query`, and whatever else the source can do.

    ::

        class Notes(BaseBackend):
            name = "notes"

            def __init__(self, notes: list[str]) -> None:
                self.notes = notes

            def execute_query(self, query, *, parameters=None, limit=None, offset=0):
                found = [{"note": note} for note in self.notes if query in note]
                return QueryResult.from_rows(found[offset:][:limit])

    The async twins run the blocking verbs in threads, so those must be safe to call from several
    threads at once. The default tools follow from the verbs: ``<prefix>query`` always,
    ``<prefix>list_resources`` and ``<prefix>describe_resource`` where the verbs are written.
    """

    name: str = "backend"
    tool_prefix: str = ""

    @abstractmethod
    def execute_query(
        self,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> QueryResult:
        """Run ``query``; at most ``limit`` rows, ``offset`` rows skipped."""

    def list_resources(self, filters: Mapping[str, Any] | None = None) -> Sequence[Resource]:
        """What can be queried: here, nothing that has a name."""
        return ()

    def get_schema(self, resource: str) -> Schema:
        """The fields of one resource. Raises `BackendError` for an unknown one."""
        for known in self.list_resources():
            if known.name == resource:
                return Schema(known.name, known.type, description=known.description)
        raise unknown_resource(self.name, resource, [known.name for known in self.list_resources()])

    def get_metadata(self, resource: str) -> Mapping[str, Any]:
        """JSON-compatible facts about one resource: here, its schema's."""
        return self.get_schema(resource).metadata

    def ping(self) -> None:
        """Raise `BackendConnectionError` unless the source answers; here, it always does."""

    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities()

    def execute_custom_operation(self, operation: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Run a custom operation. Raises `BackendError` for one that does not exist."""
        raise unknown_operation(self.name, operation, self.capabilities().operations)

    def close(self) -> None:
        """Let go of every connection; here, there are none."""

    # ── async twins ──

    async def aexecute_query(
        self,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> QueryResult:
        """`execute_query` in a thread."""
        return await run_in_thread(
            self.execute_query, query, parameters=parameters, limit=limit, offset=offset
        )

    async def aget_schema(self, resource: str) -> Schema:
        """`get_schema` in a thread."""
        return await run_in_thread(self.get_schema, resource)

    async def alist_resources(self, filters: Mapping[str, Any] | None = None) -> Sequence[Resource]:
        """`list_resources` in a thread."""
        return await run_in_thread(self.list_resources, filters)

    async def aget_metadata(self, resource: str) -> Mapping[str, Any]:
        """`get_metadata` in a thread."""
        return await run_in_thread(self.get_metadata, resource)

    async def aping(self) -> None:
        """`ping` in a thread."""
        await run_in_thread(self.ping)

    async def aexecute_custom_operation(
        self, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> Any:
        """`execute_custom_operation` in a thread."""
        return await run_in_thread(self.execute_custom_operation, operation, parameters)

    async def aclose(self) -> None:
        """`close` in a thread."""
        await run_in_thread(self.close)

    # ── tools ──

    def tools(self) -> Sequence[Tool[..., Any]]:
        """The tools an agent with this backend gets, made from the verbs that are written."""
        tools: list[Tool[..., Any]] = []
        if type(self).list_resources is not BaseBackend.list_resources:
            tools += [self._list_tool(), self._describe_tool()]
        return [*tools, self._query_tool()]

    def _list_tool(self) -> Tool[..., Any]:
        def list_resources() -> str:
            return "\n".join(item.to_text() for item in self.list_resources()) or "nothing to query"

        return Tool.from_function(
            list_resources,
            name=f"{self.tool_prefix}list_resources",
            description=f"List what can be queried in {self.name}.",
        )

    def _describe_tool(self) -> Tool[..., Any]:
        def describe_resource(resource: str) -> str:
            """Describe.

            Args:
                resource: its name, as listed.
            """
            facts = to_jsonable(self.get_metadata(resource))
            text = self.get_schema(resource).to_text()
            return f"{text}\n{json.dumps(facts, ensure_ascii=False)}" if facts else text

        return Tool.from_function(
            describe_resource,
            name=f"{self.tool_prefix}describe_resource",
            description=f"Describe one of the things that can be queried in {self.name}.",
        )

    def guarded_tools(self, guardrails: Guardrails) -> Sequence[Tool[..., Any]]:
        """`tools`, with ``guardrails`` around those whose function is one of `query_functions`."""
        mine = self.query_functions()
        return [
            guard_tool(tool, guardrails, backend=self) if tool.function in mine else tool
            for tool in self.tools()
        ]

    def query_functions(self) -> Sequence[Callable[..., str]]:
        """The functions of the tools that run a query: their first argument is its text.

        Name yours where you write `tools` yourself, and guardrails stand around them, too.
        """
        return (self._run_query,)

    def _run_query(self, query: str, offset: int = 0) -> str:
        """Query.

        Args:
            query: the query text.
            offset: rows to skip, to read the next page of a long result.
        """
        return self.execute_query(query, offset=offset).to_text()

    def _query_tool(self) -> Tool[..., Any]:
        summary = (type(self).execute_query.__doc__ or "").strip().partition("\n")[0]
        return Tool.from_function(
            self._run_query,
            name=f"{self.tool_prefix}query",
            description=f"Query {self.name}. {summary}".rstrip(),
        )

    # ── life ──

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


def tools_of(backend: Backend, guardrails: Guardrails | None = None) -> Sequence[Tool[..., Any]]:
    """The tools an agent gets from ``backend``, with ``guardrails`` around its queries.

    A backend takes part in guardrails by a method ``guarded_tools(guardrails)``, as every
    `BaseBackend` has one; the tools of another stay as they are.
    """
    guarded = None if guardrails is None else getattr(backend, "guarded_tools", None)
    return backend.tools() if guarded is None else guarded(guardrails)


def suggest(name: str, known: Sequence[str], *, shown: int = 20) -> str:
    """A hint that names the known names closest to ``name``, else the first of them."""
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {', '.join(by_lower[item] for item in close)}?"
    if not known:
        return "There is nothing to query."
    more = f" and {len(known) - shown} more" if len(known) > shown else ""
    return f"There are: {', '.join(known[:shown])}{more}."


def unknown_resource(backend: str, resource: str, known: Sequence[str]) -> BackendError:
    """The error for a resource that does not exist, with the closest names."""
    return BackendError(
        f"{backend} has no {resource!r}",
        code="resource_not_found",
        hint=suggest(resource, known),
    )


def unknown_operation(backend: str, operation: str, known: frozenset[str]) -> BackendError:
    """The error for a custom operation that does not exist, listing those that do."""
    names = ", ".join(sorted(known)) or "none"
    return BackendError(
        f"{backend} has no operation {operation!r}",
        code="unknown_operation",
        hint=f"Operations: {names}.",
    )
