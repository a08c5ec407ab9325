"""A ledger in a database server, for many machines. Needs SQLAlchemy, the extra ``sql``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from loom_py.errors import ConfigError, LoomError, MissingDependencyError
from loom_py.resilience.spending.statements import INSERT, TABLES
from loom_py.resilience.spending.stored import Run, StoredLedger, StoreError

try:
    import sqlalchemy as sa
    from sqlalchemy import exc as sa_exc
except ModuleNotFoundError as exc:
    raise MissingDependencyError(
        "a spending ledger in a database needs the package sqlalchemy, which is not installed",
        field="ledger",
        hint="pip install 'loom-py[sql]'",
    ) from exc

__all__ = ["SQLLedger"]

_FORMS = "Use a URL such as postgresql+psycopg://user@host/database, or the path of a file."
_CONNECT_SECONDS = 10
_SECRETS = ("password", "passwd", "sslpassword", "passfile")


class SQLLedger(StoredLedger):
    """What was spent, in a database that any number of processes and machines share.

    Each reservation and each end is one transaction, which locks the account's row (``SELECT … FOR
    UPDATE``) and is committed before the method returns. The two tables ``loom_spending`` and
    ``loom_reservations`` are made if they do not exist. Made for PostgreSQL; SQLite files are for
    `SQLiteLedger`.

    Args:
        url: a database URL, or an SQLAlchemy ``Engine`` of your own, which is not disposed of.
        clock: seconds since 1970.

    Raises `ConfigError` where the URL is wrong, the database cannot be reached or the tables not be made,
    and `MissingDependencyError` without SQLAlchemy or the database's driver.
    """

    def __init__(self, url: str | sa.URL | sa.Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._owns_engine = not isinstance(url, sa.Engine)
        engine = url if isinstance(url, sa.Engine) else _engine(_parsed(url))
        _check(engine)
        self._secrets = _secrets(engine.url)
        # What one transaction waits for must be seen by it once it goes on.
        self._engine = engine.execution_options(isolation_level="READ COMMITTED")
        super().__init__(_label(engine.url), clock)
        try:
            self._prepare()
            self.recover()
        except (StoreError, LoomError) as exc:
            self.close()
            raise ConfigError(
                f"the spending ledger {self.label} cannot be used: {getattr(exc, 'message', exc)}",
                field="ledger",
                hint="Check the address, the credentials, and that the user may make tables.",
            ) from None

    def close(self) -> None:
        """Close the connections. Further use opens new ones."""
        if self._owns_engine:
            self._engine.dispose()

    def _prepare(self) -> None:
        for name, statement in TABLES.items():
            try:
                with self._transaction() as run:
                    run(statement, {})
            except StoreError:
                # Two processes made the tables at once, or this one may only use them.
                with self._transaction() as run:
                    run(f"SELECT 1 FROM {name} WHERE 1 = 0", {})  # noqa: S608 - one of ours

    @contextmanager
    def _transaction(self) -> Iterator[Run]:
        self._check_process()
        try:
            with self._engine.begin() as connection:
                yield _Statements(connection)
        except (sa_exc.SQLAlchemyError, OSError) as exc:
            raise StoreError(self._message(exc)) from None

    def _insert(self, run: Run, parameters: Mapping[str, Any]) -> None:
        assert isinstance(run, _Statements)
        try:
            with run.connection.begin_nested():
                run(INSERT, parameters)
        except sa_exc.IntegrityError:
            return  # another process was first; its row is there to be locked

    def _forked(self) -> None:
        super()._forked()
        self._engine.dispose(close=False)  # the connections are the parent's

    def _message(self, exc: BaseException) -> str:
        """What the database said, on one line and without secrets."""
        origin = getattr(exc, "orig", None) or exc
        text = " ".join(str(origin).split()) or type(origin).__name__
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Statements:
    """Runs statements on one connection."""

    __slots__ = ("connection",)

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection

    def __call__(self, sql: str, parameters: Mapping[str, Any]) -> tuple[int, Sequence[Sequence[Any]]]:
        result = self.connection.execute(sa.text(sql), dict(parameters))
        return result.rowcount, result.fetchall() if result.returns_rows else ()


def _parsed(url: str | sa.URL) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except (sa_exc.ArgumentError, ValueError):
        # The text may hold a password, so it is not shown, not even as the cause.
        raise ConfigError("the URL of the ledger cannot be read", field="ledger", hint=_FORMS) from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _engine(url: sa.URL) -> sa.Engine:
    arguments = {"connect_timeout": _CONNECT_SECONDS} if url.get_backend_name() == "postgresql" else {}
    try:
        return sa.create_engine(url, pool_pre_ping=True, connect_args=arguments)
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(
            f"{url.drivername} needs the package {exc.name}, which is not installed",
            field="ledger",
            hint="pip install 'loom-py[postgresql]'"
            if exc.name in ("psycopg", "psycopg2")
            else f"pip install {exc.name}",
        ) from exc
    except (sa_exc.ArgumentError, TypeError, ValueError):
        raise ConfigError(
            f"no database is known as {url.drivername}, or its URL is wrong", field="ledger", hint=_FORMS
        ) from None


def _check(engine: sa.Engine) -> None:
    if engine.dialect.is_async:
        raise ConfigError(
            f"the ledger needs a synchronous driver, not {engine.url.drivername}", field="ledger", hint=_FORMS
        )
    if engine.dialect.name == "sqlite":
        raise ConfigError("SQLLedger is for servers", field="ledger", hint="Use SQLiteLedger(path).")


def _secrets(url: sa.URL) -> tuple[str, ...]:
    found = [url.password, *(url.query.get(name) for name in _SECRETS)]
    return tuple(str(secret) for secret in found if secret)


def _label(url: sa.URL) -> str:
    """The URL without what must not be seen."""
    shown = url.difference_update_query([name for name in url.query if "pass" in name])
    return shown.render_as_string(hide_password=True)
