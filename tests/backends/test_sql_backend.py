"""`SQLBackend` over real SQLite files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from loom_py.backends import Backend, SQLBackend
from loom_py.backends.sql.connection import Page
from loom_py.backends.sql.guard import Statement
from loom_py.errors import (
    BackendConnectionError,
    BackendError,
    ConfigError,
    MissingDependencyError,
    QueryError,
    QueryRefusedError,
)

ENDLESS = "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"


def test_it_is_a_backend(sqlite_file: Path) -> None:
    assert isinstance(SQLBackend(sqlite_file), Backend)


@pytest.mark.parametrize(
    "name", ["a b.db", "100%.db", "a%20b.db", "what?.db", "a#1.db", "naïve-数.db", "it's.db"]
)
def test_a_file_of_any_name_opens(tmp_path: Path, name: str) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection:
        connection.executescript("CREATE TABLE t (a INT); INSERT INTO t VALUES (7)")
    for url in (
        f"sqlite:///{tmp_path / name}",
        sa.URL.create("sqlite", database=str(tmp_path / name)),
        tmp_path / name,
    ):
        with SQLBackend(url) as backend:
            backend.ping()
            assert backend.execute_query("SELECT a FROM t").rows == ({"a": 7},)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_relative_path_starts_at_the_working_directory(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sqlite_file.parent)
    with SQLBackend("sqlite:///flights.db") as backend:
        monkeypatch.chdir("/")
        assert backend.execute_query("SELECT count(*) AS n FROM flights").rows == ({"n": 50},)


def test_a_missing_file_is_named_and_never_created(tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    backend = SQLBackend(f"sqlite:///{missing}")
    with pytest.raises(BackendConnectionError, match=f"{missing} does not exist"):
        backend.ping()
    with pytest.raises(BackendConnectionError):
        backend.execute_query("SELECT 1")
    assert not missing.exists()


def test_a_directory_and_a_file_of_something_else_are_no_databases(tmp_path: Path) -> None:
    with pytest.raises(BackendConnectionError, match="is a directory"):
        SQLBackend(tmp_path).ping()
    other = tmp_path / "notes.txt"
    other.write_text("not a database at all, only some text " * 50)
    with pytest.raises(BackendConnectionError, match="not a database"):
        SQLBackend(other).ping()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://host/x.db", "nosuch://a/b", "postgresql+asyncpg://u@h/d"]
)
def test_a_url_that_cannot_be_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError):
        SQLBackend(url)


def test_a_password_is_never_shown() -> None:
    secret = "s3cr3t-p4ss"
    backend = SQLBackend(f"postgresql://ada:{secret}@127.0.0.1:1/db?sslpassword={secret}", timeout=2)
    with pytest.raises(BackendConnectionError) as caught:
        backend.ping()
    with pytest.raises(ConfigError) as bad:
        SQLBackend(f"postgresql://ada:{secret}@127.0.0.1:port/db")
    for shown in (repr(backend), str(caught.value), repr(caught.value), str(bad.value), str(backend.name)):
        assert secret not in shown
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"max_rows": 0}, {"timeout": 0}, {"timeout": -1}, {"include_tables": "flights"}]
)
def test_settings_out_of_range_are_config_errors(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SQLBackend("sqlite://", **settings)  # type: ignore[arg-type]


# ── results ──


def test_a_long_result_is_cut_with_a_note_and_read_on_by_offset(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file, max_rows=20) as backend:
        query = "SELECT id FROM flights ORDER BY id DESC -- newest first\n;"
        pages = [backend.execute_query(query, offset=offset) for offset in (0, 20, 40)]
    assert [page.truncated for page in pages] == [True, True, False]
    assert [row["id"] for page in pages for row in page.rows] == list(range(50, 0, -1))
    assert "first 20 rows; ask for the next page with offset 20" in pages[0].to_text()
    assert "rows 21 to 40; ask for the next page with offset 40" in pages[1].to_text()
    assert "10 rows from offset 40" in pages[2].to_text()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM flights ORDER BY id LIMIT 9",
        "SELECT id FROM flights WHERE id < 10",
        "VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)",
        "SELECT id FROM flights WHERE id < 5 UNION SELECT id FROM flights WHERE id BETWEEN 5 AND 9",
        "WITH x AS (SELECT id FROM flights LIMIT 9) SELECT id FROM x",
    ],
)
def test_pages_put_together_are_the_whole(sqlite_file: Path, query: str) -> None:
    with SQLBackend(sqlite_file, max_rows=4) as backend:
        rows = []
        offset: int | None = 0
        while offset is not None:
            page = backend.execute_query(query, offset=offset)
            rows += [next(iter(row.values())) for row in page.rows]
            offset = page.metadata.get("next_offset")
    assert rows == list(range(1, 10))


def test_a_limit_never_passes_max_rows(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file, max_rows=5) as backend:
        assert backend.execute_query("SELECT * FROM flights", limit=100).row_count == 5
        assert backend.execute_query("SELECT * FROM flights", limit=2).row_count == 2
        with pytest.raises(BackendError):
            backend.execute_query("SELECT 1", offset=-1)


def test_columns_of_one_name_are_told_apart(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file) as backend:
        result = backend.execute_query("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a")
    assert list(result.rows[0].values()) == [1, 2, 3, 4]
    assert len(set(result.rows[0])) == 4


def test_parameters_fill_placeholders_and_leave_other_text_alone(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file) as backend:
        result = backend.execute_query(
            "SELECT id, ':id 10:30 %s' AS note FROM flights WHERE id = :id AND origin LIKE '%J%' -- :no",
            parameters={"id": 3},
        )
        assert result.rows == ({"id": 3, "note": ":id 10:30 %s"},)
        hostile = backend.execute_query("SELECT :x AS x", parameters={"x": "'; DROP TABLE flights; --"})
    assert hostile.rows[0]["x"] == "'; DROP TABLE flights; --"


def test_percent_signs_and_colons_need_no_escape(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file) as backend:
        assert backend.execute_query("SELECT '100%s :x %(y)s' AS a, 7 % 4 AS b").rows == (
            {"a": "100%s :x %(y)s", "b": 3},
        )


# ── the walls ──

WRITES = [
    "DELETE FROM flights",
    "UPDATE flights SET delay = 0",
    "INSERT INTO flights (id) VALUES (999)",
    "DROP TABLE flights",
    "CREATE TABLE x (a INT)",
    "CREATE TEMP TABLE x (a INT)",
    "PRAGMA user_version = 9",
    "PRAGMA query_only = OFF",
    "ATTACH DATABASE ':memory:' AS other",
    "VACUUM",
    "BEGIN IMMEDIATE",
    "SELECT load_extension('x')",
    "SELECT * FROM pragma_database_list",
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("kind", ["file", "memory", "lent engine"])
def test_past_the_parser_the_connection_itself_refuses(sqlite_file: Path, write: str, kind: str) -> None:
    engine = sa.create_engine(f"sqlite:///{sqlite_file}")
    urls: dict[str, str | sa.Engine] = {
        "file": f"sqlite:///{sqlite_file}",
        "memory": "sqlite://",
        "lent engine": engine,
    }
    before = sqlite_file.read_bytes()
    backend = SQLBackend(urls[kind])
    with pytest.raises((QueryRefusedError, QueryError)):
        # Statement says "harmless" of what no guard has seen.
        backend._connections.run(Statement(write), Page(10), parameters=None, names=lambda: ((), ()))
    backend.close()
    engine.dispose()
    assert sqlite_file.read_bytes() == before


def test_a_file_opened_read_only_is_read_only_without_any_wall(sqlite_file: Path) -> None:
    backend = SQLBackend(sqlite_file)
    with (
        backend._connections.source.engine.connect() as connection,
        pytest.raises(sa.exc.OperationalError, match="readonly"),
    ):
        connection.exec_driver_sql("DELETE FROM flights")
    backend.close()


def test_hidden_tables_are_hidden_by_the_connection_too(sqlite_file: Path) -> None:
    backend = SQLBackend(sqlite_file, include_tables=["flights", "late"])
    for query in ("SELECT * FROM salaries", "SELECT * FROM sqlite_master", "SELECT count(*) FROM salaries"):
        with pytest.raises(QueryRefusedError, match=r"prohibited|not authorized"):
            backend._connections.run(Statement(query), Page(10), parameters=None, names=lambda: ((), ()))
        with pytest.raises(QueryRefusedError, match="no access"):
            backend.execute_query(query)
    assert backend.execute_query("SELECT count(*) AS n FROM late").rows == ({"n": 30},)
    assert [item.name for item in backend.list_resources()] == ["flights", "late"]
    with pytest.raises(BackendError, match="no 'salaries'"):
        backend.get_schema("salaries")
    backend.close()


def test_a_lent_engine_comes_back_as_it_was(sqlite_file: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{sqlite_file}", pool_size=1, max_overflow=0)
    with SQLBackend(engine) as backend:
        backend.execute_query("SELECT * FROM flights")
        backend.list_resources()
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM salaries")
    assert engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    engine.dispose()


def test_writes_are_kept_where_they_are_allowed(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file, read_only=False) as backend:
        result = backend.execute_query("DELETE FROM flights WHERE id <= :last", parameters={"last": 10})
        assert (result.row_count, result.to_text()) == (10, "10 rows changed")
        returned = backend.execute_query("INSERT INTO flights (id) VALUES (100), (101) RETURNING id", limit=1)
        assert returned.rows == ({"id": 100},)
        backend.execute_query("CREATE TABLE fresh (a INTEGER)")
        for refused in ("DELETE FROM flights; DELETE FROM airports", "ATTACH ':memory:' AS x", "COMMIT"):
            with pytest.raises(QueryRefusedError):
                backend.execute_query(refused)
    with contextlib.closing(sqlite3.connect(sqlite_file)) as connection:
        assert connection.execute("SELECT count(*) FROM flights").fetchone() == (42,)
        assert connection.execute("SELECT count(*) FROM fresh").fetchone() == (0,)


def test_a_runaway_query_is_stopped_in_time_and_the_next_one_runs(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file, timeout=0.2) as backend:
        began = time.monotonic()
        with pytest.raises(QueryError, match=r"stopped after 0\.2 s") as caught:
            backend.execute_query(ENDLESS)
        assert time.monotonic() - began < 3
        assert caught.value.code == "query_timeout"
        assert "Narrow the query" in (caught.value.hint or "")
        assert backend.execute_query("SELECT 1 AS a").rows == ({"a": 1},)


# ── errors ──


def test_errors_are_the_databases_own_words_with_the_closest_names(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file) as backend:
        with pytest.raises(QueryError, match="no such table: flihgts") as table:
            backend.execute_query("SELECT * FROM flihgts")
        with pytest.raises(QueryError, match=r"no such column: f\.dely") as column:
            backend.execute_query("SELECT f.dely FROM flights AS f")
    assert table.value.hint == "Did you mean flights?"
    assert column.value.hint == "Did you mean delay?"
    assert "sqlalche" not in str(table.value)


# ── the catalogue ──


def test_the_schema_tells_types_keys_and_references(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file) as backend:
        schema = backend.get_schema("FLIGHTS")
        views = backend.list_resources({"type": "view"})
        named = backend.list_resources({"name": "f*"})
        facts = backend.get_metadata("flights")
        with pytest.raises(BackendError) as unknown:
            backend.get_schema("flight'; DROP TABLE x")
        with pytest.raises(BackendError, match="no filter colour"):
            backend.list_resources({"colour": "red"})
    fields = {item.name: item for item in schema.fields}
    assert fields["id"].primary_key
    assert fields["delay"].type == "NUMERIC(6, 2)"
    assert fields["origin"].foreign_key is not None
    assert fields["origin"].foreign_key.to_dict() == {"table": "airports", "column": "faa"}
    assert "origin TEXT, references airports.faa" in schema.to_text()
    assert [item.name for item in views] == ["late"]
    assert [item.name for item in named] == ["flights"]
    assert (facts["row_count"], facts["row_count_is_exact"], facts["dialect"]) == (50, True, "sqlite")
    assert unknown.value.code == "resource_not_found"


def test_explain_and_sample_are_operations(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file) as backend:
        plan = backend.execute_custom_operation("explain", {"query": "SELECT * FROM flights WHERE id = 3"})
        sample = backend.execute_custom_operation("sample", {"table": "flights", "rows": 2})
        with pytest.raises(BackendError, match="no operation 'vacuum'") as unknown:
            backend.execute_custom_operation("vacuum")
        with pytest.raises(BackendError, match="needs 'table'"):
            backend.execute_custom_operation("sample")
    assert "SEARCH" in plan.to_text()
    assert sample.row_count == 2
    assert "explain, sample" in (unknown.value.hint or "")


def test_the_tools_carry_dialect_rule_and_cap(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file, max_rows=3, name="trips", tool_prefix="trips_") as backend:
        tools = {tool.name: tool for tool in backend.tools()}
        assert list(tools) == ["trips_list_tables", "trips_describe_table", "trips_query_database"]
        query = tools["trips_query_database"]
        assert all(word in query.description for word in ("SQLite", "trips", "Read-only", "3 rows"))
        assert set(query.parameters["properties"]) == {"sql", "offset"}
        assert tools["trips_list_tables"]() == "airports\nflights\nsalaries\nlate (view)"
        assert "primary key" in tools["trips_describe_table"](table="flights")
        assert query(sql="SELECT id FROM flights ORDER BY id", offset=3).splitlines()[2] == "4"


# ── threads and tasks ──


@pytest.mark.parametrize("where", ["file", "memory"])
def test_many_threads_ask_at_once(sqlite_file: Path, where: str) -> None:
    url = sqlite_file if where == "file" else "sqlite://"
    query = "SELECT {0} AS n" if where == "memory" else "SELECT id AS n FROM flights WHERE id = {0}"
    with SQLBackend(url) as backend, ThreadPoolExecutor(16) as threads:
        numbers = [index % 50 + 1 for index in range(200)]
        results = list(threads.map(lambda n: backend.execute_query(query.format(n)).rows[0]["n"], numbers))
    assert results == numbers


async def test_the_async_twins_leave_the_loop_free(sqlite_file: Path) -> None:
    async with SQLBackend(sqlite_file, timeout=0.3) as backend:
        await backend.aping()
        slow = asyncio.create_task(backend.aexecute_query(ENDLESS))
        quick = await backend.aexecute_query("SELECT 1 AS a")
        assert not slow.done()
        assert quick.rows == ({"a": 1},)
        assert (await backend.aget_schema("airports")).name == "airports"
        assert len(await backend.alist_resources()) == 4
        assert (await backend.aget_metadata("airports"))["row_count"] == 3
        assert (await backend.aexecute_custom_operation("sample", {"table": "airports"})).row_count == 3
        with pytest.raises(QueryError):
            await slow


def test_constructing_opens_nothing(tmp_path: Path) -> None:
    before = threading.active_count()
    backend = SQLBackend(f"sqlite:///{tmp_path / 'none.db'}", read_only=False)
    backend.capabilities()
    backend.tools()
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def test_capabilities_are_honest() -> None:
    file, memory = SQLBackend("sqlite:///x.db").capabilities(), SQLBackend("sqlite://").capabilities()
    assert (file.supports_concurrency, file.max_concurrent_ops) == (True, 10)
    assert (memory.supports_concurrency, memory.max_concurrent_ops) == (False, 1)
    assert file.operations == {"explain", "sample"}
    assert file.has_feature("read_only_connection")
    assert file.limit("timeout_ms") == 30_000


def test_without_the_extra_only_construction_fails() -> None:
    code = """
import sys
sys.modules["sqlalchemy"] = None
from loom_py.backends import Backend, BaseBackend, QueryResult, SQLBackend
from loom_py.errors import MissingDependencyError
try:
    SQLBackend("sqlite://")
except MissingDependencyError as error:
    print(error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loom-py[sql]" in done.stdout


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(MissingDependencyError, match="MySQLdb"):
        SQLBackend("mysql://ada@127.0.0.1/db")
