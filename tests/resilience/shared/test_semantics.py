"""The scripts decide as the policies of one process do; time is injected."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loom_py.errors import CircuitOpenError
from loom_py.resilience.breaker import BreakerConfig, CircuitBreaker, Permit
from loom_py.resilience.events import CircuitChanged, PolicyEvent
from loom_py.resilience.shared import (
    BudgetClaim,
    EnterReply,
    EnterRequest,
    LeaveReport,
    SharedState,
    Spending,
)
from loom_py.resilience.throttle import Throttle

numbers = itertools.count()


class World:
    """A shared state with a time of its own, and short ways to use it."""

    def __init__(self, url: str) -> None:
        self.now = 1_800_000_000.0
        self.events: list[PolicyEvent] = []
        self.shared = SharedState(
            url,
            prefix=f"world-{next(numbers)}",
            timeout=5,
            emit=self.events.append,
            server_time=lambda: self.now,
        )

    def enter(self, deployment: str = "gpt", **asked: Any) -> tuple[str, EnterReply]:
        permit = f"permit-{next(numbers)}"
        reply = self.shared.enter(EnterRequest(permit, deployment, **asked))
        assert reply is not None
        return permit, reply

    def leave(self, permit: str, deployment: str = "gpt", **told: Any) -> None:
        self.shared.leave(LeaveReport(permit, deployment, **told))

    def call(self, outcome: str = "success", **told: Any) -> None:
        config = BreakerConfig()
        permit, reply = self.enter(breaker=config)
        assert reply.is_granted, reply
        self.leave(permit, outcome=outcome, breaker=config, **told)


@pytest.fixture
def worlds(redis_server: Any) -> Iterator[Callable[[], World]]:
    made: list[World] = []

    def make() -> World:
        made.append(World(redis_server.url))
        return made[-1]

    yield make
    for world in made:
        world.shared.close()


@pytest.fixture
def world(worlds: Callable[[], World]) -> World:
    return worlds()


# ── breakers ─────────────────────────────────────────────────────────────────────────────

CONFIG = BreakerConfig(
    failure_threshold=3,
    success_threshold=2,
    open_seconds=10,
    max_open_seconds=35,
    failure_rate=0.5,
    window_seconds=30,
    minimum_calls=6,
    half_open_probes=2,
)

CALL = st.tuples(
    st.sampled_from(["success", "success", "failure", "failure", "neutral", "take_out"]), st.integers(0, 5)
)
STEPS = st.lists(
    st.one_of(
        st.just("enter"),
        CALL.map(lambda call: ("enter", call)),  # a call that is over at once
        CALL,  # one of those under way is over
        st.sampled_from([0.25, 1.0, 2.5, 10.0, 20.0, 40.0]),
        st.sampled_from(["open", "close", "close", 10.0, 15.0]),
    ),
    min_size=15,
    max_size=60,
)


class Twins:
    """A breaker of one process and one in Redis, to which the same happens."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shared_events = world.events
        self.local_events: list[PolicyEvent] = []
        self.local = CircuitBreaker(
            "shared gpt", CONFIG, clock=lambda: world.now, emit=self.local_events.append
        )
        self.under_way: list[tuple[str, Permit]] = []
        permit, _ = world.enter(breaker=CONFIG)  # the window begins when the breaker is first known
        world.leave(permit, outcome="neutral", breaker=CONFIG)

    def step(self, step: Any) -> None:
        if isinstance(step, float):
            self.world.now += step
        elif step[0] == "enter":
            self.enter()
            self.step((step[1][0], len(self.under_way) - 1))
        elif step == "enter":
            self.enter()
        elif step == "open":
            self.local.force_open()
            self.world.shared.control("gpt", "open")
        elif step == "close":
            self.local.force_close()
            self.world.shared.control("gpt", "close")
        elif self.under_way:
            self.settle(*step)

    def enter(self) -> None:
        permit, reply = self.world.enter(breaker=CONFIG)
        try:
            local = self.local.enter()
        except CircuitOpenError as refusal:
            expected = math.inf if refusal.retry_after is None else refusal.retry_after
            assert reply.verdict == "circuit_open"
            assert reply.wait == pytest.approx(expected, abs=1.1e-3)
            assert reply.reason == self.local.stats().reason
        else:
            assert (reply.verdict, reply.is_probe) == ("granted", local.is_probe)
            self.under_way.append((permit, local))

    def settle(self, outcome: str, which: int) -> None:
        permit, local = self.under_way.pop(which % len(self.under_way))
        self.world.leave(
            permit, outcome=outcome, breaker=CONFIG, take_out_seconds=15.0, take_out_reason="wrong key"
        )
        if outcome == "take_out":
            local.take_out(15.0, "wrong key")
        else:
            getattr(local, outcome)()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(steps=STEPS)
