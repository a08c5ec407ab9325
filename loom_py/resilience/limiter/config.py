"""What a limiter is told, and what it tells of itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loom_py.errors import ConfigError

__all__ = ["LimiterStats", "RateLimitConfig"]


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """The quota of one deployment, and how calls wait for it.

    Args:
        tokens_per_minute: estimated tokens in any 60 seconds; ``None`` for no limit.
        requests_per_minute: requests in any 60 seconds, evenly paced; ``None`` for no limit.
        max_queue: how many calls may wait at a time; 0 lets none wait.
        queue_timeout: the longest wait, in seconds; ``None`` for no end.
        warn_at: the share of ``tokens_per_minute`` from which on the token meter warns.
        exact_tokens: count a request's tokens as its model reads them, and not by its characters as Azure
            does. Needs the extra ``tokens``; a model of unknown encoding is counted by characters.

    Raises `ConfigError` for values that make no sense, and where neither limit is given.
    """

    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None
    max_queue: int = 1000
    queue_timeout: float | None = 300.0
    warn_at: float = 0.8
    exact_tokens: bool = False

    def __post_init__(self) -> None:
        if self.tokens_per_minute is None and self.requests_per_minute is None:
            raise ConfigError(
                "a rate limit needs tokens_per_minute or requests_per_minute",
                field="tokens_per_minute",
                hint="Take the figures of the deployment's quota, or leave the rate limit out.",
            )
        for name, least in (("tokens_per_minute", 1), ("requests_per_minute", 1), ("max_queue", 0)):
            value = getattr(self, name)
            if value is None and name != "max_queue":
                continue
            if type(value) is not int or value < least:
                raise ConfigError(
                    f"{name} must be a whole number of at least {least}, not {value!r}", field=name
                )
        if self.queue_timeout is not None and not _is_above_zero(self.queue_timeout):
            raise ConfigError(
                f"queue_timeout must be a number of seconds above 0, not {self.queue_timeout!r}",
                field="queue_timeout",
                hint="None waits without end.",
            )
        if not _is_above_zero(self.warn_at) or self.warn_at > 1:
            raise ConfigError(
                f"warn_at must be a share above 0 and at most 1, not {self.warn_at!r}", field="warn_at"
            )


def _is_above_zero(value: object) -> bool:
    return type(value) in (int, float) and value > 0 and not math.isnan(value)  # type: ignore[operator,arg-type]


@dataclass(frozen=True, slots=True)
class LimiterStats:
    """A limiter's state at one moment.

    ``tokens_used`` is what finished calls hold of the last minute's quota, ``tokens_reserved`` what calls
    under way hold; both together are taken from ``tokens_limit``. ``requests_used`` are the requests of the
    last minute. The limits are those in force now, ``None`` where there is none. ``remaining_share`` is the
    free share of whatever is scarcest, 1.0 for all. ``next_free_seconds`` is the time until the head of the
    queue goes, or a small request would; infinite where only the end of another call can tell.
    """

    tokens_used: int
    tokens_reserved: int
    tokens_limit: int | None
    requests_used: int
    requests_limit: int | None
    queued: int
    remaining_share: float
    next_free_seconds: float
