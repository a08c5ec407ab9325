"""`SQLBackend` over a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest
import sqlalchemy as sa

from loom_py.backends import SQLBackend
from loom_py.backends.sql.connection import Page
from loom_py.backends.sql.guard import Statement
from loom_py.errors import BackendConnectionError, BackendError, QueryError, QueryRefusedError


@pytest.fixture
def backend(postgresql_url: str) -> Iterator[SQLBackend]:
    with SQLBackend(postgresql_url, max_rows=20) as backend:
        yield backend


def past_the_parser(backend: SQLBackend, sql: str, kind: str = "rows") -> None:
    """Run what no guard has seen."""
    statement = Statement(sql, kind)  # type: ignore[arg-type]
    backend._connections.run(statement, Page(10), parameters=None, names=lambda: ((), ()))


def test_it_answers_with_typed_columns_and_pages(backend: SQLBackend) -> None:
    backend.ping()
    query = "SELECT id, delay FROM flights ORDER BY id"
    pages = [backend.execute_query(query, offset=offset) for offset in (0, 20, 40)]
    assert [row["id"] for page in pages for row in page.rows] == list(range(1, 51))
    assert pages[0].rows[0]["delay"] == Decimal("0.50")
    assert [column.type.partition("(")[0] for column in pages[0].columns] == ["int4", "numeric"]
    limited = backend.execute_query(f"{query} LIMIT 30", offset=20)
    assert [row["id"] for row in limited.rows] == list(range(21, 31))


def test_values_of_every_kind_become_json(backend: SQLBackend) -> None:
    result = backend.execute_query(
        "SELECT 1.50::numeric AS n, date '2013-01-02' AS d, '\\xff00'::bytea AS b, 'NaN'::float8 AS f, "
        "interval '90 min' AS i, array[1, 2] AS a, '{\"k\": [1]}'::jsonb AS j, NULL AS nothing, "
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS u, int4range(1, 3) AS r, true AS t"
    )
    row = result.to_dict()["rows"][0]
    assert (row["n"], row["d"], row["b"], row["f"]) == ("1.50", "2013-01-02", "/wA=", "nan")
    assert (row["a"], row["j"], row["nothing"], row["t"]) == ([1, 2], {"k": [1]}, None, True)
    assert "<2 bytes>" in result.to_text()
    assert result.to_json()


def test_percent_signs_and_parameters(backend: SQLBackend) -> None:
    plain = backend.execute_query("SELECT 'a%s%(x)s :y' AS a, 7 % 4 AS b WHERE 'JFK' LIKE 'J%'")
    assert plain.rows == ({"a": "a%s%(x)s :y", "b": 3},)
    bound = backend.execute_query(
        "SELECT id::text AS id, ':id %' AS t FROM flights WHERE id = :id AND origin LIKE '%'",
        parameters={"id": 3},
    )
    assert bound.rows == ({"id": "3", "t": ":id %"},)


@pytest.mark.parametrize(
    "query", ["EXPLAIN ANALYZE SELECT * FROM flights", "SHOW search_path", "VALUES (1), (2)"]
)
def test_plans_settings_and_values_are_read(backend: SQLBackend, query: str) -> None:
    assert backend.execute_query(query).row_count > 0


@pytest.mark.parametrize("kind", ["rows", "explain"])
@pytest.mark.parametrize(
    "write",
    [
        "DELETE FROM flights",
        "INSERT INTO flights (id) VALUES (999)",
        "CREATE TABLE x (a INT)",
        "SELECT nextval('counter')",
        "SELECT * FROM flights FOR UPDATE",
        "WITH x AS (DELETE FROM flights RETURNING *) SELECT * FROM x",
        "EXPLAIN ANALYZE DELETE FROM flights",
        "COMMIT; DELETE FROM flights",
        "ROLLBACK; BEGIN READ WRITE; DELETE FROM flights; COMMIT",
        "SELECT 1; DELETE FROM flights",
    ],
)
def test_past_the_parser_the_server_itself_refuses(backend: SQLBackend, write: str, kind: str) -> None:
    with pytest.raises((QueryRefusedError, QueryError)):
        past_the_parser(backend, write, kind)
    assert backend.execute_query("SELECT count(*) AS n FROM flights").rows == ({"n": 50},)


@pytest.mark.parametrize("isolation", ["AUTOCOMMIT", "READ COMMITTED"])
def test_a_lent_engine_is_read_only_only_while_it_is_lent(postgresql_url: str, isolation: str) -> None:
    engine = sa.create_engine(
        postgresql_url.replace("postgresql:", "postgresql+psycopg:"),
        isolation_level=isolation,
        pool_size=1,
        max_overflow=0,
    )
    with SQLBackend(engine) as backend, pytest.raises(QueryRefusedError, match="read-only transaction"):
        past_the_parser(backend, "DELETE FROM flights", "explain")
    with engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("CREATE TEMP TABLE mine (a INT)")
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "0"
    engine.dispose()


def test_a_slow_query_is_stopped_by_the_server(postgresql_url: str) -> None:
    with SQLBackend(postgresql_url, timeout=0.3) as backend:
        began = time.monotonic()
        with pytest.raises(QueryError, match=r"stopped after 0\.3 s"):
            backend.execute_query("SELECT count(*) FROM generate_series(1, 1000000000)")
        assert time.monotonic() - began < 5
        assert backend.execute_query("SELECT 1 AS a").rows == ({"a": 1},)


def test_errors_name_the_closest_names(backend: SQLBackend) -> None:
    with pytest.raises(QueryError, match="does not exist") as table:
        backend.execute_query("SELECT * FROM flihgts")
    with pytest.raises(QueryError, match="does not exist") as column:
        backend.execute_query("SELECT f.dely FROM flights f")
    assert table.value.hint == "Did you mean flights?"
    assert column.value.hint == "Did you mean delay?"
    assert "Background on this error" not in str(table.value)


def test_the_catalogue_has_schemas_comments_and_keys(backend: SQLBackend) -> None:
    names = [item.name for item in backend.list_resources()]
    assert names == ["airports", "flights", "salaries", "late", "hr.people"]
    schema = backend.get_schema("airports")
    assert (schema.description, schema.fields[0].description) == ("Where flights start", "three letters")
    assert backend.get_schema("public.airports").name == "airports"
    assert backend.get_schema("hr.people").fields[0].name == "id"
    assert backend.get_metadata("hr.people")["row_count"] == 0
    assert backend.execute_custom_operation("sample", {"table": "airports"}).row_count == 3
    assert backend.execute_custom_operation("explain", {"query": "SELECT 1"}).row_count >= 1
    with pytest.raises(BackendError, match="no 'airprots'"):
        backend.get_schema("airprots")


def test_an_include_list_hides_the_rest(postgresql_url: str) -> None:
    with SQLBackend(postgresql_url, include_tables=["flights", "hr.people"]) as backend:
        assert [item.name for item in backend.list_resources()] == ["flights", "hr.people"]
        assert backend.execute_query("SELECT * FROM hr.people").row_count == 0
        for query in ("SELECT * FROM salaries", "SELECT * FROM people", "SELECT * FROM pg_class"):
            with pytest.raises(QueryRefusedError):
                backend.execute_query(query)


def test_writes_are_kept_where_they_are_allowed(postgresql_url: str) -> None:
    with SQLBackend(postgresql_url, read_only=False) as backend:
        backend.execute_query("CREATE TABLE scratch (a INT)")
        try:
            made = backend.execute_query("INSERT INTO scratch VALUES (1), (2) RETURNING a")
            assert [row["a"] for row in made.rows] == [1, 2]
            assert backend.execute_query("UPDATE scratch SET a = a + 1").row_count == 2
            assert backend.execute_query("SELECT sum(a) AS s FROM scratch").rows == ({"s": 5},)
        finally:
            backend.execute_query("DROP TABLE scratch")


def test_a_server_that_is_not_there_is_a_connection_error(postgresql_url: str) -> None:
    with SQLBackend("postgresql://ada@127.0.0.1:1/db", timeout=2) as backend:
        with pytest.raises(BackendConnectionError, match=r"postgresql at ada@127\.0\.0\.1:1/db") as caught:
            backend.ping()
        assert caught.value.retryable
    with (
        SQLBackend(postgresql_url.replace("/postgres", "/nowhere")) as backend,
        pytest.raises(BackendConnectionError, match='"nowhere" does not exist'),
    ):
        backend.ping()


async def test_many_tasks_ask_at_once(postgresql_url: str) -> None:
    async with SQLBackend(postgresql_url) as backend:
        queries = [f"SELECT id FROM flights WHERE id = {number}" for number in range(1, 31)]
        results = await asyncio.gather(*(backend.aexecute_query(query) for query in queries))
    assert [result.rows[0]["id"] for result in results] == list(range(1, 31))
