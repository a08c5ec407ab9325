"""One attempt and the state that all processes share: leave before it, a report after it."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from loom_py.errors import (
    BudgetExceededError,
    CircuitOpenError,
    LoomError,
    QueueFullError,
    QueueTimeoutError,
    RateLimitError,
)
from loom_py.messages import Response
from loom_py.resilience import billing, refusals
from loom_py.resilience.attempt import OUT_SECONDS, Attempt, Outcome
from loom_py.resilience.events import CallQueued
from loom_py.resilience.lanes import LOOK_AGAIN
from loom_py.resilience.steps import Asked, Do, Enter, Policies, Sleep, Steps

if TYPE_CHECKING:
    from loom_py.resilience.budget import Budget, BudgetStatus
    from loom_py.resilience.line import Place
    from loom_py.resilience.shared import BudgetClaim, EnterReply, EnterRequest, LeaveReport, Spending
    from loom_py.resilience.spending import Unit

__all__ = ["enter", "leave_later", "report"]

LEAST_WAIT = 0.01
"""Seconds between two questions about the same quota."""

INSTANT = 1e-6
"""Seconds too short to wait for: what floating-point sums may be off by."""

HINT = "Lower the concurrency, raise the quota, or let more calls wait for longer."


def enter(
    policies: Policies,
    asked: Asked,
    attempt: Attempt,
    tokens: int,
    began: float,
    elsewhere: Callable[[], bool],
) -> Steps:
    """Ask for leave, and wait where a quota is used up; the refusal, if any.

    ``began`` is when the call began to wait for quotas, and ``elsewhere`` tells whether another deployment
    may be called instead. Raises `BudgetExceededError` and `QueueError`.
    """
    lane = attempt.lane
    attempt.claims = _claims(policies, asked, attempt)
    queue = _Queue(policies, asked, attempt, tokens, began)
    try:
        while True:
            if not attempt.may_wait and lane.line.is_before(queue.priority):
                return queue.no_room(0.0)
            yield from queue.turn()
            request = _request(attempt, tokens)
            attempt.entered = request.permit
            reply: EnterReply | None = yield Enter(request)
            if reply is None:
                attempt.entered, attempt.is_alone = None, True
                yield from _go_alone(policies, asked, attempt)
                return None
            lane.take_share(1.0)
            if reply.is_granted:
                lane.reopen()
                return None
            attempt.entered = None
            if reply.verdict == "budget":
                queue.leave()  # whoever is asked for more may take a while
                yield from _ask_for_more(policies, asked, attempt, reply)
            elif reply.verdict == "rate_limited":
                lane.fill(reply.wait)
                if not attempt.may_wait or elsewhere():
                    return queue.no_room(reply.wait)
                yield from queue.wait(reply.wait)
            else:
                return _refusal(policies, attempt, reply)
    finally:
        queue.leave()


class _Queue:
    """One call in the line for a quota that all processes share."""

    __slots__ = ("_began", "_lane", "_most", "_place", "_policies", "_tokens", "_until", "priority")

    def __init__(self, policies: Policies, asked: Asked, attempt: Attempt, tokens: int, began: float) -> None:
        self.priority = (asked.options and asked.options.priority) or 0
        self._policies = policies
        self._lane = attempt.lane
        self._tokens = tokens
        self._began = began
        config = None if attempt.lane.limiter is None else attempt.lane.limiter.config
        longest = None if config is None else config.queue_timeout
        self._until = began + (math.inf if longest is None else longest)
        if asked.deadline is not None:
            self._until = min(self._until, asked.deadline)
        self._most = math.inf if config is None else config.max_queue
        self._place: Place | None = None

    def turn(self) -> Steps:
        """Wait until nobody goes before this call."""
        shared = self._policies.shared
        assert shared is not None
        if self._place is None:
            if not self._lane.line.is_before(self.priority) or not shared.health().connected:
                return
            self._join(0.0)
        while self._place is not None and (signal := self._place.turn()) is not None:
            yield Sleep(self._left(), signal)

    def wait(self, seconds: float) -> Steps:
        """Wait as the first in line, but not for all of ``seconds``: others may make room before that."""
        if self._place is None:
            self._join(seconds)
        yield Sleep(min(max(seconds, LEAST_WAIT), LOOK_AGAIN, self._left()))
        self._left()

    def leave(self) -> None:
        """It is over: the next may ask."""
        if self._place is not None:
            self._place.leave()
            self._place = None

    def no_room(self, seconds: float) -> QueueTimeoutError:
        """Says that the call cannot go now, and does not wait."""
        return QueueTimeoutError(
            "the rate limit that all processes share has no room now",
            retry_after=round(seconds, 3),
            deployment=self._lane.provider.model,
            hint=HINT,
        )

    def _join(self, seconds: float) -> None:
        line = self._lane.line
        if len(line) >= self._most:
            raise QueueFullError(
                f"{len(line)} calls wait already for the rate limit that all processes share",
                retry_after=round(seconds, 3) or None,
                deployment=self._lane.provider.model,
                hint=HINT,
            )
        self._place = place = line.join(self.priority)
        self._policies.emit(CallQueued(self._lane.name, self._tokens, place.ahead, round(seconds, 3)))

    def _left(self) -> float:
        """Seconds that the call may still wait. Raises `QueueTimeoutError` where there are none."""
        now = self._policies.clock.now()
        if now >= self._until - INSTANT:
            raise QueueTimeoutError(
                f"the call waited {now - self._began:.3g} s for its turn in the rate limit that all"
                " processes share",
                deployment=self._lane.provider.model,
                hint=HINT,
            )
        return self._until - now


def report(attempt: Attempt, outcome: Outcome, result: Response | LoomError | None) -> LeaveReport:
    """What the shared state is told of an attempt that was sent; without a result it was cancelled."""
    from loom_py.resilience.shared import LeaveReport

    usage = None if result is None else result.tokens_used
    throttled = result if isinstance(result, RateLimitError) else None
    tokens = usage.total if usage is not None and usage.total else None
    if throttled is not None or not getattr(result, "sent", True):
        tokens = 0  # the service did not count it
    return LeaveReport(
        attempt.entered or uuid.uuid4().hex,
        attempt.lane.shared_key,
        outcome,
        attempt.lane.breaker_config,
        throttled=throttled is not None,
        throttle_seconds=None if throttled is None else throttled.retry_after,
        take_out_seconds=OUT_SECONDS,
        take_out_reason=getattr(result, "code", ""),
        tokens=tokens,
        spent=_spent(attempt, result),
        entered=attempt.entered is not None,
    )


def leave_later(policies: Policies, attempt: Attempt, *, release: bool = False) -> None:
    """Tell the shared state, without waiting for it, of an attempt that was cancelled or never sent."""
    from loom_py.resilience.shared import LeaveReport

    if policies.shared is None or (attempt.entered is None and (release or not attempt.is_alone)):
        return
    if release:
        permit = attempt.entered or ""
        policies.shared.leave_later(LeaveReport(permit, attempt.lane.shared_key, release=True))
    else:
        policies.shared.leave_later(report(attempt, "neutral", None))


def _request(attempt: Attempt, tokens: int) -> EnterRequest:
    from loom_py.resilience.shared import EnterRequest

    lane = attempt.lane
    limits = None if lane.limiter is None else lane.limiter.config
    return EnterRequest(
        uuid.uuid4().hex,
        lane.shared_key,
        lane.breaker_config,
        tokens,
        None if limits is None else limits.tokens_per_minute,
        None if limits is None else limits.requests_per_minute,
        attempt.claims,
    )


def _claims(policies: Policies, asked: Asked, attempt: Attempt) -> tuple[BudgetClaim, ...]:
    """What the attempt could cost at worst, for each account."""
    from loom_py.resilience.shared import BudgetClaim
    from loom_py.resilience.spending import limit_units_of, units_of

    claims: dict[tuple[str, Unit], BudgetClaim] = {}

    def claim(budget: Budget, unit: Unit, limit: int, needed: int) -> None:
        account = billing.shared_account(budget, budget.scope(asked.fields))
        known = claims.get((account, unit))
        if known is None or limit < known.limit:
            attempt.accounts[account, unit] = budget
        if known is not None:  # two budgets of one account: it is spent once, and the lower limit holds
            limit, needed = min(limit, known.limit), max(needed, known.needed)
        claims[account, unit] = BudgetClaim(account, unit, limit, needed)

    for budget, (usd, tokens) in zip(policies.budgets, attempt.worst, strict=True):
        if budget.config.usd is not None and usd is not None:
            claim(budget, "usd", limit_units_of(budget.config.usd), units_of(usd))
        if budget.config.tokens is not None:
            claim(budget, "tokens", budget.config.tokens, tokens)
    return tuple(claims.values())


def _spent(attempt: Attempt, result: Response | LoomError | None) -> tuple[Spending, ...]:
    from loom_py.resilience.shared import Spending

    if not attempt.claims:
        return ()
    usage, cost = (None, None) if result is None else billing.actual_cost(result)
    if usage is not None and not usage.total:
        return ()
    spent = []
    for claim in attempt.claims:
        known: int | None = None
        if usage is not None and claim.unit == "tokens":
            known = usage.total
        elif usage is not None and cost is not None:
            known = _units(attempt.accounts[claim.account, claim.unit].actual(cost, usage))
        amount = claim.needed if known is None else known
        spent.append(Spending(claim.account, claim.unit, amount, known is None))
    return tuple(spent)


def _units(usd: Decimal | None) -> int | None:
    """An amount in whole units; ``None`` for what is no amount, as for one that is not known."""
    from loom_py.resilience.spending import units_of

    try:
        return None if usd is None else units_of(usd)
    except (ValueError, ArithmeticError):
        return None


def _go_alone(policies: Policies, asked: Asked, attempt: Attempt) -> Steps:
    """The shared state is away: this process keeps to its own share of every limit."""
    assert policies.shared is not None
    share = policies.shared.share()
    attempt.lane.take_share(share)
    for budget in policies.budgets:
        look = partial(budget.status, budget.scope(asked.fields))
        status: BudgetStatus = (yield Do(look)) if budget.blocks else look()
        for unit, mine in (("usd", status.usd), ("tokens", status.tokens)):
            if mine.limit is None or mine.spent + mine.reserved <= mine.limit * Decimal(str(share)):
                continue
            raise billing.refused(
                policies,
                BudgetExceededError(
                    f"the shared state is away, and this process has spent its share ({share:.0%}) of the"
                    f" budget per {status.per}",
                    scope=status.per,
                    unit=unit,
                    limit=mine.limit * Decimal(str(share)),
                    spent=mine.spent,
                    reserved=mine.reserved,
                ),
                attempt.lane,
            )


def _refusal(policies: Policies, attempt: Attempt, reply: EnterReply) -> LoomError:
    """Breaker or throttling of all processes say no: this one hears of it, and waits like all."""
    lane = attempt.lane
    if reply.verdict == "throttled":
        lane.throttle.pause(reply.wait)
        return refusals.throttled(lane.provider.model, reply.wait)
    # a deployment by itself is asked about each time
    lane.close(reply.wait, reply.reason, is_believed=policies.only is None)
    return CircuitOpenError(
        f"the circuit breaker that all processes share for {lane.name} is open: {reply.reason}",
        retry_after=None if reply.wait == math.inf else round(reply.wait, 3),
        deployment=lane.provider.model,
        hint="Wait, or call something else meanwhile.",
    )


def _ask_for_more(policies: Policies, asked: Asked, attempt: Attempt, reply: EnterReply) -> Steps:
    """A budget of all processes refuses: ask whoever may approve more. Raises `BudgetExceededError`."""
    from loom_py.resilience.budget import BudgetAlert
    from loom_py.resilience.spending import amount_in

    sums = reply.budget
    assert sums is not None
    budget = attempt.accounts[sums.account, sums.unit]
    needed = next(
        claim.needed for claim in attempt.claims if (claim.account, claim.unit) == (sums.account, sums.unit)
    )
    limit, spent, reserved, worst = (
        amount_in(sums.unit, amount) for amount in (sums.limit, sums.spent, sums.reserved, needed)
    )
    refusal = BudgetExceededError(
        f"the shared budget per {budget.config.per} has {max(limit - spent - reserved, Decimal(0)):f} of"
        f" {limit:f} {sums.unit} left; the call may cost {worst:f}",
        scope=budget.config.per,
        unit=sums.unit,
        limit=limit,
        spent=spent,
        reserved=reserved,
        needed=worst,
        hint=f"Raise {sums.unit} in with_budget, ask for fewer tokens (max_tokens), or give approve=.",
    )
    scope = budget.scope(asked.fields)
    alert = BudgetAlert.of_refusal(refusal, budget.account(scope))
    more = yield from billing.extended(policies, budget, scope, alert)
    if more <= 0:
        raise billing.refused(policies, refusal, attempt.lane)
