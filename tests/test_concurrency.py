"""The lock that serves threads and tasks, and the bridges between them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from loom_py._concurrency import (
    FairLock,
    aiter_in_thread,
    iter_from_async,
    run_coroutine,
    run_in_thread,
)

where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


# ── the lock ─────────────────────────────────────────────────────────────────────────────


async def test_threads_and_tasks_exclude_each_other() -> None:
    lock = FairLock()
    inside: list[int] = []
    overlaps: list[int] = []

    def work_here(number: int) -> None:
        inside.append(number)
        time.sleep(0.0005)
        if len(inside) > 1:
            overlaps.append(number)
        inside.remove(number)

    def in_thread(number: int) -> None:
        with lock.hold():
            work_here(number)

    async def in_task(number: int) -> None:
        async with lock.ahold():
            work_here(number)

    threads = [asyncio.to_thread(in_thread, n) for n in range(20)]
    await asyncio.wait_for(asyncio.gather(*threads, *(in_task(n) for n in range(20, 40))), 10)
    assert overlaps == []


async def test_those_who_wait_are_served_in_order_of_arrival() -> None:
    lock = FairLock()
    order: list[int] = []

    def in_thread(number: int) -> None:
        with lock.hold():
            order.append(number)

    async def in_task(number: int) -> None:
        async with lock.ahold():
            order.append(number)

    tasks: list[asyncio.Future[None]] = []
    async with lock.ahold():
        for number in range(8):
            work = asyncio.to_thread(in_thread, number) if number % 2 else in_task(number)
            tasks.append(asyncio.ensure_future(work))
            await asyncio.sleep(0.01)
    await asyncio.wait_for(asyncio.gather(*tasks), 5)
    assert order == list(range(8))


async def test_a_cancelled_waiter_neither_holds_the_lock_nor_loses_it() -> None:
    lock = FairLock()

    async def wait() -> None:
        async with lock.ahold():
            pass

    for settle in (True, False):  # cancelled while it waits; cancelled just as its turn comes
        async with lock.ahold():
            waiter = asyncio.create_task(wait())
            await asyncio.sleep(0.005)
            if settle:
                waiter.cancel()
                await asyncio.sleep(0.005)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await asyncio.wait_for(wait(), 2)


def test_a_waiter_whose_event_loop_has_ended_holds_nobody_up() -> None:
    lock = FairLock()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), lock.ahold():
                pass

    with lock.hold():
        asyncio.run(give_up())
    with lock.hold():
        pass


# ── the bridges ──────────────────────────────────────────────────────────────────────────


async def test_a_coroutine_runs_beneath_a_running_loop_in_the_callers_context() -> None:
    async def look() -> str:
        await asyncio.sleep(0)
        return where.get()

    where.set("here")
    assert run_coroutine(look()) == "here"
    assert await run_in_thread(where.get) == "here"


def test_waiting_for_the_background_loop_on_itself_is_refused_at_once() -> None:
    async def inner() -> str:
        return "x"

    async def outer() -> str:
        return run_coroutine(inner())

    with pytest.raises(RuntimeError, match="use the async method"):
        run_coroutine(outer())


async def test_a_stop_iteration_in_a_thread_does_not_hang_its_waiter() -> None:
    def stop() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(run_in_thread(stop), 2)


def test_items_and_the_error_of_an_async_iterator_come_through_in_order() -> None:
    async def count() -> AsyncIterator[int]:
        for number in range(200):  # more than the reader is ever ahead
            yield number
        raise KeyError("end")

    seen: list[int] = []
    with pytest.raises(KeyError, match="end"):
        seen.extend(iter_from_async(count))
    assert seen == list(range(200))
    reader = iter_from_async(count)
    assert [next(reader) for _ in range(200)] == list(range(200))
    reader.close()


async def test_items_and_the_error_of_a_blocking_iterator_come_through_in_order() -> None:
    threads: set[int] = set()

    def count() -> Iterator[int]:
        for number in range(5):
            threads.add(threading.get_ident())
            yield number
        raise KeyError("end")

    seen: list[int] = []

    async def read() -> None:
        async for number in aiter_in_thread(count):
            seen.append(number)  # noqa: PERF401 - what came before the error is kept

    with pytest.raises(KeyError, match="end"):
        await read()
    assert seen == [0, 1, 2, 3, 4]
    assert threading.get_ident() not in threads


def test_a_slow_reader_holds_the_source_back() -> None:
    made = 0

    async def count() -> AsyncIterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    reader = iter_from_async(count, ahead=4)
    assert next(reader) == 1
    time.sleep(0.05)
    assert made <= 7
    reader.close()


def test_a_bound_variable_can_be_unbound_across_the_items_of_a_bridge() -> None:
    def bind() -> Iterator[str]:
        token = where.set("inside")
        try:
            yield where.get()
            yield where.get()
        finally:
            where.reset(token)

    async def read() -> list[str]:
        return [item async for item in aiter_in_thread(bind)]

    assert asyncio.run(read()) == ["inside", "inside"]
    assert where.get() == "nowhere"
