"""The throttle: one refusal pauses all calls, as long as the server says, and never shorter."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from loom_py.resilience.throttle import Throttle, ThrottleStats


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_held_back_at_first(clock: Clock) -> None:
    assert Throttle(clock=clock).stats() == ThrottleStats(remaining=0.0, in_a_row=0, total=0)


def test_it_waits_as_long_as_the_server_says(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    assert throttle.pause(45) == 45
    clock.now += 44.5
    assert throttle.remaining() == 0.5
    clock.now += 0.5
    assert throttle.remaining() == 0.0
    clock.now += 100
    assert throttle.remaining() == 0.0


def test_a_day_is_a_day(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    assert throttle.pause(86400) == 86400
    clock.now += 86399
    assert throttle.remaining() == 1


@pytest.mark.parametrize("unsaid", [None, 0, 0.0, -1, math.nan, math.inf])
def test_where_nothing_is_said_the_wait_doubles_from_1_to_32_seconds(
    clock: Clock, unsaid: float | None
) -> None:
    throttle = Throttle(clock=clock)
    waits = []
    for _ in range(8):
        waits.append(throttle.pause(unsaid))
        clock.now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 32, 32]
    assert throttle.stats() == ThrottleStats(remaining=0.0, in_a_row=8, total=8)


def test_ten_thousand_in_a_row_are_no_overflow(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    for _ in range(10_000):
        clock.now += throttle.pause(None)
    assert throttle.pause(None) == 32


def test_a_success_begins_the_doubling_anew(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    for _ in range(4):
        clock.now += throttle.pause(None)
    throttle.success()
    assert throttle.stats().in_a_row == 0
    assert throttle.pause(None) == 1


def test_pauses_of_a_known_length_are_in_the_row_too(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    clock.now += throttle.pause(5)
    clock.now += throttle.pause(5)
    assert throttle.pause(None) == 4


def test_a_hundred_calls_refused_at_once_are_one_throttling(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    assert [throttle.pause(None) for _ in range(100)] == [1] * 100
    assert throttle.stats() == ThrottleStats(remaining=1, in_a_row=1, total=100)
    clock.now += 1
    assert throttle.pause(None) == 2


def test_a_shorter_word_does_not_shorten_a_pause_and_a_longer_one_lengthens_it(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    throttle.pause(10)
    clock.now += 1
    assert throttle.pause(2) == 9
    assert throttle.pause(None) == 9
    assert throttle.pause(20) == 20


def test_a_success_during_a_pause_was_sent_before_it_and_changes_nothing(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    clock.now += throttle.pause(None)
    throttle.pause(None)
    throttle.success()
    assert throttle.stats() == ThrottleStats(remaining=2, in_a_row=2, total=2)
    clock.now += 2
    throttle.success()
    assert throttle.stats().in_a_row == 0


def test_a_reset_ends_the_pause_by_hand(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    throttle.pause(86400)
    throttle.reset()
    assert throttle.stats() == ThrottleStats(remaining=0.0, in_a_row=0, total=1)


def test_its_repr_says_how_long_it_holds_back(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    throttle.pause(12.5)
    assert repr(throttle) == "Throttle(12.5 s remaining, 1 in a row)"


@given(start=st.floats(0, 1e7), seconds=st.floats(0.001, 1e5))
@settings(max_examples=100, deadline=None)
def test_whoever_sleeps_as_long_as_told_has_slept_through_it(start: float, seconds: float) -> None:
    clock = Clock()
    clock.now = start
    throttle = Throttle(clock=clock)
    assert throttle.pause(seconds) >= seconds
    clock.now += seconds / 7
    clock.now += throttle.remaining()
    assert throttle.remaining() < 1e-6
    assert throttle.pause(None) >= 2  # a new throttling, though the clock may be a rounding early


def test_a_clock_that_is_a_rounding_early_is_at_the_end_of_the_pause(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    throttle.pause(None)
    clock.now = math.nextafter(1001.0, 0.0)
    assert throttle.pause(None) == 2
    clock.now = math.nextafter(clock.now + 2, 0.0)
    throttle.success()
    assert throttle.stats().in_a_row == 0


def test_no_refusal_of_many_threads_is_lost(clock: Clock) -> None:
    throttle = Throttle(clock=clock)
    barrier = threading.Barrier(8)

    def refuse(longest: int) -> None:
        barrier.wait()
        for seconds in range(1, longest):
            throttle.pause(seconds)

    threads = [threading.Thread(target=refuse, args=(200 + each,)) for each in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert throttle.stats() == ThrottleStats(remaining=206, in_a_row=1, total=8 * 199 + sum(range(8)))


class ThrottleMachine(RuleBasedStateMachine):
    """Any order of refusals, successes and passing time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.throttle = Throttle(clock=self.clock)
        self.until = 0.0
        self.in_a_row = self.total = 0

    def refused(self, said: float | None, waits: float) -> None:
        self.total += 1
        self.until = max(self.until, self.clock.now + waits)
        assert self.throttle.pause(said) == self.until - self.clock.now

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 60.0, 86400.0]))
    def be_told(self, seconds: float) -> None:
        self.in_a_row += self.clock.now >= self.until
        self.refused(seconds, seconds)

    @rule(said=st.sampled_from([None, 0.0, -3.0]))
    def be_told_nothing(self, said: float | None) -> None:
        self.in_a_row += self.clock.now >= self.until
        self.refused(said, min(2 ** (self.in_a_row - 1), 32))

    @rule()
    def succeed(self) -> None:
        before = self.throttle.remaining()
        self.throttle.success()
        assert self.throttle.remaining() == before
        if not before:
            self.in_a_row = 0

    @rule(seconds=st.sampled_from([0.25, 1.0, 4.0, 32.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def wait_as_told(self) -> None:
        self.clock.now += self.throttle.remaining()
        assert self.throttle.remaining() == 0.0

    @invariant()
    def never_shortens(self) -> None:
        expected = max(0.0, self.until - self.clock.now)
        assert self.throttle.stats() == ThrottleStats(expected, self.in_a_row, self.total)
        assert self.throttle.remaining() == expected


TestThrottleMachine = ThrottleMachine.TestCase
TestThrottleMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
