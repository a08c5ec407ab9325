"""Budgets: the worst case of a call is reserved before it is made, and settled after.

::

    budget = Budget(BudgetConfig(usd="0.50", per="session"), clock=RealClock())
    reservation = budget.reserve(Scope("flights", session="ada"), worst_usd, worst_tokens)
    try:
        ...  # make the call
    except Timeout:
        reservation.uncertain()
    else:
        reservation.settle(usd, tokens)
"""

from __future__ import annotations

from loom_py.resilience.budget.config import Approve, BudgetConfig, Granted, Per, UnknownPrice
from loom_py.resilience.budget.policy import Budget, Reservation, granted
from loom_py.resilience.budget.status import BudgetAlert, BudgetStatus, Scope, UnitStatus
from loom_py.resilience.budget.unknown_price import dearest_price

__all__ = [
    "Approve",
    "Budget",
    "BudgetAlert",
    "BudgetConfig",
    "BudgetStatus",
    "Granted",
    "Per",
    "Reservation",
    "Scope",
    "UnitStatus",
    "UnknownPrice",
    "dearest_price",
    "granted",
]
