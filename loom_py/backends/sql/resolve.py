"""Which names of a query fit nothing that is known of the database. Pure; asks nobody.

It leans to trust: wherever a name could mean something that is not known here (a function's
columns, a table of unknown shape, an outer query), it is not suspected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sqlglot import exp

from loom_py.backends.sql.guard import Node
from loom_py.backends.sql.names import ascii_lower, same_name, words

__all__ = ["Columns", "Names", "Suspect", "TableName"]

TableName: TypeAlias = tuple[str, str]
"""A table as a query names it, in the form the dialect compares: its schema (or nothing) and name."""
Columns: TypeAlias = Callable[[TableName], Sequence[str] | Literal[False] | None]
"""The columns of a table: ``None`` if they are not known, ``False`` if there is no such table."""

_SYSTEM = {
    "sqlite": words("rowid oid _rowid_ rank true false current_date current_time current_timestamp"),
    "postgres": words(
        "ctid tableoid xmin xmax cmin cmax oid user session_user current_user current_role current_catalog",
        "current_schema current_date current_time current_timestamp localtime localtimestamp",
        "system_user default value",
    ),
}


@dataclass(frozen=True, slots=True)
class Suspect:
    """A name that seems to exist nowhere.

    ``table`` names no table, ``alias`` stands before a column and is none of the query's tables,
    ``column`` is in none of the ``tables``. ``known`` are the names it could have been.
    """

    kind: Literal["table", "alias", "column"]
    name: str
    quoted: bool
    tables: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """Something in a FROM: its name for the columns, and theirs (``None``: not known)."""

    name: str
    columns: tuple[str, ...] | None
    label: str = ""


@dataclass(slots=True)
class _Resolver:
    dialect: str
    columns_of: Columns
    ctes: dict[str, list[exp.CTE]]
    open: set[int] = field(default_factory=set)
    made: dict[int, list[_Source]] = field(default_factory=dict)
    sets: dict[int, frozenset[str]] = field(default_factory=dict)
    named: dict[int, frozenset[str]] = field(default_factory=dict)

    # ── names ──

    def name(self, identifier: Any) -> str:
        return _name(identifier, self.dialect)

    def stored(self, name: str) -> str:
        """A name of the catalogue, in the form names are compared."""
        return ascii_lower(name) if self.dialect == "sqlite" else name

    def is_cte(self, table: exp.Table) -> bool:
        """Whether any common table expression of the statement has the name, in scope or not."""
        return not table.db and self.name(table.this) in self.ctes

    # ── sources ──

    def sources(self, select: exp.Select) -> list[_Source]:
        """What the FROM of one SELECT offers."""
        if id(select) not in self.made:
            self.made[id(select)] = [self.source(node) for node in _from(select)]
        return self.made[id(select)]

    def source(self, node: Any) -> _Source:
        alias = node.args.get("alias")
        called = self.name(alias.this) if isinstance(alias, exp.TableAlias) else ""
        plain = isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier)
        if node.args.get("pivots") or (plain and node.args.get("rows_from")):
            return _Source(called, None)
        if plain:
            name = called or self.name(node.this)
            return _Source(name, self.renamed(self.table(node), alias), node.this.name)
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
            return _Source(called, self.renamed(self.outputs(node.this), alias), called)
        return _Source(called, None)

    def table(self, node: exp.Table) -> list[str | None] | None:
        """The columns of a table or of a common table expression."""
        if self.is_cte(node):
            found = self.ctes[self.name(node.this)]
            return self.cte(found[0]) if len(found) == 1 else None
        known = None if node.catalog else self.columns_of(_table_name(node, self.dialect))
        return None if known is None or known is False else list(known)

    def cte(self, cte: exp.CTE) -> list[str | None] | None:
        if id(cte) in self.open or not isinstance(cte.this, exp.Query):
            return None
        self.open.add(id(cte))
        outputs = self.outputs(cte.this)
        self.open.discard(id(cte))
        alias = cte.args.get("alias")
        given = [column.name for column in alias.columns] if alias else []
        return _overlaid(outputs, given)

    def renamed(self, columns: list[str | None] | None, alias: Any) -> tuple[str, ...] | None:
        given = [column.name for column in alias.columns] if isinstance(alias, exp.TableAlias) else []
        found = _overlaid(columns, given)
        if found is None or None in found:
            return None
        return tuple(name for name in found if name is not None)

    def outputs(self, query: Any) -> list[str | None] | None:
        """The names of a query's columns in order; ``None`` for one that has none of its own."""
        while isinstance(query, (exp.Subquery, exp.SetOperation)):
            query = query.this
        if not isinstance(query, exp.Select):
            return None
        names: list[str | None] = []
        for item in query.expressions:
            if item.is_star:
                found = self.starred(query, item)
                if found is None:
                    return None
                names += found
            else:
                names.append(item.alias_or_name if isinstance(item, (exp.Alias, exp.Column)) else None)
        return names

    def starred(self, select: exp.Select, item: Any) -> list[str | None] | None:
        if type(item) not in (exp.Star, exp.Column) or any(_star(item).args.values()):
            return None  # EXCEPT, REPLACE and the like
        wanted = self.name(item.args.get("table")) if isinstance(item, exp.Column) else ""
        names: list[str | None] = []
        for source in self.sources(select):
            if wanted and source.name != wanted:
                continue
            if source.columns is None:
                return None
            names += source.columns
        return names

    # ── suspicion ──

    def column(self, column: exp.Column) -> Suspect | None:
        identifier = column.this
        if not isinstance(identifier, exp.Identifier) or column.args.get("db"):
            return None
        name = self.name(identifier)
        selects = _around(column)
        if not selects or name in _SYSTEM[self.dialect]:
            return None
        sources = [source for select in selects for source in self.sources(select)]
        prefix = column.args.get("table")
        if prefix is not None:
            named = [source for source in sources if source.name == self.name(prefix)]
            if not named:
                return self.alias(prefix, sources)
            sources = named
        elif self.is_other(name, selects, sources):
            return None
        if not sources or any(source.columns is None for source in sources):
            return None
        if any(name in self.known(source) for source in sources):
            return None
        known = dict.fromkeys(each for source in sources for each in source.columns or ())
        tables = tuple(dict.fromkeys(source.label for source in sources if source.label))
        return _suspect("column", identifier, tables, tuple(known))

    def known(self, source: _Source) -> frozenset[str]:
        """The columns of a source, in the form names are compared."""
        if id(source) not in self.sets:
            self.sets[id(source)] = frozenset(map(self.stored, source.columns or ()))
        return self.sets[id(source)]

    def alias(self, prefix: Any, sources: list[_Source]) -> Suspect | None:
        if any(not source.name for source in sources):
            return None
        return _suspect("alias", prefix, (), tuple(dict.fromkeys(source.name for source in sources)))

    def is_other(self, name: str, selects: Sequence[exp.Select], sources: list[_Source]) -> bool:
        """Whether a bare name is that of a whole row, or of a column of the result."""
        return any(source.name == name for source in sources) or any(
            name in self.result(select) for select in selects
        )

    def result(self, select: exp.Select) -> frozenset[str]:
        """The names that a SELECT gives to columns of its result."""
        if id(select) not in self.named:
            aliases = (item.args["alias"] for item in select.expressions if isinstance(item, exp.Alias))
            self.named[id(select)] = frozenset(map(self.name, aliases))
        return self.named[id(select)]


