"""What failed in a chat since its last query that succeeded. Values only: a record never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from loom_py.guardrails.analysis import Confidence, ErrorAnalysis

__all__ = ["Attempt", "Correction", "ErrorRecord", "Records", "shortened"]

KEPT = 20
"""Attempts a record keeps; older ones are only counted."""
MAX_SQL = 4_000
"""Characters of a query's text that are kept."""
SHOWN_SQL = 400
"""Characters of each earlier query that a model is shown."""
SHOWN = 5
"""Earlier queries that a model is shown."""


def shortened(text: str, limit: int) -> str:
    """``text``, cut after ``limit`` characters with a mark."""
    return text if len(text) <= limit else f"{text[:limit]}…"


@dataclass(frozen=True, slots=True)
class Attempt:
    """A query that failed.

    Attributes:
        sql: its text, the first `MAX_SQL` characters.
        message: what was wrong with it.
        analysis: what that means.
        time: when, in seconds since 1970.
        key: what makes it the same query as another.
    """

    sql: str
    message: str
    analysis: ErrorAnalysis
    time: float
    key: str = field(default="", repr=False)

    @property
    def code(self) -> str:
        """The database's error code, where there was one."""
        return self.analysis.code


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """The failures of a chat in a row: ``count`` of them, the last `KEPT` with their queries."""

    chat: str
    count: int
    attempts: tuple[Attempt, ...]

    @property
    def latest(self) -> Attempt:
        """The last one that failed."""
        return self.attempts[-1]

    @property
    def sql(self) -> str:
        """The query that failed last."""
        return self.latest.sql

    @property
    def analysis(self) -> ErrorAnalysis:
        """What was wrong with the query that failed last."""
        return self.latest.analysis

    @property
    def previous_attempts(self) -> tuple[str, ...]:
        """The queries that failed, oldest first."""
        return tuple(attempt.sql for attempt in self.attempts)

    def find(self, key: str) -> Attempt | None:
        """The failed attempt of that key."""
        return next((attempt for attempt in self.attempts if attempt.key == key), None)


@dataclass(frozen=True, slots=True)
class Correction:
    """What a model is told of a query that failed.

    Attributes:
        sql: the query.
        analysis: what was wrong.
        attempt: the how-manieth failure in a row this is.
        limit: how many there may be.
        previous: the queries that failed before it, oldest first.
    """

    sql: str
    analysis: ErrorAnalysis
    attempt: int
    limit: int
    previous: tuple[str, ...] = ()

    @property
    def final(self) -> bool:
        """Whether it was the last one: nothing more is run."""
        return self.attempt >= self.limit

    @property
    def confidence(self) -> Confidence:
        """How sure the analysis is."""
        return self.analysis.confidence

    @property
    def explanation(self) -> str:
        """The failure's place in the row, and what has failed before it."""
        where = f"failed attempt {self.attempt} of {self.limit} in a row"
        kind = "" if self.analysis.kind == "unknown" else f" ({self.analysis.kind})"
        lines = [self.analysis.summary, f"This is {where}{kind}."]
        mine = _on_a_line(self.sql)
        others = dict.fromkeys(map(_on_a_line, self.previous))
        earlier = [query for query in others if query != mine][-SHOWN:]
        if earlier and not self.final:
            lines.append("These failed before; do not send them again:")
            lines += [f"- {shortened(query, SHOWN_SQL)}" for query in earlier]
        return "\n".join(lines)

    @property
    def advice(self) -> str:
        """What the model is to do now."""
        if self.final:
            return STOP
        return "\n".join(self.analysis.suggestions)


def _on_a_line(sql: str) -> str:
    return " ".join(sql.split()).rstrip("; ")


STOP = (
    "No more queries are run in this chat. Stop querying: answer with what is known, "
    "and say what could not be found out."
)


class Records:
    """The records of the ``limit`` chats that failed last. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._records: OrderedDict[str, ErrorRecord] = OrderedDict()

    def get(self, chat: str) -> ErrorRecord | None:
        with self._lock:
            return self._records.get(chat)

    def add(self, chat: str, attempt: Attempt) -> ErrorRecord:
        """The chat's record with one more failure."""
        with self._lock:
            before = self._records.pop(chat, None)
            count, attempts = (0, ()) if before is None else (before.count, before.attempts)
            record = ErrorRecord(chat, count + 1, (*attempts, attempt)[-KEPT:])
            self._records[chat] = record
            if len(self._records) > self._limit:
                self._records.popitem(last=False)
            return record

    def clear(self, chat: str) -> None:
        with self._lock:
            self._records.pop(chat, None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._records)
