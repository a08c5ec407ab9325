"""Where a budget's sums are kept: in memory, in an SQLite file, or in a database.

::

    with SQLiteLedger("spending.db") as ledger:
        print(ledger.report())
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from loom_py.errors import ConfigError
from loom_py.resilience.spending.accounts import (
    Account,
    Balance,
    Limits,
    Tally,
    Unit,
    amount_in,
    limit_units_of,
    units_of,
)
from loom_py.resilience.spending.ledger import Charge, Hold, Refusal, SpendingLedger
from loom_py.resilience.spending.memory import MemoryLedger
from loom_py.resilience.spending.report import LedgerEntry
from loom_py.resilience.spending.sqlite import SQLiteLedger
from loom_py.resilience.spending.stored import LEDGER_LIMIT, StoredLedger

if TYPE_CHECKING:
    from loom_py.resilience.spending.sql import SQLLedger

__all__ = [
    "LEDGER_LIMIT",
    "Account",
    "Balance",
    "Charge",
    "Hold",
    "LedgerEntry",
    "Limits",
    "MemoryLedger",
    "Refusal",
    "SQLLedger",
    "SQLiteLedger",
    "SpendingLedger",
    "StoredLedger",
    "Tally",
    "Unit",
    "amount_in",
    "limit_units_of",
    "open_ledger",
    "units_of",
]


def open_ledger(where: str | os.PathLike[str], *, clock: Callable[[], float]) -> StoredLedger:
    """The ledger in a file, or at a database URL (which needs SQLAlchemy).

    Raises `ConfigError` where it cannot be used, and `MissingDependencyError`.
    """
    text = os.fspath(where)
    if isinstance(where, Path) or "://" not in text:
        return SQLiteLedger(text, clock=clock)
    if text.startswith("sqlite"):
        return SQLiteLedger(_sqlite_path(text), clock=clock)
    from loom_py.resilience.spending.sql import SQLLedger

    return SQLLedger(text, clock=clock)


def _sqlite_path(url: str) -> str:
    """The file of ``sqlite:///relative.db`` or ``sqlite:////absolute.db``."""
    rest = url.partition("://")[2].partition("?")[0]
    if len(rest) < 2 or not rest.startswith("/"):
        raise ConfigError(
            "an SQLite URL of a ledger names a file and no host",
            field="ledger",
            hint="Use three slashes, sqlite:///relative/path.db, or just the path.",
        )
    return unquote(rest[1:])


def __getattr__(name: str) -> Any:
    if name != "SQLLedger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from loom_py.resilience.spending.sql import SQLLedger

    return SQLLedger
