"""The second wall: the connection itself cannot write, and stops in time.

Each wall is put up when a connection is taken and taken down when it goes back, so that an engine
lent by its owner is returned as it was.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from loom_py.backends.sql.functions import SQLITE_FORBIDDEN_TABLES, is_forbidden_function
from loom_py.backends.sql.names import TableFilter, words
from loom_py.backends.sql.source import milliseconds

__all__ = ["Mode", "Wall", "no_wall", "postgresql_wall", "sqlite_wall"]

Mode: TypeAlias = Literal["query", "write", "inspect"]
Wall: TypeAlias = Callable[[sa.Connection, Mode, float], AbstractContextManager[None]]
"""Makes a connection safe for one use that may take so many seconds."""

_STEPS = 5_000
"""SQLite virtual machine steps between two looks at the clock: well under a millisecond."""
_SYSTEM_PRAGMAS = words(
    "table_info table_xinfo table_list foreign_key_list index_list index_info index_xinfo",
    "database_list collation_list",
)
_READS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_NEVER = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})

_Authorizer: TypeAlias = Callable[[int, str | None, str | None, str | None, str | None], int]


@contextmanager
def no_wall(connection: sa.Connection, mode: Mode, timeout: float) -> Iterator[None]:
    """For dialects of which nothing is known but the rollback."""
    yield


def sqlite_wall(tables: TableFilter) -> Wall:
    """SQLite: ``query_only``, an authorizer, and a progress handler that watches the clock."""

    @contextmanager
    def wall(connection: sa.Connection, mode: Mode, timeout: float) -> Iterator[None]:
        raw: Any = connection.connection.driver_connection
        end = time.monotonic() + timeout
        kept_query_only = raw.execute("PRAGMA query_only").fetchone()[0]
        if mode != "write":
            raw.execute("PRAGMA query_only = ON")
        raw.set_authorizer(_authorizer(mode, tables))
        raw.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            yield
        finally:
            raw.set_progress_handler(None, 0)
            raw.set_authorizer(None)
            raw.execute(f"PRAGMA query_only = {int(kept_query_only)}")

    return wall


def _authorizer(mode: Mode, tables: TableFilter) -> _Authorizer:
    def authorize(
        action: int, first: str | None, second: str | None, database: str | None, source: str | None
    ) -> int:
        if action == sqlite3.SQLITE_FUNCTION:
            return _verdict(not is_forbidden_function(second or "", "sqlite"))
        if action == sqlite3.SQLITE_PRAGMA:
            return _verdict(mode == "inspect" and (first or "").lower() in _SYSTEM_PRAGMAS)
        if action == sqlite3.SQLITE_READ and mode != "inspect":
            return _verdict(_may_read(first or "", source))
        if mode == "write":
            return _verdict(action not in _NEVER)
        return _verdict(action in _READS)

    def _may_read(table: str, source: str | None) -> bool:
        name = table.lower()
        if name in SQLITE_FORBIDDEN_TABLES or name.startswith("pragma_"):
            return False
        if name in ("json_each", "json_tree", "generate_series") or tables.allows(name):
            return True
        # A view that may be seen reads tables that may not; so does SQLite itself in a change.
        return (source is not None and tables.allows(source)) or (
            mode == "write" and name in ("sqlite_master", "sqlite_schema", "sqlite_sequence")
        )

    return authorize


def _verdict(allowed: bool) -> int:
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@contextmanager
def postgresql_wall(connection: sa.Connection, mode: Mode, timeout: float) -> Iterator[None]:
    """PostgreSQL: a READ ONLY transaction with a statement timeout.

    Both hold for this transaction alone. No query may hold two statements: psycopg is made to send
    even those without parameters by the extended protocol, in which the server takes only one.
    """
    if mode != "write":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds(timeout)}")
    raw: Any = connection.connection.driver_connection
    kept = getattr(raw, "prepare_threshold", None)
    if hasattr(raw, "prepare_threshold"):
        raw.prepare_threshold = 0
    try:
        yield
    finally:
        if hasattr(raw, "prepare_threshold"):
            raw.prepare_threshold = kept
