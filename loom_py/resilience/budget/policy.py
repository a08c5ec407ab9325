"""A budget: the worst case of a call is reserved before it is made, and settled after."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from loom_py._log import get_logger
from loom_py.clock import Clock
from loom_py.errors import BudgetExceededError, ConfigError, PriceUnknownError
from loom_py.llm.costs import Cost
from loom_py.llm.prices import ModelPrice
from loom_py.llm.prices.amounts import amount_of
from loom_py.messages import TokenUsage
from loom_py.resilience.budget.config import BudgetConfig
from loom_py.resilience.budget.status import BudgetAlert, BudgetStatus, Scope
from loom_py.resilience.budget.unknown_price import dearest_price, highest_cost
from loom_py.resilience.spending import (
    LEDGER_LIMIT,
    Account,
    Charge,
    Hold,
    Limits,
    MemoryLedger,
    Refusal,
    SpendingLedger,
    Unit,
    amount_in,
    limit_units_of,
    open_ledger,
    units_of,
)

__all__ = ["Budget", "Reservation", "granted"]

_DAY = 86_400
_EPOCH = dt.date(1970, 1, 1)
_MOST_WARNED = 1_000

_log = get_logger()


class Reservation:
    """The worst case of one call, set aside. Exactly one of its verbs is to be called, when the call is over.

    Later calls do nothing, and none of them raises. ``alert`` is set where this reservation crossed the
    soft threshold: once for each crossing, and again after the budget was extended. Where both units cross
    at once, tokens are told with the next call.
    """

    __slots__ = ("_budget", "_hold", "alert")

    def __init__(self, budget: Budget, hold: Hold, alert: BudgetAlert | None) -> None:
        self._budget = budget
        self._hold: Hold | None = hold
        self.alert = alert

    def __repr__(self) -> str:
        return f"Reservation({self._hold or 'ended'})"

    def settle(self, usd: Decimal | None, tokens: int) -> None:
        """The call was billed: its cost in USD and its tokens.

        A cost of ``None`` is not known after all: the worst case stays charged, as uncertain. A cost above
        the worst case is charged in full, and logged.
        """
        if (hold := self._take()) is not None:
            self._budget._settle(hold, usd, tokens)

    def release(self) -> None:
        """Nothing was sent, or surely not billed: all of it is free again."""
        if (hold := self._take()) is not None:
            self._budget.ledger.end(hold, Charge(sent=False))

    def uncertain(self) -> None:
        """Nobody knows whether it was billed (timed out, cut, cancelled): the worst case stays charged."""
        if (hold := self._take()) is not None:
            self._budget.ledger.end(hold, Charge(hold.usd, hold.tokens, hold.usd, hold.tokens))

    def _take(self) -> Hold | None:
        """The hold, for the one who ends it."""
        with self._budget._lock:
            hold, self._hold = self._hold, None
        return hold


class Budget:
    """One budget, counted apart for each chat, session, agent or day. Safe for threads and tasks.

    Spent and reserved together never exceed the limit and what was approved, for what is reserved is the
    most a call can cost. Without a ledger the sums are in memory, bounded as `MemoryLedger` says.

    Args:
        config: what may be spent.
        clock: its `time` says which day it is, in UTC.
        ledger: where the sums are kept; before the config's own.

    Raises `ConfigError` where the ledger cannot be used.
    """

    def __init__(self, config: BudgetConfig, *, clock: Clock, ledger: SpendingLedger | None = None) -> None:
        self.config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._day = (-1, "")
        self._warned: set[str] = set()
        self.ledger, self._owns_ledger = _ledger(config, clock, ledger)
        soft = Decimal(repr(config.soft)).as_integer_ratio()
        usd = None if config.usd is None else limit_units_of(config.usd)
        self._limits = Limits(usd, config.tokens, soft)
        if self.blocks and config.usd is not None and config.usd > LEDGER_LIMIT:
            raise ConfigError(
                f"usd with a ledger can be at most {LEDGER_LIMIT:,}",
                field="usd",
                hint="Leave the ledger out.",
            )

    def __repr__(self) -> str:
        limits = [f"{name}={amount}" for name in ("usd", "tokens") if (amount := getattr(self.config, name))]
        return f"Budget({', '.join(limits)}, per={self.config.per!r}, ledger={self.ledger!r})"

    @property
    def blocks(self) -> bool:
        """Whether reserving and ending do I/O: async code then does both in a thread."""
        return self.ledger.blocks

    # ── before and after a call ──────────────────────────────────────────────────────────

    def reserve(self, scope: Scope, usd: Decimal | None, tokens: int) -> Reservation:
        """Set aside the most that a call can cost: ``usd`` (of `worst`; ``None`` if not known) and tokens.

        Raises `BudgetExceededError` where that might overspend, `PriceUnknownError` where the price is not
        known and must be, `BudgetError` where the ledger cannot be written, and `ValueError` for amounts
        that are no amounts. Nothing is reserved then.
        """
        if type(tokens) is not int or tokens < 0:
            raise ValueError(f"tokens must be a whole number of 0 or more, not {tokens!r}")
        if usd is None:
            usd = self._unpriced("", "its price is not known", tokens, tokens)
        units = 0 if usd is None else units_of(usd if type(usd) is Decimal else Decimal(usd))
        account = self.account(scope)
        outcome = self.ledger.reserve(account, units, tokens, self._limits)
        if isinstance(outcome, Refusal):
            raise self._exceeded(outcome, units if outcome.unit == "usd" else tokens)
        return Reservation(self, outcome, None if outcome.alert is None else self._alert(account, outcome))

    def worst(
        self, cost: Cost, input_tokens: int, output_tokens: int, *, deployment: str = ""
    ) -> Decimal | None:
        """What to reserve for a call that costs at most ``cost``, by the rule for prices nobody knows.

        ``None`` where no USD are limited and the price is not known. Raises `PriceUnknownError` where calls
        without a price are refused. ``deployment`` is named in the log and the error.
        """
        if cost.usd is not None:
            return cost.usd
        name = deployment or cost.model
        return self._unpriced(name, cost.reason or "its price is not known", input_tokens, output_tokens)

    def actual(self, cost: Cost, usage: TokenUsage) -> Decimal | None:
        """What to settle for a call that cost ``cost``, by the same rule; it never raises.

        ``None`` where the price should be known and is not: the worst case then stays charged.
        """
        if cost.usd is not None or self.config.usd is None or self.config.on_unknown_price == "refuse":
            return cost.usd
        if self.config.on_unknown_price == "warn":
            return Decimal(0)
        return highest_cost(self._assumed(), usage.input, usage.output)

    def extend(self, scope: Scope, unit: Unit, amount: Decimal | int | None) -> Decimal:
        """Allow ``amount`` more in that unit, for good: what ``approve`` granted; the new limit.

        ``None`` and 0 allow no more. Raises `ConfigError` for what is no such amount, or where the unit
        has no limit, and `BudgetError` where the ledger cannot be written.
        """
        limit = self._limits.usd if unit == "usd" else self._limits.tokens
        if limit is None:
            raise ConfigError(f"the budget has no limit in {unit}", field=unit)
        units = granted(unit, amount)
        account = self.account(scope)
        tally = self.ledger.extend(account, unit, units) if units else self.ledger.balance(account).of(unit)
        return amount_in(unit, limit + tally.extra)

    # ── to read ──────────────────────────────────────────────────────────────────────────

    def status(self, scope: Scope) -> BudgetStatus:
        """How that chat, session, agent or day stands. Raises `BudgetError` where a ledger cannot be read."""
        account = self.account(scope)
        balance = self.ledger.balance(account)
        return BudgetStatus.of(account, balance, self._limits.usd, self._limits.tokens)

    def statuses(self, *, agent: str | None = None, limit: int = 100) -> tuple[BudgetStatus, ...]:
        """Those used last, the latest first; of one agent, where that is said. Raises `BudgetError`."""
        found = self.ledger.balances(agent=agent, limit=limit, per=self.config.per)
        limits = self._limits.usd, self._limits.tokens
        return tuple(BudgetStatus.of(account, balance, *limits) for account, balance in found.items())

    def forget(self, scope: Scope) -> None:
        """That chat is over, or that session deleted: drop its sums from memory. A ledger keeps them."""
        if self.config.per in ("chat", "session"):
            self.ledger.forget(self.account(scope))

    def close(self) -> None:
        """Close the ledger, if it was opened here. Further use opens it again."""
        if self._owns_ledger:
            self.ledger.close()

    # ── within ───────────────────────────────────────────────────────────────────────────

    def scope(self, fields: Mapping[str, Any]) -> Scope:
        """Whose money a call spends, by the fields of its log events."""
        return Scope(fields.get("agent", ""), fields.get("chat_id"), fields.get("session_id"))

    def account(self, scope: Scope) -> Account:
        """Where the money of that chat, session, agent or day is counted."""
        per = self.config.per
        if per == "session" and scope.session is not None:
            return Account(scope.agent, "session", scope.session)
        if per == "session":  # a chat without a session is one by itself
            return Account(scope.agent, "session", f"chat {scope.chat or ''}")
        if per == "chat":
            return Account(scope.agent, "chat", scope.chat or "")
        return Account(scope.agent, per, "" if per == "agent" else self._today())

    def _today(self) -> str:
        number = int(self._clock.time() // _DAY)
        day = self._day
        if day[0] != number:
            day = self._day = (number, (_EPOCH + dt.timedelta(days=number)).isoformat())
        return day[1]

    def _settle(self, hold: Hold, usd: Decimal | None, tokens: int) -> None:
        units, unsure = hold.usd, hold.usd
        if usd is not None:
            try:
                units, unsure = units_of(usd if type(usd) is Decimal else Decimal(usd)), 0
            except (ValueError, ArithmeticError, TypeError):
                _log.warning("budget_cost_unusable", scope=hold.account.per, cost=repr(usd))
        self.ledger.end(hold, Charge(units, max(0, tokens), unsure))
        is_priced = hold.usd > 0 or self.config.on_unknown_price != "warn"
        if units > hold.usd and self._limits.usd is not None and is_priced:
            self._overshot(hold, "usd", units, hold.usd)
        if tokens > hold.tokens and self._limits.tokens is not None:
            self._overshot(hold, "tokens", tokens, hold.tokens)

    def _overshot(self, hold: Hold, unit: Unit, spent: int, reserved: int) -> None:
        _log.warning(
            "budget_reservation_exceeded",
            scope=hold.account.per,
            key=hold.account.key,
            unit=unit,
            spent=f"{amount_in(unit, spent):f}",
            reserved=f"{amount_in(unit, reserved):f}",
        )

    def _alert(self, account: Account, hold: Hold) -> BudgetAlert:
        assert hold.alert is not None
        assert hold.sums is not None
        unit, sums = hold.alert, hold.sums
        limit = self._limits.usd if unit == "usd" else self._limits.tokens
        assert limit is not None
        needed = hold.usd if unit == "usd" else hold.tokens
        return BudgetAlert(
            *account,
            unit=unit,
            limit=amount_in(unit, limit + sums.extra),
            spent=amount_in(unit, sums.spent),
            reserved=amount_in(unit, sums.reserved),
            needed=amount_in(unit, needed),
        )

    def _exceeded(self, refusal: Refusal, needed: int) -> BudgetExceededError:
        unit, sums = refusal.unit, refusal.sums
        own = self._limits.usd if unit == "usd" else self._limits.tokens
        assert own is not None
        limit = own + sums.extra
        left = amount_in(unit, max(0, limit - sums.spent - sums.reserved))
        name = "USD" if unit == "usd" else "tokens"
        held = f", with {amount_in(unit, sums.reserved):f} held by calls under way" if sums.reserved else ""
        per = self.config.per
        return BudgetExceededError(
            f"the budget of {amount_in(unit, limit):f} {name} per {per} has {left:f} left{held}; "
            f"the call may cost {amount_in(unit, needed):f}",
            scope=per,
            unit=unit,
            limit=amount_in(unit, limit),
            spent=amount_in(unit, sums.spent),
            reserved=amount_in(unit, sums.reserved),
            needed=amount_in(unit, needed),
            retry_after=_DAY - self._clock.time() % _DAY if per == "day" else None,
            hint=f"Raise {unit} in with_budget, ask for fewer tokens (max_tokens), or give approve=.",
        )

    def _unpriced(self, name: str, reason: str, input_tokens: int, output_tokens: int) -> Decimal | None:
        if self.config.usd is None:
            return None
        if self.config.on_unknown_price == "assume":
            return highest_cost(self._assumed(), input_tokens, output_tokens)
        if self.config.on_unknown_price == "warn":
            self._warn_once(name, reason)
            return Decimal(0)
        raise PriceUnknownError(
            f"a budget in USD cannot count a call to {name or 'this model'}: {reason}",
            deployment=name or None,
            hint="Say which model it is (model_name=) or what it costs (prices=), "
            'or set on_unknown_price="assume" or "warn" in with_budget.',
        )

    def _assumed(self) -> ModelPrice:
        return self.config.assumed_price or dearest_price()

    def _warn_once(self, name: str, reason: str) -> None:
        with self._lock:
            if name in self._warned or len(self._warned) >= _MOST_WARNED:
                return
            self._warned.add(name)
        _log.warning("budget_price_unknown", deployment=name or None, reason=reason, counted_as="0")


def _ledger(config: BudgetConfig, clock: Clock, given: SpendingLedger | None) -> tuple[SpendingLedger, bool]:
    """The ledger to use, and whether it was opened here."""
    if given is not None:
        return given, False
    if config.ledger is None:
        return MemoryLedger(), False
    if isinstance(config.ledger, (str, Path)):
        return open_ledger(config.ledger, clock=clock.time), True
    return config.ledger, False


def granted(unit: Unit, amount: object) -> int:
    """What was granted, in whole units; 0 for no more. Raises `ConfigError` for what is no such amount."""
    if amount is None or amount is False:
        return 0
    try:
        more = amount_of(unit, amount, f"how much more, in {unit}")
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"approve must return how much more, or None: {exc}", field="approve") from None
    if unit == "tokens" and more != more.to_integral_value():
        raise ConfigError(f"approve must return whole tokens, not {more}", field="approve")
    return limit_units_of(more) if unit == "usd" else int(more)
