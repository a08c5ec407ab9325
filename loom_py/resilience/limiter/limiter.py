"""The limiter: who may go, in which order, and who must be woken."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias

from loom_py.clock import Signal
from loom_py.errors import ConfigError, QueueError, QueueFullError, QueueTimeoutError
from loom_py.resilience.limiter.config import LimiterStats, RateLimitConfig
from loom_py.resilience.limiter.quotas import Quotas, Reservation
from loom_py.resilience.limiter.window import INSTANT, WINDOW

__all__ = ["RateLimiter", "Ticket"]

State: TypeAlias = Literal["queued", "granted", "sent", "timed out", "ended"]

NO_HEADERS: Mapping[str, Any] = {}
HINT = "Lower the concurrency, raise the quota, or let more calls wait for longer."


class Ticket(Reservation):
    """One call's place in the queue, and then its part of the quota.

    It is ended by `settle` or `release`, once; what comes after is ignored. ``tokens`` is the estimate it
    came with. Lower numbers of ``priority`` go first.
    """

    __slots__ = (
        "_asks_at",
        "_deadline",
        "_entered",
        "_limiter",
        "_sequence",
        "_signal",
        "_state",
        "priority",
    )

    def __init__(
        self, limiter: RateLimiter, tokens: int, priority: int, sequence: int, entered: float, deadline: float
    ) -> None:
        super().__init__(tokens)
        self.priority = priority
        self._limiter = limiter
        self._sequence = sequence
        self._entered = entered
        self._deadline = deadline
        self._state: State = "queued"
        self._asks_at = -math.inf  # when it asks again; who has just come does so by itself
        self._signal: Signal | None = None

    def __repr__(self) -> str:
        return f"Ticket({self.tokens} tokens, priority={self.priority}, {self._state})"

    def __lt__(self, other: Ticket) -> bool:
        return (self.priority, self._sequence) < (other.priority, other._sequence)

    @property
    def ahead(self) -> int:
        """How many calls go before this one."""
        return self._limiter._ahead_of(self)

    @property
    def signal(self) -> Signal:
        """Set when the call may go, or should ask again; then `wait` puts a fresh one in its place."""
        signal = self._signal
        return signal if signal is not None else self._limiter._signal_of(self)

    def wait(self) -> float:
        """0.0 when the call may go: its part of the quota is reserved, and it is to be sent at once.

        Else the seconds to sleep before asking again, no more than the call may still wait;
        ``math.inf`` where only `signal` can tell. Raises `QueueTimeoutError` when it has waited too long,
        and `QueueError` after it has left the queue.
        """
        return self._limiter._wait(self)

    def settle(self, tokens: int | None, headers: Mapping[str, Any] = NO_HEADERS) -> tuple[int, int] | None:
        """The call is over and used ``tokens``; ``None`` where that is not known keeps the estimate.

        ``headers`` are ``limit_tokens``, ``remaining_tokens``, ``limit_requests`` and
        ``remaining_requests``, as numbers or text; what is absent or makes no sense is passed over.
        Returns the tokens of the last minute and the quota when they come near to it, at most once a minute.
        """
        return self._limiter._settle(self, tokens, headers)

    def release(self) -> None:
        """Nothing was used: it was not sent, did not arrive, or was refused. Leaves the queue, too."""
        self._limiter._release(self)


class RateLimiter:
    """The quota of one deployment, shared by all that call it. Safe for threads and tasks.

    Only the head of the queue is given a time to wait. Whatever makes room grants as many as fit, in
    order, and sets their signals; it also wakes a head that may go sooner than it was told.

    Args:
        config: the quota and the queue's bounds.
        clock: seconds that never run backwards.
    """

    def __init__(self, config: RateLimitConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._quotas = Quotas(config)
        self._queue: list[Ticket] = []
        self._queued = 0
        self._sequence = 0
        self._warned = -math.inf
        self._longest = math.inf if config.queue_timeout is None else config.queue_timeout

    def __repr__(self) -> str:
        return f"RateLimiter({self._limits()})"

    def enter(self, tokens: int, *, priority: int = 0, timeout: float | None = None) -> Ticket:
        """A place in the queue for a call of about ``tokens`` tokens.

        ``priority``: lower numbers go first. ``timeout``, in seconds, shortens the configured one. Raises
        `QueueFullError` where the call would have to wait and as many as may wait do so already.
        """
        longest = self._longest if timeout is None else min(self._longest, timeout)
        woken: list[Ticket] = []
        try:
            with self._lock:
                now = self._now()
                if self._queue:
                    self._pump(now, woken)
                self._sequence += 1
                ticket = Ticket(self, max(0, tokens), priority, self._sequence, now, now + longest)
                head = self._head() if self._queue else None
                if (head is None or ticket < head) and self._quotas.fits(ticket.tokens, now):
                    self._grant(ticket, now)
                elif self._queued >= self.config.max_queue:
                    raise self._full(now)
                else:
                    heapq.heappush(self._queue, ticket)
                    self._queued += 1
                return ticket
        finally:
            if woken:
                _wake(woken)

    def start(self, tokens: int, *, priority: int = 0, timeout: float | None = None) -> tuple[Ticket, float]:
        """As `enter`, and `Ticket.wait` at once: the ticket, and the seconds to wait; 0.0 where it may go."""
        if not self._queue and tokens >= 0:
            with self._lock:
                now = self._now()
                if not self._queue and self._quotas.fits(tokens, now):
                    self._sequence += 1
                    ticket = Ticket(self, tokens, priority, self._sequence, now, now)
                    ticket._state = "sent"
                    self._quotas.start(ticket, now)
                    return ticket, 0.0
        ticket = self.enter(tokens, priority=priority, timeout=timeout)
        return ticket, ticket.wait()

    def scale(self, share: float) -> None:
        """Use only ``share`` of the quota, above 0 and at most 1; other processes have the rest.

        Raises `ConfigError` for another share.
        """
        if not 0 < share <= 1:
            raise ConfigError(
                f"the share of a quota must be above 0 and at most 1, not {share!r}", field="share"
            )
        woken: list[Ticket] = []
        with self._lock:
            self._quotas.scale(share)
            self._pump(self._now(), woken)
        _wake(woken)

    def stats(self) -> LimiterStats:
        """The state at this moment."""
        with self._lock:
            now = self._now()
            return self._quotas.stats(now, self._queued, self._next_free(now))

    def room(self) -> tuple[float, float]:
        """The free share of what is scarcest, and the seconds until the next call would go; as in `stats`."""
        with self._lock:
            now = self._now()
            share = self._quotas.remaining_share(now)
            if not self._queue and self._quotas.fits(1, now):
                return share, 0.0
            return share, self._next_free(now)

    def _next_free(self, now: float) -> float:
        """Seconds until the head of the queue goes, or a small call would."""
        head = self._head()
        return max(0.0, self._quotas.free_at(1 if head is None else head.tokens, now) - now)

    # ── what a ticket does ───────────────────────────────────────────────────────────────

    def _wait(self, ticket: Ticket) -> float:
        woken: list[Ticket] = []
        with self._lock:
            now = self._now()
            if ticket._state == "queued":
                seconds = self._ask(ticket, now, woken)
            elif ticket._state == "granted":
                seconds = self._send(ticket, now, woken)
            elif ticket._state == "sent" or ticket._sent is not None:
                seconds = 0.0
            else:
                seconds = -1.0
        if woken:
            _wake(woken)
        if seconds < 0:
            raise self._gone(ticket)
        return seconds

    def _ask(self, ticket: Ticket, now: float, woken: list[Ticket]) -> float:
        """How long one that waits has to; less than 0 where it has waited too long."""
        if ticket._signal is not None and ticket._signal.is_set:
            ticket._signal = None
        ticket._asks_at = -math.inf  # it is asking now
        self._pump(now, woken)
        if ticket._state == "granted":
            return self._send(ticket, now, woken)
        if ticket._state == "queued" and now >= ticket._deadline - INSTANT:
            self._leave(ticket, now, woken, "timed out")
        if ticket._state != "queued":
            return -1.0
        ticket._asks_at = self._quotas.free_at(ticket.tokens, now) if self._head() is ticket else math.inf
        return max(INSTANT, min(ticket._asks_at, ticket._deadline) - now)

    def _send(self, ticket: Ticket, now: float, woken: list[Ticket]) -> float:
        """The caller hears that it may go; what it holds expires from now on."""
        ticket._state = "sent"
        self._quotas.send(ticket, now)
        if self._queue:
            self._pump(now, woken)
        return 0.0

    def _settle(
        self, ticket: Ticket, tokens: int | None, headers: Mapping[str, Any]
    ) -> tuple[int, int] | None:
        woken: list[Ticket] = []
        warning = None
        with self._lock:
            now = self._now()
            if ticket._state == "queued":
                self._leave(ticket, now, woken)
            elif ticket._state in {"granted", "sent"}:
                if ticket._state == "granted":
                    self._send(ticket, now, woken)
                ticket._state = "ended"
                self._quotas.book(ticket, tokens, headers, now)
                warning = self._warning(now)
                if self._queue:
                    self._pump(now, woken)
        if woken:
            _wake(woken)
        return warning

    def _release(self, ticket: Ticket) -> None:
        woken: list[Ticket] = []
        with self._lock:
            now = self._now()
            if ticket._state == "queued":
                self._leave(ticket, now, woken)
            elif ticket._state in {"granted", "sent"}:
                ticket._state = "ended"
                self._quotas.give_back(ticket, now)
                self._pump(now, woken)
        _wake(woken)

    def _ahead_of(self, ticket: Ticket) -> int:
        with self._lock:
            if ticket._state != "queued":
                return 0
            return sum(other._state == "queued" and other < ticket for other in self._queue)

    def _signal_of(self, ticket: Ticket) -> Signal:
        with self._lock:
            if ticket._signal is None:
                ticket._signal = Signal()
                if ticket._state != "queued":
                    ticket._signal.set()
            return ticket._signal

    # ── under the lock ───────────────────────────────────────────────────────────────────

    def _now(self) -> float:
        """The time, with everything gone that is too old by now."""
        now = self._clock()
        self._quotas.expire(now)
        return now

    def _head(self) -> Ticket | None:
        """The first that waits. Those that left are dropped here, for leaving must not search."""
        while self._queue:
            if self._queue[0]._state == "queued":
                return self._queue[0]
            heapq.heappop(self._queue)
        return None

    def _pump(self, now: float, woken: list[Ticket]) -> None:
        """Grant from the head on what fits. ``woken`` gets these, and a head that must ask anew."""
        while (head := self._head()) is not None:
            if now > head._deadline + INSTANT:  # its caller is late, or has gone without a word
                heapq.heappop(self._queue)
                self._queued -= 1
                head._state = "timed out"
            elif self._quotas.fits(head.tokens, now):
                heapq.heappop(self._queue)
                self._queued -= 1
                self._grant(head, now)
            else:
                if head._asks_at > now and self._quotas.free_at(head.tokens, now) < head._asks_at - INSTANT:
                    head._asks_at = -math.inf
                    woken.append(head)
                return
            woken.append(head)

    def _grant(self, ticket: Ticket, now: float) -> None:
        ticket._state = "granted"
        self._quotas.hold(ticket, now)

    def _leave(self, ticket: Ticket, now: float, woken: list[Ticket], state: State = "ended") -> None:
        """Out of the queue; whoever is its head now may have to be woken."""
        ticket._state = state
        self._queued -= 1
        if len(self._queue) > 2 * self._queued + 64:
            self._queue = [other for other in self._queue if other._state == "queued"]
            heapq.heapify(self._queue)
        self._pump(now, woken)

    def _warning(self, now: float) -> tuple[int, int] | None:
        if now - self._warned < WINDOW:
            return None
        found = self._quotas.meter(now)
        if found is None or found[0] < self.config.warn_at * found[1]:
            return None
        self._warned = now
        return found

    # ── errors ───────────────────────────────────────────────────────────────────────────

    def _full(self, now: float) -> QueueFullError:
        head = self._head()
        free = self._quotas.free_at(1 if head is None else head.tokens, now) - now
        return QueueFullError(
            f"{self._queued} calls wait for the rate limit of {self._limits()} already",
            retry_after=round(max(0.0, free), 3) if free < math.inf else None,
            hint=HINT,
        )

    def _gone(self, ticket: Ticket) -> QueueError:
        if ticket._state != "timed out":
            return QueueError("the call has left the rate limit's queue")
        waited = max(0.0, ticket._deadline - ticket._entered)
        return QueueTimeoutError(
            f"the call waited {waited:g} s for its turn in the rate limit of {self._limits()}", hint=HINT
        )

    def _limits(self) -> str:
        config = self.config
        limits = ((config.tokens_per_minute, "tokens"), (config.requests_per_minute, "requests"))
        return " and ".join(f"{limit:,} {kind} a minute" for limit, kind in limits if limit is not None)


def _wake(tickets: Iterable[Ticket]) -> None:
    """Tell them, without holding the lock."""
    for ticket in tickets:
        ticket.signal.set()
