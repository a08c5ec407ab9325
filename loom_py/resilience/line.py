"""The line of calls that wait for a quota which other processes use too: one of them asks at a time."""

from __future__ import annotations

import threading
from bisect import insort

from loom_py.clock import Signal

__all__ = ["Line", "Place"]


class Place:
    """One call's place. Lower numbers of ``priority`` go first, and within them who came first."""

    __slots__ = ("_line", "_order", "_signal")

    def __init__(self, line: Line, priority: int, sequence: int) -> None:
        self._line = line
        self._order = (priority, sequence)
        self._signal: Signal | None = None

    def __lt__(self, other: Place) -> bool:
        return self._order < other._order

    @property
    def ahead(self) -> int:
        """How many calls go before this one."""
        return self._line._ahead_of(self)

    def turn(self) -> Signal | None:
        """``None`` when it is this call's turn to ask; else what tells when to look again."""
        return self._line._turn_of(self)

    def leave(self) -> None:
        """Make room for the next; later calls do nothing."""
        self._line._leave(self)


class Line:
    """Calls of one agent to one deployment, in the order in which they may ask. Safe for threads and tasks.

    Nobody is told when another process makes room, so whoever waits has to ask again. If all did, each
    would ask once for every call before it, and the order would be lost.
    """

    __slots__ = ("_lock", "_places", "_sequence")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: list[Place] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._places)

    def is_before(self, priority: int) -> bool:
        """Whether somebody waits who goes before a call that comes now."""
        if not self._places:
            return False  # without the lock, as almost every call comes by here
        with self._lock:
            return bool(self._places) and self._places[0]._order[0] <= priority

    def join(self, priority: int) -> Place:
        """A place behind all that are as urgent."""
        with self._lock:
            self._sequence += 1
            place = Place(self, priority, self._sequence)
            insort(self._places, place)
            return place

    def _ahead_of(self, place: Place) -> int:
        with self._lock:
            return self._places.index(place) if place in self._places else 0

    def _turn_of(self, place: Place) -> Signal | None:
        with self._lock:
            if place not in self._places or self._places[0] is place:
                return None
            place._signal = Signal()
            return place._signal

    def _leave(self, place: Place) -> None:
        with self._lock:
            if place not in self._places:
                return
            self._places.remove(place)
            woken = self._places[0]._signal if self._places else None
        if woken is not None:
            woken.set()