def test_a_breaker_in_redis_is_in_the_same_state_as_one_in_the_process(
    worlds: Callable[[], World], steps: list[Any]
) -> None:
    world = worlds()
    twins = Twins(world)
    for step in steps:
        twins.step(step)
        assert world.shared.stats("gpt", CONFIG) == _about(twins.local.stats())
    assert world.events == twins.local_events
    world.shared.close()


def _about(stats: Any) -> Any:
    """The same, with the seconds rounded up to milliseconds as they come from Redis."""
    if stats.retry_after is None:
        return stats
    return dataclasses.replace(stats, retry_after=pytest.approx(stats.retry_after, abs=1.1e-3))


def test_a_call_that_was_begun_before_the_breaker_opened_is_not_counted_after_it(world: World) -> None:
    config = BreakerConfig()
    late, _ = world.enter(breaker=config)
    for _ in range(5):
        world.call("failure")
    world.now += 31
    probe, reply = world.enter(breaker=config)
    assert reply.is_probe
    world.leave(late, outcome="success", breaker=config)
    stats = world.shared.stats("gpt")
    assert stats is not None
    assert (stats.state, stats.successes) == ("half-open", 0)
    world.leave(probe, outcome="success", breaker=config)


def test_a_breaker_forced_open_says_that_no_time_ends_it(world: World) -> None:
    assert world.shared.control("gpt", "open", reason="maintenance")
    _, reply = world.enter(breaker=BreakerConfig())
    assert (reply.verdict, reply.wait, reply.reason) == ("circuit_open", math.inf, "maintenance")
    assert world.shared.control("gpt", "reset")
    assert world.enter(breaker=BreakerConfig())[1].is_granted
    assert [event.after for event in world.events if isinstance(event, CircuitChanged)] == ["open", "closed"]


def test_a_probe_that_could_not_be_announced_gives_its_place_back(redis_server: Any) -> None:
    def emit(event: PolicyEvent) -> None:
        if isinstance(event, CircuitChanged) and event.after == "half-open":
            raise RuntimeError("the log is full")

    config = BreakerConfig(failure_threshold=1, open_seconds=0.05)
    with contextlib.closing(SharedState(redis_server.url, timeout=5, emit=emit)) as shared:
        assert shared.enter(EnterRequest("one", "gpt", config)) is not None
        shared.leave(LeaveReport("one", "gpt", "failure", config))
        time.sleep(0.1)
        with pytest.raises(RuntimeError, match="the log is full"):
            shared.enter(EnterRequest("two", "gpt", config))
        for number in range(100):
            reply = shared.enter(EnterRequest(f"three-{number}", "gpt", config))
            assert reply is not None
            if reply.is_granted:
                return
            time.sleep(0.02)
        raise AssertionError("the probe's place was never given back")


def test_who_has_no_breaker_is_not_held_back_by_one(world: World) -> None:
    world.shared.control("gpt", "open")
    assert world.enter()[1].is_granted


