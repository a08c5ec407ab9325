"""What one answer's headers say of a quota, compared with what we had sent by then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Snapshot", "read_headers"]


class Snapshot:
    """The server's count when one request arrived, against our own reservations.

    When that request arrived is known only between ``sent`` and ``latest``, so others of about the same
    time may have come before it or after. ``surely`` and ``maybe`` are how far those reach that had arrived
    before it for certain, and perhaps; positions are on the line of all reservations ever made (see
    `loom_py.resilience.limiter.window.Slot`, also for ``gone`` and ``base``). ``amount`` is its own.

    - More used than all that may have arrived: the rest is other processes', until the minute is over.
    - Less used than all that surely had: the server counts less than we reserve, or gives back. That share
      is taken off what remains of those requests.
    - Between: the server's count is what we reserved.
    """

    __slots__ = ("amount", "base", "gone", "latest", "maybe", "sent", "surely", "used")

    def __init__(
        self,
        sent: float,
        latest: float,
        used: int,
        amount: int,
        gone: int,
        base: int,
        surely: int,
        maybe: int,
    ) -> None:
        self.sent = sent
        self.latest = latest
        self.used = used
        self.amount = amount
        self.gone = gone
        self.base = base
        self.surely = surely
        self.maybe = maybe

    def correction(self, gone: int) -> int:
        """What to add to our reservations, where those before ``gone`` have left the log; may be negative."""
        others = self.used - (self.maybe - self.gone)
        if others >= 0:
            return others
        known = self.surely - self.base + self.amount
        given_back = known - self.used
        if given_back <= 0 or known <= 0:
            return 0
        left = max(0, self.surely - max(self.base, gone)) + self.amount
        return -(given_back * left // known)

    def gives_way_to(self, sent: float, latest: float, used: int) -> bool:
        """Whether the answer to that request is newer; of two that may have crossed, the greater count is."""
        if sent >= self.latest:
            return True
        return latest > self.sent and used >= self.used

    def forget(self, position: int, amount: int) -> None:
        """A request of ``amount`` in the slot that ends at ``position`` never reached the server."""
        if position <= self.surely:
            self.surely -= amount
        if position <= self.maybe:
            self.maybe -= amount


KEYS = {kind: (f"limit_{kind}", f"remaining_{kind}") for kind in ("tokens", "requests")}


def read_headers(headers: Mapping[str, Any], kind: str) -> tuple[int, int | None] | None:
    """The limit and what is used of it, of ``kind`` (``"tokens"`` or ``"requests"``).

    ``None`` where the headers are absent or make no sense: 0 or -1 as the limit, -1 as what remains (the
    service has sent them), what is no number, more remaining than the limit. That nothing remains may
    mean as little: the limit is believed then, and the use is ``None``.
    """
    limit_key, remaining_key = KEYS[kind]
    limit, left = _number(headers.get(limit_key)), _number(headers.get(remaining_key))
    if limit is None or limit < 1 or left is None or not 0 <= left <= limit:
        return None
    return limit, limit - left if left else None


def _number(value: object) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, str) and len(value) < 20:
        try:
            return int(value)
        except ValueError:
            return None
    return None
