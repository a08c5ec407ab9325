"""Time: the machine's own, or one that a test moves on.

Whatever waits in loom_py (retries, queues, throttled deployments, the emulator's delays) waits on a
`Clock`, so that a test can let an hour pass in a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

__all__ = ["Clock", "RealClock", "Signal", "VirtualClock"]


class Signal:
    """Says once, to any number of threads and tasks, that there is no need to sleep on."""

    __slots__ = ("_callbacks", "_is_set", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._callbacks: list[Callable[[], object]] = []

    @property
    def is_set(self) -> bool:
        """Whether it has been said."""
        return self._is_set

    def set(self) -> None:
        """Wake whoever sleeps until this signal; later sleepers do not sleep at all."""
        with self._lock:
            self._is_set = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_set(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called once, by whoever sets the signal; at once if it is set."""
        with self._lock:
            if not self._is_set:
                self._callbacks.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], object]) -> None:
        """Do not call ``callback`` any more."""
        with self._lock, contextlib.suppress(ValueError):
            self._callbacks.remove(callback)


class Clock(Protocol):
    """What is waited on. Safe for threads and tasks; ``seconds`` may be infinite."""

    def now(self) -> float:
        """Seconds since the clock was made; it never runs backwards."""
        ...

    def time(self) -> float:
        """Seconds since 1970, for what is dated: tokens, headers, days."""
        ...

    def sleep(self, seconds: float, until: Signal | None = None) -> None:
        """Block until ``seconds`` have passed on this clock, or the signal comes."""
        ...

    async def asleep(self, seconds: float, until: Signal | None = None) -> None:
        """Wait, async, until ``seconds`` have passed on this clock, or the signal comes."""
        ...


class RealClock:
    """The machine's time."""

    __slots__ = ("_began",)

    def __init__(self) -> None:
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._began

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float, until: Signal | None = None) -> None:
        """Block for ``seconds``, or until the signal comes."""
        if until is None and seconds != math.inf:
            time.sleep(max(0.0, seconds))
            return
        woken = threading.Event()
        signal = until or Signal()
        signal.on_set(woken.set)
        try:
            woken.wait(None if seconds == math.inf else min(max(0.0, seconds), threading.TIMEOUT_MAX))
        finally:
            signal.forget(woken.set)

    async def asleep(self, seconds: float, until: Signal | None = None) -> None:
        """Wait for ``seconds``, or until the signal comes."""
        if until is None and seconds != math.inf:
            await asyncio.sleep(max(0.0, seconds))
            return
        sleeper = _TaskSleeper()
        signal = until or Signal()
        signal.on_set(sleeper.wake)
        timer = None
        if seconds != math.inf:
            timer = sleeper.loop.call_later(max(0.0, seconds), sleeper.wake)
        try:
            await sleeper.future
        finally:
            signal.forget(sleeper.wake)
            if timer is not None:
                timer.cancel()


