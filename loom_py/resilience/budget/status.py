"""Whose money it is, and how much of it is left."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, NamedTuple, Self

from loom_py.errors import BudgetExceededError
from loom_py.resilience.spending import Account, Balance, Tally, Unit, amount_in

__all__ = ["BudgetAlert", "BudgetStatus", "Scope", "UnitStatus"]


class Scope(NamedTuple):
    """Who makes a call: the agent's name, and the ids of the chat and of its session."""

    agent: str
    chat: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """A budget has passed its soft threshold, or is ``refused`` a call that would overspend it.

    ``unit`` is ``"usd"`` or ``"tokens"``, and the amounts are in it. ``per`` says what the budget is for and
    ``key`` which chat, session or day (its date); ``key`` is empty for the agent's. ``spent`` and
    ``reserved`` together are what the calls so far, this one included, cost at most. ``needed`` is what
    this call alone may cost.
    """

    agent: str
    per: str
    key: str
    unit: Unit
    limit: Decimal
    spent: Decimal
    reserved: Decimal
    needed: Decimal
    refused: bool = False

    @property
    def remaining(self) -> Decimal:
        """What is left for further calls; never below 0."""
        return max(Decimal(0), self.limit - self.spent - self.reserved)

    @classmethod
    def of_refusal(cls, error: BudgetExceededError, account: Account) -> Self:
        """The alert of a call that was refused: ``reserved`` is without it, for nothing was reserved."""
        unit: Unit = "usd" if error.unit == "usd" else "tokens"
        return cls(
            *account,
            unit,
            error.limit,
            error.spent,
            error.reserved,
            error.needed,
            refused=True,
        )


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """One unit of a budget: USD, or tokens.

    ``uncertain`` is that part of ``spent`` which may never have been billed: calls that timed out, broke off
    or were cancelled, at the most they could cost. ``limit`` includes what was approved; it and ``remaining``
    are ``None`` where the unit is not limited.
    """

    limit: Decimal | None
    spent: Decimal
    reserved: Decimal
    uncertain: Decimal
    remaining: Decimal | None

    @classmethod
    def of(cls, unit: Unit, tally: Tally, limit: int | None) -> Self:
        """The amounts of a tally under a limit in whole units."""
        left = None if limit is None else max(0, limit + tally.extra - tally.spent - tally.reserved)
        return cls(
            None if limit is None else amount_in(unit, limit + tally.extra),
            amount_in(unit, tally.spent),
            amount_in(unit, tally.reserved),
            amount_in(unit, tally.uncertain),
            None if left is None else amount_in(unit, left),
        )

    def to_dict(self) -> dict[str, str | None]:
        """The amounts as text, JSON-compatible."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: None if amount is None else f"{amount:f}" for name, amount in found.items()}


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The budget of one chat, session, agent or day at one moment."""

    agent: str
    per: str
    key: str
    calls: int
    usd: UnitStatus
    tokens: UnitStatus

    @classmethod
    def of(cls, account: Account, balance: Balance, usd: int | None, tokens: int | None) -> Self:
        """The status of an account under limits in whole units."""
        mine = UnitStatus.of("usd", balance.usd, usd)
        return cls(*account, balance.calls, mine, UnitStatus.of("tokens", balance.tokens, tokens))

    def to_dict(self) -> dict[str, Any]:
        """The fields, JSON-compatible."""
        about = {"agent": self.agent, "per": self.per, "key": self.key, "calls": self.calls}
        return {**about, "usd": self.usd.to_dict(), "tokens": self.tokens.to_dict()}
