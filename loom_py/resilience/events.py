"""What the policies decide, as events: one class each, logged and handed to whoever listens.

Every event has a stable ``name``, under which it is logged with its fields::

    def page_someone(event: PolicyEvent) -> None:
        if isinstance(event, DeploymentTakenOut):
            ...

    AgentBuilder().with_listener(page_someone)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, ClassVar, Literal, TypeAlias

from loom_py._log import get_logger

__all__ = [
    "BudgetExtended",
    "BudgetRefused",
    "BudgetWarning",
    "CallQueued",
    "CircuitChanged",
    "DeploymentRestored",
    "DeploymentTakenOut",
    "DeploymentThrottled",
    "Emit",
    "FailedOver",
    "HedgeStarted",
    "HedgeWon",
    "Listener",
    "PolicyEvent",
    "QuotaWarning",
    "RetryScheduled",
    "SharedStateLost",
    "SharedStateRestored",
    "ToolWithheld",
    "emitter",
    "log_event",
]

_log = get_logger()


@dataclass(frozen=True, slots=True)
class PolicyEvent:
    """Something a policy decided, or noticed. Times are in seconds, money in USD."""

    name: ClassVar[str] = ""
    is_warning: ClassVar[bool] = False

    @property
    def level(self) -> Literal["info", "warning"]:
        """How loudly it is logged."""
        return "warning" if self.is_warning else "info"

    def fields(self) -> dict[str, Any]:
        """The event's fields as they are logged: money as text, what is not known left out."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: f"{value:f}" if isinstance(value, Decimal) else value
            for name, value in found.items()
            if value is not None
        }


Listener: TypeAlias = Callable[[PolicyEvent], object]
Emit: TypeAlias = Callable[[PolicyEvent], None]


@dataclass(frozen=True, slots=True)
class RetryScheduled(PolicyEvent):
    """A model call failed and is tried again after ``wait_seconds``; ``attempt`` counts from 1."""

    name: ClassVar[str] = "retry_scheduled"
    is_warning: ClassVar[bool] = True
    deployment: str
    attempt: int
    wait_seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class CircuitChanged(PolicyEvent):
    """A circuit breaker changed its state."""

    name: ClassVar[str] = "circuit_breaker"
    breaker: str
    before: str
    after: str
    failures: int
    open_seconds: float | None = None
    reason: str | None = None

    @property
    def level(self) -> Literal["info", "warning"]:
        return "warning" if self.after == "open" else "info"


@dataclass(frozen=True, slots=True)
class DeploymentThrottled(PolicyEvent):
    """A deployment said that it has enough (429): all calls to it wait for ``seconds``."""

    name: ClassVar[str] = "deployment_throttled"
    is_warning: ClassVar[bool] = True
    deployment: str
    seconds: float
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentTakenOut(PolicyEvent):
    """A deployment refused for a reason that waiting does not mend (401, 403, 404). Someone must look."""

    name: ClassVar[str] = "deployment_taken_out"
    is_warning: ClassVar[bool] = True
    deployment: str
    error: str
    http_status: int | None
    seconds: float
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class DeploymentRestored(PolicyEvent):
    """A deployment that was taken out answers again."""

    name: ClassVar[str] = "deployment_restored"
    deployment: str


@dataclass(frozen=True, slots=True)
class FailedOver(PolicyEvent):
    """A call goes to another deployment than the one it was meant for."""

    name: ClassVar[str] = "failed_over"
    is_warning: ClassVar[bool] = True
    deployment: str
    to: str
    reason: str


@dataclass(frozen=True, slots=True)
class HedgeStarted(PolicyEvent):
    """A call was slow to begin, and a second deployment was asked as well."""

    name: ClassVar[str] = "hedge_started"
    deployment: str
    to: str
    after_seconds: float


@dataclass(frozen=True, slots=True)
class HedgeWon(PolicyEvent):
    """Of the two that were asked, this deployment answered first."""

    name: ClassVar[str] = "hedge_won"
    deployment: str
    over: str


@dataclass(frozen=True, slots=True)
class CallQueued(PolicyEvent):
    """A call waits for the rate limit: about ``wait_seconds``, behind ``ahead`` others."""

    name: ClassVar[str] = "call_queued"
    deployment: str
    tokens: int
    ahead: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class QuotaWarning(PolicyEvent):
    """The tokens of the last minute come near to the quota. At most one a minute."""

    name: ClassVar[str] = "token_quota_warning"
    is_warning: ClassVar[bool] = True
    deployment: str
    tokens_per_minute: int
    quota: int
    usage_pct: float


@dataclass(frozen=True, slots=True)
class BudgetWarning(PolicyEvent):
    """A budget has passed its soft threshold. ``unit`` is ``"usd"`` or ``"tokens"``."""

    name: ClassVar[str] = "budget_warning"
    is_warning: ClassVar[bool] = True
    scope: str
    unit: str
    spent: Decimal
    reserved: Decimal
    limit: Decimal


@dataclass(frozen=True, slots=True)
class BudgetExtended(PolicyEvent):
    """Whoever was asked approved more."""

    name: ClassVar[str] = "budget_extended"
    scope: str
    unit: str
    by: Decimal
    limit: Decimal


@dataclass(frozen=True, slots=True)
class BudgetRefused(PolicyEvent):
    """A call was not sent, for it might have spent more than the budget has left."""

    name: ClassVar[str] = "budget_refused"
    is_warning: ClassVar[bool] = True
    scope: str
    unit: str
    spent: Decimal
    reserved: Decimal
    needed: Decimal
    limit: Decimal


@dataclass(frozen=True, slots=True)
class ToolWithheld(PolicyEvent):
    """A tool whose breaker is open is not offered to the model for now."""

    name: ClassVar[str] = "tool_withheld"
    is_warning: ClassVar[bool] = True
    tool: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class SharedStateLost(PolicyEvent):
    """The shared state cannot be reached: this process goes on with ``share`` of every limit."""

    name: ClassVar[str] = "shared_state_lost"
    is_warning: ClassVar[bool] = True
    reason: str
    share: float


@dataclass(frozen=True, slots=True)
class SharedStateRestored(PolicyEvent):
    """The shared state can be reached again."""

    name: ClassVar[str] = "shared_state_restored"
    away_seconds: float


def log_event(event: PolicyEvent) -> None:
    """Log ``event`` under its name."""
    emit = _log.warning if event.level == "warning" else _log.info
    emit(event.name, **event.fields())


def emitter(listeners: Iterable[Listener] = ()) -> Emit:
    """What logs an event and then tells ``listeners``; one that raises is logged, and no more."""
    told = tuple(listeners)
    if not told:
        return log_event

    def emit(event: PolicyEvent) -> None:
        log_event(event)
        for listener in told:
            try:
                listener(event)
            except Exception as exc:  # noqa: BLE001 - a listener must not harm the call it hears of
                _log.warning("listener_failed", policy_event=event.name, error=f"{type(exc).__name__}: {exc}")

    return emit
