"""Virtual time."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from loom_py.clock import Signal
from loom_py.emulator import AzureEmulator, RealClock, VirtualClock

DEPLOYMENT = "gpt-4o-deployment"
PATH = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21"
BODY = {"messages": [{"role": "user", "content": "Hi"}]}


def post(azure: AzureEmulator) -> httpx2.Response:
    return httpx2.post(f"{azure.endpoint}{PATH}", json=BODY, headers={"api-key": azure.api_key})


def test_a_virtual_clock_stands_still_until_it_is_advanced() -> None:
    clock = VirtualClock(epoch=1000)
    assert (clock.now(), clock.time()) == (0, 1000)
    clock.advance(2.5)
    assert (clock.now(), clock.time()) == (2.5, 1002.5)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_it_does_not_run_backwards(seconds: float) -> None:
    with pytest.raises(ValueError, match="0 seconds or more"):
        VirtualClock().advance(seconds)


async def test_a_sleeper_wakes_when_its_time_has_come_and_not_before() -> None:
    clock = VirtualClock()
    sleeper = asyncio.create_task(clock.asleep(10))
    await asyncio.sleep(0)
    assert clock.sleeping == 1
    clock.advance(9)
    await asyncio.sleep(0.01)
    assert not sleeper.done()
    clock.advance(1)
    await asyncio.wait_for(sleeper, 1)
    assert clock.sleeping == 0


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = VirtualClock()
    sleeper = asyncio.create_task(clock.asleep(10))
    await asyncio.sleep(0)
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert clock.sleeping == 0
    clock.advance(20)


async def test_with_auto_advance_nobody_waits() -> None:
    clock = VirtualClock(auto_advance=True)
    began = time.perf_counter()
    await clock.asleep(3600)
    assert clock.now() == 3600
    assert time.perf_counter() - began < 1


async def test_the_real_clock_runs_by_itself() -> None:
    clock = RealClock()
    await clock.asleep(0.01)
    assert clock.now() >= 0.009
    assert abs(clock.time() - time.time()) < 5


def test_a_delayed_request_waits_for_the_virtual_clock() -> None:
    clock = VirtualClock()
    with AzureEmulator(clock=clock) as azure, ThreadPoolExecutor(1) as pool:
        azure.delay_next(3600)
        answer = pool.submit(post, azure)
        clock.wait_for_sleepers()
        assert not answer.done()
        clock.advance(3600)
        assert answer.result(5).status_code == 200


def test_waiting_for_sleepers_that_do_not_come_gives_up() -> None:
    with pytest.raises(TimeoutError, match="0 of 1"):
        VirtualClock().wait_for_sleepers(timeout=0.01)


def test_answers_are_dated_by_the_clock() -> None:
    with AzureEmulator(clock=VirtualClock(epoch=1_700_000_000)) as azure:
        response = post(azure)
    assert response.json()["created"] == 1_700_000_000
    assert response.headers["date"] == "Tue, 14 Nov 2023 22:13:20 GMT"


def test_stopping_ends_a_request_that_waits_on_the_virtual_clock() -> None:
    clock = VirtualClock()
    azure = AzureEmulator(clock=clock).start()
    with ThreadPoolExecutor(1) as pool:
        azure.delay_next(60)
        answer = pool.submit(post, azure)
        clock.wait_for_sleepers()
        azure.stop()
        assert answer.result(5).status_code == 503
    clock.advance(60)


async def test_whom_a_signal_woke_sleeps_no_longer_though_it_has_not_run_yet() -> None:
    clock, signal = VirtualClock(), Signal()
    sleeper = asyncio.create_task(clock.asleep(10, signal))
    await asyncio.sleep(0)
    assert clock.sleeping == 1
    signal.set()
    assert clock.sleeping == 0
    assert not clock.advance_to_next()
    await sleeper
    assert clock.now() == 0


def test_a_thread_that_a_signal_woke_sleeps_no_longer() -> None:
    clock, signal = VirtualClock(), Signal()
    thread = threading.Thread(target=clock.sleep, args=(10, signal))
    thread.start()
    clock.wait_for_sleepers(1)
    signal.set()
    assert clock.sleeping == 0
    thread.join(5)
    assert not thread.is_alive()
