"""The quotas of one deployment together: tokens, requests, and the pace of requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from loom_py.resilience.limiter.config import LimiterStats, RateLimitConfig
from loom_py.resilience.limiter.pace import Pace
from loom_py.resilience.limiter.snapshot import read_headers
from loom_py.resilience.limiter.window import INSTANT, Entry, Window

__all__ = ["Quotas", "Reservation"]


class Reservation:
    """One call's part of the quotas: first held, then on its way, then booked or given back."""

    __slots__ = ("_is_held", "_request", "_reserved", "_sent", "tokens")

    tokens: int

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._reserved = 0
        self._is_held = False
        self._sent: Entry | None = None
        self._request: Entry | None = None


class Quotas:
    """Whether a call fits, when it will, and what becomes of it. Guarded by its limiter's lock."""

    def __init__(self, config: RateLimitConfig) -> None:
        tokens, requests = config.tokens_per_minute, config.requests_per_minute
        self._tokens = None if tokens is None else Window(tokens)
        self._requests = None if requests is None else Window(requests)
        self._windows = [window for window in (self._tokens, self._requests) if window is not None]
        self._pace = Pace()

    def expire(self, now: float) -> None:
        """Let go of what is too old."""
        for window in self._windows:
            window.expire(now)

    def scale(self, share: float) -> None:
        """Use only ``share`` of each quota."""
        for window in self._windows:
            window.share = share

    def fits(self, tokens: int, now: float) -> bool:
        """Whether a call of ``tokens`` may go now.

        Of requests that are paced the next is granted when the last is on its way, or two that were
        granted a second apart could be sent at the same time.
        """
        requests = self._requests
        if requests is not None and (
            requests.held
            or self._pace.next_start(requests.own_limit(now)) > now + INSTANT
            or not requests.fits(1, now)
        ):
            return False
        return self._tokens is None or self._tokens.fits(tokens, now)

    def free_at(self, tokens: int, now: float) -> float:
        """When a call of ``tokens`` could go if nothing else happened; infinite if never."""
        at = now
        if self._tokens is not None:
            at = self._tokens.free_at(tokens, now)
        if self._requests is not None:
            if self._requests.held:
                return math.inf
            pace = self._pace.next_start(self._requests.own_limit(now))
            at = max(at, pace, self._requests.free_at(1, now))
        return at

    def hold(self, part: Reservation, now: float) -> None:
        """Reserve what a call needs; until it is sent nothing of it can expire."""
        part._is_held = True
        if self._tokens is not None:
            part._reserved = self._tokens.clamped(part.tokens, now)
            self._tokens.held += part._reserved
        if self._requests is not None:
            self._requests.held += 1

    def send(self, part: Reservation, now: float) -> None:
        """The call is on its way."""
        self._let_go(part)
        if self._tokens is not None:
            part._sent = self._tokens.add(part._reserved, now)
        if self._requests is not None:
            part._request = self._requests.add(1, now)
            self._pace.started(now)

    def start(self, part: Reservation, now: float) -> None:
        """The call fits, and is on its way at once."""
        if self._tokens is not None:
            part._reserved = self._tokens.clamped(part.tokens, now)
            part._sent = self._tokens.add(part._reserved, now)
        if self._requests is not None:
            part._request = self._requests.add(1, now)
            self._pace.started(now)

    def book(self, part: Reservation, tokens: int | None, headers: Mapping[str, Any], now: float) -> None:
        """Put what was used in place of what was reserved; ``None`` keeps that."""
        if self._tokens is not None and part._sent is not None:
            used = part._reserved if tokens is None else max(0, tokens)
            _book(self._tokens, part._sent, used, headers, "tokens", now)
        if self._requests is not None and part._request is not None:
            _book(self._requests, part._request, 1, headers, "requests", now)

    def give_back(self, part: Reservation, now: float) -> None:
        """Nothing of it was used. The pace stays, for a request that failed may have been seen."""
        self._let_go(part)
        if self._tokens is not None and part._sent is not None:
            self._tokens.release(part._sent, now)
        if self._requests is not None and part._request is not None:
            self._requests.release(part._request, now)

    def _let_go(self, part: Reservation) -> None:
        if part._is_held:
            part._is_held = False
            if self._tokens is not None:
                self._tokens.held -= part._reserved
            if self._requests is not None:
                self._requests.held -= 1

    def meter(self, now: float) -> tuple[int, int] | None:
        """What finished calls hold of the token quota, and the quota."""
        tokens = self._tokens
        if tokens is None:
            return None
        return max(0, tokens.used(now) - tokens.open - tokens.held), tokens.limit(now)

    def stats(self, now: float, queued: int, next_free: float) -> LimiterStats:
        """The state at this moment."""
        tokens, requests = self._tokens, self._requests
        reserved = 0 if tokens is None else tokens.open + tokens.held
        return LimiterStats(
            tokens_used=0 if tokens is None else max(0, tokens.used(now) - reserved),
            tokens_reserved=reserved,
            tokens_limit=None if tokens is None else tokens.own_limit(now),
            requests_used=0 if requests is None else requests.used(now),
            requests_limit=None if requests is None else requests.own_limit(now),
            queued=queued,
            remaining_share=self.remaining_share(now),
            next_free_seconds=next_free,
        )

    def remaining_share(self, now: float) -> float:
        """The free share of what is scarcest."""
        if len(self._windows) == 1:
            return self._windows[0].remaining_share(now)
        return min(window.remaining_share(now) for window in self._windows)


def _book(window: Window, entry: Entry, used: int, headers: Mapping[str, Any], kind: str, now: float) -> None:
    said = read_headers(headers, kind) if headers else None
    if said is not None:
        window.observe(entry, *said, now)
    window.settle(entry, used, now)
