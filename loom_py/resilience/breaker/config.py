"""When a breaker opens and closes, and how one stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from loom_py.errors import ConfigError

__all__ = ["BreakerConfig", "BreakerStats", "Cause", "State"]

State: TypeAlias = Literal["closed", "open", "half-open"]
Cause: TypeAlias = Literal["failures", "taken out", "forced"]


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker opens and closes. Times are in seconds.

    ``failure_threshold`` failures in a row open it, or a share of ``failure_rate`` (above 0, at most
    1; ``None`` for no such rule) of the calls in the last ``window_seconds``, if those were at least
    ``minimum_calls``. It stays open for ``open_seconds``; each failed probe doubles that up to
    ``max_open_seconds``. In half-open at most ``half_open_probes`` calls are under way at a time, and
    ``success_threshold`` successes close it. Raises `ConfigError` for values that make no sense.
    """

    failure_threshold: int = 5
    success_threshold: int = 2
    open_seconds: float = 30.0
    max_open_seconds: float = 60.0
    failure_rate: float | None = 0.5
    window_seconds: float = 60.0
    minimum_calls: int = 20
    half_open_probes: int = 1

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold", "minimum_calls", "half_open_probes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}", field=name)
        for name in ("open_seconds", "max_open_seconds", "window_seconds"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not value > 0:
                raise ConfigError(f"{name} must be a number of seconds above 0, not {value!r}", field=name)
        if not math.isfinite(self.window_seconds):
            raise ConfigError("window_seconds must be finite", field="window_seconds")
        rate = self.failure_rate
        if rate is not None and (type(rate) not in (int, float) or not 0 < rate <= 1):
            raise ConfigError(
                f"failure_rate must be a share above 0 and at most 1, or None, not {rate!r}",
                field="failure_rate",
            )


@dataclass(frozen=True, slots=True)
class BreakerStats:
    """A breaker's state at one moment.

    Attributes:
        name: what it guards.
        state: ``"open"`` also when the open time is over and nobody has called since.
        failures: failures in a row, failed probes included.
        successes: successful probes since it became half-open.
        times_opened: how often it opened since it was last closed.
        retry_after: seconds until a call is let through, 0.0 if one would be now. ``None`` where
            there is no such time: it is closed, or forced open.
        reason: why it is not closed.
        forced: a person has forced it open, and only `CircuitBreaker.force_close` or ``reset`` ends it.
        failure_rate: the share of the window's calls that failed; ``None`` if there were none.
        calls: calls in the window. Only those of the closed state are counted.
    """

    name: str
    state: State
    failures: int
    successes: int
    times_opened: int
    retry_after: float | None
    reason: str | None = None
    forced: bool = False
    failure_rate: float | None = None
    calls: int = 0