# ── throttling ───────────────────────────────────────────────────────────────────────────


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(
    steps=st.lists(
        st.sampled_from([None, 0.0, 3.0, 50.0, "success", "after 1", "after 4", "after 40"]), max_size=25
    )
)
def test_throttling_in_redis_lasts_as_long_as_in_the_process(
    worlds: Callable[[], World], steps: list[Any]
) -> None:
    world = worlds()
    local = Throttle(clock=lambda: world.now)
    under_way = [world.enter()[0] for _ in steps]  # sent before anyone heard of throttling
    for step, permit in zip(steps, under_way, strict=True):
        if isinstance(step, str) and step != "success":
            world.now += float(step.split()[1])
        elif step == "success":
            local.success()
            world.leave(permit, outcome="success")
        else:
            local.pause(step)
            world.leave(permit, throttled=True, throttle_seconds=step)
        _, reply = world.enter()
        remaining = local.remaining()
        assert reply.verdict == ("throttled" if remaining > 1e-6 else "granted")
        assert reply.wait == pytest.approx(remaining, abs=1.1e-3)
    world.shared.close()


# ── rate limits ──────────────────────────────────────────────────────────────────────────


def test_tokens_are_refused_until_a_minute_after_they_were_reserved(world: World) -> None:
    assert world.enter(tokens=700, tokens_per_minute=1000)[1].is_granted
    world.now += 10
    assert world.enter(tokens=300, tokens_per_minute=1000)[1].is_granted
    world.now += 10
    _, reply = world.enter(tokens=1, tokens_per_minute=1000)
    assert reply.verdict == "rate_limited"
    assert 40 <= reply.wait <= 42
    world.now += reply.wait
    assert world.enter(tokens=700, tokens_per_minute=1000)[1].is_granted
    assert world.enter(tokens=1, tokens_per_minute=1000)[1].verdict == "rate_limited"


def test_what_was_used_replaces_what_was_reserved(world: World) -> None:
    permit, _ = world.enter(tokens=1000, tokens_per_minute=1000)
    assert not world.enter(tokens=1, tokens_per_minute=1000)[1].is_granted
    world.leave(permit, outcome="success", tokens=400)
    assert world.enter(tokens=600, tokens_per_minute=1000)[1].is_granted
    assert not world.enter(tokens=1, tokens_per_minute=1000)[1].is_granted


def test_a_reservation_is_kept_where_nobody_knows_what_was_used(world: World) -> None:
    permit, _ = world.enter(tokens=1000, tokens_per_minute=1000)
    world.leave(permit, outcome="neutral")
    assert not world.enter(tokens=1, tokens_per_minute=1000)[1].is_granted


def test_a_released_attempt_gives_its_tokens_back(world: World) -> None:
    permit, _ = world.enter(tokens=1000, tokens_per_minute=1000)
    world.leave(permit, release=True)
    assert world.enter(tokens=1000, tokens_per_minute=1000)[1].is_granted


def test_a_request_above_the_whole_quota_goes_alone(world: World) -> None:
    assert world.enter(tokens=5000, tokens_per_minute=1000)[1].is_granted
    _, reply = world.enter(tokens=5000, tokens_per_minute=1000)
    assert not reply.is_granted
    world.now += reply.wait
    assert world.enter(tokens=5000, tokens_per_minute=1000)[1].is_granted


def test_requests_are_spaced_evenly(world: World) -> None:
    sent = []
    for _ in range(120):
        _, reply = world.enter(requests_per_minute=60)
        if reply.is_granted:
            sent.append(world.now)
        else:
            world.now += reply.wait
    gaps = [after - before for before, after in itertools.pairwise(sent)]
    assert len(sent) == 60
    assert min(gaps) >= 1.0
    assert max(gaps) <= 1.1


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(calls=st.lists(st.tuples(st.integers(100, 600), st.floats(0, 20)), min_size=5, max_size=40))
def test_no_minute_ever_holds_more_than_the_quota(
    worlds: Callable[[], World], calls: list[tuple[int, float]]
) -> None:
    world = worlds()
    granted: list[tuple[float, int]] = []
    for tokens, pause in calls:
        world.now += pause
        wait = 0.0
        while not (reply := world.enter(tokens=tokens, tokens_per_minute=1000)[1]).is_granted:
            world.now += reply.wait
            wait += reply.wait
        assert wait < 62
        granted.append((world.now, tokens))
    for start, _ in granted:
        assert sum(tokens for at, tokens in granted if start <= at < start + 60) <= 1000
    world.shared.close()


# ── budgets ──────────────────────────────────────────────────────────────────────────────


