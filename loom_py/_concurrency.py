"""Bridges between threads and event loops, and a lock that serves both.

Sync code that must run a coroutine uses `run_coroutine`; async code that must iterate a
blocking iterator uses `aiter_in_thread`; the reverse is `iter_from_async`. Context variables
travel along, so that logs and traces stay bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
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
    if on_bridge():
        coroutine.close()
        raise RuntimeError("blocking call inside an async tool or provider: use the async method")
    future = submit_coroutine(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def current_loop() -> asyncio.AbstractEventLoop:
    """The running event loop. Raises `RuntimeError` where there is none."""
    return asyncio.get_running_loop()


def is_bridge(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether ``loop`` is the background event loop of this process."""
    return loop is not None and loop is _loop


def close_bridged(closing: Coroutine[Any, Any, object]) -> None:
    """Close what lives on the background event loop; on that loop itself it is closed soon after."""
    future = submit_coroutine(closing)
    if not on_bridge():
        with contextlib.suppress(TimeoutError):
            future.result(CLOSING_TIME)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def on_bridge() -> bool:
    """Whether the code that asks runs on the background event loop."""
    return is_bridge(running_loop())


async def run_in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run blocking ``function`` in a worker thread, in the caller's context."""
    return await _run_in_context(contextvars.copy_context(), partial(function, *args, **kwargs))


async def _run_in_context(context: contextvars.Context, function: Callable[[], T]) -> T:
    return await asyncio.wrap_future(_submit(context, function))


def _submit(context: contextvars.Context, function: Callable[[], T]) -> Future[T]:
    def run() -> T:
        try:
            return context.run(function)
        except StopIteration as exc:  # no future can hold one: the caller would wait for ever
            raise RuntimeError("blocking code raised StopIteration") from exc

    return worker_threads().submit(run)


_END = object()


