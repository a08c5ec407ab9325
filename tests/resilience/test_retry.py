"""Retries: how often, how long, and what share of the calls they may be."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_chain, wait_fixed
from tenacity.wait import wait_base

from loom_py.clock import VirtualClock
from loom_py.errors import ConfigError, LoomError, RateLimitError, ServiceUnavailableError
from loom_py.resilience.retry import Retries, RetryBudget, RetryConfig

DOWN = ServiceUnavailableError("down")


def throttled(seconds: float | None) -> LoomError:
    return RateLimitError("slow down", retry_after=seconds)


# ── settings ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 2.0),
        ("max_attempts", True),
        ("budget_minimum", -1),
        ("budget_minimum", 1.5),
        ("initial_seconds", -0.1),
        ("max_seconds", float("inf")),
        ("jitter_seconds", float("nan")),
        ("jitter_seconds", "1"),
        ("max_wait_seconds", -1),
        ("budget_ratio", True),
        ("budget_ratio", -0.2),
        ("multiplier", 0.5),
        ("multiplier", float("inf")),
        ("wait", 2),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(field: str, value: Any) -> None:
    settings: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=field) as caught:
        RetryConfig(**settings)
    assert caught.value.field == field


def test_zeros_are_allowed_where_they_mean_something() -> None:
    config = RetryConfig(
        max_attempts=1,
        initial_seconds=0,
        max_seconds=0,
        jitter_seconds=0,
        max_wait_seconds=0,
        budget_ratio=0,
        budget_minimum=0,
    )
    assert Retries(config).wait(3, DOWN) == 0


# ── how often ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_first_call_is_one_of_the_attempts(most: int) -> None:
    retries = Retries(RetryConfig(max_attempts=most))
    assert [retries.is_over(count) for count in range(1, most + 1)] == [False] * (most - 1) + [True]


# ── how long ─────────────────────────────────────────────────────────────────────────────


def test_without_a_word_from_the_server_the_wait_doubles_from_one_second_to_thirty_two() -> None:
    retries = Retries(RetryConfig(max_attempts=9, jitter_seconds=0))
    assert [retries.wait(count, DOWN) for count in range(1, 9)] == [1, 2, 4, 8, 16, 32, 32, 32]


def test_jitter_comes_on_top_and_differs() -> None:
    retries = Retries(RetryConfig())
    waits = [retries.wait(3, DOWN) for _ in range(200)]
    assert all(4 <= wait <= 5 for wait in waits)
    assert max(waits) - min(waits) > 0.5
    jitters = [retries.jitter(100) for _ in range(200)]
    assert all(0 <= jitter <= 1 for jitter in jitters)
    assert max(jitters) - min(jitters) > 0.5


def test_all_of_the_backoff_can_be_set() -> None:
    retries = Retries(RetryConfig(initial_seconds=0.5, multiplier=3, max_seconds=5, jitter_seconds=0))
    assert [retries.wait(count, DOWN) for count in (1, 2, 3, 4)] == [0.5, 1.5, 4.5, 5]


@given(
    told=st.floats(0.001, 100_000),
    attempts=st.integers(1, 30),
    jitter=st.floats(0, 10),
    custom=st.none() | st.floats(0, 50),
)
def test_the_servers_word_is_never_undercut(
    told: float, attempts: int, jitter: float, custom: float | None
) -> None:
    wait = None if custom is None else wait_fixed(custom)
    retries = Retries(RetryConfig(jitter_seconds=jitter, max_seconds=1, wait=wait))
    assert told <= retries.wait(attempts, throttled(told)) <= told + jitter


@pytest.mark.parametrize("told", [None, 0.0, -5.0])
def test_a_server_that_says_nothing_of_use_is_backed_off_from(told: float | None) -> None:
    retries = Retries(RetryConfig(jitter_seconds=0))
    assert [retries.wait(count, throttled(told)) for count in (1, 2, 3)] == [1, 2, 4]


def test_a_strategy_of_tenacity_takes_the_place_of_the_backoff_with_its_jitter() -> None:
    chain: wait_base = wait_chain(wait_fixed(7), wait_fixed(0.25))
    retries = Retries(RetryConfig(wait=chain))
    assert [retries.wait(count, DOWN) for count in (1, 2, 3)] == [7, 0.25, 0.25]


def test_a_strategy_sees_the_attempt_and_its_error() -> None:
    seen: list[tuple[int, BaseException | None]] = []

    def wait(state: Any) -> float:
        seen.append((state.attempt_number, state.outcome.exception()))
        return 3.0

    assert Retries(RetryConfig(wait=wait)).wait(4, DOWN) == 3.0
    assert seen == [(4, DOWN)]


# ── what share of the calls ──────────────────────────────────────────────────────────────


def test_a_few_retries_are_always_allowed() -> None:
    budget = RetryBudget(0.2, 3, clock=VirtualClock().now)
    assert [budget.spend() for _ in range(5)] == [True, True, True, False, False]
    assert budget.stats().retries == 3


def test_of_many_calls_a_share_may_be_retries() -> None:
    budget = RetryBudget(0.2, 3, clock=VirtualClock().now)
    for _ in range(100):
        budget.call()
    assert (budget.stats().calls, budget.stats().left) == (100, 20)
    assert sum(budget.spend() for _ in range(100)) == 20
    assert budget.stats().left == 0


def test_a_refused_retry_is_not_counted() -> None:
    budget = RetryBudget(0.2, 1, clock=VirtualClock().now)
    assert [budget.spend() for _ in range(3)] == [True, False, False]
    for _ in range(10):
        budget.call()
    assert [budget.spend() for _ in range(3)] == [True, False, False]


def test_after_ten_seconds_calls_and_retries_are_forgotten() -> None:
    clock = VirtualClock()
    budget = RetryBudget(0.5, 1, clock=clock.now)
    for _ in range(10):
        budget.call()
    assert sum(budget.spend() for _ in range(10)) == 5
    clock.advance(5)
    budget.call()
    budget.call()
    assert (budget.stats().calls, budget.stats().left) == (12, 1)
    clock.advance(5)  # the first ten are 10 s old
    assert (budget.stats().calls, budget.stats().retries, budget.stats().left) == (2, 0, 1)
    clock.advance(1000)
    assert (budget.stats().calls, budget.stats().retries, budget.stats().left) == (0, 0, 1)
    assert budget.spend()


@given(st.lists(st.sampled_from(["call", "spend", "pass"]), max_size=200))
def test_retries_never_exceed_their_share_of_any_window(steps: list[str]) -> None:
    clock = VirtualClock()
    budget = RetryBudget(0.2, 2, clock=clock.now)
    for step in steps:
        if step == "call":
            budget.call()
        elif step == "pass":
            clock.advance(0.7)
        else:
            before = budget.stats()
            allowed = max(2, int(0.2 * before.calls))
            assert budget.spend() is (before.retries < allowed)
            assert budget.stats().retries <= max(allowed, before.retries)


def test_threads_do_not_spend_more_than_there_is() -> None:
    budget = RetryBudget(0.0, 50, clock=VirtualClock().now)
    granted: list[bool] = []

    def spend() -> None:
        granted.extend(budget.spend() for _ in range(40))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 50
