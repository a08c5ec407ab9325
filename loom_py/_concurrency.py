"""Bridges between threads and event loops, and a lock that serves both.

Sync code that must run a coroutine uses `run_coroutine`; async code that must iterate a
blocking iterator uses `aiter_in_thread`; the reverse is `iter_from_async`. Context variables
travel along, so that logs and traces stay bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

T = TypeVar("T")

_loop_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_threads: ThreadPoolExecutor | None = None

WORKER_THREADS = min(64, (os.cpu_count() or 1) * 8 + 24)
"""Threads for blocking tools and providers that are called from async code."""


def _forget_threads() -> None:
    """A forked child has none of its parent's threads."""
    global _loop, _threads, _loop_lock
    _loop, _threads, _loop_lock = None, None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def bridge_loop() -> asyncio.AbstractEventLoop:
    """The process's one background event loop, started on first use."""
    global _loop
    with _loop_lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="loom-py-bridge", daemon=True).start()
            _loop = loop
        return _loop


def worker_threads() -> ThreadPoolExecutor:
    """The process's shared pool for blocking work."""
    global _threads
    with _loop_lock:
        if _threads is None:
            _threads = ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="loom-py-worker")
        return _threads


def submit_coroutine(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Start ``coroutine`` on the bridge loop, in the caller's context; its future."""
    return asyncio.run_coroutine_threadsafe(coroutine, bridge_loop())


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run ``coroutine`` to its end from blocking code, even beneath a running event loop.

    Raises `RuntimeError` on the bridge loop's own thread, where waiting could never end.
    """
    if _on_bridge():
        coroutine.close()
        raise RuntimeError("blocking call inside an async tool or provider: use the async method")
    future = submit_coroutine(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _on_bridge() -> bool:
    try:
        return asyncio.get_running_loop() is _loop
    except RuntimeError:
        return False


async def run_in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run blocking ``function`` in a worker thread, in the caller's context."""
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(worker_threads(), lambda: context.run(function, *args, **kwargs))


_END = object()


async def aiter_in_thread(make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Iterate a blocking iterator from async code; it is made, advanced and closed in threads."""
    iterator = await run_in_thread(make)
    try:
        while True:
            item = await run_in_thread(next, iterator, _END)
            if item is _END:
                return
            yield cast("T", item)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            await asyncio.shield(run_in_thread(_close_quietly, close))


def _close_quietly(close: Callable[[], object]) -> None:
    with contextlib.suppress(ValueError):  # the generator still runs in its thread and ends by itself
        close()


def iter_from_async(make: Callable[[], AsyncIterator[T]], ahead: int = 64) -> Generator[T, None, None]:
    """Iterate an async iterator from blocking code, at most ``ahead`` items ahead of the reader."""
    if _on_bridge():
        raise RuntimeError("blocking stream inside an async tool or provider: use the async method")
    items: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()
    slots = asyncio.Semaphore(ahead)
    loop = bridge_loop()

    async def pump() -> None:
        iterator = make()
        try:
            async for item in iterator:
                await slots.acquire()
                items.put((item, None))
            items.put((_END, None))
        except BaseException as exc:
            items.put((_END, exc))
            if not isinstance(exc, Exception):
                raise
        finally:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

    future = asyncio.run_coroutine_threadsafe(pump(), loop)
    try:
        while True:
            item, error = items.get()
            if error is not None:
                raise error
            if item is _END:
                return
            loop.call_soon_threadsafe(slots.release)
            yield item
    finally:
        future.cancel()


class FairLock:
    """A mutual exclusion for threads and tasks alike, served in order of arrival."""

    __slots__ = ("_held", "_mutex", "_waiting")

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._waiting: deque[Future[None]] = deque()

    def _request(self) -> Future[None]:
        turn: Future[None] = Future()
        with self._mutex:
            if self._held:
                self._waiting.append(turn)
            else:
                self._held = True
                turn.set_result(None)
        return turn

    def _release(self) -> None:
        with self._mutex:
            while self._waiting:
                turn = self._waiting.popleft()
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
                    return
            self._held = False

    def _give_up(self, turn: Future[None]) -> None:
        """The waiter was interrupted: pass the turn on if it had just been granted."""
        if not turn.cancel():
            self._release()

    @contextmanager
    def hold(self) -> Iterator[None]:
        turn = self._request()
        try:
            turn.result()
        except BaseException:
            self._give_up(turn)
            raise
        try:
            yield
        finally:
            self._release()

    @asynccontextmanager
    async def ahold(self) -> AsyncIterator[None]:
        turn = self._request()
        if not turn.done():
            try:
                await asyncio.shield(asyncio.wrap_future(turn))
            except BaseException:
                self._give_up(turn)
                raise
        try:
            yield
        finally:
            self._release()
