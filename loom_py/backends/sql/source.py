"""From what a user gives (a URL, a path, an engine) to an engine. Nothing connects here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.pool import StaticPool
from sqlglot import Dialect

from loom_py.backends.sql.names import words
from loom_py.errors import ConfigError, MissingDependencyError

__all__ = ["Source", "open_source"]

_SQLITE_OPTIONS = words(
    "uri timeout isolation_level detect_types check_same_thread cached_statements",
    "mode cache immutable nolock psow vfs modeof",
)
_SECRET_OPTIONS = ("password", "sslpassword", "passwd", "passfile")
_DIALECTS = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "tsql"}
_CONNECT_TIMEOUT = 10.0
_FORMS = "Use a URL such as sqlite:///data.db or postgresql://user@host/database."


@dataclass(frozen=True, slots=True)
class Source:
    """An engine and what is known of it without connecting.

    ``dialect`` is the parser's name of the SQL dialect; ``path`` an SQLite file, absolute; ``shared``
    says that all threads share one connection; ``secrets`` must appear nowhere.
    """

    engine: sa.Engine
    owned: bool
    label: str
    path: Path | None = None
    secrets: tuple[str, ...] = ()

    @property
    def dialect(self) -> str:
        """The parser's name of the dialect; empty for one it does not know, read as plain SQL."""
        name = _DIALECTS.get(self.engine.dialect.name, self.engine.dialect.name)
        return name if Dialect.get(name) is not None else ""

    @property
    def shared(self) -> bool:
        return isinstance(self.engine.pool, StaticPool)


def open_source(
    url: str | os.PathLike[str] | sa.URL | sa.Engine, *, read_only: bool, timeout: float
) -> Source:
    """The source of ``url``. Raises `ConfigError`, and `MissingDependencyError` without its driver."""
    if isinstance(url, sa.Engine):
        _refuse_async(url.dialect.is_async, url.dialect.name)
        secrets = _secrets(url.url)
        return Source(url, owned=False, label=_label(url.url), path=_engine_path(url), secrets=secrets)
    parsed = _parse(url)
    secrets = _secrets(parsed)
    label = _label(parsed)
    path: Path | None = None
    arguments: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if parsed.get_backend_name() == "sqlite":
        parsed, path = _sqlite_url(parsed, read_only=read_only)
        arguments = {"check_same_thread": False, "timeout": timeout}
        if path is None:
            options["poolclass"] = StaticPool
        else:
            label = f"SQLite database {path}"
    elif parsed.get_backend_name() == "postgresql":
        parsed, arguments = _postgresql(parsed, read_only=read_only, timeout=timeout)
    try:
        engine = sa.create_engine(parsed, connect_args=arguments, **options)
    except ModuleNotFoundError as exc:
        raise MissingDependencyError(
            f"{parsed.drivername} needs the package {exc.name}, which is not installed",
            hint="pip install 'loom-py[postgresql]'"
            if exc.name in ("psycopg", "psycopg2")
            else f"pip install {exc.name}",
        ) from exc
    except (sa_exc.ArgumentError, TypeError, ValueError) as exc:
        kind = str(exc) if isinstance(exc, sa_exc.NoSuchModuleError) else "the database URL is not valid"
        raise ConfigError(kind, field="url", hint=_FORMS) from None
    _refuse_async(engine.dialect.is_async, engine.dialect.name)
    return Source(engine, owned=True, label=label, path=path, secrets=secrets)


_SQLITE_FILE = re.compile(r"[^:;=?@]+\.(db3?|sqlite3?)", re.IGNORECASE)
"""What is a path to an SQLite file beyond doubt: it ends like one, and has nothing of a connection string."""


def _parse(url: str | os.PathLike[str] | sa.URL) -> sa.URL:
    if isinstance(url, sa.URL):
        return _with_driver(url)
    if isinstance(url, os.PathLike):
        return sa.URL.create("sqlite", database=os.fspath(url))
    if not isinstance(url, str):
        raise ConfigError(
            f"the database URL must be a URL, a path or an engine, not {type(url).__name__}",
            field="url",
            hint=_FORMS,
        )
    text = url.strip()
    if not text:
        raise ConfigError("the database URL is empty", field="url", hint=_FORMS)
    if text.startswith(("sqlite://", "sqlite+pysqlite://")):
        return _sqlite_text(text)
    if _SQLITE_FILE.fullmatch(text):
        return sa.URL.create("sqlite", database=text)
    try:
        return _with_driver(sa.make_url(text))
    except (sa_exc.ArgumentError, ValueError):
        # The text may hold a password, so it is not shown, not even as the cause.
        raise ConfigError("the database URL cannot be read", field="url", hint=_FORMS) from None


