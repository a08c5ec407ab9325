"""Threads that work for the tasks of an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref

import pytest

from loom_py.tools.threads import arun_in_thread

NUMBER: contextvars.ContextVar[int] = contextvars.ContextVar("number")


async def test_each_task_gets_its_own_result_in_its_own_context() -> None:
    async def ask(number: int) -> int:
        NUMBER.set(number)
        return await arun_in_thread(NUMBER.get)

    for _ in range(20):
        assert await asyncio.gather(*map(ask, range(100))) == list(range(100))


async def test_what_is_raised_reaches_the_one_who_waits_and_nobody_else() -> None:
    def fail() -> int:
        raise KeyError("mine")

    found = await asyncio.gather(
        arun_in_thread(fail), arun_in_thread(lambda: 7), arun_in_thread(fail), return_exceptions=True
    )
    assert [repr(each) for each in found] == ["KeyError('mine')", "7", "KeyError('mine')"]


async def test_a_task_that_gave_up_keeps_no_other_from_its_result() -> None:
    go_on = threading.Event()
    waiting = [arun_in_thread(go_on.wait) for _ in range(20)]
    await asyncio.sleep(0.01)
    for future in waiting[::2]:
        future.cancel()
    go_on.set()
    assert await asyncio.gather(*waiting[1::2]) == [True] * 10


async def test_a_blocking_function_holds_up_no_other_task() -> None:
    slow = arun_in_thread(lambda: time.sleep(0.3))
    began = time.monotonic()
    for _ in range(50):
        await arun_in_thread(int)
    assert time.monotonic() - began < 0.25
    await slow


def test_a_thread_may_end_after_its_event_loop() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait()
        ended.set()

    async def leave() -> None:
        arun_in_thread(work)
        await asyncio.sleep(0.01)

    async def again() -> int:
        return await arun_in_thread(lambda: 7)

    asyncio.run(leave())
    go_on.set()
    assert ended.wait(5)
    assert asyncio.run(again()) == 7


def test_nothing_is_kept_of_an_event_loop_that_is_over() -> None:
    async def once() -> weakref.ref[asyncio.AbstractEventLoop]:
        await arun_in_thread(int)
        return weakref.ref(asyncio.get_running_loop())

    seen = asyncio.run(once())
    end = time.monotonic() + 5
    while seen() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert seen() is None


@pytest.mark.parametrize("number", [1, 300])
async def test_an_event_loop_is_woken_for_every_result(number: int) -> None:
    """Without other work the loop sleeps until it is told."""
    async with asyncio.timeout(10):
        for _ in range(3):
            await asyncio.gather(*(arun_in_thread(lambda: time.sleep(0.002)) for _ in range(number)))
