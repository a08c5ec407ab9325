"""Guardrails around the query tools of real databases."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loom_py.backends import BaseBackend, QueryResult, SQLBackend, tools_of
from loom_py.backends.sql.guard import Guard
from loom_py.backends.sql.resolve import Names
from loom_py.errors import BackendError, GuardrailError, LoomError, QueryError, QueryRefusedError
from loom_py.guardrails import Guardrails, Issue
from loom_py.tools import Tool

BOTH = [
    "SELECT 1",
    "SELECT id, delay FROM flights",
    "SELECT ID, Delay FROM FLIGHTS",
    'SELECT "id" FROM "flights"',
    "SELECT f.id FROM flights f",
    "SELECT F.id FROM flights AS f",
    "SELECT flights.id FROM flights",
    "SELECT f.* FROM flights f",
    "SELECT f.id, a.name FROM flights AS f JOIN airports AS a ON a.faa = f.origin",
    "SELECT id, name FROM flights LEFT JOIN airports ON faa = origin",
    "SELECT f.id, a.name FROM flights f, airports a WHERE a.faa = f.origin",
    "SELECT * FROM flights f JOIN (SELECT faa AS code, name FROM airports) a ON a.code = f.origin",
    "SELECT code FROM (SELECT faa AS code FROM airports) AS a",
    "SELECT n FROM (SELECT count(*) AS n, origin FROM flights GROUP BY origin) AS t WHERE n > 1",
    "SELECT faa FROM (SELECT * FROM airports) AS a",
    "SELECT a.faa FROM (SELECT a.* FROM airports a) AS a",
    "SELECT l.delay FROM late l",
    "SELECT delay FROM late WHERE id > 3",
    "SELECT origin AS o, count(*) AS n FROM flights GROUP BY origin ORDER BY n DESC, o",
    "SELECT delay * 2 AS twice FROM flights ORDER BY twice",
    "SELECT origin FROM flights WHERE EXISTS (SELECT 1 FROM airports WHERE faa = origin)",
    "SELECT (SELECT name FROM airports WHERE faa = f.origin) AS airport FROM flights f",
    "SELECT id FROM flights WHERE delay > (SELECT avg(f.delay) FROM late f WHERE f.origin = flights.origin)",
    "SELECT origin FROM flights WHERE origin IN (SELECT faa FROM airports)",
    "WITH x AS (SELECT id AS k FROM flights) SELECT k FROM x",
    "WITH x (k, o) AS (SELECT id, origin FROM flights) SELECT x.k, o FROM x",
    "WITH x AS (SELECT id, origin FROM flights), y AS (SELECT count(*) AS n FROM x) SELECT y.n FROM y",
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT r.n FROM r",
    "SELECT * FROM (WITH x AS (SELECT faa FROM airports) SELECT faa FROM x) AS t",
    "SELECT id FROM flights UNION SELECT amount FROM salaries ORDER BY id",
    "SELECT k FROM (SELECT id AS k FROM flights UNION ALL SELECT amount FROM salaries) AS t",
    "SELECT column1 FROM (VALUES (1), (2)) AS v",
    "SELECT faa FROM airports JOIN (SELECT origin AS faa, count(*) FROM flights GROUP BY 1) t USING (faa)",
    "SELECT name FROM flights NATURAL JOIN airports",
    "SELECT f.id FROM (flights f JOIN airports a ON f.origin = a.faa)",
    "SELECT f.id FROM (flights f CROSS JOIN airports) CROSS JOIN salaries s",
    "SELECT row_number() OVER w AS n FROM flights WINDOW w AS (PARTITION BY origin ORDER BY delay)",
    "SELECT CASE WHEN delay > 5 THEN origin ELSE note END AS x FROM flights",
    "SELECT max(delay) FILTER (WHERE origin = 'JFK') FROM flights",
    "SELECT CAST(delay AS INTEGER), coalesce(note, origin) FROM flights",
    "SELECT current_date, current_timestamp FROM flights",
    "SELECT origin FROM flights GROUP BY origin HAVING avg(delay) > 1",
    "SELECT a.faa, b.faa FROM airports a JOIN airports b ON a.faa < b.faa",
    "-- why\nSELECT id /* the key */ FROM flights;",
]
SQLITE = [
    "SELECT rowid, oid, _rowid_ FROM flights",
    "SELECT f.rowid FROM flights f",
    "SELECT id FROM main.flights",
    "SELECT id AS k FROM flights WHERE k > 3",
    "SELECT [id] FROM `flights`",
    "SELECT main.flights.id FROM main.flights",
    "SELECT name FROM sqlite_master WHERE type = 'table'",
    "SELECT sql FROM sqlite_schema",
    "SELECT name FROM airports ORDER BY name COLLATE NOCASE",
    "SELECT id FROM flights NOT INDEXED",
    "SELECT group_concat(name, ', ') FROM airports",
    "SELECT strftime('%Y', 'now') AS y FROM flights WHERE y = '2013'",
    "SELECT id FROM flights WHERE note IS NOT TRUE",
]
POSTGRES = [
    "SELECT ctid, tableoid, xmin FROM flights",
    "SELECT public.flights.id FROM public.flights",
    "SELECT f FROM flights f",
    "SELECT (f).id FROM flights f",
    "SELECT to_jsonb(f) ->> 'id' FROM flights f",
    "SELECT id FROM hr.people",
    "SELECT people.id FROM hr.people",
    "SELECT relname FROM pg_class",
    "SELECT c.relname FROM pg_catalog.pg_class c",
    "SELECT table_name FROM information_schema.tables",
    "SELECT n FROM generate_series(1, 3) AS n",
    "SELECT g.x FROM generate_series(1, 3) AS g (x)",
    "SELECT t.a, t.n FROM unnest(ARRAY[1, 2]) WITH ORDINALITY AS t (a, n)",
    "SELECT l.worst FROM flights f, LATERAL (SELECT max(g.delay) AS worst FROM late g WHERE g.id = f.id) l",
    "SELECT x.k FROM flights AS x (k, o, d, t)",
    "SELECT x.k, x.origin FROM flights AS x (k)",
    "SELECT v.b FROM (VALUES (1, 'a')) AS v (a, b)",
    "SELECT count FROM (SELECT count(*) FROM flights) AS t",
    "SELECT user, current_user, session_user FROM flights",
    "SELECT id::text, delay::int, ARRAY[id] FROM flights",
    "SELECT DISTINCT ON (origin) origin, delay FROM flights ORDER BY origin, delay DESC",
    "SELECT \"Sum\" FROM (SELECT sum(delay) AS \"Sum\" FROM flights) AS t",
    "SELECT a.faa FROM airports a JOIN flights f ON f.origin = a.faa AND f.delay IN (SELECT delay FROM late)",
    "SELECT r.a FROM jsonb_to_record('{\"a\": 1}') AS r (a int)",
    "SELECT id FROM ONLY flights",
    "SELECT id FROM flights TABLESAMPLE bernoulli (50)",
    "SELECT make_interval(days => id) FROM flights",
    "SELECT extract(year FROM now() AT TIME ZONE 'UTC') FROM flights",
    "TABLE flights",
]  # fmt: skip
WRONG = {
    "SELECT reveneu FROM flights": ["'reveneu' in flights"],
    "SELECT f.dely FROM flights f": ["'dely' in flights"],
    "SELECT id, nte, dely FROM flights": ["'nte' in flights", "'dely' in flights"],
    "SELECT * FROM flihgts": ["no table 'flihgts'"],
    "SELECT * FROM flights JOIN aiports ON faa = origin": ["no table 'aiports'"],
    "SELECT z.id FROM flights f": ["'z' is no table or alias"],
    "SELECT flights.id FROM flights f": ["'flights' is no table or alias"],
    "SELECT l.dlay FROM late l": ["'dlay' in late"],
    "WITH x AS (SELECT id AS k FROM flights) SELECT id FROM x": ["'id' in x"],
    "SELECT origin FROM (SELECT id FROM flights) AS t": ["'origin' in t"],
    "SELECT id FROM flights WHERE EXISTS (SELECT 1 FROM airports WHERE faaa = origin)": [
        "'faaa' in airports, flights"
    ],
    "SELECT origin, count(*) FROM flights GROUP BY orign": ["'orign' in flights"],
    "SELECT id FROM flights WHERE delay > 1 ORDER BY dely": ["'dely' in flights"],
}


@pytest.fixture
def sqlite(sqlite_file: Path) -> Iterator[SQLBackend]:
    with SQLBackend(sqlite_file) as backend:
        yield backend


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[SQLBackend]:
    with SQLBackend(postgresql_url) as backend:
        yield backend


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> SQLBackend:
    found: SQLBackend = request.getfixturevalue(request.param)
    return found


def errors(issues: Sequence[Issue]) -> list[str]:
    return [issue.message for issue in issues if issue.severity == "error"]


def ask(backend: SQLBackend, guardrails: Guardrails) -> Tool[..., str]:
    return next(tool for tool in tools_of(backend, guardrails) if tool.name.endswith("query_database"))


# ── nothing that runs is ever stopped ──


def runs(backend: SQLBackend, query: str) -> bool:
    try:
        backend.execute_query(query)
    except (QueryError, QueryRefusedError):
        return False
    return True


@pytest.mark.parametrize("query", BOTH)
def test_a_query_that_runs_has_no_error(backend: SQLBackend, query: str) -> None:
    if runs(backend, query):
        assert errors(backend.check_query(query)) == []
    else:
        assert backend.dialect == "postgresql"  # SQLite takes all of them


@pytest.mark.parametrize("query", SQLITE)
def test_a_query_that_runs_in_sqlite_has_no_error(sqlite: SQLBackend, query: str) -> None:
    assert runs(sqlite, query)
    assert list(sqlite.check_query(query)) == []


@pytest.mark.parametrize("query", POSTGRES)
def test_a_query_that_runs_in_postgresql_has_no_error(postgresql: SQLBackend, query: str) -> None:
    if query != "TABLE flights":  # not parsed, so refused, and not the checks' affair
        assert runs(postgresql, query)
    assert list(postgresql.check_query(query)) == []


COLUMNS = {
    "flights": ["id", "origin", "delay", "note"],
    "airports": ["faa", "name"],
    "salaries": ["person", "amount"],
    "late": ["id", "origin", "delay", "note"],
}


@pytest.mark.parametrize(
    ("dialect", "query"),
    [("sqlite", query) for query in BOTH + SQLITE] + [("postgres", query) for query in BOTH + POSTGRES[:-1]],
)
def test_such_a_query_is_not_even_suspected(dialect: str, query: str) -> None:
    """So it costs no question to the database: only what is suspected is planned."""

    def columns_of(table: tuple[str, str]) -> list[str] | None:
        return COLUMNS.get(table[1])

    tree = Guard(dialect).check(query).tree
    assert tree is not None
    assert Names(tree, dialect).suspects(columns_of) == []


@st.composite
def queries(draw: st.DrawFn, depth: int = 2, unions: bool = True) -> tuple[str, list[str]]:
    """A query that is valid in both databases, and the names of its columns."""
    alias = draw(st.sampled_from(["t", "X", "u_1"]))
    kind = draw(st.sampled_from(["table", "derived", "cte", *["union"] * unions])) if depth else "table"
    head = ""
    if kind == "table":
        table = draw(st.sampled_from(sorted(COLUMNS)))
        source, columns = draw(st.sampled_from([table, f'"{table}"', table.upper()])), COLUMNS[table]
    else:
        inner, columns = draw(queries(depth - 1, unions))
        source = f"({inner})"
        if kind == "cte":
            name = f"c{depth}"
            renamed = draw(st.booleans())
            given_names = [f"k{number}" for number in range(len(columns))]
            head = f"WITH {name}{' (' + ', '.join(given_names) + ')' if renamed else ''} AS ({inner}) "
            source, columns = name, given_names if renamed else columns
        elif kind == "union":
            source = f"(SELECT * FROM ({inner}) AS a UNION ALL SELECT * FROM ({inner}) AS b)"
    if draw(st.booleans()):
        return f"{head}SELECT * FROM {source} AS {alias}", columns
    chosen = draw(st.lists(st.sampled_from(columns), min_size=1, max_size=3, unique=True))
    named = [(column, draw(st.sampled_from([column, f"r_{column}"]))) for column in chosen]
    shown = [
        f"{draw(st.sampled_from(['', f'{alias}.', f'{alias.swapcase()}.']))}{column} AS {name}"
        for column, name in named
    ]
    sql = f"{head}SELECT {', '.join(shown)} FROM {source} AS {alias}"
    if draw(st.booleans()):
        sql += (
            f" WHERE EXISTS (SELECT 1 FROM airports AS q WHERE q.faa <> '' AND {alias}.{columns[0]} IS NULL)"
        )
    return sql, [name for _, name in named]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=queries())
def test_generated_queries_run_and_are_never_stopped(
    backend: SQLBackend, made: tuple[str, list[str]]
) -> None:
    inner, columns = made
    sql = f"{inner} ORDER BY {columns[0]}"
    backend.execute_query(sql)
    assert list(backend.check_query(sql)) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=queries(unions=False))
def test_a_wrong_name_in_a_generated_query_is_found(backend: SQLBackend, made: tuple[str, list[str]]) -> None:
    inner, columns = made
    sql = f"SELECT nosuch, {columns[0]} FROM ({inner}) AS s"
    assert [message.partition(" in ")[0] for message in errors(backend.check_query(sql))] == [
        "there is no column 'nosuch'"
    ]


def test_the_catalogue_may_be_behind_the_database(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file) as backend, contextlib.closing(sqlite3.connect(sqlite_file)) as other:
        assert errors(backend.check_query("SELECT gate FROM flights"))
        other.execute("ALTER TABLE flights ADD COLUMN gate TEXT")
        other.execute("CREATE TABLE crews (name TEXT)")
        assert list(backend.check_query("SELECT gate FROM flights")) == []
        assert list(backend.check_query("SELECT c.name FROM crews c")) == []
        other.execute("DROP TABLE crews")
        assert errors(backend.check_query("SELECT * FROM crews")) in ([], ["there is no table 'crews'"])


def test_a_table_on_the_search_path_is_let_through(postgresql_url: str) -> None:
    with SQLBackend(f"{postgresql_url}?options=-csearch_path%3Dpublic,hr") as backend:
        assert runs(backend, "SELECT id FROM people")
        for _ in range(2):
            assert list(backend.check_query("SELECT id FROM people")) == []
            assert list(backend.check_query("SELECT p.id FROM people p")) == []


# ── what is found ──


@pytest.mark.parametrize("query", WRONG)
def test_names_that_do_not_exist_are_found(backend: SQLBackend, query: str) -> None:
    assert not runs(backend, query)
    found = errors(backend.check_query(query))
    assert len(found) == len(WRONG[query])
    for expected, message in zip(WRONG[query], found, strict=True):
        assert expected in message


def test_an_unknown_column_comes_with_the_closest_and_all_columns(backend: SQLBackend) -> None:
    (issue,) = backend.check_query("SELECT id,\n  dely FROM flights")
    assert issue.message == "there is no column 'dely' in flights"
    assert issue.suggestion == "Did you mean delay? Columns: id, origin, delay, note."
    assert issue.line == 2
    (table,) = backend.check_query("SELECT * FROM flihgts")
    assert table.suggestion == "Did you mean flights?"


def test_hidden_tables_are_not_suggested(sqlite_file: Path) -> None:
    with SQLBackend(sqlite_file, exclude_tables=["salaries"]) as backend:
        (issue,) = backend.check_query("SELECT * FROM salary")
        assert "salaries" not in issue.to_text()
        assert list(backend.check_query("SELECT * FROM salaries")) == []  # refused by the wall, not here


def test_postgresql_names_that_need_quotes_are_shown_with_them(postgresql_url: str) -> None:
    with SQLBackend(postgresql_url, read_only=False) as backend:
        backend.execute_query('CREATE TABLE users ("userId" INTEGER)')
        try:
            (issue,) = backend.check_query("SELECT userId FROM users")
            assert issue.suggestion == 'Did you mean "userId"? Columns: "userId".'
            assert list(backend.check_query('SELECT "userId" FROM users')) == []
        finally:
            backend.execute_query("DROP TABLE users")


def test_sqlite_taking_a_name_for_text_is_a_warning(sqlite: SQLBackend) -> None:
    (issue,) = sqlite.check_query('SELECT "dely" FROM flights')
    assert issue.severity == "warning"
    assert "read it as the text 'dely'" in issue.message
    assert "Did you mean delay?" in (issue.suggestion or "")


def test_pairing_every_row_with_every_other_is_a_warning(backend: SQLBackend) -> None:
    (issue,) = backend.check_query("SELECT count(*) FROM flights, airports")
    assert issue.severity == "warning"
    assert "flights and airports are joined without a condition" in issue.message
    for meant in (
        "SELECT count(*) FROM flights CROSS JOIN airports",
        "SELECT count(*) FROM flights, airports WHERE faa = origin",
        "SELECT count(*) FROM flights, (SELECT max(delay) AS m FROM flights) AS t",
        "WITH m AS (SELECT max(delay) FROM flights) SELECT count(*) FROM flights, m",
    ):
        assert list(backend.check_query(meant)) == []


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM nosuch",
        "SELECT FROM WHERE",
        "EXPLAIN SELECT nosuch FROM flights",
        "",
        "SELECT :a FROM flights",
    ],
)
def test_what_is_no_plain_query_is_left_to_the_walls_and_the_database(
    backend: SQLBackend, query: str
) -> None:
    assert list(backend.check_query(query)) == []


def test_a_database_that_is_gone_is_left_to_the_query(tmp_path: Path) -> None:
    with SQLBackend(tmp_path / "none.db") as backend:
        assert list(backend.check_query("SELECT a FROM b")) == []


def test_the_check_takes_a_few_milliseconds_at_most(backend: SQLBackend) -> None:
    query = "SELECT f.origin, count(*) AS n FROM flights f JOIN airports a ON a.faa = f.origin GROUP BY 1"
    backend.check_query(query)
    took = []
    for number in range(20):
        began = time.perf_counter()
        assert backend.check_query(f"{query} HAVING count(*) > {number}") == ()
        took.append(time.perf_counter() - began)
    assert sorted(took)[10] < 0.02  # the median, on a busy machine; 1 ms on a quiet one


# ── around the tool ──


def test_only_the_query_tool_changes_and_looks_the_same(sqlite: SQLBackend) -> None:
    guarded = tools_of(sqlite, Guardrails())
    for plain, tool in zip(tools_of(sqlite), guarded, strict=True):
        assert (plain.name, plain.description, plain.parameters) == (
            tool.name,
            tool.description,
            tool.parameters,
        )
    assert [plain.function == tool.function for plain, tool in zip(sqlite.tools(), guarded, strict=True)] == [
        True,
        True,
        False,
    ]


def test_a_renamed_query_tool_of_a_subclass_is_guarded_too(sqlite_file: Path) -> None:
    class Renamed(SQLBackend):
        def tools(self) -> Sequence[Tool[..., Any]]:
            return [Tool.from_function(self._query_database, name="sql")]

    with Renamed(sqlite_file) as backend:
        (tool,) = tools_of(backend, Guardrails())
        with pytest.raises(GuardrailError, match="no column 'dely'"):
            tool(sql="SELECT dely FROM flights")


def test_the_model_corrects_itself(backend: SQLBackend) -> None:
    guardrails = Guardrails()
    query = ask(backend, guardrails)
    with pytest.raises(GuardrailError, match="no column 'dely' in flights"):
        query(sql="SELECT avg(dely) AS d FROM flights")
    with pytest.raises(QueryError) as caught:
        query(sql="SELECT nosuch_function(delay) FROM flights")
    assert "failed attempt 2 of 3 in a row (function_not_found)" in caught.value.message
    assert "- SELECT avg(dely) AS d FROM flights" in caught.value.message
    assert "12.75" in query(sql="SELECT avg(delay) AS d FROM flights")
    assert guardrails.record() is None


def test_a_refused_change_is_explained_and_counted(backend: SQLBackend) -> None:
    guardrails = Guardrails(max_corrections=2)
    query = ask(backend, guardrails)
    for sql in ("DELETE FROM flights", "DROP TABLE flights"):
        with pytest.raises(QueryRefusedError) as caught:
            query(sql=sql)
    assert "permission_denied" in caught.value.message
    with pytest.raises(GuardrailError, match="2 queries in a row"):
        query(sql="SELECT 1")


def test_without_names_the_database_is_asked_and_its_error_explained(backend: SQLBackend) -> None:
    query = ask(backend, Guardrails(check_names=False))
    with pytest.raises(QueryError) as column:
        query(sql="SELECT dely FROM flights")
    assert "(column_not_found)" in column.value.message
    assert "Did you mean delay?" in (column.value.hint or "")
    assert "Columns of flights: id INTEGER, origin TEXT" in (column.value.hint or "")
    with pytest.raises(QueryError) as table:
        query(sql="SELECT * FROM zzz")
    assert "(table_not_found)" in table.value.message
    assert "Tables: airports, flights, salaries, late" in (table.value.hint or "")


def test_a_syntax_error_names_the_dialect(backend: SQLBackend) -> None:
    with pytest.raises(LoomError) as caught:
        ask(backend, Guardrails())(sql="SELECT id FROM flights WHERE")
    assert "(syntax_error)" in str(caught.value)
    name = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[backend.dialect]
    assert f"Write it in the SQL of {name}." in (caught.value.hint or "")


def test_a_timeout_is_explained(sqlite_file: Path) -> None:
    endless = "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
    with SQLBackend(sqlite_file, timeout=0.2) as backend:
        query = ask(backend, Guardrails())
        with pytest.raises(QueryError, match=r"\(timeout\)") as caught:
            query(sql=endless)
        assert caught.value.code == "query_timeout"
        with pytest.raises(GuardrailError, match="has failed already"):
            query(sql=endless)


def test_two_pages_of_a_query_are_two_queries(sqlite: SQLBackend) -> None:
    query = ask(sqlite, Guardrails(check_names=False))
    with pytest.raises(QueryError):
        query(sql="SELECT dely FROM flights")
    with pytest.raises(QueryError):
        query(sql="SELECT dely FROM flights", offset=2)
    with pytest.raises(GuardrailError):
        query(sql="SELECT dely FROM flights", offset=2)


# ── other backends ──


class Notes(BaseBackend):
    """A backend that is no database."""

    name = "notes"

    def execute_query(
        self,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> QueryResult:
        """Find notes."""
        if not query:
            raise QueryError("the query is empty", hint="give a word")
        return QueryResult.from_rows([{"note": query}])


def test_any_backend_takes_part_with_its_query_tool() -> None:
    def no_secrets(sql: str) -> Iterator[Issue]:
        if "secret" in sql:
            yield Issue("error", "secrets are not for sale")

    (tool,) = tools_of(Notes(), Guardrails([no_secrets]))
    assert set(tool.parameters["properties"]) == {"query", "offset"}
    assert "yarn" in tool(query="yarn")
    with pytest.raises(GuardrailError, match="not for sale"):
        tool(query="secret")
    with pytest.raises(QueryError, match="failed attempt 2 of 3"):
        tool(query="")


def test_a_backend_without_guarded_tools_keeps_its_own(sqlite: SQLBackend) -> None:
    class Plain:
        def tools(self) -> Sequence[Tool[..., Any]]:
            return sqlite.tools()

    (*_, query) = tools_of(Plain(), Guardrails())  # type: ignore[arg-type]
    with pytest.raises(BackendError) as caught:
        query(sql="SELECT dely FROM flights")
    assert "failed attempt" not in caught.value.message
