"""The rate limits of the emulated organization, and the headers that tell of them."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from loom_anthropic.emulator.errors import api_error
from loom_py.emulator.wire_errors import WireError

__all__ = ["RateLimits"]

WINDOW = 60.0
"""Seconds after which the counts begin anew."""

KINDS = ("requests", "input-tokens", "output-tokens")


@dataclass(slots=True)
class RateLimits:
    """Requests, input tokens and output tokens of a minute; ``retry_after`` overrides the wait of a 429."""

    requests: int = 4000
    input_tokens: int = 2_000_000
    output_tokens: int = 400_000
    retry_after: float | None = None
    _used: dict[str, int] = field(default_factory=dict, repr=False)
    _since: float = field(default=0.0, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def admit(self, input_tokens: int) -> None:
        """Count a request. Raises `WireError` (429) where it does not fit."""
        with self._lock:
            if time.monotonic() - self._since >= WINDOW:
                self._since, self._used = time.monotonic(), {}
            for kind, tokens in (("requests", 1), ("input-tokens", input_tokens)):
                if self._used.get(kind, 0) + tokens > self._limit(kind):
                    raise self._refusal(kind)
            self._used["requests"] = self._used.get("requests", 0) + 1
            self._used["input-tokens"] = self._used.get("input-tokens", 0) + input_tokens

    def spend(self, output_tokens: int) -> None:
        """Count what was answered."""
        with self._lock:
            self._used["output-tokens"] = self._used.get("output-tokens", 0) + output_tokens

    def headers(self) -> Mapping[str, str]:
        """The headers of an answer sent now."""
        with self._lock:
            return self._headers()

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self._used = {}

    def _limit(self, kind: str) -> int:
        limits = {"requests": self.requests, "input-tokens": self.input_tokens}
        return limits.get(kind, self.output_tokens)

    def _left(self) -> float:
        return max(0.0, self._since + WINDOW - time.monotonic())

    def _headers(self) -> dict[str, str]:
        at = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self._left())).isoformat(timespec="seconds")
        reset = at.replace("+00:00", "Z")
        headers = {}
        for kind in KINDS:
            limit = self._limit(kind)
            headers[f"anthropic-ratelimit-{kind}-limit"] = str(limit)
            headers[f"anthropic-ratelimit-{kind}-remaining"] = str(max(0, limit - self._used.get(kind, 0)))
            headers[f"anthropic-ratelimit-{kind}-reset"] = reset
        tightest = min(("input-tokens", "output-tokens"), key=lambda kind: self._limit(kind))
        for word in ("limit", "remaining", "reset"):
            source = headers[f"anthropic-ratelimit-{tightest}-{word}"]
            headers[f"anthropic-ratelimit-tokens-{word}"] = source
        return headers

    def _refusal(self, kind: str) -> WireError:
        named = kind.replace("-", " ")
        error = api_error(
            429,
            "rate_limit_error",
            f"This request would exceed your organization's rate limit of {self._limit(kind):,} {named} per"
            " minute. For details, refer to the documentation.",
        )
        wait = self._left() if self.retry_after is None else self.retry_after
        error.headers |= {**self._headers(), "retry-after": f"{max(1, round(wait))}"}
        return error
