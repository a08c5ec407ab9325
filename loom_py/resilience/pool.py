"""Pools of deployments: which one is to be called, given what may be called now.

A pool is a plain object with an injected clock. It is asked before each try of a call and told of
the latencies; it never sleeps and does no I/O. What it chooses by, in this order:

1. **Residency**: only members with the asked tag, whatever happens.
2. **Can it be called now?** A member that can be called, and was not tried in this call, comes before
   one that was tried, and both before one that must be waited for. Of those the soonest is chosen.
3. **Priority**: the group with the lowest number. Another is used while no member of it can be called.
4. **Session**: a session stays where it was served last, for the sake of the prompt cache.
5. **Strategy**: within the group.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import get_args

from loom_py.errors import ConfigError
from loom_py.resilience.strategies import Condition, Group, Member, Record, Seat, Strategy, group_of

__all__ = ["NO_REASONS", "Choice", "Condition", "Member", "MemberStats", "Pool", "PoolStats", "Strategy"]

MAX_SESSIONS = 10_000
"""How many sessions a pool remembers the member of; the one that was not seen longest is forgotten."""

NO_REASONS: Mapping[str, str] = MappingProxyType({})
"""Nothing was passed over."""

_TRIED = "was tried already in this call"


@dataclass(frozen=True, slots=True)
class Choice:
    """What a pool chose.

    Attributes:
        member: the one to call, or ``None`` where every one's wait is infinite.
        wait: seconds to wait before that: 0 for now, ``math.inf`` where ``member`` is ``None``.
        reasons: for each member that was passed over, by its key, why it could not be called. Where
            none can be called now that is every member which the residency allows.
        preferred: what would have been chosen had every member been fit to be called. Where it is not
            ``member``, the call fails over, and ``reasons`` says why.
    """

    member: Member | None
    wait: float
    reasons: Mapping[str, str]
    preferred: Member


@dataclass(frozen=True, slots=True)
class MemberStats:
    """How a member was used: how often ``chosen``, and its average latency in seconds, where measured."""

    key: str
    name: str
    priority: int
    chosen: int
    latency: float | None


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment. ``sessions`` is how many sessions it remembers the member of."""

    strategy: Strategy
    sessions: int
    members: tuple[MemberStats, ...]


# ── the pool ─────────────────────────────────────────────────────────────────────────────


