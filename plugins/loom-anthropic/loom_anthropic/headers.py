"""What the headers of an answer say: its request id, the rate limits, how long to wait."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loom_py.llm.azure.headers import header
from loom_py.llm.azure.headers import retry_after as said_wait

__all__ = ["facts", "header", "request_id", "retry_after"]

_PREFIX = "anthropic-ratelimit-"
_KINDS = ("requests", "tokens", "input-tokens", "output-tokens")
_FACTS = {"limit": "limit", "remaining": "remaining", "reset": "reset"}


def request_id(headers: Mapping[str, str]) -> str | None:
    """The service's id of the request."""
    return header(headers, "request-id")


def facts(headers: Mapping[str, str]) -> dict[str, Any]:
    """The headers worth keeping with a response, as they were sent, under their plain names.

    ``limit_requests``, ``remaining_requests``, ``limit_tokens`` and ``remaining_tokens`` are what rate
    limits go by. ``tokens`` is the tightest limit in force, input and output together; where only the two
    are told apart it is the one that counts input. Resets are RFC 3339 times.
    """
    found: dict[str, Any] = {"request_id": request_id(headers)}
    for kind in _KINDS:
        for word, name in _FACTS.items():
            found[f"{name}_{kind.replace('-', '_')}"] = header(headers, f"{_PREFIX}{kind}-{word}")
    for name in ("limit_tokens", "remaining_tokens"):
        found[name] = found[name] or found[name.replace("_tokens", "_input_tokens")]
    found["organization"] = header(headers, "anthropic-organization-id")
    return {key: value for key, value in found.items() if value is not None}


def retry_after(
    headers: Mapping[str, str],
    message: str = "",
    clock: Callable[[], float] = time.time,
    *,
    resets: bool = True,
) -> float | None:
    """Seconds to wait before another try; ``None`` where nothing says it.

    ``retry-after`` counts first, then a wait in the ``message``. With ``resets`` the latest reset of a
    limit that is used up decides otherwise.
    """
    said = said_wait(headers, message, clock, resets=False)
    if said is not None or not resets:
        return said
    return max((wait for wait in _waits(headers, clock()) if wait > 0), default=None)


def _waits(headers: Mapping[str, str], now: float) -> Iterator[float]:
    for kind in _KINDS:
        reset = header(headers, f"{_PREFIX}{kind}-reset")
        if header(headers, f"{_PREFIX}{kind}-remaining") == "0" and reset is not None:
            try:
                at = dt.datetime.fromisoformat(reset)
            except ValueError:
                continue
            yield (at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp() - now
