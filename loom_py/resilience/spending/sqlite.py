"""A ledger in an SQLite file, for the processes of one machine."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from loom_py.errors import ConfigError, LoomError
from loom_py.resilience.spending.statements import INSERT, TABLES, WRITE_NOTHING
from loom_py.resilience.spending.stored import Run, StoredLedger, StoreError

__all__ = ["SQLiteLedger"]

_BUSY_SECONDS = 30.0
_PARAMETER = re.compile(r":(\w+)")


class SQLiteLedger(StoredLedger):
    """What was spent, in an SQLite file that any number of threads and processes share.

    Each reservation and each end is a transaction, synced to the disk before the method returns; it
    takes about a millisecond, by the disk, and waits up to 30 s for others. Not for network drives: give
    `SQLLedger` a database instead.

    Args:
        path: the file; it is made if it does not exist, its folder is not. ``~`` is the home folder.
        clock: seconds since 1970.

    Raises `ConfigError` where the file cannot be made, written or read, or is no ledger.
    """

    _lock_row: ClassVar[str] = ""  # BEGIN IMMEDIATE has the whole file

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self.path = _checked(path)
        super().__init__(str(self.path), clock)
        self._connection: sqlite3.Connection | None = None
        try:
            self._prepare()
            self.recover()
        except (StoreError, LoomError, sqlite3.Error) as exc:
            self.close()
            raise _refusal(self.path, exc) from exc

    def close(self) -> None:
        """Close the file. Further use opens it again."""
        with self._turn:
            connection, self._connection = self._connection, None
            if connection is not None and os.getpid() == self._pid:
                with suppress(sqlite3.Error):
                    connection.close()

    def _prepare(self) -> None:
        """Make what is missing, and find out at once whether the file is sound and can be written."""
        with self._transaction() as run:
            for statement in TABLES.values():
                run(statement, {})
            if (found := run("PRAGMA quick_check(1)", {})[1]) != [("ok",)]:
                raise StoreError(f"database disk image is malformed: {found[0][0]}")
            nothing = dict.fromkeys(_PARAMETER.findall(" ".join(WRITE_NOTHING)))
            for statement in WRITE_NOTHING:
                run(statement, nothing)

    @contextmanager
    def _transaction(self) -> Iterator[Run]:
        self._check_process()
        with self._turn:
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
            except (sqlite3.Error, OSError) as exc:
                raise StoreError(str(exc)) from exc
            try:
                yield _runner(connection)
                connection.execute("COMMIT")
            except sqlite3.Error as exc:
                raise StoreError(str(exc)) from exc
            finally:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")

    def _insert(self, run: Run, parameters: Mapping[str, Any]) -> None:
        run(INSERT, parameters)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                _use_wal(connection)
                # What is committed survives a power cut too.
                connection.execute("PRAGMA synchronous=FULL")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _forked(self) -> None:
        super()._forked()
        # SQLite forbids any use of a connection that came over a fork, even to close it.
        _inherited.append(self._connection)
        self._connection = None


_inherited: list[sqlite3.Connection | None] = []


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers go on while one writes. Where several processes switch at once, some are told to wait."""
    for attempt in range(100):
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc) or attempt == 99:
                raise
            time.sleep(0.02)
        else:
            return


def _runner(connection: sqlite3.Connection) -> Run:
    def run(sql: str, parameters: Mapping[str, Any]) -> tuple[int, Sequence[Sequence[Any]]]:
        try:
            cursor = connection.execute(sql, parameters)
        except OverflowError as exc:
            raise StoreError(str(exc)) from exc
        return cursor.rowcount, cursor.fetchall()

    return run


def _checked(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not text.strip() or "\0" in text or text.startswith(":memory:"):
        raise ConfigError(
            f"a ledger is kept in a file, not in {text!r}",
            field="ledger",
            hint="Name a file, or leave the ledger out: the sums are then in memory.",
        )
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as exc:
        raise ConfigError(f"the ledger {text}: {exc}", field="ledger", hint="Name the file in full.") from exc


def _refusal(path: Path, exc: Exception) -> ConfigError:
    """What is wrong with the file, and the remedy."""
    text = exc.message if isinstance(exc, LoomError) else str(exc)
    if path.is_dir():
        text, hint = "it is a directory", "Name a file in it."
    elif not path.parent.is_dir():
        text, hint = f"there is no folder {path.parent}", "Make the folder first."
    elif "not a database" in text or "malformed" in text:
        hint = "The file is something else, or damaged: restore it from a backup, or name another file."
    elif "no such column" in text:
        hint = "Another program has tables of these names in the file: name another file."
    else:
        hint = "The file, and its folder too, must be writable by this user."
    return ConfigError(f"the spending ledger {path} cannot be used: {text}", field="ledger", hint=hint)
