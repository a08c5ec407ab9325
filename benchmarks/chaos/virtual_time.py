"""An event loop whose time is simulated: when nobody can go on, it jumps to whoever wakes next.

Everything that waits on the loop goes by that time: `asyncio.sleep`, `asyncio.timeout`, the timeouts and
backoffs of the SDK and its transport. Sockets are real, and so is the work done. Threads take part through
`VirtualTimeLoop.run_thread`; while one of them works, time stands still.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from loom_py.clock import RealClock, Signal

__all__ = ["LoopClock", "VirtualTimeLoop"]

T = TypeVar("T")

SETTLING = 50e-6
"""Real seconds that bytes under way on loopback get before time jumps."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Time begins at 0.0 and passes only while everybody waits. ``jumps`` counts how often it did."""

    def __init__(self) -> None:
        self._virtual = 0.0
        self.working = 0
        self.jumps = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual

    def pass_time(self, seconds: float) -> None:
        """Nobody can do anything before that."""
        self._virtual += seconds
        self.jumps += 1

    async def run_thread(self, function: Callable[[], T]) -> T:
        """Run blocking ``function`` in a thread of its own, which may wait with `wait_in_thread`."""
        done: asyncio.Future[T] = self.create_future()

        def settle(outcome: T | None, error: BaseException | None) -> None:
            self.working -= 1
            if done.cancelled():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(outcome)  # type: ignore[arg-type]

        def work() -> None:
            try:
                outcome = function()
            except BaseException as error:
                self.call_soon_threadsafe(settle, None, error)
            else:
                self.call_soon_threadsafe(settle, outcome, None)

        self.working += 1
        threading.Thread(target=work, name="chaos-sync-run", daemon=True).start()
        return await done

    def wait_in_thread(self, waiting: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Block the calling thread of `run_thread` until what waits on the loop is over."""
        future: Future[T] = Future()

        def finish(task: asyncio.Task[T]) -> None:
            self.working += 1  # counted here, on the loop, so that time cannot slip in between
            if task.cancelled():
                future.cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        def start() -> None:
            self.create_task(waiting()).add_done_callback(finish)
            self.working -= 1

        self.call_soon_threadsafe(start)
        return future.result()


class _Selector(selectors.DefaultSelector):
    """Waits for sockets without letting real time pass, where all wait for virtual time."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._loop.working or timeout is None:
            return super().select(None)  # a thread, or the world outside, has the next word
        time.sleep(SETTLING)
        ready = super().select(0)
        if not ready:
            self._loop.pass_time(timeout)
        return ready


class LoopClock(RealClock):
    """The loop's virtual time as a `loom_py.clock.Clock`: for its tasks, and for threads of `run_thread`."""

    def __init__(self, loop: VirtualTimeLoop, epoch: float = 1_767_225_600.0) -> None:
        super().__init__()
        self._loop = loop
        self._epoch = epoch

    def now(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._loop.time()

    def time(self) -> float:
        """Seconds since 1970, where the loop began with the year 2026."""
        return self._epoch + self._loop.time()

    def sleep(self, seconds: float, until: Signal | None = None) -> None:
        """Block the calling thread for so many virtual seconds, or until the signal comes."""
        self._loop.wait_in_thread(lambda: self.asleep(seconds, until))
