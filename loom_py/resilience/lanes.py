"""One deployment as an agent calls it: its provider, and the policies that guard it."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from loom_py._log import get_logger
from loom_py.clock import Clock
from loom_py.llm.provider import LLMProvider
from loom_py.llm.tokenizers import exact_counter
from loom_py.options import ChatOptions
from loom_py.resilience.breaker import BreakerStats, CircuitBreaker
from loom_py.resilience.limiter import LimiterStats, RateLimitConfig, RateLimiter
from loom_py.resilience.line import Line
from loom_py.resilience.pool import Condition, Member
from loom_py.resilience.throttle import Throttle, ThrottleStats
from loom_py.resilience.timeouts import NO_TIMEOUTS, Timeouts, shortened

__all__ = ["DeploymentHealth", "Lane", "Traffic", "names_of", "traffic_of"]

_log = get_logger()

QUOTA_WINDOW = 60.0
"""Seconds for which it counts what a deployment said of its quota: as long as Azure's window."""

LOOK_AGAIN = 1.0
"""Seconds after which what all processes share is asked about again: others may have changed it."""

NO_OPTIONS = ChatOptions()
NOTHING_TOLD = (1.0, -math.inf)

PROBING = 0.05
"""Seconds after which to look again at a breaker that waits for the outcome of its probe."""


@dataclass(frozen=True, slots=True)
class DeploymentHealth:
    """One deployment at one moment. Times are in seconds; ``retry_in`` is 0 if it may be called now.

    ``reason`` says why it may not, ``latency`` is the usual time of its answers where it is known. The shared
    state knows it by ``key``.
    """

    name: str
    key: str
    retry_in: float
    reason: str
    in_flight: int
    latency: float | None
    breaker: BreakerStats | None
    throttle: ThrottleStats
    rate_limit: LimiterStats | None

    @property
    def is_available(self) -> bool:
        """Whether a call would be sent now."""
        return self.retry_in <= 0


class Traffic:
    """What all agents of this process that call one deployment share: throttling and rate limit."""

    def __init__(self, provider: LLMProvider, clock: Clock) -> None:
        self._provider = provider  # keeps the object alive whose identity may be the key
        self.clock = clock
        self.throttle = Throttle(clock=clock.now)
        self.limiter: RateLimiter | None = None
        self._share = 1.0

    def limit(self, config: RateLimitConfig, name: str) -> RateLimiter:
        """The one limiter of the deployment; where agents ask for different ones, the first counts."""
        if self.limiter is None:
            self.limiter = RateLimiter(config, clock=self.clock.now)
        elif self.limiter.config != config:
            _log.warning(
                "rate_limit_differs",
                deployment=name,
                used=repr(self.limiter.config),
                ignored=repr(config),
                hint="agents that share a deployment share its rate limit: configure them alike",
            )
        return self.limiter

    def take_share(self, share: float) -> None:
        """Keep to this share of the quota: other processes have the rest."""
        if share != self._share and self.limiter is not None:
            self.limiter.scale(share)
        self._share = share


_traffic: weakref.WeakValueDictionary[Any, Traffic] = weakref.WeakValueDictionary()
_traffic_lock = threading.Lock()


def traffic_of(provider: LLMProvider, clock: Clock) -> Traffic:
    """The traffic to the deployment that ``provider`` calls, known by endpoint and name.

    A provider that has no endpoint is a deployment of its own.
    """
    key = (*deployment_key(provider), id(clock))
    with _traffic_lock:
        found = _traffic.get(key)
        if found is None:
            found = _traffic[key] = Traffic(provider, clock)
        return found


def deployment_key(provider: LLMProvider) -> tuple[Any, ...]:
    """What two providers have in common that call the same deployment."""
    endpoint = getattr(provider, "endpoint", None)
    return (provider.name, endpoint or id(provider), provider.model, getattr(provider, "account", None))


def names_of(providers: Sequence[LLMProvider], given: Sequence[str | None]) -> list[str]:
    """A name for each deployment, as short as can be told apart: with its host where it must."""
    plain = [name or f"{each.name}/{each.model}" for each, name in zip(providers, given, strict=True)]
    if len(plain) == 1:
        return plain
    names: list[str] = []
    for provider, name in zip(providers, plain, strict=True):
        if plain.count(name) > 1:
            host = urlsplit(getattr(provider, "endpoint", None) or "").netloc
            name = f"{name}@{host}" if host else name
        base, number = name, 2
        while name in names:
            name, number = f"{base}#{number}", number + 1
        names.append(name)
    return names


