"""The strategies of a pool: which of several members of the same priority is chosen.

Each is a group of seats that knows whose turn it is. A group does no I/O and has no lock of its own:
its pool calls it with the pool's lock held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Condition", "Group", "Member", "Record", "Seat", "Strategy", "group_of"]

Strategy: TypeAlias = Literal["priority", "round-robin", "weighted", "least-loaded", "lowest-latency"]
"""How one of several members of the same priority is chosen.

``priority`` takes the first in the list; ``round-robin`` each in turn; ``weighted`` each in
proportion to its weight, evenly spread; ``least-loaded`` the one with the greatest share of its quota
left, then with the fewest calls in flight; ``lowest-latency`` the one that answered fastest of late.
"""

LATENCY_SECONDS = 60.0
"""How fast latencies are forgotten: after so many seconds a measured one counts for 1/e of itself."""

LATENCY_WEIGHT = 0.1
"""The share of one more measurement in the average, where it follows at once on the one before."""

PROBE_EVERY = 20
"""Of so many calls one goes to a member that is not the fastest, to find one that became so."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a pool. ``key`` tells it from the others, ``name`` is for people.

    The lowest ``priority`` number comes first. ``weight`` is above 0 and is only used by the strategy
    ``weighted``. ``residency`` holds the tags of where its data stays, such as ``"eu"``.
    """

    key: str
    name: str
    priority: int = 0
    weight: float = 1.0
    region: str | None = None
    residency: frozenset[str] = frozenset()


class Condition(NamedTuple):
    """How a member is, now.

    ``wait`` is in seconds until it may be called: 0 for now, ``math.inf`` for not by itself. ``reason``
    says why there is a wait. ``room`` is the share of its quota that is left, 0 to 1; ``in_flight`` is
    how many calls to it are under way.
    """

    wait: float = 0.0
    reason: str = ""
    room: float = 1.0
    in_flight: int = 0


@dataclass(slots=True)
class Record:
    """What is known of a member, whichever residency was asked for. Times are the clock's."""

    chosen: int = 0
    latency: float | None = None
    observed_at: float = -math.inf
    chosen_at: float = -math.inf

    def add(self, latency: float, now: float) -> None:
        if self.latency is None:
            self.latency = latency
        else:
            kept = (1 - LATENCY_WEIGHT) * math.exp(-max(0.0, now - self.observed_at) / LATENCY_SECONDS)
            self.latency = kept * self.latency + (1 - kept) * latency
        self.observed_at = now

    def expected(self, now: float) -> float:
        """The latency to reckon with: below 0 where one should be measured.

        It shrinks while the member is idle, so that the member's turn comes again. One that was never
        measured is not asked for another measurement while its first call may be under way.
        """
        if self.latency is None:
            return -1.0 if now - self.chosen_at >= LATENCY_SECONDS else math.inf
        idle = max(0.0, now - max(self.observed_at, self.chosen_at))
        return self.latency * math.exp(-idle / LATENCY_SECONDS)


@dataclass(slots=True, eq=False)
class Seat:
    """A member's place in one group, with the group's own account of whose turn it is."""

    member: Member
    key: str
    record: Record
    place: int
    turn: int
    due: float = 0.0


@dataclass(slots=True, eq=False)
class Group:
    """Members of one priority. This one takes the first that can be called."""

    seats: tuple[Seat, ...]
    clock: Callable[[], float]
    takes_first: bool = True
    count: int = 0
    by_key: dict[str, Seat] = field(init=False)
    ghost: Group | None = None

    def __post_init__(self) -> None:
        self.by_key = {seat.key: seat for seat in self.seats}

    def pick(self, seats: Sequence[Seat], asked: Mapping[str, Condition]) -> Seat:
        """One of ``seats``, which can be called; nothing changes by it."""
        return seats[0]

    def took(self, seat: Seat, seats: Sequence[Seat]) -> None:
        """``seat`` was picked out of ``seats``."""

    def meant(self, asked: Mapping[str, Condition]) -> Seat:
        """What would be picked if every member could be called. To be asked before `took`."""
        return self.seats[0]

    def all_fit(self) -> None:
        """Every member can be called."""
        self.ghost = None


