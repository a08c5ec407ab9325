"""The statements of a ledger in a database: plain SQL that SQLite and PostgreSQL both take."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ADD_HOLD",
    "DROP_HOLD",
    "FIND_HOLD",
    "INSERT",
    "LOAD",
    "LOSE_HOLD",
    "OPEN_HOLDS",
    "PRUNE",
    "PRUNE_LOST",
    "SAVE",
    "SUMS",
    "TABLES",
    "WRITE_NOTHING",
    "listing",
]

_ACCOUNTS = "loom_spending"
_HOLDS = "loom_reservations"

_NAMES = ("agent", "per", "name")
_TALLY = ("spent", "reserved", "uncertain", "extra", "alerted")
SUMS = (*(f"usd_{name}" for name in _TALLY), *(f"tokens_{name}" for name in _TALLY), "calls")
_HOLD = ("id", *_NAMES, "usd", "tokens", "owner", "created", "lost")

_TYPES = {
    "id": "VARCHAR(32) NOT NULL PRIMARY KEY",
    "agent": "VARCHAR(255) NOT NULL",
    "per": "VARCHAR(16) NOT NULL",
    "name": "VARCHAR(255) NOT NULL",
    "owner": "VARCHAR(255) NOT NULL",
    "created": "DOUBLE PRECISION NOT NULL",
    "updated": "DOUBLE PRECISION NOT NULL",
}


def _create(table: str, columns: Sequence[str], *rest: str) -> str:
    typed = [f"{column} {_TYPES.get(column, 'BIGINT NOT NULL')}" for column in columns]
    return f"CREATE TABLE IF NOT EXISTS {table} ({', '.join([*typed, *rest])})"


def _add(table: str, columns: Sequence[str]) -> str:
    values = ", ".join(f":{column}" for column in columns)
    return " ".join(["INSERT INTO", table, f"({', '.join(columns)})", f"VALUES ({values})"])


def _select(columns: Sequence[str], table: str, *rest: str) -> str:
    return " ".join(["SELECT", ", ".join(columns), "FROM", table, *rest])


def _both(names: Sequence[str], separator: str) -> str:
    return separator.join(f"{name} = :{name}" for name in names)


TABLES = {
    _ACCOUNTS: _create(_ACCOUNTS, (*_NAMES, "updated", *SUMS), f"PRIMARY KEY ({', '.join(_NAMES)})"),
    _HOLDS: _create(_HOLDS, _HOLD),
}
WRITE_NOTHING = (
    " ".join(["UPDATE", _ACCOUNTS, "SET", _both((*SUMS, "updated"), ", "), "WHERE 1 = 0"]),
    " ".join(["UPDATE", _HOLDS, "SET", _both(_HOLD, ", "), "WHERE 1 = 0"]),
)
"""Writes that find out whether the columns are there and the tables can be written."""

_MINE = f"WHERE {_both(_NAMES, ' AND ')}"
INSERT = _add(_ACCOUNTS, (*_NAMES, "updated", *SUMS))
LOAD = _select(SUMS, _ACCOUNTS, _MINE)
SAVE = " ".join(["UPDATE", _ACCOUNTS, "SET", _both(("updated", *SUMS), ", "), _MINE])
PRUNE = (
    "DELETE FROM loom_spending WHERE per = :per AND updated < :before "
    "AND usd_reserved = 0 AND tokens_reserved = 0"
)
ADD_HOLD = _add(_HOLDS, _HOLD)
FIND_HOLD = _select(("usd", "tokens", "lost"), _HOLDS, "WHERE id = :id")
DROP_HOLD = "DELETE FROM loom_reservations WHERE id = :id"
LOSE_HOLD = "UPDATE loom_reservations SET lost = 1 WHERE id = :id AND lost = 0"
OPEN_HOLDS = _select(_HOLD, _HOLDS, "WHERE lost = 0")
PRUNE_LOST = "DELETE FROM loom_reservations WHERE per = :per AND created < :before AND lost = 1"


def listing(wanted: Sequence[str], limit: int | None) -> str:
    """The accounts, the one used last first, of the values ``wanted`` names."""
    where = f"WHERE {_both(wanted, ' AND ')}" if wanted else ""
    cut = "" if limit is None else f"LIMIT {int(limit)}"
    order = "ORDER BY updated DESC, agent, per, name"
    return _select((*_NAMES, "updated", *SUMS), _ACCOUNTS, where, order, cut)
