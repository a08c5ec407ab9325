"""Redis is away, slow, or refuses: calls go on, one event says so, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loom_py.errors import ConfigError
from loom_py.resilience.breaker import BreakerConfig
from loom_py.resilience.events import PolicyEvent, SharedStateLost, SharedStateRestored
from loom_py.resilience.shared import BudgetClaim, EnterRequest, LeaveReport, SharedState, Spending

CLAIM = BudgetClaim("agent:a", "usd", 100, 60)


@pytest.fixture
def events() -> list[PolicyEvent]:
    return []


@pytest.fixture
def shared(own_redis: Any, events: list[PolicyEvent]) -> Iterator[SharedState]:
    with contextlib.closing(
        SharedState(own_redis.url, timeout=2, heartbeat=0.5, emit=events.append)
    ) as state:
        yield state


def eventually(is_so: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_granted(shared: SharedState, permit: str, *budgets: BudgetClaim) -> bool | None:
    reply = shared.enter(EnterRequest(permit, "gpt", BreakerConfig(), budgets=budgets))
    return None if reply is None else reply.is_granted


def amounts(shared: SharedState) -> tuple[int, int]:
    sums = shared.balance("agent:a", "usd")
    assert sums is not None
    return sums.spent, sums.reserved


def test_calls_go_on_while_redis_is_away_and_then_its_state_goes_on(
    own_redis: Any, shared: SharedState, events: list[PolicyEvent]
) -> None:
    assert is_granted(shared, "before", CLAIM)
    own_redis.stop()
    began = time.monotonic()
    assert [is_granted(shared, f"away-{number}") for number in range(500)] == [None] * 500
    assert time.monotonic() - began < 1.0
    assert not shared.health().connected
    shared.leave(LeaveReport("before", "gpt", "success", spent=(Spending("agent:a", "usd", 25),)))
    time.sleep(1.2)
    assert shared.health().away_seconds >= 1.2
    assert [type(event) for event in events] == [SharedStateLost]
    own_redis.start()
    eventually(lambda: shared.health().connected)
    lost, restored = events
    assert isinstance(lost, SharedStateLost)
    assert isinstance(restored, SharedStateRestored)
    assert lost.share == 1.0
    assert restored.away_seconds >= 1.2
    assert amounts(shared) == (25, 0)  # the report was kept for it
    assert is_granted(shared, "after", CLAIM)
    assert not is_granted(shared, "too-much", CLAIM)


def test_many_threads_that_lose_redis_at_once_say_so_once(
    own_redis: Any, shared: SharedState, events: list[PolicyEvent]
) -> None:
    assert is_granted(shared, "before")
    own_redis.stop()
    threads = [threading.Thread(target=is_granted, args=(shared, f"away-{n}")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(event) for event in events] == [SharedStateLost]


async def test_async_calls_go_on_too(own_redis: Any, shared: SharedState, events: list[PolicyEvent]) -> None:
    reply = await shared.aenter(EnterRequest("before", "gpt", budgets=(CLAIM,)))
    assert reply is not None
    own_redis.stop()
    replies = await asyncio.gather(*(shared.aenter(EnterRequest(f"away-{n}", "gpt")) for n in range(50)))
    assert replies == [None] * 50
    await shared.aleave(LeaveReport("before", "gpt", spent=(Spending("agent:a", "usd", 25),)))
    assert [type(event) for event in events] == [SharedStateLost]
    await asyncio.to_thread(own_redis.start)
    await asyncio.to_thread(eventually, lambda: shared.health().connected)
    balance = await shared.abalance("agent:a", "usd")
    assert balance is not None
    assert (balance.spent, balance.reserved) == (25, 0)


def test_a_redis_that_hangs_costs_one_timeout_and_holds_nothing_afterwards(
    own_redis: Any, shared: SharedState, events: list[PolicyEvent]
) -> None:
    assert is_granted(shared, "before")
    os.kill(own_redis._process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert is_granted(shared, "hangs", CLAIM) is None
        assert 1.9 < time.monotonic() - began < 3
        began = time.monotonic()
        assert is_granted(shared, "away", CLAIM) is None
        assert time.monotonic() - began < 0.5
    finally:
        os.kill(own_redis._process.pid, signal.SIGCONT)
    eventually(lambda: shared.health().connected)
    eventually(lambda: amounts(shared) == (0, 0))  # it was granted when nobody waited any more
    assert is_granted(shared, "after", CLAIM)
    lost = events[0]
    assert isinstance(lost, SharedStateLost)
    assert "Timeout" in lost.reason


def test_redis_need_not_be_up_when_the_state_is_made(own_redis: Any, events: list[PolicyEvent]) -> None:
    own_redis.stop()
    with contextlib.closing(SharedState(own_redis.url, timeout=2, emit=events.append)) as shared:
        assert events == []
        assert is_granted(shared, "early") is None
        own_redis.start()
        eventually(lambda: shared.health().connected)
        assert is_granted(shared, "later")
    assert [type(event) for event in events] == [SharedStateLost, SharedStateRestored]


def test_scripts_that_redis_forgot_are_sent_again(own_redis: Any, shared: SharedState) -> None:
    assert is_granted(shared, "before", CLAIM)
    own_redis.command("SCRIPT", "FLUSH")
    shared.leave(LeaveReport("before", "gpt"))
    own_redis.command("SCRIPT", "FLUSH")
    assert is_granted(shared, "after", CLAIM)
    assert shared.health().connected


def test_a_report_without_waiting_arrives(shared: SharedState) -> None:
    assert is_granted(shared, "one", CLAIM)
    shared.leave_later(LeaveReport("one", "gpt", spent=(Spending("agent:a", "usd", 25),)))
    eventually(lambda: amounts(shared) == (25, 0), 2)


def test_a_report_that_finds_redis_gone_is_kept_for_it(
    own_redis: Any, shared: SharedState, events: list[PolicyEvent]
) -> None:
    assert is_granted(shared, "one", CLAIM)
    own_redis.stop()
    shared.leave_later(LeaveReport("one", "gpt", spent=(Spending("agent:a", "usd", 25),)))
    eventually(lambda: not shared.health().connected)
    assert [type(event) for event in events] == [SharedStateLost]
    own_redis.start()
    eventually(lambda: shared.health().connected)
    assert amounts(shared) == (25, 0)


def test_closing_sends_what_is_still_to_be_told(own_redis: Any, shared: SharedState) -> None:
    other = SharedState(own_redis.url, timeout=2)
    assert is_granted(other, "one", CLAIM)
    for number in range(200):
        spent = (Spending("agent:a", "usd", 1),)
        other.leave_later(LeaveReport(f"unreserved-{number}", "gpt", spent=spent, entered=False))
    other.leave_later(LeaveReport("one", "gpt"))
    other.close()
    assert amounts(shared) == (200, 0)


def test_a_report_that_redis_refuses_does_not_keep_it_away(
    own_redis: Any, shared: SharedState, events: list[PolicyEvent]
) -> None:
    assert is_granted(shared, "one", CLAIM)
    key = "{loom_py}:deployment:gpt"
    own_redis.command("DEL", key)
    own_redis.command("LPUSH", key, "somebody else wrote here")
    shared.leave(LeaveReport("one", "gpt"))
    assert [type(event) for event in events] == [SharedStateLost]
    eventually(lambda: shared.health().connected)
    own_redis.command("DEL", key)
    assert is_granted(shared, "after")


# ── secrets, and settings that make no sense ─────────────────────────────────────────────

PASSWORD = "s3cret-pass"


def test_no_password_is_ever_told(own_redis: Any, events: list[PolicyEvent]) -> None:
    own_redis.command("CONFIG", "SET", "requirepass", PASSWORD)
    url = f"redis://:{PASSWORD}@127.0.0.1:{own_redis.port}/0"
    wrong = url.replace(PASSWORD, "wr0ng-pass")
    with contextlib.closing(SharedState(url, timeout=2, emit=events.append)) as right:
        assert is_granted(right, "right")
        told = repr(right)
    with contextlib.closing(SharedState(wrong, timeout=2, emit=events.append)) as refused:
        assert is_granted(refused, "wrong") is None
        told += repr(refused)
    assert [type(event) for event in events] == [SharedStateLost]
    told += repr(events)
    assert PASSWORD not in told
    assert "wr0ng-pass" not in told
    assert f"127.0.0.1:{own_redis.port}" in told


def test_a_password_in_the_words_of_redis_is_masked(own_redis: Any, events: list[PolicyEvent]) -> None:
    own_redis.command("CONFIG", "SET", "requirepass", PASSWORD)
    url = f"redis://:username-password@127.0.0.1:{own_redis.port}/0"
    with contextlib.closing(SharedState(url, timeout=2, emit=events.append)) as shared:
        assert is_granted(shared, "wrong") is None
    (lost,) = events
    assert isinstance(lost, SharedStateLost)
    assert "invalid *** pair" in lost.reason  # Redis says "invalid username-password pair"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        f"http://:{PASSWORD}@localhost",
        f"redis://user:{PASSWORD}/x@localhost",
        f"redis://:{PASSWORD}@localhost:port",
        "redis://",
        None,
    ],
)
def test_a_bad_url_is_told_without_its_password(url: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SharedState(url)
    error = caught.value
    assert PASSWORD not in f"{error} {error!r} {error.__cause__!r}"
    assert error.__suppress_context__ or error.__context__ is None
    assert error.field == "url"


@pytest.mark.parametrize(
    "settings",
    [{"prefix": ""}, {"prefix": "a{b}"}, {"timeout": 0}, {"heartbeat": -1}, {"lease": 3}, {"lease": True}],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SharedState("redis://localhost", **settings)


def test_the_missing_package_is_named() -> None:
    script = (
        "import sys; sys.modules['redis'] = None\n"
        "from loom_py.errors import MissingDependencyError\n"
        "from loom_py.resilience.shared import SharedState\n"
        "try: SharedState('redis://localhost')\n"
        "except MissingDependencyError as error: print(error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "pip install 'loom-py[redis]'"


def test_a_state_nobody_holds_any_more_ends_its_thread(own_redis: Any) -> None:
    shared = SharedState(own_redis.url, timeout=2)
    assert is_granted(shared, "one")
    named = "loom-py-shared-state"
    assert named in [thread.name for thread in threading.enumerate()]
    del shared
    gc.collect()
    eventually(lambda: named not in [thread.name for thread in threading.enumerate()])
