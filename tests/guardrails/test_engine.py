"""Checks, corrections and their bound, without a database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py._chat import chat_id
from loom_py.errors import BackendConnectionError, BackendError, ConfigError, GuardrailError, QueryError
from loom_py.guardrails import (
    CorrectionsExhausted,
    ErrorAnalysis,
    Guardrails,
    Issue,
    QueryCorrected,
    Validate,
    Validator,
)
from loom_py.resilience.events import PolicyEvent


@contextmanager
def chat(name: str) -> Iterator[None]:
    token = chat_id.set(name)
    try:
        yield
    finally:
        chat_id.reset(token)


def failing(message: str = "no such column: reveneu", **facts: str) -> Callable[[], str]:
    def execute() -> str:
        raise QueryError(message, hint=facts.get("hint"))

    return execute


def never() -> str:
    raise AssertionError("the query was run")


class NoStar:
    """A check with a name."""

    name = "no star"

    def validate(self, sql: str) -> Iterable[Issue]:
        if "*" in sql:
            yield Issue("error", "SELECT * reads every column", "Name the columns.", 1, 8)


def short(sql: str) -> list[Issue] | None:
    return [Issue("warning", "it is long", "Be brief.")] if len(sql) > 20 else None


# ── preflight ──


@pytest.mark.parametrize(
    ("checks", "count"), [([], 0), ([NoStar()], 1), ([NoStar(), short], 2), ([short, short], 2)]
)
def test_preflight_gives_what_every_check_finds_in_order(
    checks: list[Validator | Validate], count: int
) -> None:
    issues = Guardrails(checks).preflight("SELECT * FROM a_long_name")
    assert len(issues) == count
    assert Guardrails(checks).preflight("SELECT 1") == ()


def test_a_check_can_be_registered_later() -> None:
    guardrails = Guardrails()
    guardrails.register(short)
    guardrails.register(NoStar())
    assert [check.name for check in guardrails.validators] == ["short", "no star"]
    severities = [issue.severity for issue in guardrails.preflight("SELECT * FROM a_long_name")]
    assert severities == ["warning", "error"]


def test_what_cannot_be_a_check_is_a_config_error() -> None:
    async def later(sql: str) -> list[Issue]:
        return []

    for wrong in (3, "name", NoStar, later):
        with pytest.raises(ConfigError):
            Guardrails([wrong])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="severity"):
        Issue("fatal", "x")  # type: ignore[arg-type]
    for number in (0, -1, 1.5, True):
        with pytest.raises(ConfigError, match="max_corrections"):
            Guardrails(max_corrections=number)  # type: ignore[arg-type]


def test_a_check_that_breaks_stops_the_query_and_is_no_failure_of_the_model() -> None:
    def broken(sql: str) -> list[Issue]:
        raise KeyError(sql)

    def wrong(sql: str) -> list[Issue]:
        return ["bad"]  # type: ignore[list-item]

    for check in (broken, wrong):
        guardrails = Guardrails([check])
        with pytest.raises(BackendError, match=check.__name__) as caught:
            guardrails.run("SELECT 1", never)
        assert caught.value.code == "guardrail_failed"
        assert guardrails.record() is None


def test_an_error_stops_the_query_and_the_model_reads_why() -> None:
    with pytest.raises(GuardrailError) as caught:
        Guardrails([NoStar()]).run("SELECT * FROM t", never)
    assert "SELECT * reads every column (line 1, column 8)" in caught.value.message
    assert "failed attempt 1 of 3" in caught.value.message
    assert caught.value.hint == "Name the columns."


def test_warnings_stand_behind_the_result() -> None:
    text = Guardrails([short]).run("SELECT a FROM some_table", lambda: "a\n---\n1")
    assert text == "a\n---\n1\nWarning: it is long. Be brief."


# ── corrections ──


def test_a_failure_is_explained_with_what_failed_before() -> None:
    guardrails = Guardrails()
    with chat("one"):
        with pytest.raises(QueryError):
            guardrails.run("SELECT a FROM t", failing())
        with pytest.raises(QueryError) as caught:
            guardrails.run("SELECT b FROM t", failing("no such column: b", hint="Did you mean c?"))
    assert "no such column: b" in caught.value.message
    assert "failed attempt 2 of 3 in a row (column_not_found)" in caught.value.message
    assert "do not send them again:\n- SELECT a FROM t" in caught.value.message
    assert caught.value.hint == "Did you mean c?"
    assert caught.value.code == "query_failed"


@pytest.mark.parametrize("again", ["SELECT a FROM t", " SELECT  a\nFROM t ; "])
def test_the_same_query_is_not_run_again_after_its_failure(again: str) -> None:
    guardrails = Guardrails()
    with pytest.raises(QueryError):
        guardrails.run("SELECT a FROM t", failing())
    with pytest.raises(GuardrailError, match="same query has failed already"):
        guardrails.run(again, never)
    assert guardrails.run("SELECT a FROM t", lambda: "fine", source="another database") == "fine"


def test_white_space_in_quotes_makes_another_query() -> None:
    guardrails = Guardrails()
    with pytest.raises(QueryError):
        guardrails.run("SELECT 'a b'", failing())
    assert guardrails.run("SELECT 'a  b'", lambda: "fine") == "fine"


def test_after_the_last_correction_nothing_is_run_in_that_chat() -> None:
    guardrails = Guardrails(max_corrections=2)
    with chat("one"):
        with pytest.raises(QueryError) as first:
            guardrails.run("SELECT a", failing())
        with pytest.raises(QueryError) as last:
            guardrails.run("SELECT b", failing())
        for _ in range(3):
            with pytest.raises(GuardrailError, match="2 queries in a row") as caught:
                guardrails.run("SELECT 1", never)
            assert "Stop querying" in (caught.value.hint or "")
    assert "Stop querying" not in (first.value.hint or "")
    assert "Stop querying" in (last.value.hint or "")
    with chat("another"):
        assert guardrails.run("SELECT 1", lambda: "fine") == "fine"
    guardrails.clear("one")
    with chat("one"):
        assert guardrails.run("SELECT 1", lambda: "fine") == "fine"


def test_checks_and_repeats_count_as_failures_too() -> None:
    guardrails = Guardrails([NoStar()], max_corrections=3)
    with pytest.raises(GuardrailError):
        guardrails.run("SELECT *", never)
    with pytest.raises(GuardrailError, match="already"):
        guardrails.run("SELECT *", never)
    with pytest.raises(GuardrailError) as caught:
        guardrails.run("SELECT *", never)
    assert "failed attempt 3 of 3" in caught.value.message
    assert caught.value.message.count("failed already") == 1
    with pytest.raises(GuardrailError, match="in a row have failed"):
        guardrails.run("SELECT 1", never)


def test_a_success_clears_the_record() -> None:
    guardrails = Guardrails(max_corrections=2)
    for _ in range(5):
        with pytest.raises(QueryError):
            guardrails.run("SELECT a", failing())
        record = guardrails.record()
        assert record is not None
        assert record.count == 1
        assert guardrails.run("SELECT 1", lambda: "fine") == "fine"
        assert guardrails.record() is None


@pytest.mark.parametrize(
    "error",
    [QueryError("database is locked", retryable=True), BackendConnectionError("gone"), ValueError("a bug")],
)
def test_what_is_not_the_models_mistake_passes_as_it_is(error: Exception) -> None:
    guardrails = Guardrails()

    def execute() -> str:
        raise error

    for _ in range(4):
        with pytest.raises(type(error)) as caught:
            guardrails.run("SELECT 1", execute)
        assert caught.value is error
    assert guardrails.record() is None


# ── records ──


def test_an_error_given_by_code_and_message_is_kept() -> None:
    guardrails = Guardrails(clock=lambda: 12.5)
    correction = guardrails.handle_error(
        "SELECT * FROM nonexistent_table", (3807, "Object 'nonexistent_table' does not exist"), chat="s"
    )
    record = guardrails.record("s")
    assert record is not None
    assert correction.sql == record.sql == "SELECT * FROM nonexistent_table"
    assert (record.count, record.latest.code, record.latest.time) == (1, "3807", 12.5)
    assert correction.confidence == "high"


def test_a_record_holds_every_attempt_and_the_latest_analysis() -> None:
    guardrails = Guardrails()
    guardrails.handle_error("q1", ErrorAnalysis("syntax_error", "bad"), chat="s")
    first = guardrails.record("s")
    guardrails.handle_error("q2", ErrorAnalysis("table_not_found", "none"), chat="s")
    record = guardrails.record("s")
    assert record is not None
    assert record.count == 2
    assert record.previous_attempts == ("q1", "q2")
    assert (record.analysis.kind, record.sql) == ("table_not_found", "q2")
    assert first is not None
    assert (first.count, first.sql) == (1, "q1")  # a snapshot, not the live record
    guardrails.clear("s")
    assert guardrails.record("s") is None


def test_memory_is_bounded_in_chats_attempts_and_text() -> None:
    guardrails = Guardrails(max_chats=10)
    for number in range(50):
        guardrails.handle_error("q", (None, "x"), chat=str(number))
    assert guardrails.record("39") is None
    assert guardrails.record("40") is not None
    for _ in range(100):
        guardrails.handle_error("x" * 100_000, (None, "x"), chat="49")
    record = guardrails.record("49")
    assert record is not None
    assert record.count == 101
    assert len(record.attempts) <= 20
    assert all(len(sql) < 5_000 for sql in record.previous_attempts)


def test_outside_of_a_chat_each_thread_is_one() -> None:
    guardrails = Guardrails(max_corrections=1)
    with pytest.raises(QueryError):
        guardrails.run("SELECT a", failing())
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(guardrails.run("SELECT a", lambda: "fine")))
    thread.start()
    thread.join()
    assert found == ["fine"]
    assert guardrails.record() is not None


def test_no_failure_is_lost_between_threads() -> None:
    guardrails = Guardrails(max_corrections=1_000)

    def fail(number: int) -> None:
        guardrails.handle_error(f"q{number}", (None, "x"), chat=f"c{number % 4}")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(fail, range(400)))
    counts = [record.count for name in "0123" if (record := guardrails.record(f"c{name}"))]
    assert counts == [100] * 4


@given(st.lists(st.sampled_from(["fail", "same", "success"]), max_size=40), st.integers(1, 5))
def test_no_chat_ever_runs_more_failures_in_a_row_than_allowed(steps: list[str], limit: int) -> None:
    guardrails = Guardrails(max_corrections=limit, emit=lambda event: None)
    in_a_row = worst = 0
    for number, step in enumerate(steps):
        ran: list[str] = []

        def execute(step: str = step, ran: list[str] = ran) -> str:
            ran.append(step)
            if step == "success":
                return "fine"
            raise QueryError("no such column: x")

        try:
            guardrails.run("SELECT x" if step == "same" else f"SELECT {number}", execute)
        except (QueryError, GuardrailError):
            in_a_row += len(ran)
        else:
            in_a_row = 0
        worst = max(worst, in_a_row)
        record = guardrails.record()
        assert record is None or record.count <= limit
    assert worst <= limit


# ── events ──


def test_every_decision_is_an_event_without_the_querys_text() -> None:
    told: list[PolicyEvent] = []
    guardrails = Guardrails([NoStar()], max_corrections=2, emit=told.append)
    with chat("one"):
        with pytest.raises(GuardrailError):
            guardrails.run("SELECT *", never)
        with pytest.raises(QueryError):
            guardrails.run("SELECT secret", failing("no such column: x"))
    assert told == [
        QueryCorrected("", "unknown", 1, False, "one"),
        QueryCorrected("", "column_not_found", 2, True, "one"),
        CorrectionsExhausted("", 2, "one"),
    ]
    assert "secret" not in repr(told)
    assert [event.level for event in told] == ["info", "info", "warning"]
