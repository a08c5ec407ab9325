"""One try of a model call: everything it holds while it is under way, and gives back when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from loom_py._concurrency import running_loop, worker_threads
from loom_py.errors import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.messages import Response
from loom_py.options import ChatOptions
from loom_py.resilience.lanes import Lane

if TYPE_CHECKING:
    from loom_py.resilience.breaker import Permit
    from loom_py.resilience.budget import Budget, Reservation
    from loom_py.resilience.limiter import Ticket
    from loom_py.resilience.shared import BudgetClaim

__all__ = ["Attempt", "Outcome", "counts_as_failure", "end_soon", "wants_attention", "was_billed"]

FAILURES = (ServiceUnavailableError, RequestTimeoutError, StreamInterruptedError, MalformedResponseError)
"""What says that a deployment is sick. Throttling, refusals and the caller's mistakes do not."""

MISCONFIGURED = (AuthenticationError, PermissionDeniedError, NotFoundError)
"""What no waiting mends: someone must look at the deployment."""

REFUSALS = (*MISCONFIGURED, InvalidRequestError, RateLimitError, ServiceUnavailableError)
"""What a server says instead of an answer, without asking the model."""

OUT_SECONDS = 300.0
"""How long a deployment that needs attention is left alone; roles take about 5 minutes to take effect
(Microsoft's documentation of Azure role assignments)."""

Outcome: TypeAlias = Literal["success", "failure", "neutral", "take_out"]


def counts_as_failure(error: BaseException) -> bool:
    """Whether ``error`` counts against the deployment's circuit breaker.

    A `ProviderError` of no particular kind does: nothing says that it was the caller's fault.
    """
    return isinstance(error, FAILURES) or type(error) is ProviderError


def wants_attention(error: BaseException) -> bool:
    """Whether ``error`` says that the deployment is set up wrongly (401, 403, 404), or out of credit."""
    is_broke = isinstance(error, RateLimitError) and error.kind == "credit"
    return is_broke or isinstance(error, MISCONFIGURED)


def was_billed(error: BaseException) -> bool | None:
    """Whether the failed call may have cost something; ``None`` where nobody can know.

    Azure does not bill what it refuses. What timed out or broke off may have been answered all the same.
    """
    if isinstance(error, LoomError) and error.tokens_used:
        return True
    if isinstance(error, ProviderError) and not error.sent:
        return False
    if isinstance(error, ConnectionFailedError):
        return None
    return False if isinstance(error, REFUSALS) else None


def end_soon(budget: Budget, end: Callable[[], None]) -> None:
    """End a reservation from where nothing can be awaited: no event loop is to wait for a disk."""
    if budget.blocks and running_loop() is not None:
        worker_threads().submit(end)
    else:
        end()


@dataclass(slots=True)
class Attempt:
    """One try on its way. Times are on the gateway's clock, in seconds.

    ``output_limit`` is the most tokens that its reply may have, as far as the provider tells. ``entered`` is
    its permit in the shared state, and ``is_alone`` says that it goes without one, as that is away.
    """

    lane: Lane
    options: ChatOptions | None
    output_limit: int | None = None
    waited: float = 0.0
    started: float = 0.0
    shown: bool = False
    may_restart: bool = False
    may_wait: bool = True
    discarded: list[str] = field(default_factory=list)
    permit: Permit | None = None
    ticket: Ticket | None = None
    bill: list[tuple[Budget, Reservation]] = field(default_factory=list)
    worst: list[tuple[Decimal | None, int]] = field(default_factory=list)
    accounts: dict[tuple[str, str], Budget] = field(default_factory=dict)
    claims: tuple[BudgetClaim, ...] = ()
    entered: str | None = None
    is_alone: bool = False
    restored: bool = False
    warning: tuple[int, int] | None = None
    over: bool = False

    def begin(self, now: float) -> None:
        """The request goes out."""
        self.started = now
        self.lane.begin()

    def hold(self, budget: Budget, reservation: Reservation) -> Reservation:
        """Money was set aside for it; if it is over by now, it is given back."""
        self.bill.append((budget, reservation))
        if self.over:
            end_soon(budget, reservation.release)
        return reservation

    def abandon(self) -> None:
        """Nothing was sent: give everything back."""
        if self.over:
            return
        self.over = True
        if self.permit is not None:
            self.permit.neutral()
        if self.ticket is not None:
            self.ticket.release()
        for budget, reservation in self.bill:
            end_soon(budget, reservation.release)

    def succeeded(self, response: Response) -> None:
        """The answer is there. The bill is still to be settled."""
        self.over = True
        lane = self.lane
        lane.end()
        if self.permit is not None:
            self.restored = bool(self.permit.success())
        lane.throttle.success()
        if self.ticket is not None:
            self.warning = self.ticket.settle(response.tokens_used.total or None, response.metadata)

    def failed(self, error: LoomError, *, is_late: bool = False) -> Outcome:
        """The try failed; what it says of the deployment. The bill is still to be settled.

        ``is_late`` says that the caller's own deadline cut it off, which says nothing.
        """
        self.over = True
        self.lane.end()
        outcome = self._tell_breaker(error, is_late)
        if self.ticket is not None:
            if isinstance(error, RateLimitError) or not getattr(error, "sent", True):
                self.ticket.release()
            else:  # what a server fails at, or dislikes, counts in its quota all the same
                self.ticket.settle(error.tokens_used.total if error.tokens_used else None)
        return outcome

    def cancelled(self) -> None:
        """The caller went away: that says nothing of the deployment, and it may be billed all the same."""
        if self.over:
            return
        self.over = True
        self.lane.end()
        if self.permit is not None:
            self.permit.neutral()
        if self.ticket is not None:
            self.ticket.settle(None)
        for budget, reservation in self.bill:
            end_soon(budget, reservation.uncertain)

    def _tell_breaker(self, error: LoomError, is_late: bool) -> Outcome:
        outcome: Outcome = "neutral"
        if wants_attention(error):
            outcome = "take_out"
        elif counts_as_failure(error) and not is_late:
            outcome = "failure"
        permit = self.permit
        if permit is None:
            return outcome
        if outcome == "take_out":
            status = f"{error.http_status} " if error.http_status else ""
            if not permit.take_out(OUT_SECONDS, f"{status}{error.code}: {error.message}"):
                return "neutral"  # another call has said so already
        elif outcome == "failure":
            permit.failure()
        else:
            permit.neutral()
        return outcome

    def fields(self) -> dict[str, Any]:
        """What log events say of it."""
        found: dict[str, Any] = {"deployment": self.lane.provider.model}
        if self.waited > 0:
            found["waited_ms"] = round(self.waited * 1000, 1)
        return found
