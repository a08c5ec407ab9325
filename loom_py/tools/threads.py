"""Threads for blocking tools and providers: as many as are needed, and kept for a while to be used again.

There is no bound: a bounded pool would be used up by tools that run agents with tools, and by tools that
hang. The threads are daemons, so that a tool that hangs does not hold up the exit.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["arun_in_thread", "in_thread"]

T = TypeVar("T")

IDLE_SECONDS = 10.0
"""How long a thread without work is kept."""


_Work = tuple[Callable[[], object], Callable[[BaseException], object]]
"""A function that raises nothing, and who is told if no thread can be had for it."""


class _Threads:
    """Threads that share one queue of work.

    Whenever work waits, a thread is on its way to it, which sends for another before it begins, if more is
    waiting. So nothing waits for a function that takes long, and yet one thread does many short ones in
    turn: threads that are woken take the interpreter's lock from the event loop, which costs more than most
    functions.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A forked child has none of its parent's threads."""
        self._lock = threading.Lock()
        self._waiting: deque[_Work] = deque()
        self._idle: list[threading.Lock] = []
        self._coming = False

    def give(self, run: Callable[[], object], fail: Callable[[BaseException], object]) -> None:
        """Have a thread do ``run``, which raises nothing. If none can be had, ``fail`` is told why."""
        work = run, fail
        try:
            with self._lock:
                self._waiting.append(work)
                if self._coming:
                    return
                self._coming = True
                bell = self._idle.pop() if self._idle else None
            self._send_for(bell)
        except BaseException:  # Ctrl-C, which may strike anywhere
            self._take_back(work)
            raise

    def _take_back(self, work: _Work) -> None:
        """Whoever gave it was interrupted; perhaps nobody is on the way to the others' work now."""
        with self._lock:
            with suppress(ValueError):
                self._waiting.remove(work)
            self._coming = bool(self._waiting)
        if self._coming:
            self._send_for(None)

    def _send_for(self, bell: threading.Lock | None) -> None:
        if bell is not None:
            bell.release()
            return
        try:
            threading.Thread(target=self._serve, name="loom-py-tool", daemon=True).start()
        except RuntimeError as exc:  # the system has no thread left
            with self._lock:
                self._coming = False
                hopeless = list(self._waiting)
                self._waiting.clear()
            for _, fail in hopeless:
                fail(exc)

    def _serve(self) -> None:
        bell = threading.Lock()
        bell.acquire()
        came = True
        while True:
            run, send, other = None, False, None
            with self._lock:
                if came:
                    self._coming = came = False
                if not self._waiting:
                    self._idle.append(bell)
                else:
                    run = self._waiting.popleft()[0]
                    if self._waiting and not self._coming:
                        send = self._coming = True
                        other = self._idle.pop() if self._idle else None
            if send:
                self._send_for(other)
            if run is not None:
                run()
            elif not self._rung(bell):
                return
            else:
                came = True

    def _rung(self, bell: threading.Lock) -> bool:
        """Whether there is work again before the thread has been idle for too long."""
        if bell.acquire(timeout=IDLE_SECONDS):
            return True
        with self._lock:
            if bell in self._idle:
                self._idle.remove(bell)
                return False
        return bell.acquire()  # it is being sent for just now


_threads = _Threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.forget)


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

    def fail(exc: BaseException) -> None:
        if future.set_running_or_notify_cancel():
            future.set_exception(exc)

    _threads.give(work, fail)
    return future


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

    _threads.give(work, partial(results.put, future, None))
    return future
