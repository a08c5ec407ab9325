"""The same tables in a real PostgreSQL and in a small SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

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