class Pool:
    """Several deployments of which each call takes one. Safe for threads and tasks.

    ``sticky`` keeps a session where it was served last, while that can be called and no member of a
    lower priority number can. ``random`` chooses whose turn is first, so that many processes do not
    all begin with the same one; without it the first in the list begins.

    Raises `ConfigError` where there is no member, two have the same key, a weight is not above 0, or
    the strategy is unknown.
    """

    def __init__(
        self,
        members: Sequence[Member],
        strategy: Strategy = "priority",
        *,
        sticky: bool = True,
        clock: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self.members = tuple(members)
        self.strategy: Strategy = strategy
        self._check()
        self._clock = clock
        self._random = random
        self._lock = threading.Lock()
        self._sticky = sticky and len(self.members) > 1
        self._sessions: OrderedDict[str, str] = OrderedDict()
        self._times_choices = strategy == "lowest-latency" and len(self.members) > 1
        self._plain = {member.key: Choice(member, 0.0, NO_REASONS, member) for member in self.members}
        self._records = {member.key: Record() for member in self.members}
        self._groups = self._grouped(self.members)
        tags = sorted({_normalised(tag) for member in self.members for tag in member.residency})
        self._within = {
            tag: self._grouped([one for one in self.members if tag in map(_normalised, one.residency)])
            for tag in tags
        }

    def __repr__(self) -> str:
        return f"Pool({[member.name for member in self.members]!r}, strategy={self.strategy!r})"

    def choose(
        self,
        condition: Callable[[Member], Condition],
        *,
        session: str | None = None,
        residency: str | None = None,
        tried: Collection[str] = (),
    ) -> Choice:
        """The member for the next try of a call, and how long to wait before it.

        ``condition`` tells of a member how it is now. It is called without a lock, at most once for
        each member, and only for those it depends on. ``tried`` are the keys of the members that
        were tried in this call, in order and with repetitions, the last one last.

        Raises `ConfigError` where no member has the ``residency``.
        """
        groups = self._groups if residency is None else self._resident(residency)
        kept = self._sessions.get(session) if session is not None and self._sticky else None
        asked: dict[str, Condition] = {}
        reasons: dict[str, str] = {}
        for group in groups:
            seat = None if kept is None else group.by_key.get(kept)
            stays = seat is not None and _fit(seat, condition, tried, asked, reasons)
            ready: list[Seat] = []
            if not stays:
                for other in group.seats:
                    if other is not seat and _fit(other, condition, tried, asked, reasons):
                        ready.append(other)
                        if group.takes_first:
                            break
                if not ready:
                    continue
            with self._lock:
                meant = self._meant(groups[0], kept, tried, asked) if reasons else None
                if seat is None or not stays:
                    seat = group.pick(ready, asked)
                    group.took(seat, ready)
                    if meant is None:
                        group.all_fit()
                self._note(seat, session)
            if meant is None:
                return self._plain[seat.key]
            preferred = meant.member if meant.key in reasons else seat.member
            return Choice(seat.member, 0.0, reasons, preferred)
        return self._last_resort(groups, condition, session, kept, tried, asked, reasons)

    def observe(self, member: Member, latency: float, *, session: str | None = None) -> None:
        """A call to ``member`` succeeded after ``latency`` seconds; ``session`` was served by it.

        A latency that is negative or not finite is passed over. Raises `KeyError` for a member of
        another pool.
        """
        record = self._records[member.key]
        now = self._clock()
        with self._lock:
            if 0 <= latency < math.inf:
                record.add(latency, now)
            self._stick(session, member.key)

    def stats(self) -> PoolStats:
        """How the members were used until now."""
        with self._lock:
            members = tuple(
                MemberStats(one.key, one.name, one.priority, record.chosen, record.latency)
                for one, record in zip(self.members, self._records.values(), strict=True)
            )
            return PoolStats(self.strategy, len(self._sessions), members)

    # ── inside ───────────────────────────────────────────────────────────────────────────

    def _last_resort(
        self,
        groups: tuple[Group, ...],
        condition: Callable[[Member], Condition],
        session: str | None,
        kept: str | None,
        tried: Collection[str],
        asked: dict[str, Condition],
        reasons: dict[str, str],
    ) -> Choice:
        """Nothing untried can be called: one that was tried, or the one with the shortest wait."""
        last_tried = {key: number for number, key in enumerate(tried)}
        best, best_key = groups[0].seats[0], (math.inf, math.inf)
        for group in groups:
            for seat in group.seats:
                if seat.key not in asked:
                    found = asked[seat.key] = condition(seat.member)
                    if not found.wait <= 0:
                        reasons[seat.key] = _reason(found)
                wait = asked[seat.key].wait
                key = (max(0.0, wait) if wait < math.inf else math.inf, last_tried.get(seat.key, -1))
                if key < best_key:
                    best, best_key = seat, key
        wait = best_key[0]
        with self._lock:
            preferred = self._meant(groups[0], kept, tried, asked).member
            if wait == 0:
                self._note(best, session)
        return Choice(None if wait == math.inf else best.member, wait, reasons, preferred)

    def _meant(
        self, first: Group, kept: str | None, tried: Collection[str], asked: Mapping[str, Condition]
    ) -> Seat:
        """Where the call would have gone had every member been fit."""
        if tried:  # its first try went there, and would have been its last
            for key in tried:
                if key in first.by_key:
                    return first.by_key[key]
        if kept is not None and kept in first.by_key:
            return first.by_key[kept]
        return first.meant(asked)

    def _note(self, seat: Seat, session: str | None) -> None:
        seat.record.chosen += 1
        if self._times_choices:
            seat.record.chosen_at = self._clock()
        if session is not None:
            self._stick(session, seat.key)

    def _stick(self, session: str | None, key: str) -> None:
        if session is None or not self._sticky:
            return
        self._sessions[session] = key
        self._sessions.move_to_end(session)
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def _resident(self, residency: str) -> tuple[Group, ...]:
        groups = self._within.get(residency) or self._within.get(_normalised(residency))
        if groups is not None:
            return groups
        known = ", ".join(map(repr, self._within)) or "none"
        raise ConfigError(
            f"no deployment has the residency {residency!r}; there are: {known}",
            field="residency",
            hint="Give a deployment that tag, as in Deployment.azure(…, residency='eu').",
        )

    def _grouped(self, members: Sequence[Member]) -> tuple[Group, ...]:
        """``members`` by priority; the order of the list stays within a group."""
        groups = []
        for priority in sorted({member.priority for member in members}):
            group = [member for member in members if member.priority == priority]
            first = self._random.randrange(len(group)) if self._random else 0
            seats = tuple(
                self._seat(member, (number - first) % len(group)) for number, member in enumerate(group)
            )
            groups.append(group_of(seats, self.strategy, self._clock))
        return tuple(groups)

    def _seat(self, member: Member, place: int) -> Seat:
        # Turns are counted from 1; before that the place in the list decides.
        turn = place - len(self.members)
        return Seat(member, member.key, self._records[member.key], place, turn)

    def _check(self) -> None:
        if self.strategy not in get_args(Strategy):
            known = ", ".join(map(repr, get_args(Strategy)))
            raise ConfigError(f"unknown strategy {self.strategy!r}; there are: {known}", field="strategy")
        if not self.members:
            raise ConfigError("a pool needs at least one deployment", field="deployments")
        keys = [member.key for member in self.members]
        for member in self.members:
            if keys.count(member.key) > 1:
                raise ConfigError(
                    f"two deployments of the pool are the same: {member.name!r}",
                    field="deployments",
                    hint="Name each endpoint and deployment once; a weight gives one a greater share.",
                )
            if not 0 < member.weight < math.inf:
                raise ConfigError(
                    f"the weight of {member.name!r} must be a number above 0, not {member.weight!r}",
                    field="weight",
                )


def _fit(
    seat: Seat,
    condition: Callable[[Member], Condition],
    tried: Collection[str],
    asked: dict[str, Condition],
    reasons: dict[str, str],
) -> bool:
    """Whether it can be called now and was not tried; what was found is noted."""
    if tried and seat.key in tried:
        reasons[seat.key] = _TRIED
        return False
    found = asked[seat.key] = condition(seat.member)
    if found.wait <= 0:
        return True
    reasons[seat.key] = _reason(found)
    return False


def _reason(found: Condition) -> str:
    if found.reason:
        return found.reason
    return f"can be called in {found.wait:g} s" if found.wait < math.inf else "cannot be called"


def _normalised(tag: str) -> str:
    return tag.strip().lower()
