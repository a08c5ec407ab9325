"""What the parser refuses and what it lets pass."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py.backends.sql.guard import Guard
from loom_py.backends.sql.names import TableFilter
from loom_py.errors import QueryRefusedError

BOTH = [
    "DELETE FROM flights",
    "delete from flights where id = 1",
    "DeLeTe\tFROM flights",
    "/* harmless */ DELETE FROM flights",
    "-- harmless\nDELETE FROM flights",
    "\ufeffDELETE FROM flights",
    "DELETE/**/FROM/**/flights",
    "DEL/**/ETE FROM flights",
    "DELETE\u00a0FROM flights",
    "\u2003DROP TABLE flights",
    "INSERT INTO flights (id) VALUES (1)",
    "INSERT INTO flights SELECT * FROM flights",
    "REPLACE INTO flights (id) VALUES (1)",
    "UPDATE flights SET delay = 0",
    "MERGE INTO flights USING airports ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE x (a INT)",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x (a INT)",
    "CREATE VIEW x AS SELECT 1",
    "CREATE INDEX x ON flights (id)",
    "ALTER TABLE flights RENAME TO x",
    "DROP TABLE flights",
    "TRUNCATE flights",
    "SELECT 1; SELECT 2",
    "SELECT 1; DELETE FROM flights",
    "SELECT 1;DELETE FROM flights;",
    "SELECT 1; -- end\nDELETE FROM flights",
    "SELECT 1 /* ; */ ; /* */ DROP TABLE flights",
    "SELECT 1;;DELETE FROM flights",
    ";DELETE FROM flights",
    "WITH x AS (DELETE FROM flights RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO flights (id) VALUES (9) RETURNING *) SELECT * FROM x",
    "WITH x AS (SELECT 1), y AS (UPDATE flights SET id = 1 RETURNING *) SELECT * FROM x",
    "WITH x AS (SELECT 1) DELETE FROM flights",
    "WITH x AS (WITH y AS (DELETE FROM flights RETURNING 1) SELECT * FROM y) SELECT * FROM x",
    "SELECT * FROM (WITH y AS (DELETE FROM flights RETURNING 1) SELECT * FROM y) z",
    "EXPLAIN DELETE FROM flights",
    "EXPLAIN SELECT 1; DELETE FROM flights",
    "EXPLAIN EXPLAIN DELETE FROM flights",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT x",
    "VACUUM",
    "ANALYZE",
    "REINDEX",
    "PRAGMA writable_schema = 1",
    "SELECT load_extension('x')",
    "SELECT LOAD_EXTENSION ('x')",
    "SELECT /**/ load_extension/**/('x')",
    "SELECT \"load_extension\"('x')",
    "SELECT readfile('/etc/passwd')",
    "SELECT * FROM flights WHERE writefile('a', 'b')",
    "SELECT 1 /* /* */ , load_extension('x') -- */",
    "SELECT 1 FROM",
    "SELECT * FROM flights WHERE",
    "((((SELECT 1",
    "SELECT 'open",
    "",
    "   ",
    ";",
    "-- nothing",
    "/* nothing */",
    "/* open",
    "SELECT 1\0",
    "hello",
    "drop",
]
SQLITE = [
    "PRAGMA table_info(flights)",
    "PRAGMA query_only = OFF",
    "SELECT * FROM pragma_table_info('flights')",
    "SELECT * FROM Pragma_Database_List",
    "SELECT * FROM flights, pragma_table_info('flights')",
    "ATTACH DATABASE 'x.db' AS x",
    "attach 'x.db' as x",
    "DETACH x",
    "VACUUM INTO 'copy.db'",
    "SELECT * FROM sqlite_dbpage",
    "SELECT * FROM dbstat",
    "SELECT * FROM [sqlite_dbpage]",
    "SELECT fts3_tokenizer('x')",
    "SELECT edit('x')",
    "SELECT * FROM fsdir('/')",
    "EXPLAIN QUERY PLAN DELETE FROM flights",
    "EXPLAIN/**/QUERY/**/PLAN DELETE FROM flights",
]
POSTGRES = [
    "SELECT * INTO copy FROM flights",
    "SELECT * INTO TEMP copy FROM flights",
    "SELECT * FROM flights FOR UPDATE",
    "SELECT * FROM flights FOR SHARE",
    "SELECT * FROM (SELECT * FROM flights FOR UPDATE) x",
    "EXPLAIN ANALYZE DELETE FROM flights",
    "EXPLAIN (ANALYZE true) DELETE FROM flights",
    "EXPLAIN (ANALYZE, BUFFERS) UPDATE flights SET id = 1",
    "COPY flights TO PROGRAM 'sh'",
    "COPY flights TO '/x'",
    "COPY flights FROM '/x'",
    "COPY (SELECT 1) TO STDOUT",
    "DO $$ BEGIN DELETE FROM flights; END $$",
    "LOCK TABLE flights",
    "NOTIFY x",
    "LISTEN x",
    "SET ROLE loom",
    "SET transaction_read_only = off",
    "RESET ALL",
    "CALL f()",
    "PREPARE x AS DELETE FROM flights",
    "EXECUTE x",
    "DECLARE c CURSOR FOR SELECT 1",
    "GRANT ALL ON flights TO PUBLIC",
    "REFRESH MATERIALIZED VIEW x",
    "LOAD 'x'",
    "SELECT pg_sleep(100)",
    "SELECT pg_catalog.pg_sleep(100)",
    'SELECT "pg_sleep"(100)',
    'SELECT U&"pg\\005fsleep"(100)',
    "SELECT * FROM ROWS FROM (pg_sleep(100))",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT * FROM pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/x')",
    "SELECT * FROM dblink('host=x', 'SELECT 1') AS t (a INT)",
    "SELECT dblink_exec('x', 'DELETE FROM y')",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_cancel_backend(1)",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT nextval('counter')",
    "SELECT setval('counter', 9)",
    "SELECT query_to_xml('DELETE FROM flights', true, true, '')",
    "SELECT table_to_xml('flights', true, true, '')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_xact_lock(1)",
    "SELECT pg_reload_conf()",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_catalog.pg_authid",
    "SHOW x; DELETE FROM flights",
]
ALLOWED_BOTH = [
    "SELECT 1",
    "select * from flights;",
    "SELECT 1 ; -- the end",
    "  \n\t SELECT 1",
    "\ufeffSELECT 1",
    "/* why */ SELECT 1",
    "-- why\nSELECT 1",
    "SELECT 'DELETE FROM flights; DROP TABLE x'",
    "SELECT ';' AS a -- ; DROP TABLE x",
    'SELECT origin AS "delete", delay AS "update" FROM flights',
    "SELECT replace(origin, 'J', 'K') FROM flights",
    "WITH x AS (SELECT 1 AS a) SELECT * FROM x",
    "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
    "SELECT 1 UNION SELECT 2",
    "SELECT 1 INTERSECT SELECT 1 EXCEPT SELECT 3",
    "VALUES (1), (2)",
    "EXPLAIN SELECT * FROM flights",
    "SELECT f.id, a.name FROM flights AS f JOIN airports AS a ON a.faa = f.origin",
    "SELECT origin, count(*), avg(delay) FROM flights GROUP BY origin HAVING count(*) > 1 ORDER BY 2",
    "SELECT *, row_number() OVER (PARTITION BY origin ORDER BY delay) AS n FROM flights",
    "SELECT CASE WHEN delay > 5 THEN 'late' ELSE 'fine' END FROM flights",
    "SELECT * FROM flights WHERE origin IN (SELECT faa FROM airports) LIMIT 3",
    "SELECT CAST(delay AS INTEGER) FROM flights WHERE note LIKE '%delete%'",
    "SELECT (SELECT max(delay) FROM flights) AS worst",
    "SELECT DISTINCT origin FROM flights",
]
ALLOWED_SQLITE = [
    "EXPLAIN QUERY PLAN SELECT * FROM flights",
    "SELECT * FROM sqlite_master",
    "SELECT strftime('%Y', 'now')",
    "SELECT value FROM json_each('[1, 2]')",
    "SELECT [id] FROM `flights`",
]
ALLOWED_POSTGRES = [
    "SHOW search_path",
    "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM flights",
    "EXPLAIN ANALYZE VERBOSE SELECT 1",
    "(SELECT 1)",
    "SELECT delay::int FROM flights WHERE origin ILIKE 'j%'",
    "SELECT * FROM generate_series(1, 3)",
    "SELECT pg_size_pretty(pg_total_relation_size('flights'))",
    "SELECT $$it's; DELETE$$",
    "SELECT DISTINCT ON (origin) * FROM flights ORDER BY origin, delay DESC",
    "SELECT count(*) FILTER (WHERE delay > 3) FROM flights",
    "SELECT * FROM information_schema.tables",
]


def _pairs(both: list[str], sqlite: list[str], postgres: list[str]) -> list[tuple[str, str]]:
    cases = [(dialect, query) for dialect in ("sqlite", "postgres") for query in both]
    return cases + [("sqlite", query) for query in sqlite] + [("postgres", query) for query in postgres]


REFUSED = _pairs(BOTH, SQLITE, POSTGRES)
ALLOWED = _pairs(ALLOWED_BOTH, ALLOWED_SQLITE, ALLOWED_POSTGRES)


@pytest.mark.parametrize(("dialect", "query"), REFUSED)
def test_what_is_not_one_harmless_statement_is_refused(dialect: str, query: str) -> None:
    with pytest.raises(QueryRefusedError) as caught:
        Guard(dialect).check(query)
    assert caught.value.hint
    assert "<" not in caught.value.message  # nothing of the parser's insides


@pytest.mark.parametrize(("dialect", "query"), ALLOWED)
def test_reads_pass_whatever_they_look_like(dialect: str, query: str) -> None:
    statement = Guard(dialect).check(query)
    assert statement.kind in ("rows", "explain", "show")
    assert not statement.sql.endswith(";")


def test_a_refusal_says_what_was_found_and_where() -> None:
    with pytest.raises(QueryRefusedError, match=r"DELETE is not allowed.*line 3, column \d+"):
        Guard("sqlite").check("-- a comment\nWITH x AS (\n  DELETE FROM flights RETURNING *) SELECT * FROM x")


def test_a_parse_error_says_where() -> None:
    with pytest.raises(QueryRefusedError, match="line 1, column"):
        Guard("sqlite").check("SELECT count( FROM flights")


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO t VALUES (1)",
        "UPDATE t SET a = 1",
        "DELETE FROM t",
        "CREATE TABLE x (a INT)",
        "DROP TABLE t",
    ],
)
def test_writes_pass_where_writing_is_allowed(query: str) -> None:
    assert Guard("sqlite", read_only=False).check(query).kind == "write"


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM t; DELETE FROM u", "ATTACH 'x' AS x", "PRAGMA user_version = 3", "COMMIT", "VACUUM",
     "INSERT INTO t SELECT load_extension('x')"],
)  # fmt: skip
def test_even_where_writing_is_allowed_some_things_are_not(query: str) -> None:
    with pytest.raises(QueryRefusedError):
        Guard("sqlite", read_only=False).check(query)


SCOPED_REFUSED = [
    "SELECT * FROM salaries",
    "SELECT * FROM SALARIES",
    'SELECT * FROM "salaries"',
    "SELECT * FROM public.salaries",
    "SELECT * FROM other.flights",
    "SELECT * FROM flights, salaries",
    "SELECT * FROM flights WHERE id IN (SELECT amount FROM salaries)",
    "WITH salaries AS (SELECT * FROM salaries) SELECT * FROM salaries",
    "WITH x AS (SELECT * FROM salaries), salaries AS (SELECT 1) SELECT * FROM x",
    "SELECT * FROM (WITH salaries AS (SELECT 1) SELECT * FROM salaries) x, salaries",
    'WITH "SALARIES" AS (SELECT 1) SELECT * FROM salaries',
    "EXPLAIN SELECT * FROM salaries",
    "SELECT * FROM (TABLE salaries) x",
    "SELECT * FROM information_schema.columns",
    "SELECT * FROM pg_class",
    "SELECT * FROM pg_catalog.pg_stats",
    "SELECT pg_get_viewdef('late')",
    "SHOW ALL",
]


@pytest.mark.parametrize("query", SCOPED_REFUSED)
def test_hidden_tables_cannot_be_read(query: str) -> None:
    with pytest.raises(QueryRefusedError):
        Guard("postgres", tables=TableFilter.of(["flights"], None, "public")).check(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM flights",
        "SELECT * FROM FLIGHTS",
        "SELECT * FROM public.flights",
        "WITH salaries AS (SELECT * FROM flights) SELECT * FROM salaries",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r",
        "WITH a AS (SELECT * FROM flights), b AS (SELECT * FROM a) SELECT * FROM b JOIN a ON true",
    ],
)
def test_a_common_table_expression_is_not_mistaken_for_a_table(query: str) -> None:
    assert Guard("postgres", tables=TableFilter.of(["Flights"], None, "public")).check(query).kind == "rows"


@pytest.mark.parametrize(
    "query", ["SELECT * FROM salaries", "SELECT * FROM hr.salaries", "SELECT * FROM sqlite_master"]
)
def test_excluded_tables_are_hidden_in_every_schema(query: str) -> None:
    with pytest.raises(QueryRefusedError):
        Guard("sqlite", tables=TableFilter.of(None, ["Salaries"], "main")).check(query)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["sqlite", "postgres", "mysql"]))
def test_any_text_is_either_a_statement_or_refused(text: str, dialect: str) -> None:
    try:
        statement = Guard(dialect).check(text)
    except QueryRefusedError:
        return
    assert statement.kind in ("rows", "explain", "show")


@given(st.text(alphabet=st.characters(exclude_characters="\0'", exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=100, deadline=None)
def test_what_stands_in_a_literal_is_never_a_statement(text: str) -> None:
    literal = text.replace("\\", "")
    assert Guard("sqlite").check(f"SELECT '{literal}' AS a").kind == "rows"


@pytest.mark.parametrize(
    ("dialect", "query"),
    [
        ("mysql", "SELECT 1 /*!, sleep(9) */"),
        ("mysql", "SELECT * FROM flights INTO OUTFILE '/x'"),
        ("mysql", "SELECT load_file('/etc/passwd')"),
        ("duckdb", "SELECT * FROM '/etc/passwd'"),
        ("duckdb", "SELECT * FROM read_csv('/etc/passwd')"),
        ("tsql", "EXEC xp_cmdshell 'dir'"),
        ("tsql", "SELECT * FROM OPENROWSET('a', 'b', 'c')"),
        ("oracle", "BEGIN NULL; END;"),
        ("", "DELETE FROM flights"),
    ],
)
def test_other_dialects_are_held_by_the_parser(dialect: str, query: str) -> None:
    assert Guard(dialect).check("SELECT origin FROM flights").kind == "rows"
    with pytest.raises(QueryRefusedError):
        Guard(dialect).check(query)


def test_a_query_nested_beyond_reason_is_refused() -> None:
    with pytest.raises(QueryRefusedError, match="nested too deeply"):
        Guard("sqlite").check("SELECT " + "(" * 3000 + "1" + ")" * 3000)
