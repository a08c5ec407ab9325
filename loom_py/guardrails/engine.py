"""`Guardrails`: checks before a query, analysis after its failure, and a bound on the corrections."""

from __future__ import annotations

import copy
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, runtime_checkable

from loom_py._chat import chat_id
from loom_py.errors import BackendError, ConfigError, GuardrailError, QueryError, QueryRefusedError
from loom_py.guardrails.analysis import ErrorAnalysis, analyze_error
from loom_py.guardrails.events import CorrectionsExhausted, QueryCorrected
from loom_py.guardrails.issues import Issue, Validate, Validator, as_validator, issues_of
from loom_py.guardrails.records import (
    MAX_SQL,
    STOP,
    Attempt,
    Correction,
    ErrorRecord,
    Records,
    shortened,
)
from loom_py.resilience.events import Emit, log_event

__all__ = ["ChecksQueries", "Guardrails"]

_Error = TypeVar("_Error", bound=BackendError)
_QUOTED = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\[[^\]]*\]|--[^\n]*(?:\n|$)|\$\w*\$)""")
_SPACE = re.compile(r"\s+")


@runtime_checkable
class ChecksQueries(Protocol):
    """A backend that knows something of its queries. Both methods must be quick, and run nothing."""

    def check_query(self, query: str, /) -> Sequence[Issue]:
        """What is surely wrong with ``query``, and what looks odd. When in doubt: nothing."""
        ...

    def correction_hints(self, query: str, analysis: ErrorAnalysis, /) -> Sequence[str]:
        """What helps to mend ``query``, which failed so: the columns of its tables, and the like."""
        ...


class Guardrails:
    """Checks queries before they run, and tells the model what to do when one fails.

    ::

        def no_star(sql: str) -> Iterable[Issue]:
            if "*" in sql:
                yield Issue("warning", "SELECT * reads every column", "Name the columns.")

        guardrails = Guardrails([no_star])

    One engine serves any number of chats and threads. What it remembers is by chat: the failures in
    a row, at most of ``max_chats`` chats, forgotten when a query succeeds. Code that runs outside of
    a chat counts as one chat per thread.

    Args:
        validators: checks of one's own, asked in this order before every query.
        max_corrections: failed queries in a row that one chat may have; after that nothing is run
            in it any more, and the model is told to answer with what it has.
        check_names: ask the backend, too: a SQL backend looks for tables and columns that do not exist.
        max_chats: chats whose failures are remembered.
        clock: seconds since 1970, for the times in the records.
        emit: told of every decision.

    Raises `ConfigError` for a number below 1, and for what is no validator.
    """

    def __init__(
        self,
        validators: Iterable[Validator | Validate] = (),
        *,
        max_corrections: int = 3,
        check_names: bool = True,
        max_chats: int = 1_000,
        clock: Callable[[], float] = time.time,
        emit: Emit = log_event,
    ) -> None:
        for field, number in (("max_corrections", max_corrections), ("max_chats", max_chats)):
            if type(number) is not int or number < 1:
                raise ConfigError(f"{field} must be a whole number from 1, not {number!r}", field=field)
        self.max_corrections = max_corrections
        self.check_names = check_names
        self._validators = tuple(as_validator(check) for check in validators)
        self._clock = clock
        self._emit = emit
        self._records = Records(max_chats)
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._numbers = itertools.count(1)

    @property
    def validators(self) -> tuple[Validator, ...]:
        """The checks, in the order in which they are asked."""
        return self._validators

    def register(self, validator: Validator | Validate) -> None:
        """Add a check, asked after the others. Raises `ConfigError` for what is none."""
        made = as_validator(validator)
        with self._lock:
            self._validators = (*self._validators, made)

    # ── before a query ──

    def preflight(self, sql: str, *, backend: Any = None) -> tuple[Issue, ...]:
        """What the checks find in ``sql``: those registered, in order, then the backend's own.

        Nothing is run. Raises `BackendError` if a registered check breaks.
        """
        found = [issue for validator in self._validators for issue in issues_of(validator, sql)]
        if self.check_names and isinstance(backend, ChecksQueries):
            found += backend.check_query(sql)
        return tuple(found)

    # ── after a failure ──

    def analyze(self, error: BaseException | tuple[str | int | None, str]) -> ErrorAnalysis:
        """What a failure means and what to do: of an exception, or of a database's code and message."""
        return analyze_error(error)

    def handle_error(
        self,
        sql: str,
        error: BaseException | ErrorAnalysis | tuple[str | int | None, str],
        *,
        chat: str | None = None,
        backend: Any = None,
    ) -> Correction:
        """Remember that ``sql`` failed; what to tell the model of it.

        ``chat`` is the running one unless given. ``backend`` adds what it knows to the suggestions.
        """
        return self._failed(sql, error, chat=self._chat(chat), key="", backend=backend, ran=True)

    def record(self, chat: str | None = None) -> ErrorRecord | None:
        """The failures in a row of ``chat`` (the running one unless given); ``None`` without any."""
        return self._records.get(self._chat(chat))

    def clear(self, chat: str | None = None) -> None:
        """Forget the failures of ``chat`` (the running one unless given); its queries run again."""
        self._records.clear(self._chat(chat))

    # ── around a query ──

    def run(self, sql: str, execute: Callable[[], str], *, backend: Any = None, source: str = "") -> str:
        """What ``execute`` gives for ``sql``, with the warnings behind it.

        A query is not run if a check finds an error, if the same one (same text and ``source``)
        has failed in this chat since its last success, or if the chat has no corrections left: then
        `GuardrailError` is raised. A `QueryError` or `QueryRefusedError` of ``execute`` is raised
        anew with the analysis in its message and the suggestions as its hint; one that is
        ``retryable`` is nobody's mistake and passes as it is, as do all other errors.
        """
        chat, key = self._chat(None), f"{source}\n{_normal(sql)}"
        self._refuse_early(sql, chat, key, backend)
        issues = self.preflight(sql, backend=backend)
        errors = [issue for issue in issues if issue.severity == "error"]
        if errors:
            raise self._stopped(sql, _analysis_of(errors), chat, key, backend)
        try:
            text = execute()
        except (QueryError, QueryRefusedError) as exc:
            if exc.retryable:
                raise
            correction = self._failed(sql, exc, chat=chat, key=key, backend=backend, ran=True)
            raise _told(exc, correction) from exc
        self._records.clear(chat)
        return "\n".join([text, *(issue.to_text() for issue in issues)])

    def _refuse_early(self, sql: str, chat: str, key: str, backend: Any) -> None:
        """Raise for a chat that has no corrections left, and for a query that has failed already."""
        record = self._records.get(chat)
        if record is None:
            return
        if record.count >= self.max_corrections:
            raise GuardrailError(
                f"the query was not run: {record.count} queries in a row have failed in this chat", hint=STOP
            )
        before = record.find(key)
        if before is not None:
            again = f"this same query has failed already: {before.message}"
            raise self._stopped(sql, replace(before.analysis, summary=again), chat, key, backend)

    def _stopped(
        self, sql: str, analysis: ErrorAnalysis, chat: str, key: str, backend: Any
    ) -> GuardrailError:
        correction = self._failed(sql, analysis, chat=chat, key=key, backend=backend, ran=False)
        return GuardrailError(f"the query was not run: {correction.explanation}", hint=correction.advice)

    def _failed(
        self,
        sql: str,
        error: BaseException | ErrorAnalysis | tuple[str | int | None, str],
        *,
        chat: str,
        key: str,
        backend: Any,
        ran: bool,
    ) -> Correction:
        analysis = error if isinstance(error, ErrorAnalysis) else self.analyze(error)
        if ran and isinstance(backend, ChecksQueries):
            hints = (*analysis.suggestions, *backend.correction_hints(sql, analysis))
            analysis = replace(analysis, suggestions=tuple(dict.fromkeys(hints)))
        kept = shortened(sql, MAX_SQL)
        attempt = Attempt(kept, _message(error), analysis, self._clock(), key)
        record = self._records.add(chat, attempt)
        self._tell(record, analysis, chat, backend, ran=ran)
        previous = record.previous_attempts[:-1]
        return Correction(kept, analysis, record.count, self.max_corrections, previous)

    def _tell(
        self, record: ErrorRecord, analysis: ErrorAnalysis, chat: str, backend: Any, *, ran: bool
    ) -> None:
        name = str(getattr(backend, "name", "") or "")
        self._emit(QueryCorrected(name, analysis.kind, record.count, ran, chat))
        if record.count == self.max_corrections:
            self._emit(CorrectionsExhausted(name, record.count, chat))

    def _chat(self, chat: str | None) -> str:
        """The id of a chat: the one named, else the running one, else this thread's own."""
        known = chat if chat is not None else chat_id.get()
        if known is not None:
            return known
        mine: str | None = getattr(self._threads, "chat", None)
        if mine is None:
            mine = self._threads.chat = f"thread {next(self._numbers)}"
        return mine

    def __repr__(self) -> str:
        names = ", ".join(validator.name for validator in self._validators)
        return (
            f"Guardrails([{names}], max_corrections={self.max_corrections}, check_names={self.check_names})"
        )


