"""Connections with their wall up, and the running of one statement on one of them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from loom_py.backends.results import Column, QueryResult, unique_names
from loom_py.backends.sql.errors import Names, connection_error, query_error, timeout_error
from loom_py.backends.sql.guard import Statement
from loom_py.backends.sql.names import TableFilter
from loom_py.backends.sql.source import Source
from loom_py.backends.sql.walls import Mode, Wall, no_wall, postgresql_wall, sqlite_wall
from loom_py.errors import BackendConnectionError, BackendError

__all__ = ["Connections", "Page"]

_SKIPPED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_BIND = re.compile(rf"(?P<skip>{_SKIPPED.pattern})|(?<![:\w\\]):(?P<name>\w+)(?!:)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a result that is wanted, in rows."""

    limit: int
    offset: int = 0


class Connections:
    """The connections of one source. ``timeout`` is in seconds, for each use of one."""

    def __init__(self, source: Source, *, tables: TableFilter, timeout: float) -> None:
        self.source = source
        self.timeout = timeout
        # One SQLite connection in memory serves all threads, one at a time.
        self._turn = threading.Lock() if source.shared else nullcontext()
        self._wall: Wall = no_wall
        if source.dialect == "sqlite":
            self._wall = sqlite_wall(tables)
        elif source.dialect == "postgres":
            self._wall = postgresql_wall

    @contextmanager
    def open(self, mode: Mode, names: Names = lambda: ((), ())) -> Iterator[sa.Connection]:
        """A connection with its wall up; what it did is kept only in the mode ``write``.

        Raises `BackendConnectionError`, and what a query may raise.
        """
        try:
            with self._turn, self._connect() as connection:
                try:
                    with self._wall(connection, mode, self.timeout):
                        yield connection
                        if mode == "write":
                            connection.commit()
                finally:
                    if not connection.invalidated:
                        connection.rollback()
        except sa_exc.SQLAlchemyError as exc:
            raise query_error(
                exc,
                source=self.source.label,
                secrets=self.source.secrets,
                timeout=self.timeout,
                names=names,
            ) from exc

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        self._check_file()
        engine = self.source.engine
        if self.source.dialect == "postgres":
            # An engine in autocommit has no transaction that could be read-only.
            engine = engine.execution_options(isolation_level="READ COMMITTED")
        try:
            connection = engine.connect()
        except (sa_exc.SQLAlchemyError, OSError) as exc:
            raise connection_error(exc, self.source.label, self.source.secrets) from exc
        with connection:
            yield connection

    def _check_file(self) -> None:
        """SQLite says only ``unable to open database file``; say which and why."""
        path = self.source.path
        if path is None or not self.source.owned:
            return
        if path.is_dir():
            raise BackendConnectionError(
                f"{path} is a directory, not an SQLite database", hint="Name the file in it."
            )
        if not path.exists() and self.source.engine.url.query.get("mode") in ("ro", "rw"):
            raise BackendConnectionError(
                f"the SQLite database {path} does not exist",
                hint="Check the path; relative paths start at the working directory. "
                "A read-only backend never creates the file.",
            )

    def run(
        self,
        statement: Statement,
        page: Page,
        *,
        parameters: Mapping[str, Any] | None,
        names: Names,
    ) -> QueryResult:
        """Run a checked statement."""
        began = time.perf_counter()
        mode: Mode = "write" if statement.kind == "write" else "query"
        by_limit = statement.limitable and page.offset > 0
        sql = statement.sql
        if by_limit:
            sql = f"{sql}\nLIMIT {page.limit + 1} OFFSET {page.offset}"
        with self.open(mode, names) as connection:
            result = self._execute(connection, sql, statement, page, parameters)
            if not result.returns_rows:
                return _changed(max(0, result.rowcount), began)
            columns = _columns(result)
            skip = 0 if by_limit else page.offset
            rows, truncated = self._fetch(result, page.limit, skip, drain=mode == "write")
            result.close()
        return _rows(columns, rows, truncated, page, statement, began)

    def _execute(
        self,
        connection: sa.Connection,
        sql: str,
        statement: Statement,
        page: Page,
        parameters: Mapping[str, Any] | None,
    ) -> sa.CursorResult[Any]:
        options: dict[str, Any] = {}
        if statement.kind == "rows":
            options = {"stream_results": True, "max_row_buffer": page.limit + 1}
        if parameters:
            return connection.execute(
                sa.text(_escape_binds(sql, parameters)), dict(parameters), execution_options=options
            )
        # Without parameters a driver must leave % and : in the text alone.
        return connection.exec_driver_sql(sql, execution_options={**options, "no_parameters": True})

    def _fetch(
        self, result: sa.CursorResult[Any], limit: int, skip: int, *, drain: bool
    ) -> tuple[list[tuple[Any, ...]], bool]:
        end = time.monotonic() + self.timeout
        rows: list[tuple[Any, ...]] = []
        truncated = False
        for index, row in enumerate(result):
            if time.monotonic() > end:
                raise timeout_error(self.timeout)
            if index < skip:
                continue
            if len(rows) == limit:
                truncated = True
                if not drain:  # a change is done only when all its rows are read
                    break
            else:
                rows.append(tuple(row))
        return rows, truncated

    def close(self) -> None:
        """Close every connection, unless the engine is someone else's."""
        if self.source.owned:
            self.source.engine.dispose()

    def ask(self, question: Callable[[sa.Connection], Any]) -> Any:
        """What ``question`` finds out on a connection that can only be read."""
        with self.open("inspect") as connection:
            return question(connection)


