"""Threads for blocking tools and providers: as many as are needed, and kept for a while to be used again.

There is no bound: a bounded pool would be used up by tools that run agents with tools, and by tools that
hang. The threads are daemons, so that a tool that hangs does not hold up the exit.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["arun_in_thread", "in_thread"]

T = TypeVar("T")

IDLE_SECONDS = 10.0
"""How long a thread without work is kept."""


class _Worker:
    """One thread, and the work it is given."""

    __slots__ = ("work",)

    def __init__(self) -> None:
        self.work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            try:
                work = self.work.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with _lock:
                    if self in _idle:
                        _idle.remove(self)
                        return
                continue  # it was given work just now
            if work is not None:
                work()
            del work
            with _lock:
                _idle.append(self)


_idle: list[_Worker] = []
_lock = threading.Lock()


def _forget_threads() -> None:
    """A forked child has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Run ``function`` in a thread that has nothing else to do, in the caller's context."""
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        result: Any
        try:
            result = context.run(function)
        except BaseException as exc:  # noqa: BLE001 (handed on to the waiter)
            future.set_exception(exc)
        else:
            future.set_result(result)

    try:
        _give(work)
    except RuntimeError as exc:  # the system has no thread left
        future.set_exception(exc)
    return future


def _give(work: Callable[[], object]) -> None:
    """Have a thread do ``work``, which raises nothing. Raises `RuntimeError` where no thread can be had."""
    with _lock:
        worker = _idle.pop() if _idle else None
    if worker is None:
        worker = _Worker()
        threading.Thread(target=worker.run, name="loom-py-tool", daemon=True).start()
    worker.work.put(work)


class _Results:
    """What threads have for the tasks of one event loop; the loop is woken once for all that is there."""

    __slots__ = ("_awake", "_found")

    def __init__(self) -> None:
        self._found: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._awake = False

    def put(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._found.append((future, result, error))
        if self._awake:  # it looks again after this was put there
            return
        self._awake = True
        try:
            future.get_loop().call_soon_threadsafe(self.hand_out)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self._found.clear()

    def hand_out(self) -> None:
        self._awake = False
        while self._found:
            future, result, error = self._found.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


_results: WeakKeyDictionary[asyncio.AbstractEventLoop, _Results] = WeakKeyDictionary()


def arun_in_thread(function: Callable[[], T]) -> asyncio.Future[T]:
    """`in_thread` for a task of the running event loop; what ``function`` raises must fit into a future."""
    loop = asyncio.get_running_loop()
    results = _results.get(loop)
    if results is None:
        results = _results[loop] = _Results()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        if future.cancelled():
            return
        try:
            result = context.run(function)
        except BaseException as exc:  # noqa: BLE001 (handed on to the waiter)
            results.put(future, None, exc)
        else:
            results.put(future, result, None)

    try:
        _give(work)
    except RuntimeError as exc:  # the system has no thread left
        future.set_exception(exc)
    return future
