"""A real PostgreSQL on loopback, and a small SQLite file."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

START_SECONDS = 60
INSTALL_SECONDS = 120


def _find(program: str) -> str | None:
    found = shutil.which(program)
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
    # A link on PATH hides where the server's other files are.
    return str(installed[0]) if installed else found


def _programs() -> tuple[str, str]:
    if _find("initdb") is None and shutil.which("apt-get") and os.geteuid() == 0:
        with contextlib.suppress(subprocess.SubprocessError):
            subprocess.run(
                ["apt-get", "install", "-y", "-q", "postgresql"],
                check=False,
                capture_output=True,
                timeout=INSTALL_SECONDS,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
    initdb, server = _find("initdb"), _find("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed and cannot be")
    return initdb, server


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.skip("PostgreSQL needs a user other than root, and there is none")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    import psycopg

    end = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"PostgreSQL did not start: {log.read_text()}")
            time.sleep(0.05)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of an empty PostgreSQL server, started for this test process and ended with it."""
    initdb, server = _programs()
    user = _user()
    home = Path(tempfile.mkdtemp(prefix="loom-pg-"))
    if user is not None:
        shutil.chown(home, user)
    data, log = home / "data", home / "log"
    subprocess.run(
        [initdb, "-D", str(data), "-A", "trust", "-U", "loom", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True,
        capture_output=True,
        user=user,
        cwd=home,
    )
    port = _free_port()
    settings = ["fsync=off", "unix_socket_directories=", "listen_addresses=127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [server, "-D", str(data), "-p", str(port), *(part for item in settings for part in ("-c", item))],
            stdout=output,
            stderr=output,
            user=user,
            cwd=home,
        )
    url = f"postgresql://loom@127.0.0.1:{port}/postgres"
    try:
        _wait(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


TABLES = """
CREATE TABLE airports (faa TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE flights (
    id INTEGER PRIMARY KEY, origin TEXT REFERENCES airports (faa), delay NUMERIC(6, 2), note TEXT
);
CREATE TABLE salaries (person TEXT, amount INTEGER);
CREATE VIEW late AS SELECT * FROM flights WHERE delay > 10;
INSERT INTO airports VALUES ('JFK', 'John F Kennedy'), ('EWR', 'Newark'), ('LGA', 'La Guardia');
INSERT INTO salaries VALUES ('Ada', 100);
"""
ROWS = [(number, ("JFK", "EWR", "LGA")[number % 3], number * 0.5) for number in range(1, 51)]


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """Airports, 50 flights, salaries, and a view of the late flights."""
    path = tmp_path / "flights.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
        connection.executemany("INSERT INTO flights (id, origin, delay) VALUES (?, ?, ?)", ROWS)
        connection.commit()
    return path


@pytest.fixture(scope="session")
def postgresql_url(postgresql_server: str) -> str:
    """The same tables in PostgreSQL; tests only read them."""
    import psycopg

    with psycopg.connect(postgresql_server) as connection:
        connection.execute(TABLES)
        connection.cursor().executemany("INSERT INTO flights (id, origin, delay) VALUES (%s, %s, %s)", ROWS)
        connection.execute("COMMENT ON TABLE airports IS 'Where flights start'")
        connection.execute("COMMENT ON COLUMN airports.faa IS 'three letters'")
        connection.execute("CREATE SCHEMA hr")
        connection.execute("CREATE TABLE hr.people (id INTEGER)")
        connection.execute("CREATE SEQUENCE counter")
    return postgresql_server