def _columns(result: sa.CursorResult[Any]) -> list[Column]:
    """The columns of a result; a driver's description may name their types."""
    description: Sequence[Any] = getattr(result.cursor, "description", None) or ()
    types = [str(getattr(item, "type_display", None) or "") for item in description]
    keys = unique_names(list(result.keys()))
    types += [""] * (len(keys) - len(types))
    return [Column(name, kind) for name, kind in zip(keys, types, strict=False)]


_SQLITE_TYPES = {int: "integer", float: "real", str: "text", bytes: "blob"}


def _rows(
    columns: list[Column],
    rows: list[tuple[Any, ...]],
    truncated: bool,
    page: Page,
    statement: Statement,
    began: float,
) -> QueryResult:
    for index, column in enumerate(columns):
        if not column.type:
            value = next((row[index] for row in rows if row[index] is not None), None)
            columns[index] = Column(column.name, _SQLITE_TYPES.get(type(value), ""))
    names = [column.name for column in columns]
    metadata: dict[str, Any] = {"offset": page.offset, "ordered": statement.ordered}
    if truncated:
        metadata["next_offset"] = page.offset + len(rows)
    return QueryResult(
        tuple(columns),
        tuple(dict(zip(names, row, strict=True)) for row in rows),
        len(rows),
        truncated,
        (time.perf_counter() - began) * 1000,
        metadata,
    )


def _changed(count: int, began: float) -> QueryResult:
    note = "1 row changed" if count == 1 else f"{count} rows changed"
    took = (time.perf_counter() - began) * 1000
    return QueryResult(row_count=count, duration_ms=took, metadata={"rows_affected": count, "note": note})


def _escape_binds(sql: str, parameters: Mapping[str, Any]) -> str:
    """``sql`` with only the names of ``parameters`` left as placeholders, and none inside literals."""

    def replace(found: re.Match[str]) -> str:
        skipped = found.group("skip")
        if skipped is not None:
            return re.sub(r"(?<!\\):(?=\w)", r"\\:", skipped)
        name = found.group("name")
        return f":{name}" if name in parameters else f"\\:{name}"

    return _BIND.sub(replace, sql)


def check_page(limit: int | None, offset: int, max_rows: int) -> Page:
    """The page that is asked for, within ``max_rows``. Raises `BackendError` for negative numbers."""
    if offset < 0 or (limit is not None and limit < 0):
        raise BackendError("limit and offset must not be negative", code="invalid_page")
    return Page(max_rows if limit is None else min(limit, max_rows), offset)