class VirtualClock:
    """A clock that stands still until `advance` is called.

    ::

        clock = VirtualClock()
        with AzureEmulator(clock=clock, quotas={"chat": Quota(requests_per_minute=6)}) as azure:
            ...
            clock.advance(60)

    Args:
        epoch: what `time` says at the beginning, in seconds since 1970; the real time by default.
        auto_advance: whoever sleeps moves the clock on by as much and does not wait at all. Meant for
            one sleeper at a time; for many use `advance_to_next`.
    """

    def __init__(self, *, epoch: float | None = None, auto_advance: bool = False) -> None:
        self.auto_advance = auto_advance
        self._epoch = time.time() if epoch is None else epoch
        self._now = 0.0
        self._changed = threading.Condition()
        self._sleepers: dict[_Sleeper, float] = {}

    def __repr__(self) -> str:
        return f"VirtualClock({self._now:g} s, {self.sleeping} sleeping)"

    def now(self) -> float:
        """Seconds that `advance` has moved the clock on."""
        with self._changed:
            return self._now

    def time(self) -> float:
        """Seconds since 1970."""
        return self._epoch + self.now()

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass and wake whoever slept for them. Raises `ValueError` below 0."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"a clock advances by 0 seconds or more, not by {seconds}")
        with self._changed:
            self._advance_to(self._now + seconds)

    def advance_to_next(self) -> bool:
        """Let time pass until the next sleeper wakes; ``False`` if nobody sleeps for a time.

        Call it when everything that runs is asleep, and hours of many tasks pass in order.
        """
        with self._changed:
            times = [at for at in self._sleepers.values() if at != math.inf]
            if not times:
                return False
            self._advance_to(max(self._now, min(times)))
            return True

    @property
    def sleeping(self) -> int:
        """How many sleep on this clock now."""
        with self._changed:
            return len(self._sleepers)

    def wait_for_sleepers(self, count: int = 1, timeout: float = 5.0) -> None:
        """Block until ``count`` sleep here. Raises `TimeoutError` after ``timeout`` real seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= count, timeout):
                raise TimeoutError(f"{len(self._sleepers)} of {count} sleep on the clock")

    def sleep(self, seconds: float, until: Signal | None = None) -> None:
        """Block until the clock has been advanced by ``seconds``, or the signal comes."""
        if not self._passes(seconds, until):
            sleeper = _ThreadSleeper()
            try:
                self._lie_down(sleeper, seconds, until)
                sleeper.woken.wait()
            finally:
                self._get_up(sleeper, until)

    async def asleep(self, seconds: float, until: Signal | None = None) -> None:
        """Wait until the clock has been advanced by ``seconds``, or the signal comes."""
        if self._passes(seconds, until):
            await asyncio.sleep(0)
            return
        sleeper = _TaskSleeper()
        try:
            self._lie_down(sleeper, seconds, until)
            await sleeper.future
        finally:
            self._get_up(sleeper, until)

    def _passes(self, seconds: float, until: Signal | None) -> bool:
        """Whether there is nothing to wait for; an automatic clock has then moved on."""
        if until is not None and until.is_set:
            return True
        if self.auto_advance and seconds != math.inf:
            self.advance(max(0.0, seconds))
            return True
        return seconds <= 0

    def _lie_down(self, sleeper: _Sleeper, seconds: float, until: Signal | None) -> None:
        with self._changed:
            self._sleepers[sleeper] = self._now + seconds
            self._changed.notify_all()
        if until is not None:
            sleeper.by_signal = partial(self._rouse, sleeper)
            until.on_set(sleeper.by_signal)

    def _rouse(self, sleeper: _Sleeper) -> None:
        """The signal has come: it sleeps no longer, even if it has not run yet."""
        with self._changed:
            self._sleepers.pop(sleeper, None)
        sleeper.wake()

    def _get_up(self, sleeper: _Sleeper, until: Signal | None) -> None:
        with self._changed:
            self._sleepers.pop(sleeper, None)
        if until is not None and sleeper.by_signal is not None:
            until.forget(sleeper.by_signal)

    def _advance_to(self, now: float) -> None:
        self._now = now
        for sleeper in [sleeper for sleeper, at in self._sleepers.items() if at <= now]:
            del self._sleepers[sleeper]
            sleeper.wake()
        self._changed.notify_all()


class _ThreadSleeper:
    """A thread that sleeps."""

    __slots__ = ("by_signal", "woken")

    def __init__(self) -> None:
        self.by_signal: Callable[[], None] | None = None
        self.woken = threading.Event()

    def wake(self) -> None:
        self.woken.set()


class _TaskSleeper:
    """A task that sleeps; it may be woken from any thread."""

    __slots__ = ("by_signal", "future", "loop")

    def __init__(self) -> None:
        self.by_signal: Callable[[], None] | None = None
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop has been closed meanwhile
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


_Sleeper = _ThreadSleeper | _TaskSleeper
