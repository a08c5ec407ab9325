"""Running one tool: in a thread, in a task, or on the background event loop.

Every way gives an `Outcome`, never an exception of the tool, so that a tool that calls
``sys.exit()`` ends neither its thread's event loop nor the agent.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from typing import Any, TypeVar

from loom_py._concurrency import on_bridge, submit_coroutine
from loom_py.tools.threads import arun_in_thread, in_thread

__all__ = ["Invocation", "Outcome", "arun", "finish", "run_here", "start"]

T = TypeVar("T")

CANCEL_GRACE = 1.0
"""Seconds that a cancelled async tool gets to clean up."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: a value or an error. ``seconds`` is the time it took."""

    value: Any = None
    error: BaseException | None = None
    timed_out: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call that only has to be made. ``timeout`` is in seconds."""

    function: Callable[[], Any]
    is_async: bool
    timeout: float | None


def run_here(invocation: Invocation) -> Outcome:
    """Run it in this thread, in a copy of the context; a timeout is the business of the waiter."""
    return contextvars.copy_context().run(_call, invocation)


def start(invocation: Invocation) -> Future[Outcome]:
    """Run it elsewhere: an async tool on the background loop, a sync one in a thread of its own."""
    if not invocation.is_async:
        return in_thread(lambda: _call(invocation))
    if on_bridge():  # waiting for the background loop from itself would never end
        return in_thread(lambda: asyncio.run(arun(invocation)))
    return submit_coroutine(arun(invocation))


def finish(future: Future[Outcome], invocation: Invocation, began: float) -> Outcome:
    """Wait for what `start` gave; ``began`` is the `time.perf_counter` of the start."""
    timeout = invocation.timeout
    if timeout is not None:
        # An async tool is timed where it runs; this clock is for a loop that someone blocks.
        slack = 2 * CANCEL_GRACE if invocation.is_async else 0.0
        wait_for_futures([future], max(0.0, began + timeout + slack - time.perf_counter()))
        if not future.done():
            future.cancel()
            return _timed_out(began)
    try:
        outcome = future.result()
    except Exception as exc:  # noqa: BLE001 (it could not even be started)
        return Outcome(error=exc, seconds=time.perf_counter() - began)
    if timeout is not None and outcome.seconds > timeout:
        return _timed_out(began)
    return outcome


async def arun(invocation: Invocation) -> Outcome:
    """Run it from async code: an async tool in a task, a sync one in a thread of its own.

    Cancelling this cancels the task, waits a moment for its end and passes the cancellation on.
    """
    if not invocation.is_async:
        return await _arun_blocking(invocation)
    began = time.perf_counter()
    task = asyncio.ensure_future(_acall(invocation))
    try:
        done, _ = await asyncio.wait({task}, timeout=invocation.timeout)
        if not done:
            await _cancel(task)
            return _timed_out(began)
    except asyncio.CancelledError:
        await _cancel(task)
        raise
    if task.cancelled():
        return Outcome(error=asyncio.CancelledError(), seconds=time.perf_counter() - began)
    if (error := task.exception()) is not None:
        return Outcome(error=error, seconds=time.perf_counter() - began)
    return task.result()


async def _arun_blocking(invocation: Invocation) -> Outcome:
    """Run a sync tool in a thread. What it gives to await is awaited here, in the time that is left."""
    began, timeout = time.perf_counter(), invocation.timeout
    future = arun_in_thread(lambda: _attempt(invocation.function))
    if timeout is not None:
        await asyncio.wait({future}, timeout=timeout)
        if not future.done():
            future.cancel()
            return _timed_out(began)
    try:
        value = await future
    except asyncio.CancelledError:
        raise
    except Exception as exc:  # noqa: BLE001 (it could not even be started)
        return Outcome(error=exc, seconds=time.perf_counter() - began)
    seconds = time.perf_counter() - began
    if isinstance(value, _Raised):
        return Outcome(error=value.error, seconds=seconds)
    if not _is_pending(value):
        return Outcome(value, seconds=seconds)
    left = None if timeout is None else max(timeout - seconds, 0.001)
    return await arun(Invocation(lambda: value, True, left))


async def _cancel(task: asyncio.Future[Outcome]) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=CANCEL_GRACE)
    if not task.done():
        task.add_done_callback(_forget)
    else:
        _forget(task)


def _forget(task: asyncio.Future[Outcome]) -> None:
    """Take an error nobody waits for any more, so that asyncio does not report it as lost."""
    if not task.cancelled():
        task.exception()


def _timed_out(began: float) -> Outcome:
    return Outcome(timed_out=True, seconds=time.perf_counter() - began)


# ── the call itself ──────────────────────────────────────────────────────────────────────


def _call(invocation: Invocation) -> Outcome:
    """The call, blocking. An awaitable that a sync function gives is awaited on the background loop."""
    began = time.perf_counter()
    try:
        value = _drained(invocation.function())
        if _is_pending(value):
            value = _wait_blocking(_settled(value))
    except BaseException as exc:  # noqa: BLE001 (also sys.exit(): the outcome decides what goes on)
        return Outcome(error=exc, seconds=time.perf_counter() - began)
    return Outcome(value, seconds=time.perf_counter() - began)


async def _acall(invocation: Invocation) -> Outcome:
    """The call, in a task. Only a cancellation comes out of it as an exception."""
    began = time.perf_counter()
    try:
        value = await _settled(_drained(invocation.function()))
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as exc:  # noqa: BLE001 (sys.exit() must not stop the event loop)
        return Outcome(error=exc, seconds=time.perf_counter() - began)
    return Outcome(value, seconds=time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


def _attempt(function: Callable[[], Any]) -> Any:
    """The value or what was raised, as a value: futures cannot carry every exception."""
    try:
        return _drained(function())
    except BaseException as exc:  # noqa: BLE001 (handed on as a value)
        return _Raised(exc)


def _drained(value: Any) -> Any:
    return list(value) if inspect.isgenerator(value) else value


def _is_pending(value: Any) -> bool:
    return inspect.isawaitable(value) or inspect.isasyncgen(value)


async def _settled(value: Awaitable[Any] | AsyncIterator[Any] | Any) -> Any:
    """``value``, awaited as long as it is awaitable; the items of an async generator as a list."""
    while inspect.isawaitable(value):
        value = await value
    if inspect.isasyncgen(value):
        return [item async for item in value]
    return value


def _wait_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    if on_bridge():
        return in_thread(lambda: asyncio.run(coroutine)).result()
    future = submit_coroutine(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
