"""The emulated Azure OpenAI resource: deployments, credentials, quota, and its request log."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loom_py.emulator.faults import Faults
from loom_py.emulator.wire_errors import bad_key, bad_token
from loom_py.llm.provider import LLMProvider

__all__ = ["Quota", "RecordedRequest", "RequestLog", "Resource"]

MAX_BODY = 20 * 2**20
"""20 MiB, in bytes."""

_SECRETS = frozenset(
    {"api-key", "ocp-apim-subscription-key", "subscription-key", "cookie", "proxy-authorization"}
)


@dataclass(slots=True)
class RecordedRequest:
    """A request the emulator received, and what became of it.

    ``headers`` have lower-case names and masked credentials; ``body`` is the parsed JSON, or
    ``None`` where there was none. ``status`` is the HTTP status that was answered, ``None`` until
    then; ``error`` is what the engine raised, if it did.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    deployment: str | None = None
    body: Any = field(default=None, repr=False)
    status: int | None = None
    error: BaseException | None = None


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """``headers``, or the fields of a query, with every credential replaced by ``***``."""
    shown = {}
    for name, value in headers.items():
        if name in _SECRETS:
            value = "***"
        elif name == "authorization":
            value = f"{value.partition(' ')[0]} ***"
        shown[name] = value
    return shown


class RequestLog:
    """The last ``size`` requests, in order of arrival."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._entries: deque[RecordedRequest] = deque(maxlen=size)

    def add(self, entry: RecordedRequest) -> None:
        """Note ``entry``."""
        with self._lock:
            self._entries.append(entry)

    def entries(self) -> list[RecordedRequest]:
        """What is noted now."""
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()


class Quota:
    """What the rate-limit headers say of a deployment: counted over 60 s, never enforced."""

    REQUESTS = 2500
    TOKENS = 250_000
    WINDOW = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._requests = 0
        self._tokens = 0

    def take(self, tokens: int) -> dict[str, str]:
        """Count one request of about ``tokens`` tokens; the headers it gets."""
        now = self._clock()
        if now - self._since >= self.WINDOW:
            self._since, self._requests, self._tokens = now, 0, 0
        self._requests += 1
        self._tokens += tokens
        left = {
            "requests": (self.REQUESTS, max(0, self.REQUESTS - self._requests)),
            "tokens": (self.TOKENS, max(0, self.TOKENS - self._tokens)),
        }
        headers = {}
        for name, (limit, remaining) in left.items():
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(remaining)
            headers[f"x-ratelimit-renewalperiod-{name}"] = "60"
            headers[f"x-ratelimit-reset-{name}"] = "0"
        return headers


@dataclass(slots=True)
class Resource:
    """The settings and the state of one emulated resource."""

    engine: LLMProvider
    deployments: dict[str, str]
    engines: dict[str, LLMProvider] = field(default_factory=dict)
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    entra_tokens: tuple[str, ...] = field(default=(), repr=False)
    region: str = "eastus"
    quirks: bool = True
    chunk_delay: float = 0.0
    max_body: int = MAX_BODY
    faults: Faults = field(default_factory=Faults)
    log: RequestLog = field(default_factory=lambda: RequestLog(10_000))
    quotas: dict[str, Quota] = field(default_factory=dict)

    def engine_for(self, deployment: str) -> LLMProvider:
        """The model behind ``deployment``."""
        return self.engines.get(deployment, self.engine)

    def quota_for(self, deployment: str) -> Quota:
        """The quota of ``deployment``."""
        return self.quotas.setdefault(deployment, Quota())

    def authenticate(self, headers: Mapping[str, str], *, keys_as_bearer: bool = False) -> None:
        """Raises `WireError` (401) unless ``headers`` hold a key or a token of this resource.

        The v1 path also takes a key as bearer token (``keys_as_bearer``).
        """
        key = headers.get("api-key")
        if key is not None:
            if key not in self.api_keys:
                raise bad_key()
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        accepted = self.entra_tokens + (self.api_keys if keys_as_bearer else ())
        if scheme.lower() != "bearer" or token.strip() not in accepted:
            raise bad_token()
