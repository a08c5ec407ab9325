"""Time as the emulator sees it: the machine's own, or a test's."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from typing import Protocol

__all__ = ["Clock", "RealClock", "VirtualClock"]


class Clock(Protocol):
    """What quotas, delays, token lifetimes and outages go by. Safe for threads."""

    def now(self) -> float:
        """Seconds since the clock was made; it never runs backwards."""
        ...

    def time(self) -> float:
        """Seconds since 1970, for what is dated: tokens, headers, answers."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait until ``seconds`` have passed on this clock."""
        ...


class RealClock:
    """The machine's time."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._began

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that stands still until `advance` is called.

    ::

        clock = VirtualClock()
        with AzureEmulator(clock=clock, quotas={"chat": Quota(requests_per_minute=6)}) as azure:
            ...
            clock.advance(60)

    Args:
        epoch: what `time` says at the beginning, in seconds since 1970; the real time by default.
        auto_advance: whoever sleeps moves the clock on by as much and does not wait at all.
    """

    def __init__(self, *, epoch: float | None = None, auto_advance: bool = False) -> None:
        self.auto_advance = auto_advance
        self._epoch = time.time() if epoch is None else epoch
        self._now = 0.0
        self._changed = threading.Condition()
        self._sleepers: dict[asyncio.Future[None], tuple[float, asyncio.AbstractEventLoop]] = {}

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
            self._now += seconds
            due = [item for item in self._sleepers.items() if item[1][0] <= self._now]
            for future, _ in due:
                del self._sleepers[future]
            self._changed.notify_all()
        for future, (_, loop) in due:
            with contextlib.suppress(RuntimeError):  # its loop has been closed meanwhile
                loop.call_soon_threadsafe(_wake, future)

    @property
    def sleeping(self) -> int:
        """How many requests wait on this clock now."""
        with self._changed:
            return len(self._sleepers)

    def wait_for_sleepers(self, count: int = 1, timeout: float = 5.0) -> None:
        """Block until ``count`` requests wait here. Raises `TimeoutError` after ``timeout`` real seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= count, timeout):
                raise TimeoutError(f"{len(self._sleepers)} of {count} requests wait on the clock")

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been advanced by ``seconds``."""
        if self.auto_advance:
            self.advance(max(0.0, seconds))
        elif seconds > 0:
            await self._wait(seconds)
            return
        await asyncio.sleep(0)

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._changed:
            self._sleepers[future] = (self._now + seconds, loop)
            self._changed.notify_all()
        try:
            await future
        finally:
            with self._changed:
                self._sleepers.pop(future, None)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
