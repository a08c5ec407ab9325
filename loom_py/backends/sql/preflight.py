"""What is surely wrong with a query, found without running it.

A name that the catalogue does not know is only suspected. The database itself convicts: it is asked
to plan the query (EXPLAIN), and if it can, the query is let through. So no query that would run is
ever stopped, whatever this code does not know of views, temporary tables, search paths or functions.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

from sqlglot.errors import SqlglotError

from loom_py.backends.base import suggest
from loom_py.backends.sql.catalog import Catalog
from loom_py.backends.sql.connection import Connections, Page
from loom_py.backends.sql.guard import Guard, Statement
from loom_py.backends.sql.resolve import Names, Suspect, TableName
from loom_py.errors import BackendError, QueryError
from loom_py.guardrails import ErrorAnalysis, Issue, classify_error

__all__ = ["Preflight"]

CHECKED = frozenset({"sqlite", "postgres"})
"""Dialects whose rules for names are known here."""
MAX_QUERY = 10_000
"""Characters; a longer query is let through, for reading it again would take too long."""
PARSED_QUERIES = 16
MAX_TABLES = 2_000
"""Tables whose columns are remembered."""
SHOWN_COLUMNS = 40
"""Columns of a table that a suggestion shows."""
HINTED_TABLES = 4

_CROSS = re.compile(r"\bcross\b", re.IGNORECASE)
"""Who writes CROSS JOIN means it; the parser does not tell it from a comma in every dialect."""

_Known = dict[TableName, "tuple[str, ...] | None"]


class Preflight:
    """The checks of one database. Thread-safe; columns are remembered until they seem wrong."""

    def __init__(self, guard: Guard, connections: Connections, catalog: Catalog) -> None:
        self._guard = guard
        # Kept for the moment between the check of a query and its run.
        self._parsed = lru_cache(maxsize=PARSED_QUERIES)(guard.check)
        self._connections = connections
        self._catalog = catalog
        self._lock = threading.Lock()
        self._known: _Known = {}

    # ── before a query ──

    def statement(self, query: str) -> Statement:
        """The guard's statement of ``query``, parsed once for check and run. Raises `QueryRefusedError`."""
        return self._guard.check(query) if len(query) > MAX_QUERY else self._parsed(query)

    def check(self, query: str) -> tuple[Issue, ...]:
        """What is wrong with ``query``, and what looks odd. Nothing for a query that is refused anyway."""
        if len(query) > MAX_QUERY or self._guard.dialect not in CHECKED:
            return ()
        try:
            statement = self.statement(query)
            tree = statement.tree
            if tree is None or statement.kind != "rows":
                return ()
            names = Names(tree, self._guard.dialect)
            return (*self._errors(statement, names), *self._pairs(statement.sql, names))
        except (BackendError, SqlglotError, RecursionError):
            # Refused, not to be read, or no connection: the query itself will say it better.
            return ()

    def _errors(self, statement: Statement, names: Names) -> Iterable[Issue]:
        tables = tuple(names.tables())
        if not self._suspects(names, tables, fresh=False):
            return ()
        found = self._suspects(names, tables, fresh=True)
        if not found:
            return ()
        verdict = self._verdict(statement)
        if verdict is None:
            self._trust(found, tables)
            return [self._text_for_name(each) for each in found if self._is_text(each)]
        if not any(each.name.lower() in verdict.lower() for each in found):
            return ()  # the database means another name, and will say so
        return [self._issue(each) for each in found if not self._is_text(each)]

    def _suspects(self, names: Names, tables: Sequence[TableName], *, fresh: bool) -> list[Suspect]:
        missing = self._learn(tables, fresh=fresh)
        with self._lock:
            known = {name: self._known.get(name) for name in tables}

        def columns_of(name: TableName) -> tuple[str, ...] | Literal[False] | None:
            return False if name in missing else known.get(name)

        return names.suspects(columns_of)

    def _learn(self, tables: Sequence[TableName], *, fresh: bool) -> frozenset[TableName]:
        """Read the columns of ``tables`` that are not known; the tables that are not there."""
        with self._lock:
            wanted = [name for name in tables if fresh or name not in self._known]
        if not wanted:
            return frozenset()
        read = self._catalog.columns(wanted)
        with self._lock:
            if len(self._known) > MAX_TABLES:
                self._known.clear()
            trusted = {name for name in wanted if self._known.get(name, ()) is None}
            for name in set(wanted) - trusted:
                self._known.pop(name, None)
            self._known.update({name: columns for name, columns in read.items() if name not in trusted})
            return frozenset(wanted) - trusted - read.keys()

    def _verdict(self, statement: Statement) -> str | None:
        """What the database says against the names of a query; ``None`` if it would run it.

        Raises `BackendError` for any other failure.
        """
        plan = Statement(f"EXPLAIN {statement.sql}", "explain")
        try:
            self._connections.run(plan, Page(1), parameters=None, names=lambda: ((), ()))
        except QueryError as exc:
            if classify_error(exc) in ("table_not_found", "column_not_found"):
                return exc.message
            raise
        return None

    def _trust(self, found: Iterable[Suspect], tables: Sequence[TableName]) -> None:
        """The database knows what the catalogue does not: take its tables as they are from now on."""
        wrong = {each.name.lower() for each in found if each.kind == "table"}
        with self._lock:
            for name in tables:
                if name[1].lower() in wrong:
                    self._known[name] = None

    # ── what is said ──

    def _is_text(self, suspect: Suspect) -> bool:
        return self._guard.dialect == "sqlite" and suspect.kind == "column" and suspect.quoted

    def _text_for_name(self, suspect: Suspect) -> Issue:
        where = f" of {', '.join(suspect.tables)}" if suspect.tables else ""
        return Issue(
            "warning",
            f"\"{suspect.name}\" is no column{where}, so SQLite read it as the text '{suspect.name}'",
            f"Was a column meant? {_columns(suspect)} Write text in single quotes.",
            suspect.line,
            suspect.column,
        )

    def _issue(self, suspect: Suspect) -> Issue:
        if suspect.kind == "table":
            message = f"there is no table {suspect.name!r}"
            advice = suggest(suspect.name, self._catalog.names())
        elif suspect.kind == "alias":
            message = f"{suspect.name!r} is no table or alias of this query"
            advice = f"There are: {', '.join(suspect.known)}." if suspect.known else "Name it in FROM."
        else:
            message = f"there is no column {suspect.name!r}"
            if suspect.tables:
                message += f" in {', '.join(suspect.tables)}"
            advice = _columns(suspect, quotes=self._guard.dialect == "postgres")
        return Issue("error", message, advice, suspect.line, suspect.column)

    def _pairs(self, sql: str, names: Names) -> list[Issue]:
        if _CROSS.search(sql):
            return []
        return [
            Issue(
                "warning",
                f"{' and '.join(dict.fromkeys(tables))} are joined without a condition: "
                "every row of one is paired with every row of the other",
                "Join them ON a key, or write CROSS JOIN if this is meant.",
            )
            for tables in names.cartesian()
        ]

    # ── after a failure ──

    def hints(self, query: str, analysis: ErrorAnalysis, dialect: str) -> tuple[str, ...]:
        """What of the catalogue helps to mend ``query``."""
        if analysis.kind == "syntax_error":
            return (f"Write it in the SQL of {dialect}.",)
        try:
            if analysis.kind == "table_not_found":
                return (f"Tables: {_listed(self._catalog.names())}.",)
            if analysis.kind in ("column_not_found", "ambiguous_column", "type_mismatch", "grouping_error"):
                return tuple(self._shapes(self.statement(query)))
        except BackendError:  # the first error says enough
            pass
        return ()

    def _shapes(self, statement: Statement) -> Iterable[str]:
        """The columns of the query's tables, with their types."""
        for table in statement.tables[:HINTED_TABLES]:
            try:
                schema = self._catalog.schema(table)
            except BackendError:  # no such table
                continue
            fields = [f"{each.name} {each.type}".rstrip() for each in schema.fields]
            yield f"Columns of {schema.name}: {_listed(fields)}."


def _columns(suspect: Suspect, *, quotes: bool = False) -> str:
    """The columns it could have been: the closest, then all."""
    shown = [_quoted(name) if quotes else name for name in suspect.known]
    close = suggest(suspect.name, shown) if shown else ""
    if not close.startswith("Did you mean"):
        close = ""
    return f"{close} Columns: {_listed(shown)}.".strip() if shown else "There are no columns here."


def _quoted(name: str) -> str:
    """A PostgreSQL name as it must be written."""
    plain = name.isascii() and name.isidentifier() and name == name.lower()
    return name if plain else '"' + name.replace('"', '""') + '"'


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else ""
    return ", ".join(names[:SHOWN_COLUMNS]) + more
