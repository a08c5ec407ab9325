"""Who calls, how much they may use a minute, and how much they may spend a day."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from loom_py.clock import Clock, RealClock
from loom_py.errors import AuthenticationError
from loom_py.resilience.budget import Budget, BudgetConfig, Scope
from loom_py.resilience.limiter import RateLimitConfig, RateLimiter
from loom_py.resilience.spending import Account, MemoryLedger, SpendingLedger, open_ledger
from loom_py.serve.failures import HTTPError
from loom_py.serve.keys import ApiKey, KeyFile, KeyRing

if TYPE_CHECKING:
    from loom_py.resilience.shared import SharedState
    from loom_py.serve.config import ServeConfig

__all__ = ["Admission", "Caller", "Callers", "CallersBudgets", "no_key"]

_paying: ContextVar[tuple[Budget, ...]] = ContextVar("loom_py_serve_paying", default=())
"""The budgets of whoever is being served."""


class KeyBudget(Budget):
    """What a key may spend a day, whichever agents it talks to."""

    def __init__(self, key: ApiKey, *, clock: Clock, ledger: SpendingLedger | None) -> None:
        super().__init__(BudgetConfig(usd=key.usd_per_day, per="day"), clock=clock, ledger=ledger)
        self._owner = f"key {key.name}"

    def account(self, scope: Scope) -> Account:
        """The day's account of the key."""
        return super().account(scope._replace(agent=self._owner))


class CallersBudgets(Sequence[Budget]):
    """An agent's budgets, and those of whoever is being served: each model call is reserved in all."""

    def __init__(self, own: Sequence[Budget]) -> None:
        self._own = tuple(own)

    def _all(self) -> tuple[Budget, ...]:
        return (*self._own, *_paying.get())

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Budget]:
        return iter(self._all())

    @overload
    def __getitem__(self, index: int) -> Budget: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Budget]: ...

    def __getitem__(self, index: int | slice) -> Budget | Sequence[Budget]:
        return self._all()[index]


class Caller:
    """Who holds one key; or, without keys, anybody."""

    def __init__(self, key: ApiKey | None, *, clock: Clock, ledger: SpendingLedger | None) -> None:
        self.key = key
        self.name = "" if key is None else key.name
        self.limits: dict[str, RateLimiter] = {}
        self.budget: KeyBudget | None = None
        if key is None:
            return
        for kind, most in (("requests", key.requests_per_minute), ("tokens", key.tokens_per_minute)):
            if most is not None:  # counted, not paced: a client may come in bursts
                config = RateLimitConfig(tokens_per_minute=most, max_queue=1, queue_timeout=None)
                self.limits[kind] = RateLimiter(config, clock=clock.now)
        if key.usd_per_day is not None:
            self.budget = KeyBudget(key, clock=clock, ledger=ledger)

    @contextmanager
    def paying(self) -> Iterator[None]:
        """Model calls within are paid out of the key's budget."""
        token = _paying.set(() if self.budget is None else (self.budget,))
        try:
            yield
        finally:
            _paying.reset(token)


@dataclass(slots=True)
class _Part:
    """One limit's part of an admission: what to tell when the request is over."""

    kind: str
    end: Callable[[int | None], Any]