async def aiter_in_thread(make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Iterate a blocking iterator from async code; it is made, advanced and closed in threads.

    All of that happens in one context, so that what it binds around its items can be unbound again.
    """
    context = contextvars.copy_context()
    iterator = await _run_in_context(context, make)
    close = getattr(iterator, "close", None)
    step: Future[object] | None = None
    try:
        while True:
            step = _submit(context, partial(next, iterator, _END))
            item = await asyncio.wrap_future(step)
            if item is _END:
                return
            yield cast("T", item)
    finally:
        if close is not None:
            closing = partial(_close_quietly, close)
            if step is not None and not step.done():
                # The reader was cancelled and its step still runs, in our context. Closing a response
                # from outside ends the step early; a generator can only be closed after it.
                step.add_done_callback(lambda _: context.run(closing))
                await asyncio.shield(run_in_thread(closing))
            else:
                await asyncio.shield(_run_in_context(context, closing))


def _close_quietly(close: Callable[[], object]) -> None:
    with contextlib.suppress(ValueError):  # the generator still runs in its thread and ends by itself
        close()


def iter_from_async(make: Callable[[], AsyncIterator[T]], ahead: int = 64) -> Generator[T, None, None]:
    """Iterate an async iterator from blocking code, at most ``ahead`` items ahead of the reader.

    Once it has ended or was closed, the async iterator is closed too.
    """
    if on_bridge():
        raise RuntimeError("blocking stream inside an async tool or provider: use the async method")
    items: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()
    slots = asyncio.Semaphore(ahead)
    loop = bridge_loop()

    async def pump() -> None:
        error: BaseException | None = None
        try:
            iterator = make()
            try:
                async for item in iterator:
                    await slots.acquire()
                    items.put((item, None))
            finally:
                aclose = getattr(iterator, "aclose", None)
                if aclose is not None:
                    await aclose()
        except BaseException as exc:
            error = exc
            if not isinstance(exc, Exception):
                raise
        finally:
            items.put((_END, error))

    future = asyncio.run_coroutine_threadsafe(pump(), loop)
    ended = False
    try:
        while True:
            item, error = items.get()
            if item is _END:
                ended = True
                if error is not None:
                    raise error
                return
            loop.call_soon_threadsafe(slots.release)
            yield item
    finally:
        if not ended:
            future.cancel()
            if not on_bridge():  # where the garbage collector may have brought us
                _drain(items)


CLOSING_TIME = 5.0
"""Seconds a reader that closes a stream early waits for its source to close."""


def _drain(items: queue.Queue[tuple[Any, BaseException | None]]) -> None:
    """Wait for the source's end."""
    deadline = time.monotonic() + CLOSING_TIME
    with contextlib.suppress(queue.Empty):
        while items.get(timeout=max(0.0, deadline - time.monotonic()))[0] is not _END:
            pass


class _Turn:
    """Somebody's turn with a lock; ``loop`` is where a task waits, ``granted`` is there if it has to."""

    __slots__ = ("granted", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        self.granted: Future[None] | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nobody will ever give it back: a task whose event loop was closed is never run again."""
        return self.loop is not None and self.loop.is_closed()


class FairLock:
    """A mutual exclusion for threads and tasks alike, served in order of arrival.

    What a task held whose event loop was closed, as that of a stream that nobody read to its end, is taken
    from it by whoever comes next.
    """

    __slots__ = ("_holder", "_mutex", "_news", "_waiting")

    LOOK_AGAIN = 1.0
    """Seconds after which those who wait look whether the holder is lost."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._holder: _Turn | None = None
        self._waiting: deque[_Turn] = deque()
        self._news: deque[_Turn | None] = deque()

    def _request(self, loop: asyncio.AbstractEventLoop | None) -> _Turn:
        turn = _Turn(loop)
        if self._holder is None and self._mutex.acquire(blocking=False):
            try:
                is_free = self._holder is None  # then nobody waits either
                if is_free:
                    self._holder = turn
            finally:
                self._mutex.release()
            if self._news:
                self._look()
            if is_free:
                return turn
        turn.granted = Future()
        self._waiting.append(turn)
        self._look()
        return turn

    def release(self, turn: _Turn) -> None:
        """Give back what `acquire` or `aacquire` gave."""
        self._look(turn)

    def _look(self, released: _Turn | None = None) -> None:
        """Give the lock to the first who waits, if nobody holds it.

        Nobody waits for the mutex: a stream that the garbage collector closes may have interrupted the very
        code that holds it. Whoever holds it sees the news of the others when it is done.
        """
        self._news.append(released)
        while self._news and self._mutex.acquire(blocking=False):
            try:
                self._serve()
            finally:
                self._mutex.release()

    def _serve(self) -> None:
        while self._news:
            released = self._news.popleft()
            if released is not None and released is self._holder:  # it may have been taken away
                self._holder = None
        if self._holder is not None and not self._holder.is_lost:
            return
        self._holder = None
        while self._waiting:
            turn = self._waiting.popleft()
            assert turn.granted is not None
            if not turn.is_lost and turn.granted.set_running_or_notify_cancel():
                self._holder = turn
                turn.granted.set_result(None)
                return

    def _give_up(self, turn: _Turn) -> None:
        """The waiter was interrupted: pass the turn on if it had just been granted."""
        if turn.granted is None or not turn.granted.cancel():
            self.release(turn)

    def acquire(self, within: float | None = None) -> _Turn:
        """Wait for a turn, to be given to `release`. Raises `TimeoutError` after so many seconds."""
        turn = self._request(None)
        try:
            self._wait(turn, within)
        except BaseException:
            self._give_up(turn)
            raise
        return turn

    def _wait(self, turn: _Turn, within: float | None) -> None:
        if turn.granted is None:
            return
        end = math.inf if within is None else time.monotonic() + within
        while not turn.granted.done():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            with contextlib.suppress(TimeoutError):
                turn.granted.result(min(left, self.LOOK_AGAIN))
            self._look()

    async def aacquire(self, within: float | None = None) -> _Turn:
        """`acquire`, async."""
        turn = self._request(asyncio.get_running_loop())
        if turn.granted is not None and not turn.granted.done():
            try:
                async with asyncio.timeout(within):
                    granted = asyncio.wrap_future(turn.granted)
                    while not (await asyncio.wait({granted}, timeout=self.LOOK_AGAIN))[0]:
                        self._look()
            except BaseException:
                self._give_up(turn)
                raise
        return turn

    @contextmanager
    def hold(self, within: float | None = None) -> Iterator[None]:
        """Raises `TimeoutError` after so many seconds without a turn."""
        turn = self.acquire(within)
        try:
            yield
        finally:
            self.release(turn)

    @asynccontextmanager
    async def ahold(self, within: float | None = None) -> AsyncIterator[None]:
        """Raises `TimeoutError` after so many seconds without a turn."""
        turn = await self.aacquire(within)
        try:
            yield
        finally:
            self.release(turn)
