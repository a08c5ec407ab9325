"""Which tables a query may see, and which names stand for tables at all."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["TableFilter", "ascii_lower", "same_name", "words"]

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_CATALOG_SCHEMAS = frozenset({"information_schema", "pg_catalog", "pg_toast", "mysql", "sys"})
_POSTGRES_NAME_BYTES = 63


def words(*lines: str) -> frozenset[str]:
    """The words of these lines, as a set."""
    return frozenset(" ".join(lines).split())


def ascii_lower(name: str) -> str:
    """``name`` in lower case as databases do it: A to Z alone, so that ``K`` (Kelvin) is no ``k``."""
    return name.translate(_LOWER)


def same_name(name: str, quoted: bool, dialect: str) -> str:
    """``name`` in the form under which the dialect compares it with other names."""
    if dialect == "postgres":
        folded = name if quoted else ascii_lower(name)
        return folded.encode()[:_POSTGRES_NAME_BYTES].decode(errors="ignore")
    return ascii_lower(name) if dialect == "sqlite" else name


@dataclass(frozen=True, slots=True)
class TableFilter:
    """The tables that may be seen: those of ``include`` (``None``: all) that ``exclude`` does not name.

    Names are ``table`` or ``schema.table``, without regard to case. A name without a schema
    includes the table of ``default_schema`` and excludes such tables of every schema.
    """

    include: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    default_schema: str = ""

    @classmethod
    def of(
        cls, include: Iterable[str] | None, exclude: Iterable[str] | None, default_schema: str
    ) -> TableFilter:
        """The filter of the names as a user gives them."""
        return cls(
            None if include is None else frozenset(name.lower() for name in include),
            frozenset(name.lower() for name in exclude or ()),
            default_schema.lower(),
        )

    @property
    def active(self) -> bool:
        """Whether anything is hidden."""
        return self.include is not None or bool(self.exclude)

    def allows(self, table: str, schema: str | None = None) -> bool:
        """Whether the table may be seen. Without a schema it is the default one's."""
        name = table.lower()
        where = (schema or "").lower()
        if not self.active:
            return True
        if is_catalog(name, where):
            return False
        home = where or self.default_schema
        full = f"{home}.{name}"
        if name in self.exclude or full in self.exclude:
            return False
        if not where and any(item.rpartition(".")[2] == name for item in self.exclude):
            return False
        if self.include is None:
            return True
        return full in self.include or (name in self.include and home == self.default_schema)

    def visible(self) -> str:
        """The included names, for a hint."""
        return ", ".join(sorted(self.include)) if self.include is not None else ""


def is_catalog(table: str, schema: str = "") -> bool:
    """Whether the name belongs to the database's own catalogue."""
    if schema:
        return schema in _CATALOG_SCHEMAS or schema.startswith("pg_") or table.startswith("sqlite_")
    return table.startswith(("sqlite_", "pg_"))
