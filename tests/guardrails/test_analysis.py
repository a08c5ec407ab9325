"""What kind of failure an error is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.errors import BackendConnectionError, QueryError, QueryRefusedError
from loom_py.guardrails import Guardrails, analyze_error, classify_error, infer_error_type

BY_WORDS = {
    "Syntax error: expected something": "syntax_error",
    "syntax error at position 10": "syntax_error",
    'near "FORM": syntax error': "syntax_error",
    "the query cannot be parsed: Expected table name": "syntax_error",
    "Object 'customers' does not exist": "table_not_found",
    "object does not exist": "table_not_found",
    "table not found: customers": "table_not_found",
    "no such table: flihgts": "table_not_found",
    'relation "flihgts" does not exist': "table_not_found",
    "Table 'shop.ordres' doesn't exist": "table_not_found",
    "Column 'email' not found in table": "column_not_found",
    "column not found: email": "column_not_found",
    "no such column: f.dely": "column_not_found",
    'column "x" of relation "y" does not exist': "column_not_found",
    "Unknown column 'x' in 'field list'": "column_not_found",
    "The user does not have SELECT access": "permission_denied",
    "permission denied": "permission_denied",
    "access denied for user": "permission_denied",
    "attempt to write a readonly database": "permission_denied",
    "Query timeout exceeded": "timeout",
    "query timeout exceeded": "timeout",
    "the query was stopped after 30 s": "timeout",
    "connection refused": "connection",
    "network unreachable": "connection",
    "no such function: date_trunc": "function_not_found",
    "function nosuch(integer) does not exist": "function_not_found",
    "ambiguous column name: id": "ambiguous_column",
    "operator does not exist: text + integer": "type_mismatch",
    'invalid input syntax for type integer: "a"': "type_mismatch",
    'column "f.id" must appear in the GROUP BY clause': "grouping_error",
    "misuse of aggregate: count()": "grouping_error",
    "Some unknown error occurred": "unknown",
    "something went wrong": "unknown",
    "": "unknown",
}


@pytest.mark.parametrize(("message", "kind"), BY_WORDS.items())
def test_without_a_code_the_words_decide(message: str, kind: str) -> None:
    assert infer_error_type(None, message) == kind
    assert infer_error_type("", message) == kind
    assert infer_error_type("SQLITE_ERROR", message) == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("42P01", "table_not_found"),
        ("42703", "column_not_found"),
        ("42601", "syntax_error"),
        ("42501", "permission_denied"),
        ("57014", "timeout"),
        ("42883", "function_not_found"),
        ("42702", "ambiguous_column"),
        ("42803", "grouping_error"),
        ("22P02", "type_mismatch"),
        ("08006", "connection"),
        ("42S02", "table_not_found"),
        ("SQLITE_BUSY_SNAPSHOT", "timeout"),
        ("SQLITE_READONLY", "permission_denied"),
        (3807, "table_not_found"),
        (1064, "syntax_error"),
        ("query_timeout", "timeout"),
    ],
)
def test_a_known_code_decides_whatever_the_words(code: str | int, kind: str) -> None:
    assert infer_error_type(code, "Some unknown error occurred") == kind
    assert infer_error_type(code, "network unreachable, syntax error") == kind


def test_an_exception_is_classified_and_none_is_a_success() -> None:
    assert classify_error(None) == "success"
    assert classify_error(RuntimeError("something went wrong")) == "unknown"
    assert classify_error(BackendConnectionError("cannot reach it")) == "connection"
    assert classify_error(QueryError("the query was stopped", code="query_timeout")) == "timeout"
    assert classify_error(QueryRefusedError("more than one statement")) == "permission_denied"
    assert classify_error(QueryRefusedError("the query cannot be parsed: x")) == "syntax_error"


def test_the_drivers_code_is_found_behind_the_error() -> None:
    class Driver(Exception):
        sqlstate = "42P01"

    error = QueryError("eine Relation fehlt")
    error.__cause__ = Driver("fehlt")
    analysis = Guardrails().analyze(error)
    assert (analysis.kind, analysis.code, analysis.confidence) == ("table_not_found", "42P01", "high")


def test_a_cause_that_goes_in_a_circle_ends() -> None:
    first, second = QueryError("a"), QueryError("b")
    first.__cause__, second.__cause__ = second, first
    assert classify_error(first) == "unknown"


def test_the_hint_of_the_error_is_the_first_suggestion() -> None:
    analysis = analyze_error(QueryError("no such table: ordres", hint="Did you mean orders?"))
    assert analysis.suggestions == ("Did you mean orders?",)
    assert "no such table: ordres" in analysis.summary


@pytest.mark.parametrize(
    ("message", "confidence"),
    [
        ("syntax error", "medium"),
        ("table not found: x", "high"),
        ("column not found: x", "high"),
        ("permission denied", "high"),
        ("timeout", "medium"),
        ("what?", "low"),
    ],
)
def test_confidence_follows_the_kind(message: str, confidence: str) -> None:
    analysis = analyze_error((None, message))
    assert analysis.confidence == confidence
    assert analysis.suggestions


@given(st.one_of(st.none(), st.text(), st.integers()), st.text())
def test_any_code_and_message_has_a_kind(code: str | int | None, message: str) -> None:
    assert analyze_error((code, message)).kind == infer_error_type(code, message)
