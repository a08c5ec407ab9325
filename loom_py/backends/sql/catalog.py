"""The tables of a database, as they are now."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from loom_py.backends.base import unknown_resource
from loom_py.backends.protocol import Field, ForeignKey, Resource, Schema
from loom_py.backends.sql.connection import Connections
from loom_py.backends.sql.names import TableFilter
from loom_py.errors import BackendError

__all__ = ["Catalog"]

COUNTED_ROWS = 100_000
"""Rows that `Catalog.metadata` counts at most; a larger table is said to have at least these."""
_FILTERS = frozenset({"name", "schema", "type"})


class Catalog:
    """Reads tables, columns and keys through SQLAlchemy's inspector; nothing is cached."""

    def __init__(self, connections: Connections, tables: TableFilter, label: str) -> None:
        self._connections = connections
        self._tables = tables
        self._label = label

    def resources(self, filters: Mapping[str, Any] | None = None) -> list[Resource]:
        """Tables and views, sorted by name; those of the default schema first.

        ``filters``: ``name`` (a pattern with ``*`` and ``?``), ``schema`` and ``type``.
        """
        wanted = {key: str(value) for key, value in (filters or {}).items() if value is not None}
        if unknown := sorted(set(wanted) - _FILTERS):
            raise BackendError(
                f"there is no filter {', '.join(unknown)}",
                code="invalid_filter",
                hint=f"Filters: {', '.join(sorted(_FILTERS))}.",
            )
        found: list[Resource] = self._connections.ask(self._read)
        return [item for item in found if _fits(item, wanted)]

    def names(self) -> list[str]:
        """The names of all tables and views that may be seen."""
        return [item.name for item in self.resources()]

    def schema(self, resource: str) -> Schema:
        """The columns and keys of one table. Raises `BackendError` if there is none."""
        found = self._find(resource)

        def read(connection: sa.Connection) -> Schema:
            inspector = sa.inspect(connection)
            table, schema = found.metadata["table"], found.metadata["lookup_schema"]
            keys = set(inspector.get_pk_constraint(table, schema)["constrained_columns"])
            foreign = _foreign_keys(inspector, table, schema)
            fields = tuple(_field(column, keys, foreign) for column in inspector.get_columns(table, schema))
            return Schema(found.name, found.type, fields, _comment(inspector, table, schema))

        schema: Schema = self._connections.ask(read)
        return schema

    def metadata(self, resource: str) -> dict[str, Any]:
        """The dialect, the type, and the number of rows, counted up to `COUNTED_ROWS`."""
        found = self._find(resource)
        some = sa.select(sa.literal(1).label("one")).select_from(found.metadata["sa_table"])
        query = sa.select(sa.func.count()).select_from(some.limit(COUNTED_ROWS + 1).subquery())
        counted = int(self._connections.ask(lambda connection: connection.execute(query).scalar_one()))
        return {
            "dialect": self._connections.source.engine.dialect.name,
            "type": found.type,
            "row_count": min(counted, COUNTED_ROWS),
            "row_count_is_exact": counted <= COUNTED_ROWS,
        }

    def sample_sql(self, resource: str) -> str:
        """The query of all rows of a table, its name quoted as the dialect wants it."""
        query = sa.select(sa.text("*")).select_from(self._find(resource).metadata["sa_table"])
        return str(query.compile(dialect=self._connections.source.engine.dialect))

    def columns_of(self, tables: Sequence[str]) -> list[str]:
        """The columns of those of ``tables`` that exist, for a hint."""
        known = {name.lower() for name in self.names()}
        found: dict[str, None] = {}
        for table in tables:
            if table.lower() in known:
                found.update(dict.fromkeys(item.name for item in self.schema(table).fields))
        return list(found)

    def columns(self, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, ...]]:
        """The names of the columns of each of ``tables``: pairs of a schema, or nothing, and a name.

        A table that is not there is left out; one without a schema is looked for as a query would.
        Names are taken as SQLite and PostgreSQL store them; other databases are not asked. Neither
        types nor keys are read, so that this is quick.
        """

        def read(connection: sa.Connection) -> dict[tuple[str, str], tuple[str, ...]]:
            columns = {"sqlite": _sqlite_columns, "postgresql": _postgresql_columns}[connection.dialect.name]
            found = {table: columns(connection, *table) for table in tables}
            return {table: names for table, names in found.items() if names}

        found: dict[tuple[str, str], tuple[str, ...]] = self._connections.ask(read)
        return found

    def _find(self, resource: str) -> Resource:
        found: list[Resource] = self._connections.ask(self._read)
        for matches in (
            [item for item in found if item.name == resource],
            [item for item in found if f"{item.metadata['schema']}.{item.name}" == resource],
            [item for item in found if item.name.lower() == resource.strip().lower()],
        ):
            if len(matches) == 1:
                match = matches[0]
                table, schema = match.metadata["table"], match.metadata["lookup_schema"]
                facts = {**match.metadata, "sa_table": sa.table(table, schema=schema)}
                return Resource(match.name, match.type, match.description, facts)
        raise unknown_resource(self._label, resource, [item.name for item in found])

    def _read(self, connection: sa.Connection) -> list[Resource]:
        inspector = sa.inspect(connection)
        default = inspector.default_schema_name
        resources: list[Resource] = []
        for schema in _schemas(inspector, connection.dialect.name):
            for kind, tables in _tables(inspector, schema):
                resources += [
                    self._resource(table, kind, schema, default)
                    for table in sorted(tables)
                    if self._tables.allows(table, schema or default)
                ]
        return resources

    def _resource(self, table: str, kind: str, schema: str | None, default: str | None) -> Resource:
        name = table if schema is None else f"{schema}.{table}"
        return Resource(
            name, kind, metadata={"table": table, "schema": schema or default or "", "lookup_schema": schema}
        )


