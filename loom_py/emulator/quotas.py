"""Quotas, counted the way Azure documents: pay-as-you-go deployments and provisioned ones.

Standard deployments count an estimate when a request arrives (the prompt's characters and its
token limit), tokens over the last 60 seconds, requests over a slice of 1 or 10 seconds.
Provisioned ones are a leaky bucket, corrected when the answer is known.
Source: "Manage Azure OpenAI quota" and "Provisioned throughput" in Microsoft's documentation.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

from loom_py.clock import Clock
from loom_py.emulator.decode import ChatRequest
from loom_py.emulator.throttling import ThrottleStyle, check_style
from loom_py.llm.estimates import CHARACTERS_PER_TOKEN
from loom_py.messages import TokenUsage

__all__ = ["Bucket", "Grant", "Meter", "Ptu", "Quota", "Refusal", "estimated_tokens", "new_meter"]

WINDOW = 60.0
"""Seconds over which tokens are counted."""

_INSTANT = 1e-6
"""Seconds too short to wait for: what floating-point sums may be off by."""


def _rounded(wait: float) -> float:
    return wait if wait > _INSTANT else 0.0


def _positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


@dataclass(frozen=True, slots=True)
class Quota:
    """The quota of a standard deployment.

    Args:
        tokens_per_minute: estimated tokens in any 60 seconds; ``None`` for no limit.
        requests_per_minute: of these, a slice may have its share, rounded up; ``None`` for no limit.
        slice_seconds: over how many seconds requests are counted; Azure uses 1 or 10.
        style: the wording and headers of the 429.
        zero_retry_after_ms: send ``Retry-After-Ms: 0`` in the style of 2026, as the service does.
        count_refused: a refused request uses up requests too, so that hammering keeps it shut.

    Raises `ValueError` for a limit below 1, a slice outside 0–60 s or an unknown style.
    """

    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None
    slice_seconds: float = 10
    style: ThrottleStyle = "2026"
    zero_retry_after_ms: bool = True
    count_refused: bool = False

    def __post_init__(self) -> None:
        _positive("tokens_per_minute", self.tokens_per_minute)
        _positive("requests_per_minute", self.requests_per_minute)
        if not 0 < self.slice_seconds <= WINDOW:
            raise ValueError(f"slice_seconds must be more than 0 and at most 60, not {self.slice_seconds}")
        check_style(self.style)


@dataclass(frozen=True, slots=True)
class Ptu:
    """Provisioned throughput: ``tokens_per_minute`` drain from a bucket that holds one minute of them.

    A request is let in while utilisation is below 100 %, and its estimate may overfill the bucket.
    Raises `ValueError` below 1.
    """

    tokens_per_minute: int

    def __post_init__(self) -> None:
        _positive("tokens_per_minute", self.tokens_per_minute)


def estimated_tokens(request: ChatRequest) -> int:
    """What a request counts when it arrives: a quarter of its text's characters, and its token limit.

    Text is what the messages say and the arguments of their tool calls. No limit counts as none.
    """
    characters = sum(
        len(message.text) + sum(len(call.arguments_json) for call in message.tool_calls)
        for message in request.messages
    )
    return math.ceil(characters / CHARACTERS_PER_TOKEN) + (request.options.max_tokens or 0)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that does not fit: there is room again in ``wait`` seconds."""

    kind: Literal["tokens", "requests", "utilization"]
    wait: float


@dataclass(frozen=True, slots=True)
class Grant:
    """A request that was counted: the headers it gets, and the estimate it was counted with."""

    headers: dict[str, str]
    tokens: int = 0


