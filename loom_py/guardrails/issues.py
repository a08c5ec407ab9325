"""What a check finds in a query, and what a check is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from loom_py.errors import BackendError, ConfigError

__all__ = ["Issue", "Severity", "Validate", "Validator", "as_validator", "issues_of"]

Severity: TypeAlias = Literal["error", "warning", "info"]
_SEVERITIES = ("error", "warning", "info")
_LABELS = {"error": "Error", "warning": "Warning", "info": "Note"}


@dataclass(frozen=True, slots=True)
class Issue:
    """Something a check found in a query.

    Attributes:
        severity: an ``error`` stops the query; a ``warning`` or an ``info`` is told with its result.
        message: what is wrong.
        suggestion: what to do about it.
        line: where it is in the query, from 1.
        column: where its name ends in that line, from 1.

    Raises `ConfigError` for another severity.
    """

    severity: Severity
    message: str
    suggestion: str | None = None
    line: int | None = None
    column: int | None = None

    def __post_init__(self) -> None:
        if self.severity not in _SEVERITIES:
            raise ConfigError(
                f"the severity of an issue must be one of {', '.join(_SEVERITIES)}, not {self.severity!r}",
                field="severity",
            )

    @property
    def place(self) -> str:
        """Where it is, in words; empty where that is not known."""
        if self.line is None:
            return ""
        return f"line {self.line}" + ("" if self.column is None else f", column {self.column}")

    def to_text(self) -> str:
        """One line that a model reads: ``Warning: … Did you mean …?``"""
        place = f" ({self.place})" if self.place else ""
        what = f"{_LABELS[self.severity]}: {self.message}{place}"
        return f"{what}. {self.suggestion}" if self.suggestion else what


@runtime_checkable
class Validator(Protocol):
    """A check of one's own, asked before every query. It runs in the thread of the query."""

    @property
    def name(self) -> str:
        """What to call the check in errors."""
        ...

    def validate(self, sql: str, /) -> Iterable[Issue] | None:
        """What is wrong with ``sql``; nothing, or ``None``, if it is fine."""
        ...


Validate: TypeAlias = Callable[[str], Iterable[Issue] | None]
"""A validator that is a plain function; a generator function will do."""


@dataclass(frozen=True, slots=True)
class _Function:
    """A plain function as a `Validator`."""

    name: str
    function: Validate

    def validate(self, sql: str, /) -> Iterable[Issue] | None:
        return self.function(sql)


def as_validator(check: Validator | Validate) -> Validator:
    """``check`` as a `Validator`. Raises `ConfigError` for what is none."""
    problem: str | None = None
    validate: Any = getattr(check, "validate", None)
    if isinstance(check, type):
        problem = f"{check.__name__} is a class; give an object of it"
    elif inspect.iscoroutinefunction(validate or check):
        problem = f"{_name(check)} is async; a check must answer at once"
    elif isinstance(check, Validator) and callable(validate):
        return check
    elif callable(check):
        return _Function(_name(check), check)
    raise ConfigError(
        problem or f"{check!r} is no validator",
        field="guardrails",
        hint="Give a function of the SQL text, or an object with name and validate(sql).",
    )


def _name(check: object) -> str:
    return str(getattr(check, "__name__", None) or type(check).__name__)


def issues_of(validator: Validator, sql: str) -> tuple[Issue, ...]:
    """What ``validator`` finds in ``sql``.

    Raises `BackendError` if it breaks: a query that cannot be checked is not run.
    """
    try:
        found = validator.validate(sql)
        issues = () if found is None else tuple(found)
        for issue in issues:
            if not isinstance(issue, Issue):
                raise TypeError(f"it gave {type(issue).__name__}, not Issue")
    except Exception as exc:
        raise BackendError(
            f"the query was not run: its check {validator.name!r} failed ({type(exc).__name__}: {exc})",
            code="guardrail_failed",
            hint="The check is broken, not the query; tell the user.",
        ) from exc
    return issues
