"""The money of one attempt: reserved in every budget before it, settled after it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from loom_py._log import get_logger
from loom_py.errors import BudgetExceededError, ConfigError, LoomError
from loom_py.llm.costs import Cost
from loom_py.llm.estimates import worst_input_tokens
from loom_py.messages import Response, TokenUsage
from loom_py.options import ChatOptions
from loom_py.resilience.attempt import Attempt, end_soon, was_billed
from loom_py.resilience.events import BudgetExtended, BudgetRefused, BudgetWarning
from loom_py.resilience.lanes import Lane
from loom_py.resilience.steps import Approve, Asked, Do, Policies, Steps

if TYPE_CHECKING:
    from loom_py.resilience.budget import Budget, BudgetAlert, Reservation, Scope
    from loom_py.resilience.spending import Unit

__all__ = [
    "End",
    "actual_cost",
    "extended",
    "output_limit",
    "refused",
    "reserve",
    "settle",
    "shared_account",
]

_log = get_logger()

MOST_OUTPUT = 128_000
"""Tokens that a reply may have where neither options nor model say less: the most of OpenAI's models."""

_UNKNOWN = Cost.unknown("the provider does not say what a call may cost")


def output_limit(lane: Lane, options: ChatOptions | None) -> int | None:
    """The most tokens that a reply may have, as far as the provider tells."""
    limit = getattr(lane.provider, "output_limit", None)
    if limit is None:
        return None if options is None else options.max_tokens
    found: int | None = limit(options)
    return found


def reserve(policies: Policies, asked: Asked, attempt: Attempt) -> Steps:
    """Set aside what the attempt could cost at worst. Raises `BudgetError` where a budget refuses."""
    provider = attempt.lane.provider
    most = attempt.output_limit or _most_output(provider)
    form = None if asked.options is None else asked.options.response_format
    model = attempt.lane.model
    written = worst_input_tokens(asked.messages, asked.tools, model=model, response_format=form)
    worst_cost = getattr(provider, "worst_cost", None)
    cost = _UNKNOWN if worst_cost is None else worst_cost(written, most, options=asked.options)
    tokens = written + most
    for budget in policies.budgets:
        usd = budget.worst(cost, written, most, deployment=provider.model)
        if policies.shared is not None:
            attempt.worst.append((usd, tokens))
        scope = budget.scope(asked.fields)
        hold = partial(_hold, attempt, budget, scope, usd, tokens)
        try:
            reservation: Reservation = (yield Do(hold)) if budget.blocks else hold()
        except BudgetExceededError as refusal:
            reservation = yield from _after_refusal(policies, attempt.lane, budget, scope, hold, refusal)
        if (alarm := reservation.alert) is not None:
            policies.emit(BudgetWarning(alarm.per, alarm.unit, alarm.spent, alarm.reserved, alarm.limit))
            yield from extended(policies, budget, scope, alarm)


class End(NamedTuple):
    """How a reservation ends in a ledger that does I/O. Doing it twice does nothing."""

    budget: Budget
    do: Callable[[], None]

    def soon(self) -> None:
        """Do it from where nothing can be awaited."""
        end_soon(self.budget, self.do)


def settle(attempt: Attempt, usage: TokenUsage | None, cost: Cost) -> list[End]:
    """Pay the bill of an attempt that is over: what it cost, nothing, or the worst where nobody knows.

    What does I/O is not done here but returned.
    """
    left = []
    for budget, reservation in attempt.bill:
        if budget.blocks:
            left.append(End(budget, partial(_end, budget, reservation, usage, cost)))
        else:
            _end(budget, reservation, usage, cost)
    return left


def _end(budget: Budget, reservation: Reservation, usage: TokenUsage | None, cost: Cost) -> None:
    if usage is None:
        reservation.uncertain()
    elif usage.total:
        reservation.settle(budget.actual(cost, usage), usage.total)
    else:
        reservation.release()


def actual_cost(outcome: Response | LoomError) -> tuple[TokenUsage | None, Cost]:
    """What an attempt used and cost; the usage is ``None`` where it may have been billed and nobody knows."""
    usage = outcome.tokens_used
    if isinstance(outcome, Response):
        return outcome.tokens_used if outcome.tokens_used.total else None, Cost.of_response(outcome)
    if usage is not None and usage.total:
        return usage, Cost.of_error(outcome)
    return (TokenUsage() if was_billed(outcome) is False else None), _UNKNOWN


