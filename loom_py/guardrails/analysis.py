"""What kind of failure a database's error is, from its code and its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from loom_py.errors import LoomError

__all__ = [
    "Confidence",
    "ErrorAnalysis",
    "ErrorKind",
    "analyze_error",
    "classify_error",
    "infer_error_type",
]

ErrorKind: TypeAlias = Literal[
    "syntax_error",
    "table_not_found",
    "column_not_found",
    "function_not_found",
    "ambiguous_column",
    "type_mismatch",
    "grouping_error",
    "permission_denied",
    "timeout",
    "connection",
    "unknown",
]
Confidence: TypeAlias = Literal["low", "medium", "high"]
"""How sure the kind, and so the advice, is."""


@dataclass(frozen=True, slots=True)
class ErrorAnalysis:
    """A failure of a query as a model should understand it.

    Attributes:
        kind: what went wrong.
        summary: the same in words, the database's own behind.
        suggestions: what to do, the most specific first.
        confidence: how sure ``kind`` is.
        code: the database's code (an SQLSTATE, ``SQLITE_…``, a number), or that of the error; empty
            where there is none.
    """

    kind: ErrorKind
    summary: str
    suggestions: tuple[str, ...] = ()
    confidence: Confidence = "low"
    code: str = ""


_CODES: dict[str, ErrorKind] = {
    # SQLSTATE: PostgreSQL's manual, appendix A, and ODBC's 42S… for the same things.
    "42601": "syntax_error",
    "42P01": "table_not_found",
    "42S02": "table_not_found",
    "3F000": "table_not_found",
    "42703": "column_not_found",
    "42S22": "column_not_found",
    "42883": "function_not_found",
    "42702": "ambiguous_column",
    "42804": "type_mismatch",
    "42846": "type_mismatch",
    "22P02": "type_mismatch",
    "22007": "type_mismatch",
    "42803": "grouping_error",
    "42501": "permission_denied",
    "25006": "permission_denied",
    "28000": "permission_denied",
    "28P01": "permission_denied",
    "57014": "timeout",
    "55P03": "timeout",
    "HYT00": "timeout",
    "57P01": "connection",
    "57P02": "connection",
    "57P03": "connection",
    "53300": "connection",
    # SQLite's result codes; SQLITE_ERROR itself says nothing, so its words decide.
    "SQLITE_AUTH": "permission_denied",
    "SQLITE_PERM": "permission_denied",
    "SQLITE_READONLY": "permission_denied",
    "SQLITE_INTERRUPT": "timeout",
    "SQLITE_BUSY": "timeout",
    "SQLITE_LOCKED": "timeout",
    "SQLITE_CANTOPEN": "connection",
    "SQLITE_MISMATCH": "type_mismatch",
    # MySQL's numbers.
    "1064": "syntax_error",
    "1146": "table_not_found",
    "1054": "column_not_found",
    "1305": "function_not_found",
    "1052": "ambiguous_column",
    "1055": "grouping_error",
    "1044": "permission_denied",
    "1045": "permission_denied",
    "1142": "permission_denied",
    "3024": "timeout",
    "2006": "connection",
    "2013": "connection",
    # Teradata's.
    "3706": "syntax_error",
    "3807": "table_not_found",
    "5628": "column_not_found",
    "3523": "permission_denied",
    # This package's own.
    "query_timeout": "timeout",
    "backend_unavailable": "connection",
    "resource_not_found": "table_not_found",
}
_MISSING = r"not found|does ?n[o']t exist|no such|is no|unknown|undefined|invalid|missing"
_PATTERNS: tuple[tuple[ErrorKind, str], ...] = (
    ("syntax_error", r"syntax|cannot be parsed|cannot be read:|incomplete input|unrecognized token"),
    (
        "permission_denied",
        r"permission|denied|does not have|no access|not a(uthoriz|llow)ed|prohibited|privilege|read-?only",
    ),
    ("ambiguous_column", r"ambiguous"),
    ("grouping_error", r"\bgroup by\b|misuse of (window |aggregate)|aggregate functions? (are|is) not"),
    ("type_mismatch", r"operator does not exist|datatype mismatch|invalid input syntax|cannot cast"),
    (
        "function_not_found",
        r"no such function|function .*does not exist|unknown function|wrong number of arg",
    ),
    ("column_not_found", rf"\bcolumns?\b.*({_MISSING})|({_MISSING}).*\bcolumns?\b"),
    (
        "table_not_found",
        rf"\b(table|object|relation|view)\b.*({_MISSING})|({_MISSING}).*\b(table|object|relation|view)\b",
    ),
    ("timeout", r"time ?out|timed out|exceeded|stopped after|canceling statement|interrupted"),
    ("connection", r"connect|network|unreachable|server closed"),
)
_WORDS: tuple[tuple[ErrorKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for kind, pattern in _PATTERNS
)
_TYPE_BEFORE_SYNTAX = re.compile(r"invalid input syntax", re.IGNORECASE)

_ABOUT: dict[ErrorKind, tuple[str, Confidence, str]] = {
    "syntax_error": (
        "The query is not valid SQL",
        "medium",
        "Check keywords, commas, quotes and parentheses near the place named; send one statement.",
    ),
    "table_not_found": (
        "The query names a table that does not exist",
        "high",
        "List the tables and use one of them, spelled exactly so.",
    ),
    "column_not_found": (
        "The query names a column that does not exist",
        "high",
        "Describe the tables of the query and use their columns, spelled exactly so.",
    ),
    "function_not_found": (
        "The query calls a function that this database does not have with these arguments",
        "high",
        "Use a function of this database's dialect, and check the number and types of its arguments.",
    ),
    "ambiguous_column": (
        "A column's name belongs to more than one table of the query",
        "high",
        "Write the table's alias before the column.",
    ),
    "type_mismatch": (
        "Values of types that do not go together",
        "medium",
        "Compare like with like, or CAST one side.",
    ),
    "grouping_error": (
        "Aggregates and plain columns are mixed",
        "medium",
        "Put every column that is not aggregated into GROUP BY; conditions on aggregates go into HAVING.",
    ),
    "permission_denied": (
        "The query is not allowed here",
        "high",
        "Do not try to get around this: use what is allowed, or say that it cannot be done.",
    ),
    "timeout": (
        "The query took too long",
        "medium",
        "Narrow the query: filter with WHERE, aggregate, or add a LIMIT.",
    ),
    "connection": ("The database cannot be reached", "medium", "Try again later, or answer without it."),
    "unknown": ("The query failed", "low", "Try a simpler query, and build it up step by step."),
}


def infer_error_type(code: str | int | None, message: str) -> ErrorKind:
    """The kind of a database's error: its ``code`` decides where it is known, else ``message``.

    Codes are SQLSTATEs (PostgreSQL, ODBC), SQLite's names, the numbers of MySQL and Teradata, and
    this package's own.
    """
    return _by_code(_text(code)) or _by_words(message)


def _text(code: str | int | None) -> str:
    return "" if code is None else str(code).strip()


def _by_code(code: str) -> ErrorKind | None:
    kind = _CODES.get(code) or _CODES.get(code.upper())
    if kind is not None or not code:
        return kind
    if code.startswith("SQLITE_"):  # an extended code begins with its plain one
        return _CODES.get("_".join(code.split("_")[:2]))
    # An SQLSTATE of class 08: connection exceptions.
    return "connection" if re.fullmatch(r"08[0-9A-Z]{3}", code) else None


def _by_words(message: str) -> ErrorKind:
    if _TYPE_BEFORE_SYNTAX.search(message):
        return "type_mismatch"
    for kind, pattern in _WORDS:
        if pattern.search(message):
            return kind
    return "unknown"


def classify_error(error: BaseException | None) -> ErrorKind | Literal["success"]:
    """The kind of an exception; ``success`` where there is none."""
    if error is None:
        return "success"
    message = error.message if isinstance(error, LoomError) else str(error)
    for code in _codes(error):
        if (kind := _by_code(code)) is not None:
            return kind
    kind = _by_words(message)
    if kind == "unknown" and isinstance(error, LoomError) and error.code == "query_refused":
        return "permission_denied"
    return kind


def _codes(error: BaseException) -> Iterator[str]:
    """The codes an error carries, the driver's before the error's own."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            break
        for thing in (getattr(cause, "orig", None), cause):
            for name in ("sqlstate", "pgcode", "sqlite_errorname"):
                found = getattr(thing, name, None)
                if isinstance(found, str) and found:
                    yield found
        cause = cause.__cause__
    if isinstance(error, LoomError):
        yield error.code


def analyze_error(error: BaseException | tuple[str | int | None, str]) -> ErrorAnalysis:
    """What a failure means and what to do: of an exception, or of a database's code and message."""
    if isinstance(error, tuple):
        code, message = _text(error[0]), error[1]
        return _analysis(infer_error_type(code, message), code, message)
    kind = classify_error(error)
    assert kind != "success"
    message = error.message if isinstance(error, LoomError) else str(error)
    hint = error.hint if isinstance(error, LoomError) else None
    return _analysis(kind, next(_codes(error), ""), message or type(error).__name__, hint)


def _analysis(kind: ErrorKind, code: str, message: str, hint: str | None = None) -> ErrorAnalysis:
    what, confidence, advice = _ABOUT[kind]
    summary = f"{what}: {message.strip()}"
    return ErrorAnalysis(kind, summary, (hint or advice,), confidence, code)
