"""Whatever happens in whatever order: the server never has to refuse, the order is kept, nothing leaks."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loom_py.clock import Signal, VirtualClock
from loom_py.emulator.quotas import Grant, Meter, Quota
from loom_py.resilience.limiter import RateLimitConfig, RateLimiter, Ticket

TPM = 1000
RPM = 30


class Call:
    """One caller: its ticket, when it asks again, and how far its request has come."""

    def __init__(self, ticket: Ticket, rank: tuple[int, int]) -> None:
        self.ticket = ticket
        self.rank = rank
        self.asks_at = -math.inf
        self.signal: Signal | None = None
        self.arrives_by = math.inf
        self.grant: Grant | None = None

    @property
    def is_queued(self) -> bool:
        return "queued" in repr(self.ticket)

    def is_due(self, now: float) -> bool:
        return self.asks_at <= now + 1e-9 or (self.signal is not None and self.signal.is_set)


class LimiterBeforeAServer(RuleBasedStateMachine):
    """Callers that ask when they like, a network of half a second, a server that counts estimates."""

    latency = 0.499
    config = RateLimitConfig(tokens_per_minute=TPM, queue_timeout=None)
    quota = Quota(tokens_per_minute=TPM)

    @initialize(start=st.floats(0, 1e6), scaled=st.booleans())
    def begin(self, start: float, scaled: bool) -> None:
        self.clock = VirtualClock()
        self.clock.advance(start)
        self.limiter = RateLimiter(self.config, clock=self.clock.now)
        if scaled:
            self.limiter.scale(0.7)
        self.meter = Meter(self.quota, self.clock)
        self.waiting: list[Call] = []
        self.travelling: list[Call] = []
        self.answered: list[Call] = []
        self.entered = 0
        self.queued: set[Call] = set()

    # ── what callers do ──────────────────────────────────────────────────────────────────

    @rule(tokens=st.integers(1, 700), priority=st.integers(0, 2))
    def enter(self, tokens: int, priority: int) -> None:
        self.entered += 1
        call = Call(self.limiter.enter(tokens, priority=priority), (priority, self.entered))
        self.granted_in_order()  # others may have been granted just before it came
        self.waiting.append(call)
        self.queued.add(call)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 1000), latency=st.floats(0, 1))
    def ask(self, which: int, latency: float) -> None:
        self.asked(self.waiting[which % len(self.waiting)], latency)

    @rule(latency=st.floats(0, 1))
    def all_that_are_due_ask(self, latency: float) -> None:
        now = self.clock.now()
        for call in [call for call in self.waiting if call.is_due(now)]:
            self.asked(call, latency)

    def asked(self, call: Call, latency: float) -> None:
        seconds = call.ticket.wait()
        assert seconds >= 0
        if seconds == 0:
            self.waiting.remove(call)
            self.travelling.append(call)
            call.arrives_by = self.clock.now() + latency * self.latency
        else:
            call.asks_at = self.clock.now() + seconds
            call.signal = call.ticket.signal

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 1000))
    def give_up(self, which: int) -> None:
        self.waiting.pop(which % len(self.waiting)).ticket.release()

    # ── what becomes of requests ─────────────────────────────────────────────────────────

    @precondition(lambda self: self.travelling)
    @rule(which=st.integers(0, 1000))
    def lose_the_connection(self, which: int) -> None:
        self.travelling.pop(which % len(self.travelling)).ticket.release()

    @precondition(lambda self: self.travelling)
    @rule(which=st.integers(0, 1000))
    def arrive(self, which: int) -> None:
        call = self.travelling.pop(which % len(self.travelling))
        answer = self.meter.admit(call.ticket.tokens)
        assert isinstance(answer, Grant), f"the server refused {call.ticket} with {answer}"
        call.grant = answer
        self.answered.append(call)

    @precondition(lambda self: self.answered)
    @rule(which=st.integers(0, 1000), used=st.integers(0, 900) | st.none())
    def answer(self, which: int, used: int | None) -> None:
        call = self.answered.pop(which % len(self.answered))
        assert call.grant is not None
        headers = {
            f"{word}_{kind}": call.grant.headers.get(f"x-ratelimit-{word}-{kind}")
            for word in ("limit", "remaining")
            for kind in ("tokens", "requests")
        }
        call.ticket.settle(used, headers)

    @rule(seconds=st.floats(0, 3) | st.floats(0, 70))
    def advance(self, seconds: float) -> None:
        end = self.clock.now() + seconds
        while late := [call for call in self.travelling if call.arrives_by <= end]:
            first = min(late, key=lambda call: call.arrives_by)
            self.clock.advance(max(0.0, first.arrives_by - self.clock.now()))
            self.arrive(self.travelling.index(first))
        self.clock.advance(max(0.0, end - self.clock.now()))

    # ── what always holds ────────────────────────────────────────────────────────────────

    @invariant()
    def granted_in_order(self) -> None:
        left = {call for call in self.queued if not call.is_queued}
        self.queued -= left
        granted = [call.rank for call in left if "granted" in repr(call.ticket) or call in self.travelling]
        if granted and self.queued:
            assert max(granted) < min(call.rank for call in self.queued)

    @invariant()
    def sums_make_sense(self) -> None:
        stats = self.limiter.stats()
        assert stats.tokens_used >= 0
        assert stats.tokens_reserved >= 0
        assert stats.requests_used >= 0
        assert stats.queued == len(self.queued)
        assert 0 <= stats.remaining_share <= 1
        ranks = sorted(call.rank for call in self.queued)
        for call in self.queued:
            assert call.ticket.ahead == ranks.index(call.rank)

    def teardown(self) -> None:
        """Everyone gets through who asks only when told, and then nothing is left."""
        if not hasattr(self, "clock"):
            return
        for _ in range(3000):
            while self.travelling:
                self.arrive(0)
            while self.answered:
                self.answer(0, 10)
            if not self.waiting:
                break
            now = self.clock.now()
            if not any(call.is_due(now) for call in self.waiting):
                next_at = min(call.asks_at for call in self.waiting)
                assert next_at < math.inf, f"nobody would ever ask again: {self.limiter.stats()}"
                self.clock.advance(next_at - now)
            self.all_that_are_due_ask(0)
        assert not self.waiting
        self.clock.advance(61)
        stats = self.limiter.stats()
        assert (stats.tokens_used, stats.tokens_reserved, stats.requests_used, stats.queued) == (0, 0, 0, 0)


class PacedLimiterBeforeAServer(LimiterBeforeAServer):
    """The same with requests limited, over slices of ten seconds."""

    latency = 0.0
    config = RateLimitConfig(TPM, RPM, queue_timeout=None)
    quota = Quota(TPM, RPM, slice_seconds=10)


class PacedLimiterBeforeAStrictServer(LimiterBeforeAServer):
    """Requests only, over slices of one second, and a network that is not quite even."""

    latency = 0.049
    config = RateLimitConfig(requests_per_minute=90, queue_timeout=None)
    quota = Quota(requests_per_minute=90, slice_seconds=1)


some = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestTokens = LimiterBeforeAServer.TestCase
TestTokens.settings = some
TestTokensAndRequests = PacedLimiterBeforeAServer.TestCase
TestTokensAndRequests.settings = some
TestRequests = PacedLimiterBeforeAStrictServer.TestCase
TestRequests.settings = some
