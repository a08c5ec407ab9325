"""`SQLBackend`: a SQL database that an agent can ask.

This module imports without the extra ``sql``; constructing a backend needs it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loom_py.backends.base import BaseBackend, unknown_operation
from loom_py.backends.protocol import Capabilities, QueryResult, Resource, Schema
from loom_py.errors import BackendError, ConfigError, MissingDependencyError
from loom_py.guardrails import ErrorAnalysis, Issue
from loom_py.tools import Tool

if TYPE_CHECKING:
    import sqlalchemy as sa

    from loom_py.backends.sql.catalog import Catalog
    from loom_py.backends.sql.connection import Connections
    from loom_py.backends.sql.guard import Guard
    from loom_py.backends.sql.preflight import Preflight

__all__ = ["SQLBackend"]

_SAMPLE_ROWS = 5
_TIMED = frozenset({"sqlite", "postgres"})
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}


class SQLBackend(BaseBackend):
    """A SQL database: SQLite and PostgreSQL tested, others that SQLAlchemy speaks by parsing alone.

    Args:
        url: a database URL (text or SQLAlchemy's), a path to an SQLite file, or an engine. An engine
            stays its owner's: `close` leaves it open. Nothing connects before the first use.
        read_only: refuse every change, by parsing and by the connection.
        max_rows: rows of one result, at most.
        timeout: seconds one query may take (SQLite and PostgreSQL).
        name: what to call the source; its dialect by default.
        include_tables: the only tables to be seen, as ``table`` or ``schema.table``.
        exclude_tables: tables to hide. With either list the catalogue's own tables are hidden too.
        tool_prefix: put before the tools' names, where an agent has several databases.

    Raises `MissingDependencyError` without the extra ``sql`` or the database's driver, and
    `ConfigError` for settings that cannot be.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | sa.URL | sa.Engine,
        *,
        read_only: bool = True,
        max_rows: int = 200,
        timeout: float = 30.0,
        name: str | None = None,
        include_tables: Iterable[str] | None = None,
        exclude_tables: Iterable[str] | None = None,
        tool_prefix: str = "",
    ) -> None:
        _require_sql()
        from loom_py.backends.sql.catalog import Catalog
        from loom_py.backends.sql.connection import Connections
        from loom_py.backends.sql.guard import Guard
        from loom_py.backends.sql.names import TableFilter
        from loom_py.backends.sql.preflight import Preflight
        from loom_py.backends.sql.source import open_source

        _check_settings(max_rows, timeout, include_tables, exclude_tables)
        self._included = tuple(include_tables or ())
        self.read_only = read_only
        self.max_rows = max_rows
        self.timeout = float(timeout)
        self.tool_prefix = tool_prefix
        source = open_source(url, read_only=read_only, timeout=self.timeout)
        schema = {"sqlite": "main", "postgres": "public"}.get(source.dialect, "")
        tables = TableFilter.of(include_tables, exclude_tables, schema)
        self.name = name or source.engine.dialect.name
        self._label = source.label
        self._guard: Guard = Guard(source.dialect, read_only, tables)
        self._connections: Connections = Connections(source, tables=tables, timeout=self.timeout)
        self._catalog: Catalog = Catalog(self._connections, tables, self.name)
        self._preflight: Preflight = Preflight(self._guard, self._connections, self._catalog)

    @property
    def dialect(self) -> str:
        """The database's dialect by SQLAlchemy's name: ``sqlite``, ``postgresql``, …"""
        return self._connections.source.engine.dialect.name

    def execute_query(
        self,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> QueryResult:
        """Run one SQL statement.

        ``parameters`` fill placeholders written ``:name``. At most ``limit`` rows come back, never
        more than ``max_rows``, after skipping ``offset`` rows. Raises `QueryRefusedError` for a
        statement that is not allowed, `QueryError` for one the database will not run, and
        `BackendConnectionError`.
        """
        from loom_py.backends.sql.connection import check_page

        page = check_page(limit, offset, self.max_rows)
        statement = self._preflight.statement(query)

        def names() -> tuple[Sequence[str], Sequence[str]]:
            return self._catalog.names(), self._catalog.columns_of(statement.tables)

        return self._connections.run(statement, page, parameters=parameters, names=names)

    def get_schema(self, resource: str) -> Schema:
        """The columns, keys and comments of a table or view. Raises `BackendError` if there is none."""
        return self._catalog.schema(resource)

    def list_resources(self, filters: Mapping[str, Any] | None = None) -> Sequence[Resource]:
        """Tables and views. ``filters``: ``name`` (a pattern with ``*``), ``schema``, ``type``."""
        return self._catalog.resources(filters)

    def get_metadata(self, resource: str) -> Mapping[str, Any]:
        """``dialect``, ``type``, ``row_count`` and ``row_count_is_exact`` (counting is bounded)."""
        return self._catalog.metadata(resource)

    def ping(self) -> None:
        """Raise `BackendConnectionError` unless the database can be opened and read.

        Raises `BackendError` where ``include_tables`` names a table that is not there.
        """
        from loom_py.backends.sql.errors import connection_error

        try:
            self._connections.ask(_look)
        except BackendError as exc:
            if exc.code == "backend_unavailable":
                raise
            raise connection_error(exc, self._label, self._connections.source.secrets) from exc
        if self._included:
            there = {resource.name.lower().rpartition(".")[2] for resource in self.list_resources()}
            missing = [name for name in self._included if name.lower().rpartition(".")[2] not in there]
            if missing:
                raise BackendError(
                    f"include_tables names what is not in the database: {', '.join(missing)}",
                    code="resource_not_found",
                    hint="Check the spelling; a view or table of another schema is named schema.table.",
                )

    def capabilities(self) -> Capabilities:
        """What this backend can do. Needs no connection."""
        source = self._connections.source
        timed = source.dialect in _TIMED
        return Capabilities(
            supports_transactions=False,
            supports_concurrency=not source.shared,
            supports_streaming=False,
            max_concurrent_ops=1 if source.shared else 10,
            operations=frozenset({"explain", "sample"}),
            features={
                "read_only": self.read_only,
                "read_only_connection": self.read_only and timed,
                "query_timeout": timed,
                "paging": True,
                "parameters": True,
            },
            limits={"max_rows": self.max_rows, "timeout_ms": round(self.timeout * 1000)},
        )

    def execute_custom_operation(
        self, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> QueryResult:
        """``explain`` (``query``): its plan. ``sample`` (``table``, ``rows`` = 5): some rows of a table.

        Raises `BackendError` for another operation, or a parameter that is missing.
        """
        given = dict(parameters or {})
        if operation == "explain":
            query = _needed(given, operation, "query")
            word = "EXPLAIN QUERY PLAN" if self.dialect == "sqlite" else "EXPLAIN"
            return self.execute_query(f"{word} {query}")
        if operation == "sample":
            table = _needed(given, operation, "table")
            return self.execute_query(
                self._catalog.sample_sql(table), limit=int(given.get("rows", _SAMPLE_ROWS))
            )
        raise unknown_operation(self.name, operation, self.capabilities().operations)

    def close(self) -> None:
        """Close every connection of its own. May be called again; a later query connects anew."""
        self._connections.close()

    def tools(self) -> Sequence[Tool[..., Any]]:
        """``list_tables``, ``describe_table`` and ``query_database``, with the prefix."""
        dialect = _NAMES.get(self.dialect, self.dialect)
        source = f"the {dialect} database" + ("" if self.name == self.dialect else f" {self.name}")
        rule = (
            "Read-only: one SELECT, WITH … SELECT, VALUES or EXPLAIN statement."
            if self.read_only
            else "One statement at a time; changes are kept."
        )
        return [
            Tool.from_function(
                self._list_tables,
                name=f"{self.tool_prefix}list_tables",
                description=f"List the tables and views of {source}.",
            ),
            Tool.from_function(
                self._describe_table,
                name=f"{self.tool_prefix}describe_table",
                description=f"Show columns, types and keys of a table of {source}.",
            ),
            Tool.from_function(
                self._query_database,
                name=f"{self.tool_prefix}query_database",
                description=f"Run {dialect} SQL on {source}. {rule} "
                f"A result has at most {self.max_rows} rows; read on with offset.",
            ),
        ]

    def query_functions(self) -> Sequence[Callable[..., str]]:
        """The functions of the tools that run a query: their first argument is its text."""
        return (self._query_database,)

    def check_query(self, query: str, /) -> Sequence[Issue]:
        """Names of ``query`` that do not exist, and what looks odd in it. Nothing is run.

        An error is found only where the database itself confirms it (by EXPLAIN), in SQLite and
        PostgreSQL; when in doubt there is none.
        """
        return self._preflight.check(query)

    def correction_hints(self, query: str, analysis: ErrorAnalysis, /) -> Sequence[str]:
        """Tables, columns or the dialect's name: what helps to mend ``query``, which failed so."""
        return self._preflight.hints(query, analysis, _NAMES.get(self.dialect, self.dialect))

    def _list_tables(self) -> str:
        return "\n".join(item.to_text() for item in self.list_resources()) or "The database has no tables."

    def _describe_table(self, table: str) -> str:
        """Describe.

        Args:
            table: the table's name, as listed.
        """
        return self.get_schema(table).to_text()

    def _query_database(self, sql: str, offset: int = 0) -> str:
        """Query.

        Args:
            sql: one SQL statement.
            offset: rows to skip, to read the next page of a long result.
        """
        return self.execute_query(sql, offset=offset).to_text()

    def __repr__(self) -> str:
        return f"SQLBackend({self._label!r}, name={self.name!r}, read_only={self.read_only})"


def _look(connection: sa.Connection) -> None:
    """The least that proves the database is there and is one."""
    lite = connection.dialect.name == "sqlite"
    connection.exec_driver_sql("SELECT count(*) FROM sqlite_master" if lite else "SELECT 1").all()


def _require_sql() -> None:
    try:
        import sqlalchemy
        import sqlglot
    except ImportError as exc:
        raise MissingDependencyError(
            f"a SQL backend needs the package {exc.name}, which is not installed",
            hint="pip install 'loom-py[sql]'",
        ) from exc
    del sqlalchemy, sqlglot


def _check_settings(
    max_rows: int, timeout: float, include: Iterable[str] | None, exclude: Iterable[str] | None
) -> None:
    if max_rows < 1:
        raise ConfigError(f"max_rows must be at least 1, not {max_rows}", field="max_rows")
    if not 0 < timeout <= 86_400:
        raise ConfigError(f"timeout must be over 0 s and at most a day, not {timeout:g}", field="timeout")
    for field, names in (("include_tables", include), ("exclude_tables", exclude)):
        if isinstance(names, str):
            raise ConfigError(f"{field} must be a list of names", field=field, hint=f"{field}=[{names!r}]")


def _needed(parameters: Mapping[str, Any], operation: str, key: str) -> str:
    value = parameters.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BackendError(
            f"the operation {operation} needs {key!r}",
            code="invalid_parameters",
            hint=f"Pass {json.dumps({key: '…'}, ensure_ascii=False)}.",
        )
    return value
