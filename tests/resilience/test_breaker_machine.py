"""The circuit breaker against a naive model of it, in any order of calls, outcomes and passing time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loom_py.errors import CircuitOpenError
from loom_py.resilience.breaker import BreakerConfig, CircuitBreaker, Permit
from loom_py.resilience.events import CircuitChanged, PolicyEvent

THRESHOLD, SUCCESSES, BASE, CAP = 3, 2, 30.0, 60.0
RATE, MINIMUM, WINDOW = 0.5, 6, 100.0
PART = WINDOW / 20


@dataclass
class Model:
    """What a breaker should be, written down without generations, buckets or locks.

    ``inside`` are the permits of the present state: the outcome of any other is dropped.
    """

    places: int = 1
    now: float = 0.0
    state: str = "closed"
    why: str = ""  # of an open or half-open one: "failures", "out" or "forced"
    until: float = 0.0
    lasts: float = BASE
    failures: int = 0
    successes: int = 0
    opens: int = 0
    began: float = 0.0  # when it was last closed
    calls: list[tuple[float, bool]] = field(default_factory=list)
    inside: list[Permit] = field(default_factory=list)

    def admits(self) -> bool:
        if self.state == "open":
            return self.why != "forced" and self.now >= self.until
        return self.state == "closed" or len(self.inside) < (1 if self.why == "out" else self.places)

    def recent(self) -> list[bool]:
        """Whether each call of the window failed: those of the present part of it and 19 before."""
        part = (self.now - self.began) // PART
        return [failed for at, failed in self.calls if (at - self.began) // PART > part - 20]

    def becomes(self, state: str, why: str = "") -> None:
        self.state, self.why, self.successes, self.inside = state, why, 0, []

    def close(self) -> None:
        self.failures = self.opens = 0
        self.calls, self.began, self.lasts = [], self.now, BASE
        self.becomes("closed")

    def open(self, why: str, seconds: float) -> None:
        self.until, self.lasts = self.now + seconds, seconds
        self.opens += why != "forced"
        self.becomes("open", why)

    def trip(self) -> None:
        self.open("failures", min(BASE * 2**self.opens, CAP))

    def success(self) -> bool:
        if self.state == "closed":
            self.failures = 0
            self.calls.append((self.now, False))
            self.trip_if_too_many()
            return False
        restored = self.why == "out"
        self.successes += 1
        if restored or self.successes == SUCCESSES:
            self.close()
        return restored

    def failure(self) -> None:
        self.failures += 1
        if self.why == "out":
            self.open("out", min(2 * self.lasts, max(self.lasts, 3600)))
        elif self.state == "half-open":
            self.trip()
        else:
            self.calls.append((self.now, True))
            if self.failures >= THRESHOLD:
                self.trip()
            else:
                self.trip_if_too_many()

    def trip_if_too_many(self) -> None:
        recent = self.recent()
        if len(recent) >= MINIMUM and sum(recent) / len(recent) >= RATE:
            self.trip()

    def take_out(self, seconds: float) -> bool:
        if self.why == "forced":
            return False
        if self.why == "out" and self.state == "open":
            self.until, self.lasts = max(self.until, self.now + seconds), max(self.lasts, seconds)
            return False
        if self.why == "out":
            seconds = min(max(seconds, 2 * self.lasts), max(seconds, 3600))
        self.open("out", seconds)
        return True


class BreakerMachine(RuleBasedStateMachine):
    @initialize(places=st.integers(1, 3))
    def begin(self, places: int) -> None:
        config = BreakerConfig(
            failure_threshold=THRESHOLD,
            success_threshold=SUCCESSES,
            open_seconds=BASE,
            max_open_seconds=CAP,
            failure_rate=RATE,
            window_seconds=WINDOW,
            minimum_calls=MINIMUM,
            half_open_probes=places,
        )
        self.model = Model(places)
        self.heard: list[CircuitChanged] = []
        self.real = CircuitBreaker("d", config, clock=lambda: self.model.now, emit=self.hear)
        self.under_way: list[Permit] = []
        self.settled: list[Permit] = []

    def hear(self, event: PolicyEvent) -> None:
        assert isinstance(event, CircuitChanged)
        self.heard.append(event)

    @rule()
    def enter(self) -> None:
        if not self.model.admits():
            with pytest.raises(CircuitOpenError) as caught:
                self.real.enter()
            forced = self.model.why == "forced"
            assert (caught.value.retry_after is None) == forced
            assert caught.value.retryable is not forced
            return
        permit = self.real.enter()
        if self.model.state == "open":
            self.model.becomes("half-open", self.model.why)
        assert permit.is_probe == (self.model.state == "half-open")
        self.model.inside.append(permit)
        self.under_way.append(permit)

    def settle(self, data: st.DataObject) -> tuple[Permit, bool]:
        """Any call that is under way, and whether it still counts."""
        permit = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.settled.append(permit)
        counts = permit in self.model.inside
        if counts:
            self.model.inside.remove(permit)
        return permit, counts

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        permit, counts = self.settle(data)
        assert permit.success() == (counts and self.model.success())

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        permit, counts = self.settle(data)
        permit.failure()
        if counts:
            self.model.failure()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def be_cancelled(self, data: st.DataObject) -> None:
        before = self.real.stats()
        permit, _ = self.settle(data)
        permit.neutral()
        after = self.real.stats()
        assert (after.state, after.failures, after.successes, after.calls) == (
            before.state,
            before.failures,
            before.successes,
            before.calls,
        )

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), seconds=st.sampled_from([10.0, 300.0, 7200.0]))
    def be_refused_for_good(self, data: st.DataObject, seconds: float) -> None:
        permit, counts = self.settle(data)
        assert permit.take_out(seconds, "401") == (counts and self.model.take_out(seconds))

    @precondition(lambda self: self.settled)
    @rule(data=st.data(), verb=st.sampled_from(["success", "failure", "neutral", "take_out"]))
    def settle_twice(self, data: st.DataObject, verb: str) -> None:
        permit = data.draw(st.sampled_from(self.settled))
        before = self.real.stats()
        assert not (permit.take_out(5, "again") if verb == "take_out" else getattr(permit, verb)())
        assert self.real.stats() == before

    @rule(calls=st.lists(st.booleans(), min_size=1, max_size=8))
    def call_at_once(self, calls: list[bool]) -> None:
        """Several calls, one after the other, while the breaker lets them."""
        for well in calls:
            if self.model.state == "closed":
                permit = self.real.enter()
                permit.success() if well else permit.failure()
                self.model.success() if well else self.model.failure()

    @rule(seconds=st.sampled_from([0.5, 4.0, 29.5, 30.0, 60.0, 95.0, 100.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        self.model.now += seconds

    @rule(seconds=st.sampled_from([10.0, 300.0]))
    def take_out(self, seconds: float) -> None:
        assert self.real.take_out(seconds, "403") == self.model.take_out(seconds)

    @rule()
    def force_open(self) -> None:
        self.real.force_open()
        self.model.open("forced", 0.0)

    @rule(verb=st.sampled_from(["force_close", "reset"]))
    def close(self, verb: str) -> None:
        getattr(self.real, verb)()
        self.model.close()

    @invariant()
    def is_what_the_model_says(self) -> None:
        stats, model = self.real.stats(), self.model
        assert (stats.state, stats.failures, stats.successes, stats.times_opened) == (
            model.state,
            model.failures,
            model.successes,
            model.opens,
        )
        assert stats.forced == (model.why == "forced")
        assert (stats.reason is None) == (model.state == "closed")
        assert self.real.is_available == model.admits()
        if model.state == "closed":
            recent = model.recent()
            assert stats.calls == len(recent)
            assert stats.failure_rate == (sum(recent) / len(recent) if recent else None)

    @invariant()
    def tells_when_it_is_tried_again(self) -> None:
        stats, model = self.real.stats(), self.model
        if model.state == "closed" or model.why == "forced":
            assert stats.retry_after is None
        elif model.state == "open":
            assert stats.retry_after == max(0.0, model.until - model.now)
        else:
            assert stats.retry_after == (0.0 if model.admits() else 0.05)

    @invariant()
    def never_has_more_probes_than_configured(self) -> None:
        if self.model.state == "half-open":
            assert len(self.model.inside) <= self.model.places

    @invariant()
    def told_every_change_in_order(self) -> None:
        state = "closed"
        for event in self.heard:
            assert event.before == state
            state = event.after
        assert state == self.real.state


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
