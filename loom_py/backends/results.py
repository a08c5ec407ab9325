"""What a query returns: columns, rows, and the text a model reads of them."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any

__all__ = ["Column", "QueryResult", "to_jsonable", "unique_names"]

MAX_CELL = 300
"""Characters of one value that `QueryResult.to_text` shows."""
MAX_TEXT = 20_000
"""Characters of rows that `QueryResult.to_text` shows altogether."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result: its ``name``, the source's ``type`` name, and whether it may be null.

    ``type`` is empty and ``nullable`` is ``None`` where the source does not say.
    """

    name: str
    type: str = ""
    nullable: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """The column as JSON-compatible data."""
        return {"name": self.name, "type": self.type, "nullable": self.nullable}


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows of a query.

    Attributes:
        columns: in the order of the query.
        rows: one ``dict`` a row, by column name, with the source's own Python values.
        row_count: rows returned here; for a write, rows changed.
        truncated: whether the source had more rows than are here.
        duration_ms: milliseconds from sending the query to the last row.
        metadata: JSON-compatible facts: ``offset``, ``next_offset``, ``note`` and the like.
    """

    columns: tuple[Column, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    row_count: int = 0
    truncated: bool = False
    duration_ms: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_rows(
        cls, rows: Iterable[Mapping[str, Any]], *, truncated: bool = False, **facts: Any
    ) -> QueryResult:
        """A result of plain mappings; the columns are their keys in order of appearance.

        ``facts`` become the metadata.
        """
        held = tuple(dict(row) for row in rows)
        names = dict.fromkeys(name for row in held for name in row)
        return cls(tuple(Column(name) for name in names), held, len(held), truncated, metadata=facts)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible data: decimals and dates as text, bytes in base64."""
        return {
            "columns": [column.to_dict() for column in self.columns],
            "rows": [to_jsonable(row) for row in self.rows],
            "row_count": self.row_count,
            "truncated": self.truncated,
            "duration_ms": self.duration_ms,
            "metadata": to_jsonable(self.metadata),
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def to_text(self, *, max_cell: int = MAX_CELL, max_chars: int = MAX_TEXT) -> str:
        """The result as a model reads it: a table with ``|`` between columns, and what was cut.

        A value is cut after ``max_cell`` characters and the rows after ``max_chars``; the first row
        is always shown. Bytes show their size alone.
        """
        if not self.columns:
            return str(self.metadata.get("note") or _rows(self.row_count))
        names = [column.name for column in self.columns]
        lines = [" | ".join(_cell(name, max_cell) for name in names), " | ".join("---" for _ in names)]
        shown = 0
        budget = max_chars
        for line in self._lines(names, max_cell):
            budget -= len(line) + 1
            if budget < 0 and shown:
                break
            lines.append(line)
            shown += 1
        return "\n".join([*lines, f"({self._note(shown)})"])

    def _lines(self, names: list[str], max_cell: int) -> Iterator[str]:
        for row in self.rows:
            yield " | ".join(_cell(row.get(name), max_cell) for name in names)

    def _note(self, shown: int) -> str:
        """What the reader must know of the rows: how many, from where, and how to get the rest."""
        offset = int(self.metadata.get("offset", 0))
        if shown == len(self.rows) and not self.truncated:
            return _rows(shown) + (f" from offset {offset}" if offset else "")
        part = f"rows {offset + 1} to {offset + shown}" if offset else f"first {_rows(shown)}"
        text = f"{part}; ask for the next page with offset {offset + shown}"
        if self.metadata.get("ordered") is False:
            text += "; add ORDER BY so that pages do not overlap"
        return text


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _cell(value: Any, limit: int) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(bytes(value))} bytes>"
    plain = to_jsonable(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    cut = len(text) - limit
    if cut > 0:
        text = text[:limit]
    text = text.replace("\\", "\\\\").replace("|", "\\|").replace("\r", "\\r").replace("\n", "\\n")
    return f"{text}… [{cut} more characters]" if cut > 0 else text


def to_jsonable(value: Any) -> Any:
    """``value`` as JSON-compatible data.

    Decimals, dates, UUIDs and anything unknown become text, bytes base64, and a float that JSON
    does not know (NaN, infinity) its name.
    """
    if isinstance(value, Enum):
        return to_jsonable(value.value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_jsonable(item) for item in value]
    return str(value)


def unique_names(names: Iterable[str]) -> list[str]:
    """``names`` made distinct, the later ones numbered: ``a, a`` becomes ``a, a_2``."""
    wanted = list(names)
    taken: set[str] = set()
    result = []
    for name in wanted:
        fresh, number = name, 1
        while fresh in taken or (number > 1 and fresh in wanted):
            number += 1
            fresh = f"{name}_{number}"
        taken.add(fresh)
        result.append(fresh)
    return result