def claim(needed: int, limit: int = 100, account: str = "agent:a") -> BudgetClaim:
    return BudgetClaim(account, "usd", limit, needed)


def sums(world: World, account: str = "agent:a") -> tuple[int, int, int]:
    found = world.shared.balance(account, "usd")
    assert found is not None
    return found.spent, found.reserved, found.uncertain


def test_the_worst_case_is_reserved_and_then_settled(world: World) -> None:
    permit, _ = world.enter(budgets=(claim(60),))
    assert sums(world) == (0, 60, 0)
    _, reply = world.enter(budgets=(claim(41),))
    assert reply.verdict == "budget"
    assert reply.budget is not None
    assert (reply.budget.limit, reply.budget.spent, reply.budget.reserved) == (100, 0, 60)
    world.leave(permit, outcome="success", spent=(Spending("agent:a", "usd", 25),))
    assert sums(world) == (25, 0, 0)
    assert world.enter(budgets=(claim(75),))[1].is_granted


def test_what_may_have_been_billed_counts_as_spent(world: World) -> None:
    permit, _ = world.enter(budgets=(claim(60),))
    world.leave(permit, outcome="failure", spent=(Spending("agent:a", "usd", 60, True),))
    assert sums(world) == (60, 0, 60)


def test_a_refused_budget_leaves_nothing_else_reserved(world: World) -> None:
    config = BreakerConfig()
    for _ in range(5):
        world.call("failure")
    world.now += 31
    asked: dict[str, Any] = {
        "breaker": config,
        "tokens": 900,
        "tokens_per_minute": 1000,
        "requests_per_minute": 1,
    }
    budgets = (claim(10, account="agent:rich"), claim(10, limit=5, account="agent:poor"))
    assert world.enter(**asked, budgets=budgets)[1].verdict == "budget"
    assert sums(world, "agent:rich") == (0, 0, 0)
    _, reply = world.enter(**asked)
    assert reply.is_granted
    assert reply.is_probe


def test_a_rate_limit_that_refuses_leaves_no_money_reserved(world: World) -> None:
    world.enter(tokens=1000, tokens_per_minute=1000)
    assert not world.enter(tokens=1, tokens_per_minute=1000, budgets=(claim(10),))[1].is_granted
    assert sums(world) == (0, 0, 0)


def test_an_extension_counts_for_all_later_claims(world: World) -> None:
    assert not world.enter(budgets=(claim(101),))[1].is_granted
    extended = world.shared.extend("agent:a", "usd", 1)
    assert extended is not None
    assert extended.extra == 1
    assert world.enter(budgets=(claim(101),))[1].is_granted
    assert not world.enter(budgets=(claim(1),))[1].is_granted
    with pytest.raises(ValueError, match="at least 0"):
        world.shared.extend("agent:a", "usd", -1)


amounts = st.one_of(st.integers(0, 1000), st.integers(2**52, 2**60), st.just(10**9), st.just(10**18))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(limit=amounts, first=amounts, second=st.one_of(amounts, st.integers(-2, 2)))
def test_sums_are_exact_far_beyond_the_numbers_of_lua(
    worlds: Callable[[], World], limit: int, first: int, second: int
) -> None:
    if -2 <= second <= 2:
        second = max(limit - first + second, 0)  # just above or below what is left
    world = worlds()
    assert world.enter(budgets=(claim(first, limit),))[1].is_granted == (first <= limit)
    reserved = first if first <= limit else 0
    assert world.enter(budgets=(claim(second, limit),))[1].is_granted == (reserved + second <= limit)
    world.shared.close()


# ── twice, late, or not at all ───────────────────────────────────────────────────────────


def test_asking_twice_for_one_permit_reserves_once(world: World) -> None:
    request = EnterRequest("one", "gpt", budgets=(claim(60),), tokens=600, tokens_per_minute=1000)
    assert world.shared.enter(request) == world.shared.enter(request)
    assert sums(world) == (0, 60, 0)
    assert world.enter(tokens=400, tokens_per_minute=1000)[1].is_granted


def test_telling_twice_counts_once(world: World) -> None:
    permit, _ = world.enter(budgets=(claim(60),))
    for _ in range(2):
        world.leave(permit, outcome="success", spent=(Spending("agent:a", "usd", 25),))
    assert sums(world) == (25, 0, 0)