class Admission:
    """A request that may go. It is ended once, with the tokens it used; ``None`` keeps the estimate."""

    def __init__(self, parts: Sequence[_Part] = ()) -> None:
        self._parts = list(parts)

    def end(self, tokens: int | None) -> None:
        """The request is over."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.end(tokens if part.kind == "tokens" else None)


class Callers:
    """All that may call. Limits are shared with other processes where there is a ``shared`` state."""

    def __init__(
        self,
        ring: KeyRing | None,
        *,
        clock: Clock | None = None,
        ledger: SpendingLedger | None = None,
        shared: SharedState | None = None,
    ) -> None:
        self._ring = ring
        self._clock = clock or RealClock()
        self._ledger = ledger or MemoryLedger()  # it outlives a change of the file of keys
        self.shared = shared
        self._anybody = Caller(None, clock=self._clock, ledger=None)
        self._known: dict[str, Caller] = {}

    @classmethod
    def of(cls, config: ServeConfig) -> Callers:
        """Those that ``config`` names. Raises `ConfigError` where keys or ledger cannot be read."""
        ring = None
        if config.needs_keys:
            ring = KeyRing(config.keys, None if config.keys_file is None else KeyFile(config.keys_file))
        clock = RealClock()
        shared = None
        if config.shared_state is not None:
            from loom_py.resilience.shared import SharedState

            shared = SharedState(config.shared_state, prefix=config.shared_prefix)
        return cls(ring, clock=clock, ledger=_ledger(config.budget_ledger, clock), shared=shared)

    @property
    def are_known(self) -> bool:
        """Whether a caller must have a key."""
        return self._ring is not None

    def identify(self, authorization: str | None) -> Caller:
        """Who sends that header. Raises `AuthenticationError`."""
        if self._ring is None:
            return self._anybody
        scheme, _, secret = (authorization or "").partition(" ")
        key = self._ring.find(secret.strip()) if scheme.lower() == "bearer" and secret.strip() else None
        if key is None:
            raise no_key(is_given=bool(authorization))
        known = self._known.get(key.name)
        if known is None or known.key != key:
            known = self._known[key.name] = Caller(key, clock=self._clock, ledger=self._ledger)
        return known

    async def admit(self, caller: Caller, tokens: int) -> Admission:
        """Let a request of about ``tokens`` tokens in. Raises `HTTPError` (429) with ``retry_after``."""
        parts: list[_Part] = []
        try:
            for kind, limiter in caller.limits.items():
                needed = tokens if kind == "tokens" else 1
                parts.append(_Part(kind, await self._enter(caller, kind, limiter, needed)))
        except BaseException:
            Admission(parts).end(0)
            raise
        return Admission(parts)

    async def _enter(
        self, caller: Caller, kind: str, limiter: RateLimiter, needed: int
    ) -> Callable[[int | None], Any]:
        most = limiter.config.tokens_per_minute
        if self.shared is not None:
            entered = await self._enter_shared(self.shared, f"key {caller.name} {kind}", needed, most)
            if callable(entered):
                return entered
            if entered is not None:
                raise _too_many(kind, most, entered)
            limiter.scale(self.shared.share())  # it is away: this process keeps to its part
        ticket, wait = limiter.start(needed)
        if wait > 0:
            ticket.release()
            raise _too_many(kind, most, wait)
        return lambda used: ticket.settle(needed if used is None else used)

    async def _enter_shared(
        self, shared: SharedState, name: str, needed: int, most: int | None
    ) -> Callable[[int | None], Any] | float | None:
        """What ends it; or the seconds to wait; or ``None`` where the shared state is away."""
        from loom_py.resilience.shared import EnterRequest, LeaveReport

        permit = uuid.uuid4().hex
        reply = await shared.aenter(EnterRequest(permit, name, tokens=needed, tokens_per_minute=most))
        if reply is None:
            return None
        if not reply.is_granted:
            return reply.wait
        return lambda used: shared.leave_later(LeaveReport(permit, name, tokens=used))

    async def aclose(self) -> None:
        """Close the ledger and the shared state."""
        await asyncio.to_thread(self._ledger.close)
        if self.shared is not None:
            await self.shared.aclose()


def _ledger(given: str | Path | None, clock: Clock) -> SpendingLedger | None:
    return None if given is None else open_ledger(given, clock=clock.time)


def _too_many(kind: str, most: int | None, wait: float) -> HTTPError:
    message = f"this key may use {most:,} {kind} a minute"
    return HTTPError(429, message, code="rate_limit_exceeded", retry_after=wait)


def no_key(*, is_given: bool) -> AuthenticationError:
    """The error for a caller nobody knows; it does not say what was wrong with the key."""
    if is_given:
        return AuthenticationError("the API key is not valid", code="invalid_api_key")
    return AuthenticationError(
        "no API key was given: send it as Authorization: Bearer KEY", code="missing_api_key"
    )