class Meter:
    """Counts the requests of one standard deployment. Safe for threads."""

    UNLIMITED = Quota(250_000, 2500)
    """What the headers say of a deployment without a quota; it is not enforced."""

    def __init__(self, quota: Quota | None, clock: Clock) -> None:
        self.quota = quota or self.UNLIMITED
        self._enforced = quota is not None
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: deque[float] = deque()
        self._tokens: deque[tuple[float, int]] = deque()
        self._used = 0

    def admit(self, tokens: int) -> Grant | Refusal:
        """Count a request of about ``tokens`` tokens, or say when it would fit."""
        with self._lock:
            now = self._clock.now()
            self._forget(now)
            refusal = self._refusal(now, tokens) if self._enforced else None
            if refusal is None or self.quota.count_refused:
                self._requests.append(now)
            if refusal is not None:
                return refusal
            self._tokens.append((now, tokens))
            self._used += tokens
            return Grant(self._headers(), tokens)

    def standing(self) -> str:
        """What of the quota is used now, in words; empty without one."""
        if not self._enforced:
            return ""
        with self._lock:
            self._forget(self._clock.now())
            counted = (
                (self._used, self.quota.tokens_per_minute, "tokens"),
                (len(self._requests), self.quota.requests_per_minute, "requests"),
            )
        return ", ".join(
            f"{used:,} of {limit:,} {name}" for used, limit, name in counted if limit is not None
        )

    def settle(self, grant: Grant, usage: TokenUsage) -> None:
        """Nothing: standard deployments keep to the estimate."""

    def _forget(self, now: float) -> None:
        while self._requests and self._requests[0] <= now - WINDOW + _INSTANT:
            self._requests.popleft()
        while self._tokens and self._tokens[0][0] <= now - WINDOW + _INSTANT:
            self._used -= self._tokens.popleft()[1]

    def _refusal(self, now: float, tokens: int) -> Refusal | None:
        requests, size = self._wait_for_requests(now), self._wait_for_tokens(now, tokens)
        if requests == size == 0:
            return None
        return Refusal("requests", requests) if requests >= size else Refusal("tokens", size)

    def _wait_for_requests(self, now: float) -> float:
        limit, length = self.quota.requests_per_minute, self.quota.slice_seconds
        if limit is None:
            return 0.0
        share = math.ceil(limit * length / WINDOW)
        waits = [0.0]
        for count, span in ((share, length), (limit, WINDOW)):
            if len(self._requests) >= count:
                waits.append(self._requests[-count] + span - now)
        return _rounded(max(waits))

    def _wait_for_tokens(self, now: float, tokens: int) -> float:
        limit = self.quota.tokens_per_minute
        if limit is None:
            return 0.0
        over = self._used + tokens - limit
        if over <= 0:
            return 0.0
        for at, size in self._tokens:
            over -= size
            if over <= 0:
                return _rounded(at + WINDOW - now)
        return WINDOW  # a request larger than the whole quota never fits

    def _headers(self) -> dict[str, str]:
        counted = {
            "requests": (self.quota.requests_per_minute, len(self._requests)),
            "tokens": (self.quota.tokens_per_minute, self._used),
        }
        headers = {}
        for name, (limit, used) in counted.items():
            if limit is not None:
                headers[f"x-ratelimit-limit-{name}"] = str(limit)
                headers[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                headers[f"x-ratelimit-renewalperiod-{name}"] = "60"
                headers[f"x-ratelimit-reset-{name}"] = "0"
        return headers


class Bucket:
    """Counts the requests of one provisioned deployment. Safe for threads."""

    def __init__(self, ptu: Ptu, clock: Clock) -> None:
        self.ptu = ptu
        self._clock = clock
        self._lock = threading.Lock()
        self._level = 0.0
        self._since = clock.now()

    def admit(self, tokens: int) -> Grant | Refusal:
        """Pour a request's estimate in, or say when utilisation is below 100 % again."""
        with self._lock:
            self._leak()
            over = self._level - self.ptu.tokens_per_minute
            if over >= 0:
                return Refusal("utilization", over / self._per_second + 0.001)
            self._level += tokens
            return Grant(self._headers(), tokens)

    def settle(self, grant: Grant, usage: TokenUsage) -> None:
        """Correct the estimate by what was used; cached input is free."""
        with self._lock:
            self._leak()
            self._level = max(0.0, self._level + usage.total - usage.cached_input - grant.tokens)

    def standing(self) -> str:
        """How much of the throughput is used now, in words."""
        with self._lock:
            self._leak()
            return f"{self._level / self.ptu.tokens_per_minute:.0%} utilised"

    @property
    def _per_second(self) -> float:
        return self.ptu.tokens_per_minute / WINDOW

    def _leak(self) -> None:
        now = self._clock.now()
        self._level = max(0.0, self._level - (now - self._since) * self._per_second)
        self._since = now

    def _headers(self) -> dict[str, str]:
        used = 100 * self._level / self.ptu.tokens_per_minute
        return {"azure-openai-deployment-utilization": f"{used:.1f}%"}


def new_meter(quota: Quota | Ptu | None, clock: Clock) -> Meter | Bucket:
    """What counts the requests of a deployment with ``quota``."""
    return Bucket(quota, clock) if isinstance(quota, Ptu) else Meter(quota, clock)