def extended(policies: Policies, budget: Budget, scope: Scope, alert: BudgetAlert) -> Steps:
    """How much more whoever is asked approves, in the alert's unit; 0 if nobody is asked.

    With a shared state it is approved for all processes.
    """
    from loom_py.resilience.budget import granted
    from loom_py.resilience.spending import amount_in

    if budget.config.approve is None:
        return Decimal(0)
    more = yield Approve(budget.config.approve, alert)
    try:
        units = granted(alert.unit, more)
    except ConfigError as exc:
        _log.warning("approval_failed", scope=alert.per, unit=alert.unit, error=exc.message)
        units = 0
    if not units:
        return Decimal(0)
    shared, account = policies.shared, shared_account(budget, scope)

    def extend() -> Decimal:
        limit = budget.extend(scope, alert.unit, more)
        sums = None if shared is None else shared.extend(account, alert.unit, units)
        return limit if sums is None else _own_limit(budget, alert.unit) + amount_in(alert.unit, sums.extra)

    blocks = budget.blocks or shared is not None
    limit: Decimal = (yield Do(extend)) if blocks else extend()
    by = amount_in(alert.unit, units)
    policies.emit(BudgetExtended(alert.per, alert.unit, by, limit))
    return by


def shared_account(budget: Budget, scope: Scope) -> str:
    """The name under which all processes count the money of that chat, session, agent or day."""
    account = budget.account(scope)
    return f"{account.per}:{account.agent}:{account.key}"


def refused(policies: Policies, refusal: BudgetExceededError, lane: Lane) -> BudgetExceededError:
    """``refusal`` with the ledger; whoever listens hears of it."""
    policies.emit(
        BudgetRefused(
            refusal.scope, refusal.unit, refusal.spent, refusal.reserved, refusal.needed, refusal.limit
        )
    )
    refusal.deployment = lane.provider.model
    if (ledger := policies.call_log.ledger) is not None:
        refusal.ledger = ledger.report()
    return refusal


def _hold(attempt: Attempt, budget: Budget, scope: Scope, usd: Decimal | None, tokens: int) -> Reservation:
    return attempt.hold(budget, budget.reserve(scope, usd, tokens))


def _after_refusal(
    policies: Policies,
    lane: Lane,
    budget: Budget,
    scope: Scope,
    hold: Callable[[], Reservation],
    refusal: BudgetExceededError,
) -> Steps:
    """The reservation after all, where more is approved. Raises the refusal where it is not."""
    from loom_py.resilience.budget import BudgetAlert

    while True:
        learned = policies.shared is not None and (yield from _learned(policies, budget, scope, refusal))
        if not learned:
            alert = BudgetAlert.of_refusal(refusal, budget.account(scope))
            if not (yield from extended(policies, budget, scope, alert)):
                raise refused(policies, refusal, lane) from None
        try:
            reservation: Reservation = (yield Do(hold)) if budget.blocks else hold()
        except BudgetExceededError as again:
            refusal = again
        else:
            return reservation


def _learned(policies: Policies, budget: Budget, scope: Scope, refusal: BudgetExceededError) -> Steps:
    """Whether other processes were approved more than this one knew; now it knows."""
    from loom_py.resilience.spending import amount_in

    shared, account = policies.shared, shared_account(budget, scope)
    assert shared is not None
    unit: Unit = "usd" if refusal.unit == "usd" else "tokens"

    def learn() -> bool:
        sums = shared.balance(account, unit)
        if sums is None:
            return False
        more = _own_limit(budget, unit) + amount_in(unit, sums.extra) - budget.extend(scope, unit, None)
        if more > 0:
            budget.extend(scope, unit, more)
        return budget.extend(scope, unit, None) > refusal.limit

    is_more: bool = yield Do(learn)
    return is_more


def _own_limit(budget: Budget, unit: Unit) -> Decimal:
    """The limit in USD or tokens that the budget was made with."""
    from loom_py.resilience.spending import amount_in, limit_units_of

    limit = budget.config.usd if unit == "usd" else budget.config.tokens
    assert limit is not None
    return amount_in(unit, limit_units_of(limit)) if isinstance(limit, Decimal) else Decimal(limit)


def _most_output(provider: object) -> int:
    profile = getattr(provider, "profile", None)
    return getattr(profile, "max_output", None) or MOST_OUTPUT