def test_a_request_that_comes_after_its_own_withdrawal_is_not_granted(world: World) -> None:
    world.leave("late", release=True)
    reply = world.shared.enter(EnterRequest("late", "gpt", budgets=(claim(60),)))
    assert reply is not None
    assert not reply.is_granted
    assert sums(world) == (0, 0, 0)


def test_what_was_spent_while_redis_was_away_is_booked_once(world: World) -> None:
    for _ in range(2):
        world.leave(
            "unreserved",
            outcome="success",
            tokens=700,
            spent=(Spending("agent:a", "usd", 25),),
            entered=False,
        )
    assert sums(world) == (25, 0, 0)
    assert world.enter(tokens=300, tokens_per_minute=1000)[1].is_granted
    assert not world.enter(tokens=1, tokens_per_minute=1000)[1].is_granted


async def test_async_decides_the_same(world: World) -> None:
    shared = world.shared
    reply = await shared.aenter(EnterRequest("one", "gpt", budgets=(claim(60),)))
    assert reply is not None
    assert reply.is_granted
    refused = await shared.aenter(EnterRequest("two", "gpt", budgets=(claim(60),)))
    assert refused is not None
    assert refused.verdict == "budget"
    await shared.aleave(LeaveReport("one", "gpt", "success", spent=(Spending("agent:a", "usd", 25),)))
    balance = await shared.abalance("agent:a", "usd")
    assert balance is not None
    assert (balance.spent, balance.reserved) == (25, 0)


async def test_a_cancelled_request_holds_nothing(world: World) -> None:
    for _ in range(20):
        task = asyncio.create_task(
            world.shared.aenter(EnterRequest(f"gone-{next(numbers)}", "gpt", budgets=(claim(1),)))
        )
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    for _ in range(200):
        balance = await world.shared.abalance("agent:a", "usd")
        assert balance is not None
        if balance.reserved == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(balance)


# ── what Redis keeps ─────────────────────────────────────────────────────────────────────


def test_only_money_that_must_not_be_forgotten_stays_in_redis_for_good(redis_server: Any) -> None:
    shared = SharedState(redis_server.url, prefix="keys", timeout=5)
    accounts = ("chat:1", "session:1", "agent:1", "day:2026-11-23")
    request = EnterRequest(
        "one",
        "gpt",
        BreakerConfig(),
        10,
        1000,
        60,
        tuple(BudgetClaim(account, "tokens", 100, 10) for account in accounts),
    )
    reply = shared.enter(request)
    assert reply is not None
    assert reply.is_granted
    accounts_only = {key for key in _lifetimes(redis_server) if ":account:" in key}
    while_under_way = _lifetimes(redis_server)
    shared.leave(LeaveReport("one", "gpt", "success", BreakerConfig()))
    shared.close()
    lifetimes = _lifetimes(redis_server)
    assert all((while_under_way[key] == -1) == (lifetimes[key] == -1) for key in accounts_only)
    assert {key for key, seconds in lifetimes.items() if seconds == -1} == {
        "{keys}:account:tokens:session:1",
        "{keys}:account:tokens:agent:1",
    }
    assert 0 < lifetimes["{keys}:account:tokens:chat:1"] <= 86_400
    assert 86_400 < lifetimes["{keys}:account:tokens:day:2026-11-23"] <= 2 * 86_400
    assert 0 < lifetimes["{keys}:deployment:gpt"] <= 2 * 86_400


def test_what_a_person_has_forced_is_not_forgotten(redis_server: Any) -> None:
    with contextlib.closing(SharedState(redis_server.url, prefix="keys", timeout=5)) as shared:
        shared.control("gpt", "open")
        assert _lifetimes(redis_server)["{keys}:deployment:gpt"] == -1
        shared.control("gpt", "close")
        assert _lifetimes(redis_server)["{keys}:deployment:gpt"] > 0


def _lifetimes(redis_server: Any) -> dict[str, int]:
    return {key: redis_server.command("TTL", key) for key in redis_server.command("KEYS", "*")}
