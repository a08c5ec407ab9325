"""Threads that work for the tasks of an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import time
import warnings
import weakref
from functools import partial
from typing import Any

import pytest

from loom_py.tools.threads import _Threads, arun_in_thread, in_thread

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


async def test_all_that_is_given_at_once_runs_at_once() -> None:
    """Each waits for all others: one that had to wait for a thread would hold up everyone."""
    together = threading.Barrier(60)
    async with asyncio.timeout(10):
        await asyncio.gather(*(arun_in_thread(partial(together.wait, 10)) for _ in range(60)))
        blocking = [in_thread(partial(together.wait, 10)) for _ in range(60)]
        await asyncio.gather(*map(asyncio.wrap_future, blocking))


async def test_what_short_functions_give_others_to_do_is_done_while_they_wait_for_it() -> None:
    def outer(depth: int) -> int:
        return 0 if depth == 0 else 1 + in_thread(partial(outer, depth - 1)).result(10)

    async with asyncio.timeout(10):
        assert await asyncio.gather(*(arun_in_thread(partial(outer, 5)) for _ in range(20))) == [5] * 20


async def test_many_short_functions_need_few_threads() -> None:
    used: set[int] = set()
    for _ in range(5):
        await asyncio.gather(*(arun_in_thread(lambda: used.add(threading.get_ident())) for _ in range(200)))
    assert len(used) < 50


async def test_where_no_thread_can_be_had_each_hears_of_it_and_the_next_is_tried_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = _Threads()
    monkeypatch.setattr("loom_py.tools.threads._threads", threads)
    with monkeypatch.context() as without:

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        without.setattr(threading.Thread, "start", start)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="can't start"):
                await asyncio.wait_for(arun_in_thread(int), 5)
        with pytest.raises(RuntimeError, match="can't start"):
            in_thread(int).result(5)
    assert await asyncio.wait_for(arun_in_thread(lambda: 7), 5) == 7


def test_a_thread_that_was_idle_for_long_ends_and_another_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loom_py.tools.threads._threads", _Threads())
    monkeypatch.setattr("loom_py.tools.threads.IDLE_SECONDS", 0.02)
    first = in_thread(threading.current_thread).result(5)
    first.join(5)
    assert not first.is_alive()
    second = in_thread(threading.current_thread).result(5)
    assert second is not first


def test_a_forked_child_has_threads_of_its_own() -> None:
    assert in_thread(lambda: 1).result(5) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
        child = os.fork()
    if child == 0:
        os._exit(in_thread(lambda: 7).result(5))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_while_work_is_given_takes_that_back_and_harms_no_other(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    class Interrupted(_Threads):
        strikes = 1

        def _send_for(self, bell: Any) -> None:
            if when == "after":
                super()._send_for(bell)
            if self.strikes:
                self.strikes -= 1
                raise KeyboardInterrupt
            if when == "before":
                super()._send_for(bell)

    ran: list[str] = []
    monkeypatch.setattr("loom_py.tools.threads._threads", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        in_thread(lambda: ran.append("interrupted"))
    for _ in range(3):
        in_thread(lambda: ran.append("next")).result(5)
    assert ran[-3:] == ["next"] * 3
    assert when == "after" or ran.count("interrupted") == 0
