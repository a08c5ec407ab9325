"""What a builder notes about failures, quotas and money, and the policies that come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from loom_py.clock import Clock
from loom_py.errors import ConfigError
from loom_py.llm.provider import LLMProvider
from loom_py.resilience.breaker import BreakerConfig, CircuitBreaker, CircuitBreakers
from loom_py.resilience.deployment import Deployment, priorities
from loom_py.resilience.events import Emit, Listener, emitter
from loom_py.resilience.gateway import CLOCK
from loom_py.resilience.lanes import Lane, names_of, traffic_of
from loom_py.resilience.limiter import RateLimitConfig
from loom_py.resilience.pool import Member, Pool, Strategy
from loom_py.resilience.retry import Retries, RetryConfig
from loom_py.resilience.steps import Policies
from loom_py.resilience.timeouts import Timeouts

if TYPE_CHECKING:
    from loom_py.resilience.budget import Budget
    from loom_py.resilience.shared import SharedState

__all__ = ["Resilience"]

Check = Callable[[str, Callable[[], object]], object]
"""Tries to make something for a field; what it raises is noted as a problem."""

_USUAL_BREAKERS = BreakerConfig()
_USUAL_RETRIES = RetryConfig()
"""The retries of every agent for which none were asked for."""


_QUOTAS = ("tokens_per_minute", "requests_per_minute")
_ANYONE = Member("anyone", "anyone", 0, 1.0, None, frozenset())


@dataclass(frozen=True, slots=True)
class Resilience:
    """Settings as they were given; nothing is checked before `check`."""

    retries: Mapping[str, Any] | None = None
    restart_streams: bool = False
    breakers: Mapping[str, Any] | None = None
    rate_limit: Mapping[str, Any] | None = None
    balanced: tuple[Any, ...] = ()
    strategy: Strategy | None = None
    fallbacks: tuple[Any, ...] = ()
    sticky: bool = True
    hedge_after: float | None = None
    budgets: tuple[Mapping[str, Any], ...] = ()
    timeouts: Mapping[str, Any] | None = None
    shared: Mapping[str, Any] | None = field(default=None, repr=False)  # a URL may hold a password
    listeners: tuple[Listener, ...] = ()
    clock: Clock | None = None

    def check(self, check: Check, count: int) -> None:
        """Make everything once, so that each thing that is wrong is noted; ``count`` is how many to call."""
        for part, make, settings in (
            ("retries", RetryConfig, self.retries),
            ("circuit_breakers", BreakerConfig, self.breakers),
            ("timeouts", Timeouts, self.timeouts),
        ):
            if settings and not _fits(make, settings):
                for name, value in settings.items():  # each by itself, so that each wrong one is noted
                    check(part, partial(make, **{name: value}))
        if self.rate_limit is not None:
            self._check_rate_limit(check, self.rate_limit)
            if self.rate_limit.get("exact_tokens"):
                from loom_py.llm.tokenizers import exact_counter

                check("rate_limit", partial(exact_counter, "gpt-4o"))
        for settings in self.budgets:
            from loom_py.resilience.budget import BudgetConfig

            check("budget", partial(BudgetConfig, **settings))
        if self.shared is not None:
            check("shared_state", lambda: self._shared(emitter()))
        for listener in self.listeners:
            check("listener", partial(_check_callable, listener))
        if self.hedge_after is not None:
            check("hedging", partial(_check_seconds, "after_seconds", self.hedge_after))
            if count == 1 and not self.fallbacks:
                check("hedging", _refuse_hedging)
        if self.strategy is not None:
            check("load_balancing", partial(Pool, [_ANYONE], self.strategy))

    def _check_rate_limit(self, check: Check, settings: Mapping[str, Any]) -> None:
        """Each setting by itself, beside a limit that is one."""
        if all(settings.get(name) is None for name in _QUOTAS):
            check("rate_limit", partial(RateLimitConfig, **settings))
            return
        for name, value in settings.items():
            if value is not None:
                check("rate_limit", partial(RateLimitConfig, **{"tokens_per_minute": 1, name: value}))

    def ranked(
        self, primary: Sequence[Deployment], balanced: Sequence[Deployment], fallbacks: Sequence[Deployment]
    ) -> list[tuple[Deployment, int]]:
        """Every deployment with its priority: as it says itself, else by its place."""
        first = [*primary, *balanced]
        if len(first) == 1 and not fallbacks:
            return [(first[0], first[0].priority or 0)]
        if self.strategy is None:
            first += fallbacks
            return list(zip(first, priorities(first, in_order=True), strict=True))
        ranks = list(priorities(first, in_order=False))
        after = max(ranks, default=-1) + 1
        last = [
            rank if each.priority is not None or each.provisioned else after + rank
            for each, rank in zip(fallbacks, priorities(fallbacks, in_order=True), strict=True)
        ]
        return list(zip([*first, *fallbacks], ranks + last, strict=True))

    def policies(
        self, members: Sequence[tuple[Deployment, int]], providers: Sequence[LLMProvider], agent: str
    ) -> Policies:
        """The policies of an agent that calls ``providers``, which are those of ``members``."""
        clock, emit = self.clock or CLOCK, emitter(self.listeners)
        now = clock.now
        names = names_of(providers, [deployment.name for deployment, _ in members])
        guarded = self.breakers is not None or len(members) > 1
        config = self._breaker_config()
        lanes = []
        for (deployment, rank), provider, name in zip(members, providers, names, strict=True):
            member = Member(name, name, rank, deployment.weight, deployment.region, deployment.residency)
            lanes.append(
                Lane(
                    provider,
                    member,
                    traffic=traffic_of(provider, clock),
                    breaker=CircuitBreaker(f"deployment {name}", config, clock=now, emit=emit)
                    if guarded
                    else None,
                    rate_limit=self._limit_of(deployment),
                )
            )
        strategy: Strategy = self.strategy or "priority"
        pool = None
        if len(lanes) > 1:
            pool = Pool([lane.member for lane in lanes], strategy, sticky=self.sticky, clock=now)
        return Policies(
            lanes,
            pool,
            clock,
            emit,
            Retries(RetryConfig(**self.retries) if self.retries else _USUAL_RETRIES, clock=now),
            budgets=self._budgets(clock) if self.budgets else (),
            shared=None if self.shared is None else self._shared(emit),
            timeouts=None if self.timeouts is None else Timeouts(**self.timeouts),
            hedge_after=self.hedge_after,
            restart_streams=self.restart_streams,
        )

    def tool_breakers(self, emit: Emit, clock: Clock) -> CircuitBreakers | None:
        """A breaker for each tool, where breakers were asked for."""
        if self.breakers is None:
            return None
        return CircuitBreakers("tool", self._breaker_config(), clock=clock.now, emit=emit)

    def _breaker_config(self) -> BreakerConfig:
        return BreakerConfig(**self.breakers) if self.breakers else _USUAL_BREAKERS

    def _budgets(self, clock: Clock) -> list[Budget]:
        from loom_py.resilience.budget import Budget, BudgetConfig

        return [Budget(BudgetConfig(**settings), clock=clock) for settings in self.budgets]

    def _limit_of(self, deployment: Deployment) -> RateLimitConfig | None:
        """The rate limit of one deployment: what it says itself comes before what holds for all."""
        own = {name: value for name in _QUOTAS if (value := getattr(deployment, name)) is not None}
        if not own and self.rate_limit is None:
            return None
        return RateLimitConfig(**{**(self.rate_limit or {}), **own})

    def _shared(self, emit: Emit) -> SharedState:
        from loom_py.resilience.shared import SharedState

        assert self.shared is not None
        return SharedState(**self.shared, emit=emit)


def _check_seconds(name: str, value: object) -> None:
    if type(value) not in (int, float) or not 0 < value < float("inf"):  # type: ignore[operator]
        raise ConfigError(f"{name} must be seconds above 0, not {value!r}", field=name)


def _refuse_hedging() -> None:
    raise ConfigError(
        "with_hedging asks a second deployment, and there is only one",
        field="hedging",
        hint="Add .with_failover([…]) or .with_load_balancing([…]), or take .with_hedging() out.",
    )


def _fits(make: Callable[..., object], settings: Mapping[str, Any]) -> bool:
    try:
        make(**settings)
    except Exception:  # noqa: BLE001 - what is wrong is found out by whoever asks
        return False
    return True


def _check_callable(listener: object) -> None:
    if not callable(listener):
        raise TypeError(f"a listener is a function that takes an event, not {type(listener).__name__}")