def _star(item: Any) -> Any:
    return item.this if isinstance(item, exp.Column) else item


def _overlaid(columns: list[str | None] | None, given: list[str]) -> list[str | None] | None:
    """``columns`` with the first ones renamed."""
    return None if columns is None else [*given, *columns[len(given) :]]


def _from(select: Any) -> Iterator[Any]:
    """What stands in the FROM, joins and laterals of a SELECT, parentheses taken off."""
    clause = select.args.get("from_") or select.args.get("from")
    if clause is not None:
        yield from _unwrapped(clause.this)
    for join in select.args.get("joins") or ():
        yield from _unwrapped(join.this)
    yield from select.args.get("laterals") or ()


def _unwrapped(node: Any) -> Iterator[Any]:
    """A source, and those that are joined to it within the same parentheses."""
    if isinstance(node, (exp.Subquery, exp.Paren)) and not isinstance(node.this, exp.Query):
        if node.args.get("alias"):
            yield node
            return
        yield from _unwrapped(node.this)
    else:
        yield node
    for join in node.args.get("joins") or ():
        yield from _unwrapped(join.this)
    yield from node.args.get("laterals") or ()


def _around(column: exp.Column) -> list[exp.Select]:
    """The SELECTs around a column, inner first; none where it belongs to a UNION as a whole."""
    found: list[exp.Select] = []
    node: Any = column.parent
    while node is not None:
        if isinstance(node, exp.Select):
            found.append(node)
        elif not found and isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
            return []
        node = node.parent
    return found


