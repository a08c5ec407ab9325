"""The circuit breaker, against its table of states. Any order of calls: test_breaker_machine.py."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py.errors import CircuitOpenError, ConfigError
from loom_py.resilience.breaker import BreakerConfig, CircuitBreaker, CircuitBreakers, Permit
from loom_py.resilience.events import CircuitChanged, PolicyEvent


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class YieldingClock(Clock):
    """Lets other threads run whenever it is asked: in the midst of whatever its asker does."""

    def __call__(self) -> float:
        time.sleep(0.0005)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(clock: Clock, **settings: float | None) -> CircuitBreaker:
    return CircuitBreaker("tool search", BreakerConfig(**settings), clock=clock)  # type: ignore[arg-type]


def refused(breaker: CircuitBreaker) -> CircuitOpenError:
    with pytest.raises(CircuitOpenError) as caught:
        breaker.enter()
    return caught.value


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
    assert (config.failure_rate, config.window_seconds, config.minimum_calls) == (0.5, 60.0, 20)
    assert config.half_open_probes == 1


def test_one_that_works_is_closed_and_has_nothing_to_tell(clock: Clock) -> None:
    stats = breaker(clock).stats()
    assert (stats.name, stats.state, stats.reason, stats.forced) == ("tool search", "closed", None, False)
    assert (stats.retry_after, stats.failure_rate, stats.calls) == (None, None, 0)


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
    assert (guard.state, guard.stats().retry_after) == ("open", 0.0)
    assert guard.enter().is_probe
    assert guard.state == "half-open"


@given(opened=st.floats(0, 1e7), early=st.floats(1e-6, 29.9))
@settings(max_examples=50, deadline=None)
def test_whoever_waits_as_long_as_told_is_let_through(opened: float, early: float) -> None:
    clock = Clock()
    clock.now = opened
    guard = breaker(clock, failure_threshold=1)
    fail(guard)
    clock.now += 30 - early
    wait = refused(guard).retry_after
    assert wait is not None
    assert early - 1e-6 <= wait <= early + 0.002
    clock.now += wait + 1e-8  # the clock's own rounding
    assert guard.enter().is_probe


def test_one_probe_at_a_time(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    clock.now += 30
    probe = guard.enter()
    assert not guard.is_available
    refusal = refused(guard)
    assert "half-open after 5 failures in a row: as many probes as it allows" in str(refusal)
    assert refusal.retry_after == 0.05  # nobody knows; but nobody is sent to ask without pause
    assert guard.stats().retry_after == 0.05
    probe.success()
    assert guard.state == "half-open"
    assert guard.is_available


def test_as_many_probes_at_a_time_as_configured(clock: Clock) -> None:
    guard = breaker(clock, half_open_probes=3, success_threshold=3)
    fail(guard, 5)
    clock.now += 30
    probes = [guard.enter() for _ in range(3)]
    assert all(probe.is_probe for probe in probes)
    refused(guard)
    probes[0].neutral()
    probes[0].neutral()  # frees one place, not two
    probes.append(guard.enter())
    refused(guard)
    for probe in probes[1:]:
        probe.success()
    assert guard.state == "closed"


def test_the_first_probe_to_fail_decides_and_the_others_are_dropped(clock: Clock) -> None:
    guard = breaker(clock, half_open_probes=3)
    fail(guard, 5)
    clock.now += 30
    first, second, third = guard.enter(), guard.enter(), guard.enter()
    first.failure()
    second.failure()
    third.success()
    stats = guard.stats()
    assert (stats.state, stats.times_opened, stats.failures, stats.retry_after) == ("open", 2, 6, 60)
    assert stats.reason == "a failed probe"


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


def test_a_thousand_failed_probes_are_no_overflow(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    for _ in range(1100):
        clock.now += 60
        fail(guard)
    assert (guard.stats().times_opened, guard.stats().retry_after) == (1101, 60)


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


VERBS: dict[str, Callable[[Permit], object]] = {
    "success": Permit.success,
    "failure": Permit.failure,
    "neutral": Permit.neutral,
    "take_out": lambda permit: permit.take_out(300, "401"),
}


@pytest.mark.parametrize("first", VERBS)
@pytest.mark.parametrize("second", VERBS)
@pytest.mark.parametrize("is_probe", [False, True])
def test_after_one_verb_no_other_counts(clock: Clock, first: str, second: str, is_probe: bool) -> None:
    guard = breaker(clock, success_threshold=9)
    if is_probe:
        fail(guard, 5)
        clock.now += 30
    permit = guard.enter()
    assert permit.is_probe == is_probe
    VERBS[first](permit)
    before = guard.stats()
    assert not VERBS[second](permit)
    assert guard.stats() == before


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
        ("failure_rate", 0),
        ("failure_rate", 1.01),
        ("failure_rate", 50),
        ("failure_rate", True),
        ("failure_rate", "0.5"),
        ("failure_rate", float("nan")),
        ("window_seconds", 0),
        ("window_seconds", float("inf")),
        ("window_seconds", float("nan")),
        ("minimum_calls", 0),
        ("minimum_calls", 20.0),
        ("half_open_probes", 0),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        BreakerConfig(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name


# ── the share of failures in the window ──────────────────────────────────────────────────


def calls(breaker: CircuitBreaker, outcomes: str) -> None:
    """Calls that end as told: ``+`` well, ``-`` badly, ``0`` neither."""
    for outcome in outcomes:
        permit = breaker.enter()
        {"+": permit.success, "-": permit.failure, "0": permit.neutral}[outcome]()


def test_half_of_twenty_calls_open_it_though_never_five_fail_in_a_row(clock: Clock) -> None:
    guard = breaker(clock)
    calls(guard, "+-" * 9 + "+")
    assert (guard.state, guard.stats().calls, guard.stats().failure_rate) == ("closed", 19, 9 / 19)
    fail(guard)
    stats = guard.stats()
    assert (stats.state, stats.failures) == ("open", 1)
    assert stats.reason == "10 of 20 calls within 60 s failed"
    refusal = refused(guard)
    assert "tool search is open after 10 of 20 calls within 60 s failed" in str(refusal)
    assert refusal.retry_after == 30


def test_the_call_that_makes_them_enough_may_be_a_good_one(clock: Clock) -> None:
    guard = breaker(clock, minimum_calls=4)
    calls(guard, "--+")
    assert guard.is_available
    calls(guard, "+")
    assert guard.state == "open"


def test_less_than_the_share_does_not_open_it(clock: Clock) -> None:
    guard = breaker(clock)
    calls(guard, "+-+" * 100)
    assert (guard.state, guard.stats().failure_rate) == ("closed", 1 / 3)


@pytest.mark.parametrize("rate", [0.07, 0.29, 0.57, 1.0])
def test_a_share_is_reached_exactly(clock: Clock, rate: float) -> None:
    guard = breaker(clock, failure_rate=rate, minimum_calls=100, failure_threshold=1000)
    bad = round(rate * 100)
    calls(guard, "+" * (100 - bad) + "-" * (bad - 1))
    assert guard.is_available
    fail(guard)
    assert guard.state == "open"


def test_neutral_calls_are_not_in_the_window(clock: Clock) -> None:
    guard = breaker(clock)
    calls(guard, "0" * 50 + "+-" * 9)
    assert (guard.state, guard.stats().calls) == ("closed", 18)


def test_calls_of_more_than_a_window_ago_are_forgotten(clock: Clock) -> None:
    guard = breaker(clock)
    calls(guard, "-+" * 9)
    clock.now += 60
    assert (guard.stats().calls, guard.stats().failure_rate) == (0, None)
    calls(guard, "+-")
    assert guard.state == "closed"


def test_calls_are_remembered_for_the_whole_window_but_a_twentieth(clock: Clock) -> None:
    guard = breaker(clock)
    calls(guard, "-+" * 9)
    clock.now += 56.9
    assert guard.stats().calls == 18
    calls(guard, "-+")
    assert guard.state == "open"


def test_without_a_share_only_failures_in_a_row_count(clock: Clock) -> None:
    guard = breaker(clock, failure_rate=None)
    calls(guard, "----+" * 20)
    assert (guard.state, guard.stats().failure_rate) == ("closed", 0.8)


def test_once_closed_again_the_window_is_empty(clock: Clock) -> None:
    guard = breaker(clock, open_seconds=1)
    calls(guard, "-+" * 9 + "--")
    assert not guard.is_available
    clock.now += 1
    succeed(guard, 2)
    assert (guard.state, guard.stats().calls) == ("closed", 0)
    calls(guard, "-")
    assert guard.state == "closed"


def test_the_window_takes_no_more_memory_for_more_calls(clock: Clock) -> None:
    guard = breaker(clock, failure_threshold=10**9, failure_rate=None)

    def size() -> int:
        window = guard._window
        return sys.getsizeof(window._past) + sum(map(sys.getsizeof, window._past))

    sizes = []
    for _ in range(5):
        for _ in range(2000):
            clock.now += 0.1
            fail(guard)
        sizes.append(size())
        assert len(guard._window._past) < 20
    assert sizes[1:] == sizes[:1] * 4


@given(
    steps=st.lists(st.tuples(st.floats(0, 7), st.booleans()), max_size=80),
    start=st.floats(-1e3, 1e9),
)
@settings(max_examples=100, deadline=None)
def test_the_window_never_holds_what_is_too_old_and_always_what_is_not(
    steps: list[tuple[float, bool]], start: float
) -> None:
    clock = Clock()
    clock.now = start
    guard = breaker(clock, failure_rate=None, failure_threshold=1000, window_seconds=20)
    times: list[tuple[float, bool]] = []
    for seconds, well in steps:
        clock.now += seconds
        permit = guard.enter()
        permit.success() if well else permit.failure()
        times.append((clock.now, well))
        stats = guard.stats()
        slack = 1e-6
        surely = [good for at, good in times if at > clock.now - 19 + slack]
        perhaps = [good for at, good in times if at > clock.now - 20 - slack]
        assert len(surely) <= stats.calls <= len(perhaps)
        assert stats.failure_rate is not None
        assert surely.count(False) <= round(stats.failure_rate * stats.calls) <= perhaps.count(False)


# ── taken out ────────────────────────────────────────────────────────────────────────────


def test_what_is_taken_out_says_why_and_when_it_is_tried_again(clock: Clock) -> None:
    guard = breaker(clock)
    assert guard.take_out(300, "401: the key was refused")
    stats = guard.stats()
    assert (stats.state, stats.retry_after, stats.times_opened) == ("open", 300, 1)
    assert (stats.reason, stats.forced) == ("401: the key was refused", False)
    clock.now += 0.5
    refusal = refused(guard)
    assert "taken out (401: the key was refused); it is tried again in 300 s" in str(refusal)
    assert (refusal.retry_after, refusal.retryable) == (299.5, True)


def test_one_good_probe_brings_it_back_at_once(clock: Clock) -> None:
    guard = breaker(clock, half_open_probes=3)
    guard.take_out(300, "401")
    clock.now += 300
    probe = guard.enter()
    refusal = refused(guard)  # one probe, whatever is configured
    assert "taken out (401); it is being tried again" in str(refusal)
    assert probe.success()
    stats = guard.stats()
    assert (stats.state, stats.reason, stats.times_opened, stats.retry_after) == ("closed", None, 0, None)


def test_an_ordinary_recovery_restores_nothing(clock: Clock) -> None:
    guard = breaker(clock, success_threshold=1)
    fail(guard, 5)
    clock.now += 30
    probe = guard.enter()
    assert not probe.success()
    assert guard.state == "closed"
    assert not guard.enter().success()


@pytest.mark.parametrize(
    ("seconds", "times"),
    [(300.0, [300, 600, 1200, 2400, 3600, 3600]), (7200.0, [7200, 7200, 7200]), (0.5, [0.5, 1, 2])],
)
@pytest.mark.parametrize("again", ["failure", "take_out"])
def test_a_failed_probe_doubles_the_time_up_to_an_hour_or_what_was_asked(
    clock: Clock, seconds: float, times: list[float], again: str
) -> None:
    guard = breaker(clock)
    guard.enter().take_out(seconds, "404: gone")
    for expected in times:
        assert (guard.stats().retry_after, guard.open_time()) == (expected, expected)
        assert guard.stats().reason == "404: gone"
        clock.now += expected
        probe = guard.enter()
        if again == "failure":
            probe.failure()
        else:
            assert probe.take_out(seconds, "404: gone")


def test_a_neutral_probe_leaves_it_taken_out_and_makes_room(clock: Clock) -> None:
    guard = breaker(clock)
    guard.take_out(300, "403")
    clock.now += 300
    guard.enter().neutral()
    assert (guard.state, guard.stats().reason, guard.stats().retry_after) == ("half-open", "403", 0.0)
    assert guard.enter().success()


def test_of_many_calls_under_way_one_takes_it_out(clock: Clock) -> None:
    guard = breaker(clock)
    permits = [guard.enter() for _ in range(5)]
    assert [permit.take_out(300, "401") for permit in permits] == [True, False, False, False, False]
    assert not permits[0].take_out(900, "again")
    assert (guard.stats().times_opened, guard.stats().retry_after) == (1, 300)


def test_said_again_by_hand_it_becomes_longer_and_never_shorter(clock: Clock) -> None:
    guard = breaker(clock)
    guard.take_out(300, "401")
    clock.now += 100
    assert not guard.take_out(10, "403")
    assert (guard.stats().retry_after, guard.stats().reason) == (200, "403")
    assert not guard.take_out(300, "404")
    assert guard.stats().retry_after == 300


def test_an_open_one_can_be_taken_out_and_a_probe_too(clock: Clock) -> None:
    guard = breaker(clock)
    fail(guard, 5)
    assert guard.take_out(300, "401")
    assert guard.stats().retry_after == 300
    guard.reset()
    fail(guard, 5)
    clock.now += 30
    assert guard.enter().take_out(300, "401")
    assert (guard.stats().retry_after, guard.stats().reason) == (300, "401")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_makes_no_sense_is_refused_and_changes_nothing(clock: Clock, seconds: float) -> None:
    guard = breaker(clock)
    permit = guard.enter()
    for take_out in (guard.take_out, permit.take_out):
        with pytest.raises(ValueError, match="finite number of seconds above 0"):
            take_out(seconds, "401")
    permit.failure()
    assert (guard.state, guard.stats().failures) == ("closed", 1)


# ── by hand ──────────────────────────────────────────────────────────────────────────────


def test_forced_open_it_stays_so_until_it_is_closed_by_hand(clock: Clock) -> None:
    guard = breaker(clock)
    guard.force_open("maintenance")
    clock.now += 1e9
    assert not guard.is_available
    refusal = refused(guard)
    assert "is open: maintenance; it stays so until it is closed by hand" in str(refusal)
    assert (refusal.retry_after, refusal.retryable) == (None, False)
    stats = guard.stats()
    assert (stats.state, stats.forced, stats.retry_after, stats.reason) == ("open", True, None, "maintenance")
    assert not guard.take_out(1, "401")
    assert guard.stats().forced
    guard.force_close()
    assert (guard.state, guard.stats().forced, guard.stats().reason) == ("closed", False, None)


def test_calls_under_way_do_not_undo_what_was_forced(clock: Clock) -> None:
    guard = breaker(clock, failure_threshold=1)
    under_way = [guard.enter() for _ in range(3)]
    guard.force_open()
    under_way[0].success()
    under_way[1].failure()
    assert not under_way[2].take_out(1, "401")
    assert guard.stats().forced
    guard.force_close()
    assert guard.state == "closed"


@pytest.mark.parametrize("ends", [CircuitBreaker.force_close, CircuitBreaker.reset])
@pytest.mark.parametrize(
    "sick",
    [
        lambda guard: fail(guard, 5),
        lambda guard: guard.take_out(300, "401"),
        lambda guard: guard.force_open(),
        lambda guard: calls(guard, "-+" * 9 + "---"),
    ],
)
def test_closed_by_hand_it_counts_anew(
    clock: Clock, sick: Callable[[CircuitBreaker], object], ends: Callable[[CircuitBreaker], None]
) -> None:
    guard = breaker(clock)
    with contextlib.suppress(CircuitOpenError):
        sick(guard)
    ends(guard)
    fresh = breaker(clock).stats()
    assert guard.stats() == fresh
    assert guard.open_time() == 30
    fail(guard, 4)
    assert guard.state == "closed"
    fail(guard)
    assert (guard.state, guard.stats().retry_after) == ("open", 30)


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


def test_as_a_mapping_they_hold_what_was_needed_and_looking_makes_none(clock: Clock) -> None:
    guards = CircuitBreakers("tool", clock=clock)
    assert (len(guards), list(guards), "a" in guards, guards.get("a")) == (0, [], False, None)
    made = guards["a"]
    assert dict(guards) == {"a": made}
    assert (len(guards), "a" in guards, guards.get("a")) == (1, True, made)
    for name in guards:  # new ones meanwhile do no harm
        guards[f"{name} and more"].force_open()
    assert {name: each.state for name, each in guards.items()} == {"a": "closed", "a and more": "open"}


def test_all_of_them_tell_the_same_listener(clock: Clock) -> None:
    heard: list[PolicyEvent] = []
    guards = CircuitBreakers("deployment", BreakerConfig(failure_threshold=1), clock=clock, emit=heard.append)
    guards.enter("a").failure()
    guards["b"].take_out(300, "401")
    assert heard == [
        CircuitChanged("deployment a", "closed", "open", 1, 30.0, "1 failure"),
        CircuitChanged("deployment b", "closed", "open", 0, 300.0, "401"),
    ]


# ── events ───────────────────────────────────────────────────────────────────────────────


def test_every_change_is_told_with_its_reason_and_the_listener_may_ask_the_breaker(clock: Clock) -> None:
    heard: list[tuple[PolicyEvent, str]] = []
    config = BreakerConfig(failure_threshold=2, success_threshold=1)
    guard = CircuitBreaker(
        "tool search", config, clock=clock, emit=lambda event: heard.append((event, guard.stats().state))
    )

    def live() -> None:
        fail(guard, 2)
        clock.now += 30
        fail(guard)
        clock.now += 60
        succeed(guard)
        guard.reset()  # nothing changes
        guard.force_open("maintenance")
        guard.force_open("maintenance")
        guard.force_close()

    worker = threading.Thread(target=live, daemon=True)
    worker.start()
    worker.join(5)
    assert not worker.is_alive()
    in_a_row, probe = "2 failures in a row", "a failed probe"
    told = [
        ("closed", "open", 2, 30.0, in_a_row),
        ("open", "half-open", 2, None, in_a_row),
        ("half-open", "open", 3, 60.0, probe),
        ("open", "half-open", 3, None, probe),
        ("half-open", "closed", 0, None, None),
        ("closed", "open", 0, None, "maintenance"),
        ("open", "closed", 0, None, None),
    ]
    assert [event for event, _ in heard] == [CircuitChanged("tool search", *each) for each in told]
    assert [state for _, state in heard] == [after for _, after, *_ in told]


def test_that_an_open_one_is_taken_out_is_told_too(clock: Clock) -> None:
    heard: list[PolicyEvent] = []
    guard = CircuitBreaker("d", BreakerConfig(failure_threshold=1), clock=clock, emit=heard.append)
    fail(guard)
    guard.take_out(300, "401")
    guard.take_out(300, "401")
    assert heard[1:] == [CircuitChanged("d", "open", "open", 1, 300.0, "401")]


@pytest.fixture
def structlog_restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("structlog_restored")
def test_without_a_listener_every_change_is_logged(clock: Clock) -> None:
    guard = breaker(clock, failure_threshold=1, success_threshold=1)
    heard: list[tuple[str, str, str]] = []

    def listen(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        heard.append((event["event"], event["breaker"], event["after"]))
        raise structlog.DropEvent

    structlog.configure(processors=[listen])
    fail(guard)
    clock.now += 30
    succeed(guard)
    assert heard == [("circuit_breaker", "tool search", state) for state in ("open", "half-open", "closed")]


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
    guard = breaker(clock, failure_threshold=800, failure_rate=None)
    threads = [threading.Thread(target=fail, args=(guard, 100)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert guard.state == "open"
    assert guard.stats().failures == 800


def test_threads_that_meet_in_the_midst_of_a_change_make_one_change() -> None:
    clock = YieldingClock()
    guard = breaker(clock, failure_threshold=4)
    together(*[permit.failure for permit in [guard.enter() for _ in range(12)]])
    assert (guard.stats().failures, guard.stats().times_opened) == (4, 1)
    clock.now += 30
    permits: list[Permit] = []

    def knock() -> None:
        with contextlib.suppress(CircuitOpenError):
            permits.append(guard.enter())

    together(*[knock] * 12)
    assert len(permits) == 1


def test_a_permit_that_is_settled_by_many_threads_counts_once(clock: Clock) -> None:
    guard = breaker(clock, failure_rate=None, failure_threshold=1000)
    for _ in range(50):
        permit = guard.enter()
        together(*[permit.failure] * 4)
    assert (guard.stats().failures, guard.stats().calls) == (50, 50)


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    """Threads that are switched as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried_threads")
def test_under_a_hail_of_threads_probes_never_exceed_their_number_and_no_place_is_lost(clock: Clock) -> None:
    config = BreakerConfig(open_seconds=1, max_open_seconds=1, half_open_probes=2, success_threshold=3)
    changes: list[PolicyEvent] = []
    guard = CircuitBreaker("d", config, clock=clock, emit=changes.append)
    lock = threading.Lock()
    under_way: dict[int, int] = {}  # probes of each generation
    most = 0
    waits: list[float | None] = []

    def one_call(chance: random.Random) -> None:
        nonlocal most
        permit = guard.enter()
        generation = permit._generation
        if permit.is_probe:  # counted for a shorter time than it lasts, so never too many
            with lock:
                under_way[generation] = under_way.get(generation, 0) + 1
                most = max(most, under_way[generation])
        time.sleep(0)
        if permit.is_probe:
            with lock:
                under_way[generation] -= 1
        verdict = chance.choice(["success", "success", "failure", "failure", "failure", "neutral"])
        getattr(permit, verdict)()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(600):
            try:
                one_call(chance)
            except CircuitOpenError as refusal:
                waits.append(refusal.retry_after)
                with lock:
                    clock.now += 0.1

    together(*[partial(work, seed) for seed in range(6)])
    assert most == 2
    assert len(changes) > 20
    assert all(wait is not None and 0 < wait <= 1.001 for wait in waits)  # rounded up to a millisecond
    fail_until_open(guard)
    clock.now += 1
    probes = [guard.enter(), guard.enter()]
    assert all(probe.is_probe for probe in probes)
    refused(guard)


def fail_until_open(breaker: CircuitBreaker) -> None:
    while breaker.state != "open":
        fail(breaker)


@pytest.mark.usefixtures("hurried_threads")
def test_no_thread_comes_before_the_time_and_at_the_time_exactly_one_does(clock: Clock) -> None:
    guard = breaker(clock, max_open_seconds=30)
    fail(guard, 5)
    for _ in range(30):
        permits: list[Permit] = []

        def knock(permits: list[Permit] = permits) -> None:
            for _ in range(5):
                with contextlib.suppress(CircuitOpenError):
                    permits.append(guard.enter())

        clock.now += 29.75
        together(*[knock] * 4)
        assert permits == []
        clock.now += 0.25
        together(*[knock] * 4)
        (probe,) = permits
        probe.failure()


def together(*functions: Callable[[], object]) -> None:
    """Run them in threads that begin at once; what one of them raises is raised here."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        barrier.wait()
        function()

    with ThreadPoolExecutor(len(functions)) as threads:
        for future in [threads.submit(run, function) for function in functions]:
            future.result()