class _RoundRobin(Group):
    """Each in turn: the one whose last turn is longest ago."""

    __slots__ = ()

    def pick(self, seats: Sequence[Seat], asked: Mapping[str, Condition]) -> Seat:
        return min(seats, key=_turn)

    def took(self, seat: Seat, seats: Sequence[Seat]) -> None:
        self.count += 1
        seat.turn = self.count

    def meant(self, asked: Mapping[str, Condition]) -> Seat:
        # While some cannot be called, a copy of the group goes on as if they could. Without it a member
        # that is out would be next in turn until it is back, and every call one that was meant for it.
        if self.ghost is None:
            self.ghost = copy(self)
            self.ghost.seats = tuple(copy(seat) for seat in self.seats)
        seats = self.ghost.seats
        seat = self.ghost.pick(seats, asked)
        self.ghost.took(seat, seats)
        return seat


class _Weighted(_RoundRobin):
    """Smooth weighted round robin, by Tijdeman's rule for the chairman assignment problem (1980).

    Everyone's due grows by its weight, and whoever is picked pays the sum of the weights. Of those with
    enough due the one is picked that would first fall a whole turn behind. So after any number of picks
    nobody is a whole pick away from its share, and after a whole round (weights that are whole numbers,
    their sum) everyone has its share exactly. Picking the greatest due, as is common, does not keep
    the former.
    """

    __slots__ = ()

    def pick(self, seats: Sequence[Seat], asked: Mapping[str, Condition]) -> Seat:
        if len(seats) == 1:
            return seats[0]
        total = 0.0
        for seat in seats:
            total += seat.member.weight
        least = total / (2 * len(seats) - 2)
        best, best_key = None, (math.inf, 0)
        for seat in seats:
            weight = seat.member.weight
            due = seat.due + weight
            if due >= least:
                key = ((total - least - due) / weight, seat.place)
                if key < best_key:
                    best, best_key = seat, key
        # Nobody has enough due only where those that cannot be called hold it.
        return max(seats, key=_due) if best is None else best

    def took(self, seat: Seat, seats: Sequence[Seat]) -> None:
        total = 0.0
        for each in seats:
            total += each.member.weight
            each.due += each.member.weight
        seat.due -= total


class _LeastLoaded(_RoundRobin):
    """The most of the quota left, then the fewest calls in flight, then in turn."""

    __slots__ = ()

    def pick(self, seats: Sequence[Seat], asked: Mapping[str, Condition]) -> Seat:
        best, best_key = seats[0], (math.inf, 0, 0)
        for seat in seats:
            condition = asked.get(seat.key, _HEALTHY)
            key = (-condition.room, condition.in_flight, seat.turn)
            if key < best_key:
                best, best_key = seat, key
        return best


class _LowestLatency(_RoundRobin):
    """The fastest of late; each that was never measured first, and now and then one of the others."""

    __slots__ = ()

    def pick(self, seats: Sequence[Seat], asked: Mapping[str, Condition]) -> Seat:
        now = self.clock()
        best, best_key = seats[0], (math.inf, math.inf)
        for seat in seats:
            key = (seat.record.expected(now), seat.turn)
            if key < best_key:
                best, best_key = seat, key
        if len(seats) > 1 and (self.count + 1) % PROBE_EVERY == 0:
            return min((seat for seat in seats if seat is not best), key=_turn)
        return best

    def meant(self, asked: Mapping[str, Condition]) -> Seat:
        """The fastest when last measured; a latency that shrinks while a member is out says nothing."""
        return min(self.seats, key=_last_latency)


_GROUPS: dict[Strategy, type[Group]] = {
    "priority": Group,
    "round-robin": _RoundRobin,
    "weighted": _Weighted,
    "least-loaded": _LeastLoaded,
    "lowest-latency": _LowestLatency,
}
_HEALTHY = Condition()


def group_of(seats: tuple[Seat, ...], strategy: Strategy, clock: Callable[[], float]) -> Group:
    """A group that chooses among ``seats`` by ``strategy``; one seat leaves nothing to choose."""
    kind = Group if len(seats) == 1 else _GROUPS[strategy]
    return kind(seats, clock, takes_first=kind is Group)


def _turn(seat: Seat) -> int:
    return seat.turn


def _due(seat: Seat) -> float:
    return seat.due + seat.member.weight


def _last_latency(seat: Seat) -> float:
    return math.inf if seat.record.latency is None else seat.record.latency