def _analysis_of(errors: Sequence[Issue]) -> ErrorAnalysis:
    """What the checks found, as the analysis of a failure."""
    analysis = analyze_error((None, errors[0].message))
    places = [f"{issue.message} ({issue.place})" if issue.place else issue.message for issue in errors]
    hints = dict.fromkeys(issue.suggestion for issue in errors if issue.suggestion)
    return ErrorAnalysis(
        analysis.kind, "; ".join(places), tuple(hints) or analysis.suggestions, "high", "guardrail"
    )


def _message(error: BaseException | ErrorAnalysis | tuple[str | int | None, str]) -> str:
    if isinstance(error, ErrorAnalysis):
        return error.summary
    if isinstance(error, tuple):
        return error[1]
    return error.message if isinstance(error, BackendError) else str(error)


def _told(error: _Error, correction: Correction) -> _Error:
    """``error`` again, its class and code kept, saying what the model needs."""
    told = copy.copy(error)
    told.message = correction.explanation
    told.args = (told.message,)
    told.hint = correction.advice
    return told


def _normal(sql: str) -> str:
    """``sql`` without what makes no difference: white space outside of quotes, a last semicolon."""
    parts = _QUOTED.split(sql.strip().rstrip(";"))
    return "".join(part if index % 2 else _SPACE.sub(" ", part) for index, part in enumerate(parts)).strip()
