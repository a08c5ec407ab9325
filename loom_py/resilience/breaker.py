"""Circuit breakers: stop calling what keeps failing, and find out when it works again.

A breaker is a plain object with an injected clock. It is asked before a call and told after it;
it never sleeps and does no I/O.

::

    closed ── threshold failures in a row ──▶ open ── open time over ──▶ half-open
       ▲                                       ▲                            │
       └────────── enough successes ───────────┼────────────────────────────┤
                                               └───────── a failure ────────┘

In half-open one probe at a time is let through. Each time a probe fails the open time doubles, up
to a cap. A call that was begun before the state changed is not counted after it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from loom_py._log import get_logger
from loom_py.errors import CircuitOpenError, ConfigError

__all__ = ["BreakerConfig", "BreakerStats", "CircuitBreaker", "CircuitBreakers", "Permit"]

State: TypeAlias = Literal["closed", "open", "half-open"]

_log = get_logger()


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker opens and closes.

    ``failure_threshold`` failures in a row open it for ``open_seconds``; each failed probe doubles
    that up to ``max_open_seconds``; ``success_threshold`` successes in half-open close it.
    Raises `ConfigError` for values that make no sense.
    """

    failure_threshold: int = 5
    success_threshold: int = 2
    open_seconds: float = 30.0
    max_open_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}", field=name)
        for name in ("open_seconds", "max_open_seconds"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not value > 0:
                raise ConfigError(f"{name} must be a number of seconds above 0, not {value!r}", field=name)


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """A breaker's state at one moment; ``retry_after`` is in seconds."""

    name: str
    state: State
    failures: int
    successes: int
    times_opened: int
    retry_after: float | None


class Permit:
    """Leave to make one call. Exactly one of its verbs is to be called, when the call is over."""

    __slots__ = ("_breaker", "_done", "_generation", "is_probe")

    def __init__(self, breaker: CircuitBreaker, generation: int, is_probe: bool) -> None:
        self._breaker = breaker
        self._generation = generation
        self.is_probe = is_probe
        self._done = False

    def success(self) -> None:
        """The call went well."""
        self._settle(True)

    def failure(self) -> None:
        """The call failed by the fault of what was called."""
        self._settle(False)

    def neutral(self) -> None:
        """The call says nothing of what was called: cancelled, or the caller's own fault."""
        self._settle(None)

    def _settle(self, outcome: bool | None) -> None:
        if not self._done:
            self._done = True
            self._breaker._settle(self._generation, outcome)


class CircuitBreaker:
    """One breaker, for one deployment or one tool. Safe for threads and tasks."""

    def __init__(
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.config = config or BreakerConfig()
        self._clock = clock
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._generation = 0
        self._failures = 0
        self._successes = 0
        self._opens = 0
        self._opened_at = 0.0
        self._probing = False
        self._changes: deque[dict[str, Any]] = deque()

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r}, state={self.state!r})"

    @property
    def state(self) -> State:
        """``"closed"``, ``"open"`` or ``"half-open"``; an open one stays so until it is asked."""
        return self._state

    @property
    def is_available(self) -> bool:
        """Whether a call would be let through now."""
        with self._lock:
            return self._remaining() is None

    def stats(self) -> BreakerStats:
        """The state at this moment."""
        with self._lock:
            return BreakerStats(
                self.name, self._state, self._failures, self._successes, self._opens, self._remaining()
            )

    def enter(self) -> Permit:
        """Leave to call. Raises `CircuitOpenError` with ``retry_after`` while the breaker refuses."""
        with self._lock:
            remaining = self._remaining()
            if remaining is not None:
                raise CircuitOpenError(
                    f"the circuit breaker of {self.name} is {self._state} after"
                    f" {self._failures} failures in a row",
                    retry_after=round(remaining, 3),
                    hint="Wait, or call something else meanwhile.",
                )
            if self._state == "open":
                self._change("half-open")
            self._probing = self._state == "half-open"
            permit = Permit(self, self._generation, self._probing)
        try:
            self._announce()
        except BaseException:  # a log that fails must not keep the probe's place
            permit.neutral()
            raise
        return permit

    def reset(self) -> None:
        """Close the breaker and forget its history."""
        with self._lock:
            self._failures = self._opens = 0
            self._change("closed")
        self._announce()

    def _remaining(self) -> float | None:
        """Seconds until a call is let through; ``None`` if it is now."""
        if self._state == "open":
            remaining = self._opened_at + self.open_time() - self._clock()
            return remaining if remaining > 0 else None
        return 0.0 if self._state == "half-open" and self._probing else None

    def open_time(self) -> float:
        """Seconds the breaker stays open: doubled for each opening since it last closed."""
        config = self.config
        doubled = config.open_seconds * 2.0 ** min(max(self._opens - 1, 0), 60)
        return float(min(doubled, max(config.max_open_seconds, config.open_seconds)))

    def _settle(self, generation: int, outcome: bool | None) -> None:
        with self._lock:
            if generation != self._generation:
                return  # begun before the state changed: it tells of another time
            self._probing = False
            if outcome is True:
                self._succeeded()
            elif outcome is False:
                self._failed()
        self._announce()

    def _succeeded(self) -> None:
        if self._state == "closed":
            self._failures = 0
            return
        self._successes += 1
        if self._successes >= self.config.success_threshold:
            self._failures = self._opens = 0
            self._change("closed")

    def _failed(self) -> None:
        self._failures += 1
        if self._state == "half-open" or self._failures >= self.config.failure_threshold:
            self._opens += 1
            self._opened_at = self._clock()
            self._change("open")

    def _change(self, state: State) -> None:
        before, self._state = self._state, state
        self._generation += 1
        self._successes = 0
        self._probing = False
        if before != state:
            open_seconds = self.open_time() if state == "open" else None
            self._changes.append(
                {"before": before, "after": state, "failures": self._failures, "open_seconds": open_seconds}
            )

    def _announce(self) -> None:
        """Log what changed. Not under the lock: whoever handles the event may ask the breaker."""
        while True:
            try:
                change = self._changes.popleft()
            except IndexError:
                return
            emit = _log.warning if change["after"] == "open" else _log.info
            emit("circuit_breaker", breaker=self.name, **change)


class CircuitBreakers:
    """Breakers by name, each made when it is first needed. As a guard it serves the tools."""

    def __init__(
        self,
        kind: str,
        config: BreakerConfig | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind = kind
        self._config = config or BreakerConfig()
        self._clock = clock
        self._lock = threading.Lock()
        self._breakers: dict[str, CircuitBreaker] = {}

    def __getitem__(self, name: str) -> CircuitBreaker:
        with self._lock:
            breaker = self._breakers.get(name)
            if breaker is None:
                breaker = CircuitBreaker(f"{self._kind} {name}", self._config, clock=self._clock)
                self._breakers[name] = breaker
            return breaker

    def available(self, name: str) -> bool:
        """Whether a call to ``name`` would be let through now."""
        breaker = self._breakers.get(name)
        return breaker is None or breaker.is_available

    def enter(self, name: str) -> Permit:
        """Leave to call ``name``. Raises `CircuitOpenError` while its breaker refuses."""
        return self[name].enter()

    def stats(self) -> dict[str, BreakerStats]:
        """The state of every breaker that was ever needed."""
        with self._lock:
            return {name: breaker.stats() for name, breaker in self._breakers.items()}

    def reset(self) -> None:
        """Close all of them."""
        with self._lock:
            breakers = list(self._breakers.values())
        for breaker in breakers:
            breaker.reset()