def _suspect(kind: Any, identifier: Any, tables: tuple[str, ...], known: tuple[str, ...]) -> Suspect:
    quoted = bool(identifier.args.get("quoted"))
    line, column = identifier.meta.get("line"), identifier.meta.get("col")
    return Suspect(kind, identifier.name, quoted, tables, known, line, column)


class Names:
    """The names of one query. The tree is walked once, and never changed."""

    def __init__(self, tree: Node, dialect: str) -> None:
        self._dialect = dialect
        self._selects: list[exp.Select] = []
        self._columns: list[exp.Column] = []
        self._ctes: dict[str, list[exp.CTE]] = {}
        for node in tree.walk():
            if isinstance(node, exp.Column):
                self._columns.append(node)
            elif isinstance(node, exp.Select):
                self._selects.append(node)
            elif isinstance(node, exp.CTE):
                alias = node.args.get("alias")
                name = _name(alias.this if alias else None, dialect)
                self._ctes.setdefault(name, []).append(node)
        nodes = [list(_from(select)) for select in self._selects]
        self._pairs = list(zip(self._selects, nodes, strict=True))

    def tables(self) -> dict[TableName, exp.Table]:
        """The tables that are read, common table expressions left out: where each is first named."""
        found: dict[TableName, exp.Table] = {}
        for _, nodes in self._pairs:
            for node in nodes:
                if self._is_real(node) and not node.catalog:
                    found.setdefault(_table_name(node, self._dialect), node)
        return found

    def suspects(self, columns_of: Columns) -> list[Suspect]:
        """The names that fit nothing, each once; tables alone if any of those is missing."""
        missing = [node for name, node in self.tables().items() if columns_of(name) is False]
        if missing:
            return [_suspect("table", node.this, (), ()) for node in missing]
        resolver = _Resolver(self._dialect, columns_of, self._ctes)
        found: dict[tuple[str, str], Suspect] = {}
        for column in self._columns:
            suspect = resolver.column(column)
            if suspect is not None:
                found.setdefault((suspect.kind, suspect.name), suspect)
        return list(found.values())

    def cartesian(self) -> list[tuple[str, ...]]:
        """The tables of each SELECT that pairs every row of one with every row of another by commas."""
        return [
            tuple(node.this.name for node in nodes)
            for select, nodes in self._pairs
            if (joins := select.args.get("joins"))
            and select.args.get("where") is None
            and all(map(_is_bare, joins))
            and all(map(self._is_real, nodes))
        ]

    def _is_real(self, node: Any) -> bool:
        plain = isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier)
        return plain and (bool(node.db) or _name(node.this, self._dialect) not in self._ctes)


def _is_bare(join: Any) -> bool:
    """Whether nothing says how to join; ``CROSS`` may be the parser's own word for a comma."""
    return {key for key, value in join.args.items() if value} <= {"this", "kind"} and (
        join.args.get("kind") in (None, "", "CROSS")
    )


def _name(identifier: Any, dialect: str) -> str:
    """A name in the form names are compared."""
    if not isinstance(identifier, exp.Identifier):
        return ""
    return same_name(identifier.name, bool(identifier.args.get("quoted")), dialect)


def _table_name(node: exp.Table, dialect: str) -> TableName:
    return _name(node.args.get("db"), dialect), _name(node.this, dialect)
