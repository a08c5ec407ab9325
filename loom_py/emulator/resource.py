"""The emulated resource: deployments, credentials, quotas, and its request log."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loom_py.clock import Clock, RealClock
from loom_py.emulator.conversations import Conversations
from loom_py.emulator.dialect import AzureDialect, Dialect
from loom_py.emulator.fault_plan import PlanRun
from loom_py.emulator.faults import Faults
from loom_py.emulator.filters import ContentFilters
from loom_py.emulator.quotas import Bucket, Meter, Ptu, Quota, new_meter
from loom_py.emulator.tokens import TokenIssuer
from loom_py.emulator.upstream import AzureUpstream
from loom_py.emulator.wire_errors import bad_key, bad_token
from loom_py.llm.provider import LLMProvider
from loom_py.messages import TokenUsage

__all__ = ["RecordedRequest", "RequestLog", "Resource"]

MAX_BODY = 20 * 2**20
"""20 MiB, in bytes."""

MAX_HEADER = 64 * 2**10
"""64 KiB, in bytes."""

_SECRETS = frozenset(
    {"api-key", "ocp-apim-subscription-key", "subscription-key", "cookie", "proxy-authorization"}
)


@dataclass(slots=True)
class RecordedRequest:
    """A request the emulator received, and what became of it.

    ``headers`` have lower-case names and masked credentials; ``body`` is the parsed JSON, or
    ``None`` where there was none. ``status`` is the HTTP status that was answered, ``None`` until
    then; ``error`` is what the engine raised, if it did. It is the ``number``-th request, from 1, came
    ``at`` a time in seconds since 1970, and took so many ``seconds`` (``None`` while it lasts). ``usage``
    is what the answer says it used, and ``fault`` what the fault plan did to it.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str] = field(repr=False)
    deployment: str | None = None
    body: Any = field(default=None, repr=False)
    status: int | None = None
    error: BaseException | None = None
    number: int = 0
    at: float = 0.0
    seconds: float | None = None
    usage: TokenUsage | None = None
    fault: str = ""


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
        self._count = 0

    def add(self, entry: RecordedRequest) -> None:
        """Note ``entry``, and give it its number."""
        with self._lock:
            self._count += 1
            entry.number = self._count
            self._entries.append(entry)

    def entries(self) -> list[RecordedRequest]:
        """What is noted now."""
        with self._lock:
            return list(self._entries)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()


@dataclass(slots=True)
class Resource:
    """The settings and the state of one emulated resource, Azure's unless its dialect is another."""

    engine: LLMProvider | AzureUpstream
    deployments: dict[str, str]
    engines: dict[str, LLMProvider | AzureUpstream] = field(default_factory=dict)
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    entra_tokens: tuple[str, ...] = field(default=(), repr=False)
    region: str = "eastus"
    quirks: bool = True
    chunk_delay: float = 0.0
    max_body: int = MAX_BODY
    max_header: int = MAX_HEADER
    faults: Faults = field(default_factory=Faults)
    log: RequestLog = field(default_factory=lambda: RequestLog(10_000))
    quotas: dict[str, Quota | Ptu] = field(default_factory=dict)
    clock: Clock = field(default_factory=RealClock)
    plan: PlanRun | None = None
    filters: ContentFilters = field(default_factory=ContentFilters)
    conversations: Conversations = field(default_factory=Conversations)
    dialect: Dialect = field(default_factory=AzureDialect)
    issuer: TokenIssuer = field(init=False, repr=False)
    _meters: dict[str, Meter | Bucket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.issuer = TokenIssuer(self.clock)

    def engine_for(self, deployment: str) -> LLMProvider | AzureUpstream:
        """What answers for ``deployment``."""
        return self.engines.get(deployment, self.engine)

    def meter_for(self, deployment: str) -> Meter | Bucket:
        """What counts the requests of ``deployment``."""
        meter = self._meters.get(deployment)
        if meter is None:
            fresh = new_meter(self.quotas.get(deployment), self.clock)
            meter = self._meters.setdefault(deployment, fresh)
        return meter

    def reset(self) -> None:
        """Forget requests, scripted faults, conversations and what was counted; begin the plan again."""
        self.log.clear()
        self.faults.clear()
        self.conversations.clear()
        self._meters.clear()
        if self.plan is not None:
            self.plan.restart()

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
        token = token.strip()
        if scheme.lower() != "bearer" or not (token in accepted or self.issuer.accepts(token)):
            raise bad_token()