class Lane:
    """The way to one deployment, for one agent."""

    __slots__ = (
        "_clock",
        "_closed_until",
        "_full_until",
        "_heard_until",
        "_line",
        "_lock",
        "_timed",
        "_told",
        "_traffic",
        "_why_closed",
        "breaker",
        "breaker_config",
        "count",
        "in_flight",
        "limiter",
        "member",
        "model",
        "name",
        "provider",
        "throttle",
    )

    def __init__(
        self,
        provider: LLMProvider,
        member: Member,
        *,
        traffic: Traffic,
        breaker: CircuitBreaker | None = None,
        rate_limit: RateLimitConfig | None = None,
    ) -> None:
        self.provider = provider
        self.member = member
        self.name = member.name
        self.breaker = breaker
        self._traffic = traffic  # known by weak reference only: who calls the deployment keeps it alive
        self.throttle = traffic.throttle
        self.limiter = None if rate_limit is None else traffic.limit(rate_limit, member.name)
        self.in_flight = 0
        self._lock = threading.Lock()
        config = getattr(provider, "config", None)
        self.model: str = getattr(config, "model_name", None) or provider.model
        is_exact = rate_limit is not None and rate_limit.exact_tokens
        self.count = exact_counter(self.model) if is_exact else None
        self.breaker_config = None if breaker is None else breaker.config
        self._clock = traffic.clock
        self._line: Line | None = None
        self._told = NOTHING_TOLD
        self._timed: tuple[ChatOptions | None, Timeouts | None, ChatOptions] | None = None
        self._heard_until = self._full_until = -math.inf
        self._closed_until, self._why_closed = -math.inf, ""

    @property
    def shared_key(self) -> str:
        """By what the shared state knows the deployment."""
        provider = self.provider
        place = urlsplit(getattr(provider, "endpoint", None) or "")
        key = f"{provider.name}/{place.netloc}{place.path.rstrip('/')}/{provider.model}"
        account = getattr(provider, "account", None)
        return f"{key}/{account}" if account else key

    @property
    def line(self) -> Line:
        """Those who wait for a quota that other processes use too."""
        if self._line is None:
            with self._lock:
                if self._line is None:
                    self._line = Line()
        return self._line

    def __repr__(self) -> str:
        return f"Lane({self.name!r})"

    def timed(
        self, options: ChatOptions | None, timeouts: Timeouts | None, left: float | None
    ) -> ChatOptions:
        """A call's options with the time that an attempt may take, of which ``left`` seconds are left.

        They are kept as they are where enough is left, as an agent's calls mostly have the same.
        """
        known = self._timed
        if known is None or known[0] is not options or known[1] is not timeouts:
            usual = getattr(self.provider, "timeout", None)
            found = (timeouts or NO_TIMEOUTS).applied(options or NO_OPTIONS, usual)
            self._timed = known = options, timeouts, found
        return known[2] if left is None else shortened(known[2], left)

    def begin(self) -> None:
        """A request goes out."""
        with self._lock:
            self.in_flight += 1

    def end(self) -> None:
        """A request is over."""
        with self._lock:
            self.in_flight -= 1

    def close(self, seconds: float, reason: str, *, is_believed: bool = True) -> None:
        """The breaker that all processes share is open for so long; after a moment it is asked again.

        Where it ``is_believed`` no call is made in that moment; otherwise it is only told in `health`.
        """
        now = self._clock.now()
        self._closed_until, self._why_closed = now + seconds, reason
        if is_believed:
            self._heard_until = now + min(seconds, LOOK_AGAIN)

    def reopen(self) -> None:
        """The breaker that all processes share has let a call through."""
        self._closed_until = self._heard_until = -math.inf

    def fill(self, seconds: float) -> None:
        """The quota that all processes share has no room for so long; after a moment it is asked again."""
        self._full_until = self._clock.now() + min(seconds, LOOK_AGAIN)

    def take_share(self, share: float) -> None:
        """Keep to this share of the quota: other processes have the rest."""
        self._traffic.take_share(share)

    def hear(self, facts: Mapping[str, Any]) -> None:
        """What an answer's headers say of the quota that is left; of use where there is no rate limit."""
        try:
            left, limit = float(facts["remaining_tokens"]), float(facts["limit_tokens"])
        except (KeyError, TypeError, ValueError):
            return
        if 0 < left <= limit:  # 0 and -1 are known to be said without being meant
            self._told = (left / limit, self._clock.now())

    def blocked(self) -> tuple[float, str]:
        """Seconds until breaker and throttling let a call through, and which of them it is."""
        paused = self.throttle.remaining()
        if self._heard_until > -math.inf:
            now = self._clock.now()
            closed = self._closed_until - now
            if now < self._heard_until and closed > paused:
                return closed, self._why_closed
        if self.breaker is None or self.breaker.is_available:
            return paused, "throttled" if paused > 0 else ""
        stats = self.breaker.stats()
        wait = math.inf if stats.forced else max(stats.retry_after or 0.0, paused, PROBING)
        return wait, stats.reason or f"circuit {stats.state}"

    def condition(self) -> Condition:
        """How it stands, for the pool to choose."""
        wait, reason = self.blocked()
        if self.limiter is not None:
            room, free = self.limiter.room()
            if wait <= 0 and free > 0:
                wait, reason = free, "rate limit"
        else:
            room, at = self._told
            if room < 1.0 and self._clock.now() - at > QUOTA_WINDOW:
                room = 1.0
        if self._full_until > -math.inf:
            full = self._full_until - self._clock.now()
            if full > wait:
                wait, reason = full, "shared rate limit"
        return Condition(wait, reason, room, self.in_flight)

    def health(self, latency: float | None) -> DeploymentHealth:
        """How it stands, for people."""
        condition = self.condition()
        if (closed := self._closed_until - self._clock.now()) > condition.wait:
            condition = Condition(wait=closed, reason=self._why_closed)
        limits = None if self.limiter is None else self.limiter.stats()
        if limits is not None and self._line:
            limits = replace(limits, queued=limits.queued + len(self._line))
        return DeploymentHealth(
            name=self.name,
            key=self.shared_key,
            retry_in=condition.wait,
            reason=condition.reason,
            in_flight=self.in_flight,
            latency=latency,
            breaker=None if self.breaker is None else self.breaker.stats(),
            throttle=self.throttle.stats(),
            rate_limit=limits,
        )
