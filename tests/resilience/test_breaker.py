"""The circuit breaker, against its table of states and against a simple model of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from loom_py.errors import CircuitOpenError, ConfigError
from loom_py.resilience.breaker import BreakerConfig, CircuitBreaker, CircuitBreakers, Permit


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(clock: Clock, **settings: float) -> CircuitBreaker:
    return CircuitBreaker("tool search", BreakerConfig(**settings), clock=clock)  # type: ignore[arg-type]


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.enter().failure()


def succeed(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.enter().success()


# ── the table ────────────────────────────────────────────────────────────────────────────


def test_the_defaults_are_5_failures_2_successes_30_and_60_seconds() -> None:
    config = BreakerConfig()
    assert (config.failure_threshold, config.success_threshold) == (5, 2)
    assert (config.open_seconds, config.max_open_seconds) == (30.0, 60.0)


def test_failures_are_counted_and_the_third_opens_at_a_threshold_of_three(clock: Clock) -> None:
    guard = breaker(clock, failure_threshold=3)
    seen = []
    for _ in range(3):
        fail(guard)
        seen.append((guard.stats().failures, guard.state))
    assert seen == [(1, "closed"), (2, "closed"), (3, "open")]
    assert guard.stats().times_opened == 1


def test_a_success_between_failures_starts_the_count_anew(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 4)
    succeed(guard)
    fail(guard, 4)
    assert guard.stats().state == "closed"
    fail(guard)
    assert guard.stats().state == "open"


def test_an_open_breaker_refuses_and_says_for_how_long(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 10
    assert not guard.is_available
    with pytest.raises(CircuitOpenError, match=r"tool search is open after 5 failures in a row") as caught:
        guard.enter()
    assert caught.value.retry_after == 20
    assert caught.value.retryable
    assert guard.state == "open"


def test_after_30_seconds_and_not_before_a_probe_is_let_through(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 29.999
    assert not guard.is_available
    clock.now += 0.001
    assert guard.is_available
    assert guard.state == "open"
    assert guard.enter().is_probe
    assert guard.state == "half-open"


def test_one_probe_at_a_time(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 30
    probe = guard.enter()
    assert not guard.is_available
    with pytest.raises(CircuitOpenError, match="half-open"):
        guard.enter()
    probe.success()
    assert guard.state == "half-open"
    assert guard.is_available


def test_two_successful_probes_close_it_and_forget_the_past(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 30
    succeed(guard)
    assert (guard.state, guard.stats().successes) == ("half-open", 1)
    succeed(guard)
    stats = guard.stats()
    assert (stats.state, stats.failures, stats.successes, stats.times_opened) == ("closed", 0, 0, 0)


def test_a_failed_probe_opens_it_again_for_twice_as_long(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 30
    succeed(guard)
    fail(guard)
    assert (guard.state, guard.stats().successes, guard.stats().times_opened) == ("open", 0, 2)
    assert guard.stats().retry_after == 60


def test_a_neutral_probe_makes_room_for_the_next_and_decides_nothing(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 30
    guard.enter().neutral()
    assert guard.state == "half-open"
    assert guard.enter().is_probe


def test_neutral_outcomes_are_not_counted(clock: Clock) -> None:
    guard = breaker(clock)
    for _ in range(10):
        guard.enter().neutral()
    fail(guard, 4)
    guard.enter().neutral()
    assert guard.stats().failures == 4
    fail(guard)
    assert guard.state == "open"


@pytest.mark.parametrize(
    ("base", "cap", "times"),
    [
        (5.0, 60.0, {0: 5, 1: 5, 2: 10, 3: 20, 4: 40, 5: 60, 10: 60}),
        (0.1, 60.0, {1: 0.1, 2: 0.2, 3: 0.4, 4: 0.8, 20: 60}),
        (30.0, 60.0, {0: 30, 1: 30, 2: 60, 3: 60, 5000: 60}),
        (90.0, 60.0, {1: 90, 2: 90}),
    ],
)
def test_the_open_time_doubles_up_to_its_cap(base: float, cap: float, times: dict[int, float]) -> None:
    for opens, expected in times.items():
        clock = Clock()
        guard = breaker(clock, open_seconds=base, max_open_seconds=cap, failure_threshold=1)
        for _ in range(min(opens, 12)):
            clock.now += 1e6
            fail(guard)
        if opens <= 12:
            assert guard.open_time() == pytest.approx(expected)


def test_a_reset_closes_it_and_zeroes_everything(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    guard.reset()
    stats = guard.stats()
    assert (stats.state, stats.failures, stats.times_opened) == ("closed", 0, 0)
    succeed(guard)


def test_a_late_outcome_of_an_earlier_state_is_not_counted(clock: Clock) -> None:
    guard = breaker(clock, failure_threshold=1)
    early, late = guard.enter(), guard.enter()
    early.failure()
    opened_until = guard.stats().retry_after
    clock.now += 10
    late.failure()  # must not prolong the open time
    assert guard.stats().retry_after == pytest.approx((opened_until or 0) - 10)
    clock.now += 20
    straggler = Permit(guard, 0, False)
    probe = guard.enter()
    straggler.success()  # must not free the probe's place
    assert not guard.is_available
    probe.success()
    assert guard.stats().successes == 1


def test_a_permit_counts_once(clock: Clock) -> None:
    guard = breaker(clock)
    permit = guard.enter()
    for _ in range(10):
        permit.failure()
    assert guard.stats().failures == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("failure_threshold", 0),
        ("failure_threshold", 2.5),
        ("failure_threshold", "5"),
        ("success_threshold", 0),
        ("success_threshold", True),
        ("open_seconds", 0),
        ("open_seconds", -1),
        ("open_seconds", float("nan")),
        ("open_seconds", "30"),
        ("max_open_seconds", 0),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        BreakerConfig(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name


# ── many of them ─────────────────────────────────────────────────────────────────────────


def test_breakers_are_told_apart_by_name_and_made_when_needed(clock: Clock) -> None:
    guards = CircuitBreakers("tool", BreakerConfig(failure_threshold=1), clock=clock)
    assert guards.available("a")
    assert guards.stats() == {}
    guards.enter("a").failure()
    guards.enter("b").success()
    assert guards["a"] is guards["a"]
    assert (guards.available("a"), guards.available("b")) == (False, True)
    assert {name: stats.state for name, stats in guards.stats().items()} == {"a": "open", "b": "closed"}
    guards.reset()
    assert guards.available("a")


# ── logs ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def structlog_restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("structlog_restored")
def test_every_change_is_logged_and_the_listener_may_ask_the_breaker(clock: Clock) -> None:
    guard = breaker(clock, failure_threshold=1, success_threshold=1)
    heard: list[tuple[str, str, str]] = []

    def listen(_: object, level: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        heard.append((level, event["after"], guard.stats().state))
        raise structlog.DropEvent

    structlog.configure(processors=[listen])
    worker = threading.Thread(target=lambda: fail(guard), daemon=True)
    worker.start()
    worker.join(5)
    assert not worker.is_alive()
    clock.now += 30
    succeed(guard)
    assert heard == [
        ("warning", "open", "open"),
        ("info", "half-open", "half-open"),
        ("info", "closed", "closed"),
    ]


@pytest.mark.usefixtures("structlog_restored")
def test_a_log_that_fails_does_not_keep_the_place_of_the_probe(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 30

    def stumble(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        raise ZeroDivisionError

    structlog.configure(processors=[stumble])
    with pytest.raises(ZeroDivisionError):
        guard.enter()
    assert guard.enter().is_probe


# ── threads ──────────────────────────────────────────────────────────────────────────────


def test_of_many_threads_exactly_one_gets_the_probe(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 30
    barrier = threading.Barrier(16)
    permits: list[Permit] = []

    def knock() -> None:
        barrier.wait()
        with contextlib.suppress(CircuitOpenError):
            permits.append(guard.enter())

    threads = [threading.Thread(target=knock) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(permits) == 1


def test_no_failure_of_many_threads_is_lost(clock: Clock) -> None:
    guard = breaker(clock, failure_threshold=800)
    threads = [threading.Thread(target=fail, args=(guard, 100)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guard.state == "open"
    assert guard.stats().failures == 800


# ── against a model ──────────────────────────────────────────────────────────────────────


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls, outcomes and passing time; the model is written without generations."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.real = breaker(self.clock, failure_threshold=3, success_threshold=2)
        self.state = "closed"
        self.epoch = 0
        self.failures = self.successes = self.opens = 0
        self.until = 0.0
        self.probe: Permit | None = None
        self.out: list[tuple[Permit, int]] = []

    def becomes(self, state: str) -> None:
        self.state, self.successes, self.probe = state, 0, None
        self.epoch += 1

    @property
    def admits(self) -> bool:
        if self.state == "open":
            return self.clock.now >= self.until
        return self.probe is None

    @rule()
    def enter(self) -> None:
        if not self.admits:
            with pytest.raises(CircuitOpenError):
                self.real.enter()
            return
        permit = self.real.enter()
        if self.state == "open":
            self.becomes("half-open")
        if self.state == "half-open":
            self.probe = permit
        assert permit.is_probe == (self.state == "half-open")
        self.out.append((permit, self.epoch))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), outcome=st.sampled_from(["success", "failure", "neutral"]))
    def leave(self, data: st.DataObject, outcome: str) -> None:
        permit, epoch = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        getattr(permit, outcome)()
        if epoch != self.epoch:
            return
        if permit is self.probe:
            self.probe = None
        if outcome == "failure":
            self.failures += 1
            if self.state == "half-open" or self.failures >= 3:
                self.opens += 1
                self.until = self.clock.now + min(30 * 2 ** (self.opens - 1), 60)
                self.becomes("open")
        elif outcome == "success" and self.state == "closed":
            self.failures = 0
        elif outcome == "success":
            self.successes += 1
            if self.successes == 2:
                self.failures = self.opens = 0
                self.becomes("closed")

    @rule(seconds=st.sampled_from([1.0, 29.0, 30.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def reset(self) -> None:
        self.real.reset()
        self.failures = self.opens = 0
        self.becomes("closed")

    @invariant()
    def agree(self) -> None:
        stats = self.real.stats()
        assert (stats.state, stats.failures, stats.successes, stats.times_opened) == (
            self.state,
            self.failures,
            self.successes,
            self.opens,
        )
        assert self.real.is_available == self.admits


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
