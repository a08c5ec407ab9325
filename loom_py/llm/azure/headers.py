"""What the headers of an answer say: its request id, how long to wait, which model it was."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["facts", "header", "request_id", "retry_after"]

_IN_TEXT = re.compile(r"(?:(?:retry|try again)\s*(?:after|in)\s*:?|please wait)\s+(?=\d)", re.IGNORECASE)
_AMOUNT = re.compile(
    r"(\d{1,12}(?:\.\d{1,12})?)(?!\d)\s*(ms|milliseconds?|[smhd]|(?:sec|min|hour|day)\w*)?(?![a-z])",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "mi": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?"
)
_WINDOW = 60.0
"""Seconds of Azure's quota window. A reset value above it can only be milliseconds."""


def header(headers: Mapping[str, str], name: str) -> str | None:
    """The value of a header whatever its case; ``None`` if it is absent or empty."""
    found = headers.get(name)
    if found is None:
        found = next((value for key, value in headers.items() if key.lower() == name), None)
    return found or None


def request_id(headers: Mapping[str, str]) -> str | None:
    """``x-request-id`` where the model was reached, else the gateway's ``apim-request-id``."""
    return header(headers, "x-request-id") or header(headers, "apim-request-id")


_FACTS = {
    "x-ms-region": "region",
    "x-ms-served-model": "served_model",
    "x-ratelimit-limit-requests": "limit_requests",
    "x-ratelimit-limit-tokens": "limit_tokens",
    "x-ratelimit-remaining-requests": "remaining_requests",
    "x-ratelimit-remaining-tokens": "remaining_tokens",
}


def facts(headers: Mapping[str, str]) -> dict[str, Any]:
    """The headers worth keeping with a response, as they were sent, under their plain names."""
    present = {name.lower(): value for name, value in headers.items() if value}
    found = {"request_id": present.get("x-request-id") or present.get("apim-request-id")}
    found |= {fact: present.get(name) for name, fact in _FACTS.items()}
    return {key: value for key, value in found.items() if value is not None}


def retry_after(
    headers: Mapping[str, str],
    message: str = "",
    clock: Callable[[], float] = time.time,
    *,
    resets: bool = True,
) -> float | None:
    """Seconds to wait before another try, from all the places Azure says it; ``None`` if nowhere.

    The longest of ``retry-after-ms``, ``retry-after`` (seconds or HTTP date) and the sentence in
    the message counts; 0 and negative values are known to be wrong and count as unsaid. Only
    without any of these, and with ``resets`` (they are part of every answer and mean a wait only
    where a quota was exceeded), the reset headers decide. Their unit changed over the years (seconds in
    2023 and late 2026, milliseconds in early 2026), so a value longer than the 60-second quota
    window is read as milliseconds.
    """
    said = [
        _number(header(headers, "retry-after-ms"), 0.001),
        _number(header(headers, "x-ms-retry-after-ms"), 0.001),
        _seconds_or_date(header(headers, "retry-after"), clock),
        _in_text(message),
    ]
    if waits := [wait for wait in said if wait is not None and wait > 0]:
        return max(waits)
    if not resets:
        return None
    left = (
        _reset(header(headers, f"{prefix}-reset-{kind}"))
        for prefix in ("x-rate-limit", "x-ratelimit")
        for kind in ("tokens", "requests")
    )
    return max((wait for wait in left if wait is not None and wait > 0), default=None)


def _number(value: str | None, scale: float = 1.0) -> float | None:
    try:
        number = float(value) * scale if value is not None else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _seconds_or_date(value: str | None, clock: Callable[[], float]) -> float | None:
    seconds = _number(value)
    if value is None or seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - clock()
    except (TypeError, ValueError, OverflowError):
        return None


def _in_text(message: str) -> float | None:
    """The wait in a sentence: "retry after 45 seconds", "try again in 1m30s", seconds without a unit."""
    found = _IN_TEXT.search(message)
    if found is None:
        return None
    amount = _AMOUNT.match(message, found.end())
    total = None
    while amount is not None:
        total = (total or 0.0) + float(amount[1]) * _scale((amount[2] or "s").lower())
        amount = _AMOUNT.match(message, amount.end()) if amount[2] else None
    return total


def _scale(unit: str) -> float:
    if unit.startswith("milli"):
        return 0.001
    return next((seconds for start, seconds in _UNITS.items() if unit.startswith(start)), 1.0)


def _reset(value: str | None) -> float | None:
    if value is None:
        return None
    if (number := _number(value)) is not None:
        return number / 1000 if number > _WINDOW else number
    parts = _DURATION.fullmatch(value.strip())
    if parts is None or not any(parts.groups()):
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
