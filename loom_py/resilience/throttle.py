"""Throttling (429): one call's refusal pauses all calls to that deployment, not each in turn.

A throttled deployment is healthy, so this is no circuit breaker and has a clock of its own. It is
asked before a call and told after it; it never sleeps and does no I/O.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Throttle", "ThrottleStats"]

FIRST_SECONDS = 1.0
"""The first pause where the server does not say for how long."""

MAX_SECONDS = 32.0
"""The longest pause where the server does not say for how long."""

ROUNDING = 1e-6
"""Seconds by which whoever slept through a pause may seem to come early: clocks are floats."""


@dataclass(frozen=True, slots=True)
class ThrottleStats:
    """A throttle at one moment.

    Attributes:
        remaining: seconds until calls go on; 0.0 if none are held back.
        in_a_row: pauses since a call last went well.
        total: calls that were ever throttled.
    """

    remaining: float
    in_a_row: int
    total: int


class Throttle:
    """The pause of one deployment, shared by all who call it. Safe for threads and tasks.

    Whatever is told during a pause is of calls that were sent before it: a further refusal is the same
    throttling, and may make the pause longer, but is no new one; a success says nothing of it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = -math.inf
        self._in_a_row = 0
        self._total = 0

    def __repr__(self) -> str:
        return f"Throttle({self.remaining():.3g} s remaining, {self._in_a_row} in a row)"

    def pause(self, seconds: float | None) -> float:
        """A call was throttled: hold the next ones back. The seconds that now remain.

        ``seconds`` is what the server said. ``None`` is that it did not say, and so are 0, less, and
        what is no finite number: then it is 1 s, doubling to 32 s with each pause in a row. A pause
        never becomes shorter.
        """
        with self._lock:
            now = self._clock()
            self._total += 1
            if self._until - now <= ROUNDING:
                self._in_a_row += 1
            if seconds is None or not (math.isfinite(seconds) and seconds > 0):
                seconds = min(FIRST_SECONDS * 2.0 ** min(self._in_a_row - 1, 60), MAX_SECONDS)
            self._until = max(self._until, now + seconds)
            return max(seconds, self._until - now)  # the difference alone may be a rounding short

    def remaining(self) -> float:
        """Seconds until calls go on; 0.0 if none are held back."""
        until = self._until
        return 0.0 if until == -math.inf else max(0.0, until - self._clock())

    def success(self) -> None:
        """A call went well: the next pause is the first in a row again."""
        if not self._in_a_row:
            return  # without the lock, as almost every call comes by here
        with self._lock:
            if self._until - self._clock() <= ROUNDING:
                self._in_a_row = 0
                self._until = -math.inf

    def reset(self) -> None:
        """End the pause, by hand. What was counted in all is kept."""
        with self._lock:
            self._in_a_row = 0
            self._until = -math.inf

    def stats(self) -> ThrottleStats:
        """The state at this moment."""
        with self._lock:
            return ThrottleStats(self.remaining(), self._in_a_row, self._total)
