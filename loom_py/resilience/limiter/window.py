"""What was used of a quota in the last 60 seconds, by our own count and by the server's.

Two sums run over a sliding log: what requests really used (``counted``: an estimate while they are under
way, their usage afterwards) and what was estimated for them (``reserved``: never refunded, as a server
counts that takes the estimate when a request arrives). Without word from the server the first is used.
Headers tell how far the second is off, see `loom_py.resilience.limiter.snapshot`; while they are fresh,
the greater of the two is used.

The log is a list of slots of 50 ms, so that any number of requests costs the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from loom_py.resilience.limiter.snapshot import Snapshot

__all__ = ["INSTANT", "MARGIN", "WINDOW", "Entry", "Slot", "Window"]

WINDOW = 60.0
"""Seconds over which a quota is counted (Microsoft's "Manage Azure OpenAI quota")."""

MARGIN = 0.5
"""Seconds after sending within which a request has reached the server, unless it is answered sooner."""

SLICE = 0.05
"""Seconds of the log that are kept as one."""

INSTANT = 1e-7
"""Seconds too short to wait for: what sums of floating-point numbers may be off by."""


class Slot:
    """Requests sent within `SLICE` seconds.

    ``issued``, ``gone`` and ``base`` are positions on one line: the sum of all reservations ever made. The
    slot's own end at ``issued``; what lay before ``gone`` had left the log when it began, and what lies
    before ``base`` has left the server's window by the time it may have arrived there. ``surely`` is the
    last slot whose requests had all arrived when this one began.
    """

    __slots__ = (
        "after",
        "base",
        "before",
        "counted",
        "gone",
        "is_live",
        "issued",
        "last",
        "leaves",
        "open",
        "open_amount",
        "reserved",
        "start",
        "surely",
    )

    def __init__(self, start: float, gone: int, base: int) -> None:
        self.start = self.last = start
        self.leaves = math.inf
        self.counted = self.reserved = self.open = self.open_amount = self.issued = 0
        self.gone = gone
        self.base = base
        self.is_live = True
        self.before: Slot | None = None
        self.after: Slot | None = None
        self.surely: Slot | None = None


class Entry:
    """One request in the log: when it was sent and what was reserved for it."""

    __slots__ = ("amount", "sent", "slot")

    def __init__(self, slot: Slot, amount: int, sent: float) -> None:
        self.slot = slot
        self.amount = amount
        self.sent = sent


class Window:
    """The sliding log of one quota: tokens, or requests that count 1 each. Guarded by its limiter's lock.

    ``held`` is reserved for requests that may go but have not gone yet, ``open`` for those under way.
    """

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self.share = 1.0
        self.held = 0
        self.open = 0
        self.counted = 0
        self.reserved = 0
        self._issued = 0
        self._gone = 0
        self._head: Slot | None = None
        self._tail: Slot | None = None
        self._snapshot: Snapshot | None = None
        self._limit = quota
        self._limit_sent = -math.inf
        self._headers_until = -math.inf
        self._all_stay_until = math.inf  # nothing in the log is older than the window before that

    def limit(self, at: float) -> int:
        """The quota in force: ours, or the server's where that is lower."""
        return self._limit if at < self._headers_until - INSTANT else self.quota

    def own_limit(self, now: float) -> int:
        """The part of `limit` that is ours to use."""
        return self._own(self.limit(now))

    def remaining_share(self, now: float) -> float:
        """The free share of what is ours to use."""
        left = 1.0 - self.used(now) / self.own_limit(now)
        return max(0.0, left)

    def _own(self, limit: int) -> int:
        """The part of ``limit`` that is ours to use; at least 1."""
        return limit if self.share == 1.0 else max(1, int(limit * self.share))

    def clamped(self, amount: int, now: float) -> int:
        """What to reserve for a request of ``amount``: the whole quota at most."""
        return min(amount, self.own_limit(now))

    # ── the log ──────────────────────────────────────────────────────────────────────────

    def add(self, amount: int, now: float) -> Entry:
        """A request of ``amount`` is sent now."""
        slot = self._tail
        if slot is None or now - slot.start >= SLICE or slot.gone != self._gone:
            slot = self._new_slot(now)
        slot.last = now
        slot.leaves = now + (MARGIN + WINDOW)
        slot.open += 1
        slot.open_amount += amount
        slot.counted += amount
        slot.reserved += amount
        self._issued += amount
        slot.issued = self._issued
        self.open += amount
        self.counted += amount
        self.reserved += amount
        return Entry(slot, amount, now)

    def _new_slot(self, now: float) -> Slot:
        base, oldest = self._gone, self._head
        while oldest is not None and oldest.start + WINDOW <= now + SLICE + MARGIN:
            base, oldest = oldest.issued, oldest.after
        slot = Slot(now, self._gone, base)
        slot.before = slot.surely = self._tail
        while slot.surely is not None and slot.surely.last > now - MARGIN:
            slot.surely = slot.surely.before
        if self._tail is None:
            self._head = slot
            self._all_stay_until = min(self._all_stay_until, now + WINDOW)
        else:
            self._tail.after = slot
        self._tail = slot
        return slot

    def settle(self, entry: Entry, amount: int, now: float) -> None:
        """The request has been answered and used ``amount``."""
        slot = entry.slot
        if slot.is_live:
            self._close(entry, now)
            slot.counted += amount - entry.amount
            self.counted += amount - entry.amount

    def release(self, entry: Entry, now: float) -> None:
        """The request did not reach the server."""
        slot: Slot | None = entry.slot
        if slot is None or not slot.is_live:
            return
        self._close(entry, now)
        slot.counted -= entry.amount
        slot.reserved -= entry.amount
        self.counted -= entry.amount
        self.reserved -= entry.amount
        if self._snapshot is not None:
            self._snapshot.forget(slot.issued, entry.amount)
        while slot is not None:
            slot.issued -= entry.amount
            slot = slot.after
        self._issued -= entry.amount

    def _close(self, entry: Entry, now: float) -> None:
        slot = entry.slot
        slot.open -= 1
        slot.open_amount -= entry.amount
        self.open -= entry.amount
        if slot.open == 0:
            slot.leaves = min(slot.last + MARGIN, now) + WINDOW

    def expire(self, now: float) -> None:
        """Let go of what is older than the window."""
        if now + INSTANT < self._all_stay_until:
            return
        slot = self._head
        while slot is not None and slot.leaves <= now + INSTANT:
            slot.is_live = False
            self.open -= slot.open_amount
            self.counted -= slot.counted
            self.reserved -= slot.reserved
            self._gone = slot.issued
            following = slot.after
            slot.before = slot.after = slot.surely = None
            self._head = slot = following
            if slot is None:
                self._tail = None
            else:
                slot.before = None
        if self._snapshot is not None and self._snapshot.latest + WINDOW <= now + INSTANT:
            self._snapshot = None
        starts = [] if slot is None else [slot.start]
        latest = [] if self._snapshot is None else [self._snapshot.latest]
        self._all_stay_until = min([*starts, *latest], default=math.inf) + WINDOW

    # ── the server's word ────────────────────────────────────────────────────────────────

    def observe(self, entry: Entry, limit: int, used: int | None, now: float) -> None:
        """The answer to ``entry`` said that ``used`` of ``limit`` were used when the request arrived.

        ``None`` for ``used`` where that cannot be believed. To be called before `settle`.
        """
        latest = min(entry.sent + MARGIN, now)
        if latest + WINDOW <= now:
            return
        self._headers_until = max(self._headers_until, latest + WINDOW)
        if entry.sent >= self._limit_sent:
            self._limit_sent, self._limit = entry.sent, min(self.quota, limit)
        known = self._snapshot
        if used is None or (known is not None and not known.gives_way_to(entry.sent, latest, used)):
            return
        self._all_stay_until = min(self._all_stay_until, latest + WINDOW)
        slot = entry.slot
        surely = slot.gone if slot.surely is None else slot.surely.issued
        self._snapshot = Snapshot(
            entry.sent,
            latest,
            used,
            entry.amount,
            slot.gone,
            slot.base,
            max(slot.base, surely),
            _maybe_before(slot, latest),
        )

    # ── what is used, and when there is room ─────────────────────────────────────────────

    def used(self, now: float) -> int:
        """What counts against the quota now: the log, others' use, and what is held."""
        if self._is_plain(now):
            return self.held + self.counted
        return self.held + self._used(self.counted, self.reserved, self._gone, now)

    def _used(self, counted: int, reserved: int, gone: int, at: float) -> int:
        if at >= self._headers_until - INSTANT:
            return counted
        known = self._snapshot
        if known is not None and at < known.latest + (WINDOW - INSTANT):
            reserved += known.correction(gone)
        return max(counted, reserved)

    def fits(self, amount: int, now: float) -> bool:
        """Whether a request of ``amount`` may go now. One above the whole quota may go alone."""
        if self._is_plain(now):
            return self.held + self.counted + min(amount, self.quota) <= self.quota
        return self._fits(amount, self.counted, self.reserved, self._gone, now)

    def _is_plain(self, now: float) -> bool:
        """Whether our own count and the whole quota are all there is to go by."""
        return self.share == 1.0 and now >= self._headers_until - INSTANT

    def _fits(self, amount: int, counted: int, reserved: int, gone: int, at: float) -> bool:
        limit = self.limit(at)
        own = self._own(limit)
        need = self.held + min(amount, own)
        used = self._used(counted, reserved, gone, at)
        if self.share == 1.0:
            return used + need <= own
        ours = max(counted, min(used, reserved))  # the others have their own share
        return ours + need <= own and used + need <= limit

    def free_at(self, amount: int, now: float) -> float:
        """When a request of ``amount`` fits if nothing else happens; infinite if that never comes."""
        counted, reserved, gone, at = self.counted, self.reserved, self._gone, now
        if self._fits(amount, counted, reserved, gone, at):
            return now
        for leaves, slot in self._departures(now):
            at = max(at, leaves)
            if slot is not None:
                counted -= slot.counted
                reserved -= slot.reserved
                gone = slot.issued
            if self._fits(amount, counted, reserved, gone, at):
                return at
        return math.inf

    def _departures(self, now: float) -> Iterator[tuple[float, Slot | None]]:
        """What will leave, in order: the slots, and the server's word."""
        ends = [self._headers_until] + ([] if self._snapshot is None else [self._snapshot.latest + WINDOW])
        lapses = sorted((end for end in ends if end > now), reverse=True)
        slot = self._head
        while slot is not None:
            while lapses and lapses[-1] < slot.leaves:
                yield lapses.pop(), None
            yield slot.leaves, slot
            slot = slot.after
        while lapses:
            yield lapses.pop(), None


def _maybe_before(slot: Slot, latest: float) -> int:
    """How far the requests reach that may have arrived by the time ``latest``."""
    while slot.after is not None and slot.after.start <= latest:
        slot = slot.after
    return slot.issued
