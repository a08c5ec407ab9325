"""One attempt and the state that all processes share: leave before it, a report after it."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from loom_py.errors import (
    BudgetExceededError,
    CircuitOpenError,
    LoomError,
    QueueTimeoutError,
    RateLimitError,
)
from loom_py.messages import Response
from loom_py.resilience import billing
from loom_py.resilience.attempt import OUT_SECONDS, Attempt, Outcome
from loom_py.resilience.budget import Budget, BudgetAlert
from loom_py.resilience.lanes import Lane
from loom_py.resilience.spending import amount_in, limit_units_of, units_of
from loom_py.resilience.steps import Asked, Do, Enter, Policies, Sleep, Steps

if TYPE_CHECKING:
    from loom_py.resilience.shared import BudgetClaim, EnterReply, EnterRequest, LeaveReport, Spending

__all__ = ["enter", "leave_later", "report"]

LEAST_WAIT = 0.01
"""Seconds between two questions about the same quota."""

LOOK_AGAIN = 1.0
"""Seconds after which a breaker that others opened is asked about again: it may have been closed by hand."""

QUEUE_TIMEOUT = 300.0
"""Seconds that a call waits for a shared quota where its rate limit does not say."""


def enter(
    policies: Policies, asked: Asked, attempt: Attempt, tokens: int, left: Callable[[], float | None]
) -> Steps:
    """Ask for leave, and wait where a quota is used up; the refusal of breaker or throttling, if any.

    Raises `BudgetExceededError` and `QueueTimeoutError`.
    """
    lane, clock = attempt.lane, policies.clock
    attempt.claims = _claims(policies, asked, attempt)
    began = clock.now()
    while True:
        request = _request(attempt, tokens)
        attempt.entered = request.permit
        reply: EnterReply | None = yield Enter(request)
        if reply is None:
            attempt.entered, attempt.is_alone = None, True
            _go_alone(policies, asked, attempt)
            return None
        lane.take_share(1.0)
        if reply.is_granted:
            return None
        attempt.entered = None
        if reply.verdict == "budget":
            yield from _ask_for_more(policies, asked, attempt, reply)
            attempt.claims = _claims(policies, asked, attempt)
        elif reply.verdict == "rate_limited" and attempt.may_wait:
            waited, rest = clock.now() - began, left()
            if waited + reply.wait > _patience(lane) or (rest is not None and reply.wait > rest):
                raise QueueTimeoutError(
                    f"the shared rate limit has no room for another {reply.wait:.1f} s",
                    retry_after=round(reply.wait, 3),
                    deployment=lane.provider.model,
                )
            yield Sleep(max(reply.wait, LEAST_WAIT))
        else:
            return _refusal(policies, attempt, reply)


def report(attempt: Attempt, outcome: Outcome, result: Response | LoomError | None) -> LeaveReport:
    """What the shared state is told of an attempt that was sent; without a result it was cancelled."""
    from loom_py.resilience.shared import LeaveReport

    usage = None if result is None else result.tokens_used
    throttled = result if isinstance(result, RateLimitError) else None
    return LeaveReport(
        attempt.entered or uuid.uuid4().hex,
        attempt.lane.shared_key,
        outcome,
        attempt.lane.breaker_config,
        throttled=throttled is not None,
        throttle_seconds=None if throttled is None else throttled.retry_after,
        take_out_seconds=OUT_SECONDS,
        take_out_reason=getattr(result, "code", ""),
        tokens=usage.total if usage is not None and usage.total else None,
        release=not getattr(result, "sent", True),
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

    claims = []
    for budget, (usd, tokens) in zip(policies.budgets, attempt.worst, strict=True):
        account = _account(budget, asked)
        attempt.accounts[account] = budget
        if budget.config.usd is not None and usd is not None:
            claims.append(BudgetClaim(account, "usd", limit_units_of(budget.config.usd), units_of(usd)))
        if budget.config.tokens is not None:
            claims.append(BudgetClaim(account, "tokens", budget.config.tokens, tokens))
    return tuple(claims)


def _patience(lane: Lane) -> float:
    """Seconds that a call may wait for a quota."""
    limit = QUEUE_TIMEOUT if lane.limiter is None else lane.limiter.config.queue_timeout
    return math.inf if limit is None else limit


def _account(budget: Budget, asked: Asked) -> str:
    account = budget.account(billing.scope_of(asked))
    return f"{account.per}:{account.agent}:{account.key}"


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
            usd = attempt.accounts[claim.account].actual(cost, usage)
            known = None if usd is None else units_of(usd)
        amount = claim.needed if known is None else known
        spent.append(Spending(claim.account, claim.unit, amount, known is None))
    return tuple(spent)


def _go_alone(policies: Policies, asked: Asked, attempt: Attempt) -> None:
    """The shared state is away: this process keeps to its own share of every limit."""
    assert policies.shared is not None
    share = policies.shared.share()
    attempt.lane.take_share(share)
    for budget, reservation in attempt.bill:
        status = budget.status(billing.scope_of(asked))
        for unit, mine in (("usd", status.usd), ("tokens", status.tokens)):
            if mine.limit is None or mine.spent + mine.reserved <= mine.limit * Decimal(str(share)):
                continue
            reservation.release()
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
        return RateLimitError(
            f"the deployment has asked for no calls for another {reply.wait:.1f} s",
            retry_after=round(reply.wait, 3),
            deployment=lane.provider.model,
            sent=False,
        )
    if len(policies.lanes) > 1:  # a deployment by itself is asked about each time
        lane.close_until(policies.clock.now() + min(reply.wait, LOOK_AGAIN), reply.reason)
    return CircuitOpenError(
        f"the circuit breaker that all processes share for {lane.name} is open: {reply.reason}",
        retry_after=None if reply.wait == math.inf else round(reply.wait, 3),
        deployment=lane.provider.model,
        hint="Wait, or call something else meanwhile.",
    )


def _ask_for_more(policies: Policies, asked: Asked, attempt: Attempt, reply: EnterReply) -> Steps:
    """A budget of all processes refuses: ask whoever may approve more. Raises `BudgetExceededError`."""
    sums, shared = reply.budget, policies.shared
    assert sums is not None
    assert shared is not None
    budget = next(each for each in policies.budgets if _account(each, asked) == sums.account)
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
    scope = billing.scope_of(asked)
    more = yield from billing.extended(policies, budget, scope, BudgetAlert.of_refusal(refusal, scope))
    if more <= 0:
        raise billing.refused(policies, refusal, attempt.lane)
    units = units_of(more) if sums.unit == "usd" else int(more)
    yield Do(lambda: shared.extend(sums.account, sums.unit, units))