def _sqlite_columns(connection: sa.Connection, schema: str, table: str) -> tuple[str, ...]:
    quote = connection.dialect.identifier_preparer.quote_identifier
    where = f"{quote(schema)}." if schema else ""
    rows = connection.exec_driver_sql(f"PRAGMA {where}table_xinfo({quote(table)})")
    return tuple(row[1] for row in rows)


_POSTGRESQL_COLUMNS = sa.text(
    "SELECT attname FROM pg_catalog.pg_attribute WHERE attnum > 0 AND NOT attisdropped "
    "AND attrelid = to_regclass(CASE WHEN :schema = '' THEN '' ELSE quote_ident(:schema) || '.' END "
    "|| quote_ident(:table)) ORDER BY attnum"
)


def _postgresql_columns(connection: sa.Connection, schema: str, table: str) -> tuple[str, ...]:
    rows = connection.execute(_POSTGRESQL_COLUMNS, {"schema": schema, "table": table})
    return tuple(row[0] for row in rows)


def _fits(item: Resource, wanted: Mapping[str, str]) -> bool:
    if "type" in wanted and item.type != wanted["type"].lower():
        return False
    if "schema" in wanted and item.metadata["schema"].lower() != wanted["schema"].lower():
        return False
    pattern = wanted.get("name")
    return pattern is None or fnmatch.fnmatchcase(item.name.lower(), pattern.lower())


def _schemas(inspector: sa.Inspector, dialect: str) -> list[str | None]:
    """The default schema, as ``None``, and PostgreSQL's others."""
    if dialect != "postgresql":
        return [None]
    default = inspector.default_schema_name
    others = [
        name
        for name in inspector.get_schema_names()
        if name not in (default, "information_schema") and not name.startswith("pg_")
    ]
    return [None, *sorted(others)]


def _tables(inspector: sa.Inspector, schema: str | None) -> list[tuple[str, list[str]]]:
    kinds = [("table", inspector.get_table_names(schema)), ("view", inspector.get_view_names(schema))]
    try:
        kinds.append(("materialized view", inspector.get_materialized_view_names(schema)))
    except NotImplementedError:  # most dialects have none
        return kinds
    return kinds


def _foreign_keys(inspector: sa.Inspector, table: str, schema: str | None) -> dict[str, ForeignKey]:
    """The referenced column of each column that has one."""
    keys: dict[str, ForeignKey] = {}
    for key in inspector.get_foreign_keys(table, schema):
        target = key["referred_table"]
        if key.get("referred_schema"):
            target = f"{key['referred_schema']}.{target}"
        columns = key["constrained_columns"]
        referred = key["referred_columns"] or columns
        for column, other in zip(columns, referred, strict=False):
            keys.setdefault(column, ForeignKey(target, other))
    return keys


def _field(column: Any, keys: set[str], foreign: Mapping[str, ForeignKey]) -> Field:
    name = column["name"]
    default = column.get("default")
    return Field(
        name=name,
        type="" if isinstance(column["type"], sa.types.NullType) else str(column["type"]),
        nullable=bool(column.get("nullable", True)) and name not in keys,
        primary_key=name in keys,
        foreign_key=foreign.get(name),
        description=column.get("comment") or "",
        default=None if default is None else str(default),
    )


def _comment(inspector: sa.Inspector, table: str, schema: str | None) -> str:
    try:
        return inspector.get_table_comment(table, schema)["text"] or ""
    except NotImplementedError:  # the dialect has no comments
        return ""
