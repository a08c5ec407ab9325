"""What the guardrails decide, as events. None holds a query's text: that may hold people's data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from loom_py.resilience.events import PolicyEvent

__all__ = ["CorrectionsExhausted", "QueryCorrected"]


@dataclass(frozen=True, slots=True)
class QueryCorrected(PolicyEvent):
    """A query failed, or was stopped before it ran (``ran`` tells), and the model was told why."""

    name: ClassVar[str] = "query_corrected"
    backend: str
    kind: str
    attempt: int
    ran: bool
    chat: str | None = None


@dataclass(frozen=True, slots=True)
class CorrectionsExhausted(PolicyEvent):
    """A chat's queries failed ``attempts`` times in a row; no more are run in it."""

    name: ClassVar[str] = "corrections_exhausted"
    is_warning: ClassVar[bool] = True
    backend: str
    attempts: int
    chat: str | None = None
