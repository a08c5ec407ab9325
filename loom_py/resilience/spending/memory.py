"""Sums in memory: fast, bounded, and gone with the process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from itertools import islice
from typing import ClassVar

from loom_py._log import get_logger
from loom_py.resilience.spending.accounts import Account, Balance, Limits, Tally, Unit
from loom_py.resilience.spending.ledger import Charge, Hold, Refusal

__all__ = ["KEPT", "MemoryLedger"]

KEPT: Mapping[str, int] = {"chat": 10_000, "session": 100_000, "agent": 10_000, "day": 10_000}
"""How many accounts of a kind are kept. Only those without a call under way are ever dropped."""

_MOST_LOOKED_AT = 16
_NONE: OrderedDict[Account, Balance] = OrderedDict()

_log = get_logger()


class MemoryLedger:
    """The sums of one process.

    Of each kind the accounts used last are kept: 100,000 sessions, 10,000 of the others. Of what is older
    the sums are forgotten, and a session that comes back after 100,000 others begins anew: it has
    then cost no more than yet another session would. The first such loss is logged as
    ``budget_account_forgotten`` (not for chats, which end by themselves). A ledger file forgets nothing.
    """

    blocks: ClassVar[bool] = False

    def __init__(self, *, keep: Mapping[str, int] = KEPT) -> None:
        self._keep = {**KEPT, **keep}
        self._lock = threading.Lock()
        self._kinds: dict[str, OrderedDict[Account, Balance]] = {}
        self._warned: set[str] = set()

    def __repr__(self) -> str:
        return f"MemoryLedger({sum(map(len, self._kinds.values()))} accounts)"

    def reserve(self, account: Account, usd: int, tokens: int, limits: Limits) -> Hold | Refusal:
        """Reserve both amounts, or neither where one of them does not fit."""
        forgotten = False
        with self._lock:
            kind = self._kinds.get(account.per)
            balance = None if kind is None else kind.get(account)
            if kind is None or balance is None:
                kind, balance, forgotten = self._add(account)
            else:
                kind.move_to_end(account)
            unit = balance.short_of(usd, tokens, limits)
            if unit is not None:
                outcome: Hold | Refusal = Refusal(unit, balance.of(unit).copy())
            elif (crossed := balance.crossed(limits)) is None:
                outcome = Hold(account, usd, tokens)
            else:
                outcome = Hold(account, usd, tokens, alert=crossed, sums=balance.of(crossed).copy())
        if forgotten:
            self._warn(account.per)
        return outcome

    def end(self, hold: Hold, charge: Charge) -> None:
        """End a reservation."""
        with self._lock:
            balance = self._find(hold.account)
            balance.usd.end(hold.usd, charge.usd, charge.uncertain_usd)
            balance.tokens.end(hold.tokens, charge.tokens, charge.uncertain_tokens)
            if not charge.sent:
                balance.calls -= 1

    def extend(self, account: Account, unit: Unit, amount: int) -> Tally:
        """Allow so much more; the unit's sums after it."""
        with self._lock:
            tally = self._find(account).of(unit)
            tally.extend(amount)
            return tally.copy()

    def balance(self, account: Account) -> Balance:
        """The sums of an account; all 0 for one that is not known."""
        with self._lock:
            found = self._kinds.get(account.per, _NONE).get(account)
            return Balance() if found is None else found.copy()

    def balances(
        self, per: str | None = None, agent: str | None = None, limit: int | None = None
    ) -> dict[Account, Balance]:
        """The accounts used last, the latest first of each kind."""
        with self._lock:
            found = (
                (account, balance.copy())
                for name, kind in self._kinds.items()
                if per in (None, name)
                for account, balance in reversed(kind.items())
                if agent in (None, account.agent)
            )
            return dict(islice(found, limit))

    def forget(self, account: Account) -> None:
        """Drop the sums of an account, unless a call is under way."""
        with self._lock:
            kind = self._kinds.get(account.per, _NONE)
            if account in kind and kind[account].is_idle:
                del kind[account]

    def close(self) -> None:
        """There is nothing to let go of."""

    def _find(self, account: Account) -> Balance:
        """The account, made anew if it is not known."""
        balance = self._kinds.get(account.per, _NONE).get(account)
        return self._add(account)[1] if balance is None else balance

    def _add(self, account: Account) -> tuple[OrderedDict[Account, Balance], Balance, bool]:
        """A new account, and whether another had to be forgotten for it."""
        kind = self._kinds.setdefault(account.per, OrderedDict())
        balance = kind[account] = Balance()
        return kind, balance, self._drop(kind, self._keep[account.per])

    def _drop(self, kind: OrderedDict[Account, Balance], keep: int) -> bool:
        """Forget the oldest accounts without a call under way. A few are looked at: it must not take long."""
        dropped = False
        for _ in range(min(len(kind) - 1, _MOST_LOOKED_AT)):  # the last is the new one
            if len(kind) <= keep:
                break
            oldest = next(iter(kind))
            if kind[oldest].is_idle:
                del kind[oldest]
                dropped = True
            else:  # it is in use, so it is not the oldest
                kind.move_to_end(oldest)
        return dropped

    def _warn(self, per: str) -> None:
        if per != "chat" and per not in self._warned:
            self._warned.add(per)
            _log.warning(
                "budget_account_forgotten", per=per, kept=self._keep[per], hint="Give with_budget a ledger."
            )