def _sqlite_text(text: str) -> sa.URL:
    """The parts of an SQLite URL. A ``?`` that no known option follows belongs to the file's name."""
    rest = text.partition("://")[2]
    if rest and not rest.startswith("/"):
        raise ConfigError(
            "an SQLite URL names no host", field="url", hint="Use three slashes: sqlite:///relative/path.db"
        )
    database = rest[1:]
    path, mark, tail = database.rpartition("?")
    parts = [pair.partition("=") for pair in tail.split("&")] if mark else []
    pairs = {key: value for key, _, value in parts}
    if pairs and all(key in _SQLITE_OPTIONS and value for key, value in pairs.items()):
        return sa.URL.create("sqlite", database=path or None, query=pairs)
    return sa.URL.create("sqlite", database=database or None)


def _with_driver(url: sa.URL) -> sa.URL:
    """``postgresql://`` and ``postgres://`` go through psycopg 3."""
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _sqlite_url(url: sa.URL, *, read_only: bool) -> tuple[sa.URL, Path | None]:
    """The URL that opens the file as an SQLite URI, so that any name works; and the file."""
    database = url.database or ""
    query: dict[str, Any] = dict(url.query)
    uri = str(query.pop("uri", "")).lower() in ("true", "1", "yes", "on") and database.startswith("file:")
    if database in ("", ":memory:", "file::memory:") or query.get("mode") == "memory":
        if uri and database not in ("", ":memory:"):
            return url, None
        return sa.URL.create("sqlite", database=":memory:"), None
    path = Path(unquote(database.removeprefix("file:")) if uri else database).absolute()
    if read_only:
        query["mode"] = "ro"
    return sa.URL.create("sqlite", database=path.as_uri(), query={**query, "uri": "true"}), path


def _postgresql(url: sa.URL, *, read_only: bool, timeout: float) -> tuple[sa.URL, dict[str, Any]]:
    """The arguments that make the server itself read-only and impatient."""
    if url.get_driver_name() not in ("psycopg", "psycopg2"):
        return url, {}
    settings = [f"-c statement_timeout={milliseconds(timeout)}"]
    if read_only:
        settings.append("-c default_transaction_read_only=on")
    given = url.query.get("options", "")
    texts = [given] if isinstance(given, str) else list(given)
    arguments: dict[str, Any] = {"options": " ".join([*filter(None, texts), *settings])}
    if "connect_timeout" not in url.query:
        arguments["connect_timeout"] = max(2, int(min(timeout, _CONNECT_TIMEOUT)))
    return url.difference_update_query(["options"]), arguments


def milliseconds(seconds: float) -> int:
    """``seconds`` as whole milliseconds, at least one: 0 would mean no limit."""
    return max(1, round(seconds * 1000))


def _refuse_async(is_async: bool, dialect: str) -> None:
    if is_async:
        raise ConfigError(
            f"the {dialect} driver of this URL is an async one",
            field="url",
            hint="Name the blocking driver; the backend's async methods run it in threads.",
        )


def _engine_path(engine: sa.Engine) -> Path | None:
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or ":memory:" in database:
        return None
    return None if database.startswith("file:") else Path(database).absolute()


def _label(url: sa.URL) -> str:
    """The source in a message: no password, no options."""
    if url.get_backend_name() == "sqlite":
        return f"SQLite database {url.database or ':memory:'}"
    return f"{url.get_backend_name()} at {_plain(url)}"


def _plain(url: sa.URL) -> str:
    user = f"{url.username}@" if url.username else ""
    port = f":{url.port}" if url.port else ""
    return f"{user}{url.host or 'localhost'}{port}/{url.database or ''}"


def _secrets(url: sa.URL) -> tuple[str, ...]:
    options: Mapping[str, Any] = url.query
    given = [url.password, *(options.get(key) for key in _SECRET_OPTIONS)]
    public = {url.username, url.host, url.database}
    return tuple(str(secret) for secret in given if secret and str(secret) not in public)
