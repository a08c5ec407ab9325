"""Database errors in loom_py's own words: the database's message, no noise, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sqlalchemy import exc as sa_exc

from loom_py.backends.base import suggest
from loom_py.errors import BackendConnectionError, BackendError, QueryError, QueryRefusedError

__all__ = ["Names", "connection_error", "database_message", "query_error", "timeout_error"]

Names = Callable[[], tuple[Sequence[str], Sequence[str]]]
"""The known tables, and the columns of the tables in a query."""

_NO_TABLE = re.compile(r"no such table: (?:\w+\.)?(.+)|relation \"(?:[^\"]*\.)?([^\".]+)\" does not exist")
_NO_COLUMN = re.compile(
    r"no such column: (?:\w+\.)?(.+)|column \"?(?:\w+\.)?([^\"\s]+)\"? (?:of relation \S+ )?does not exist"
)
_WALL = re.compile(
    r"not authorized|prohibited|readonly database|read-only transaction|authorization denied", re.IGNORECASE
)
_TIMEOUT = re.compile(r"^interrupted|statement timeout|canceling statement", re.IGNORECASE)
_SYNTAX_HINT = "Check the query against the schema and this dialect's syntax."


def database_message(exc: BaseException, secrets: Sequence[str] = ()) -> str:
    """What the database said, without the toolkit's additions and without ``secrets``."""
    origin = getattr(exc, "orig", None) or exc
    text = exc.message if isinstance(exc, BackendError) else str(origin).strip() or type(origin).__name__
    text = re.sub(r"\s*\(Background on this error at:.*?\)", "", text, flags=re.DOTALL)
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def connection_error(exc: BaseException, source: str, secrets: Sequence[str]) -> BackendConnectionError:
    """The database cannot be reached, or hung up."""
    text = database_message(exc, secrets)
    hint = "Check the address, the credentials and that the database is running."
    if "not a database" in text:
        hint = "The file is something else, or is encrypted: check the path."
    return BackendConnectionError(f"cannot connect to {source}: {text}", retryable=True, hint=hint)


def timeout_error(timeout: float) -> QueryError:
    """The query ran longer than ``timeout`` seconds."""
    return QueryError(
        f"the query was stopped after {timeout:g} s",
        code="query_timeout",
        hint="Narrow the query: filter with WHERE, aggregate, or add a LIMIT.",
    )


def query_error(
    exc: sa_exc.SQLAlchemyError, *, source: str, secrets: Sequence[str], timeout: float, names: Names
) -> BackendError:
    """The error for a query that the database would not run."""
    text = database_message(exc, secrets)
    if isinstance(exc, sa_exc.DBAPIError) and exc.connection_invalidated:
        return connection_error(exc, source, secrets)
    if _TIMEOUT.search(text):
        return timeout_error(timeout)
    if _WALL.search(text):
        return QueryRefusedError(
            f"the database refused the query: {text}", hint="This source can only be read."
        )
    if "database is locked" in text:
        return QueryError(text, retryable=True, hint="Another connection is writing; try again shortly.")
    return QueryError(text, hint=_hint(text, names))


def _hint(text: str, names: Names) -> str:
    table, column = _NO_TABLE.search(text), _NO_COLUMN.search(text)
    if table is None and column is None:
        return _SYNTAX_HINT
    try:
        tables, columns = names()
    except BackendError:  # the schema cannot be read either: the first error says enough
        return _SYNTAX_HINT
    if table is not None:
        return suggest(_name(table), tables)
    assert column is not None
    return suggest(_name(column), columns) if columns else _SYNTAX_HINT


def _name(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group).strip("\"'")
