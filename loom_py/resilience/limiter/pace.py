"""Requests, spread evenly over the minute."""

from __future__ import annotations

import math

__all__ = ["Pace", "interval_for"]

JITTER = 0.05
"""Seconds by which requests may come closer together on their way to the server."""

SLICES = (1.0, 10.0, 60.0)
"""Seconds over which a server may check: Azure takes 1 or 10, and a minute (its quota documentation)."""


def interval_for(requests_per_minute: int) -> float:
    """Seconds between two requests, so that no slice gets more than its share, rounded up.

    A twentieth of a second is left for the network in each slice: 60 a minute go every 1.05 s.
    """
    return max((length + JITTER) / math.ceil(requests_per_minute * length / 60) for length in SLICES)


class Pace:
    """When the next request may be sent. Guarded by its limiter's lock."""

    __slots__ = ("_interval", "_last", "_limit")

    def __init__(self) -> None:
        self._last = -math.inf
        self._limit = 0
        self._interval = 0.0

    def next_start(self, requests_per_minute: int) -> float:
        """The earliest time of the next request."""
        if requests_per_minute != self._limit:
            self._limit, self._interval = requests_per_minute, interval_for(requests_per_minute)
        return self._last + self._interval

    def started(self, now: float) -> None:
        """A request is sent now."""
        self._last = now
