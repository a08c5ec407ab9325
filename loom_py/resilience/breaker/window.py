"""The calls of the last minute, and how many of them failed."""

from __future__ import annotations

__all__ = ["BUCKETS", "Window"]

BUCKETS = 20
"""Parts of the sliding window. A call is forgotten with its part: up to 1/20 before its time."""


class Window:
    """Counts of the calls of the last ``seconds``, in `BUCKETS` parts, so that memory is bounded."""

    __slots__ = ("_older", "_past", "_slot", "_start", "_until", "_width", "calls", "failures")

    def __init__(self, seconds: float, now: float) -> None:
        self.calls = 0
        self.failures = 0
        self._width = seconds / BUCKETS
        self._start = now
        self._slot = 0
        self._until = now + self._width
        self._older = (0, 0)  # of calls and failures, those before the present part
        self._past: list[tuple[int, int, int]] = []  # at most BUCKETS, the oldest first

    def add(self, now: float, failed: bool) -> None:
        if now >= self._until:
            self.move_to(now)
        self.calls += 1
        if failed:
            self.failures += 1

    def move_to(self, now: float) -> None:
        """Forget what is too old."""
        if now < self._until:
            return
        calls, failures = self._older
        if self.calls > calls:
            self._past.append((self._slot, self.calls - calls, self.failures - failures))
        # By at least one, whatever rounding does to the quotient.
        self._slot = max(self._slot + 1, int((now - self._start) / self._width))
        self._until = self._start + (self._slot + 1) * self._width
        while self._past and self._past[0][0] <= self._slot - BUCKETS:
            _, calls, failures = self._past.pop(0)
            self.calls -= calls
            self.failures -= failures
        self._older = (self.calls, self.failures)
