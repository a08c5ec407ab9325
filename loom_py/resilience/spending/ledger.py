"""What a ledger is: where reservations are made and ended, one at a time whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from loom_py.resilience.spending.accounts import Account, Balance, Limits, Tally, Unit

__all__ = ["Charge", "Hold", "Refusal", "SpendingLedger"]


class Hold:
    """A reservation as a ledger knows it: the account, the amounts in whole units, and its ``id``.

    ``alert`` is the unit whose soft threshold it crossed, and ``sums`` that unit's sums just after it.
    """

    __slots__ = ("account", "alert", "id", "sums", "tokens", "usd")

    def __init__(
        self,
        account: Account,
        usd: int,
        tokens: int,
        id: str = "",
        alert: Unit | None = None,
        sums: Tally | None = None,
    ) -> None:
        self.account = account
        self.usd = usd
        self.tokens = tokens
        self.id = id
        self.alert = alert
        self.sums = sums

    def __repr__(self) -> str:
        return f"Hold({self.account}, usd={self.usd}, tokens={self.tokens}, id={self.id!r})"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The amounts do not fit: the ``unit`` that is short, and its sums. Nothing was reserved."""

    unit: Unit
    sums: Tally


class Charge(NamedTuple):
    """How a reservation ends: what was spent, and how much of that may never have been billed.

    In whole units: 10⁻¹² USD, and tokens. ``sent`` is false for a call that was not made after all.
    """

    usd: int = 0
    tokens: int = 0
    uncertain_usd: int = 0
    uncertain_tokens: int = 0
    sent: bool = True


@runtime_checkable
class SpendingLedger(Protocol):
    """Where a budget's sums are kept. Safe for threads; each method is one atomic step."""

    @property
    def blocks(self) -> bool:
        """Whether its methods do I/O, so that async code calls them in a thread."""
        ...

    def reserve(self, account: Account, usd: int, tokens: int, limits: Limits) -> Hold | Refusal:
        """Reserve both amounts, or neither where one of them does not fit.

        Raises `BudgetError` where the ledger cannot be written; then nothing is reserved.
        """
        ...

    def end(self, hold: Hold, charge: Charge) -> None:
        """End a reservation. It does not raise: what cannot be written now stays reserved until it can."""
        ...

    def extend(self, account: Account, unit: Unit, amount: int) -> Tally:
        """Allow so much more, for good; the unit's sums after it."""
        ...

    def balance(self, account: Account) -> Balance:
        """The sums of an account; all 0 for one that is not known."""
        ...

    def balances(
        self, per: str | None = None, agent: str | None = None, limit: int | None = None
    ) -> dict[Account, Balance]:
        """The accounts used last, the latest first; of one kind, or one agent, where that is said."""
        ...

    def forget(self, account: Account) -> None:
        """Drop the sums of an account, unless a call is under way."""
        ...

    def close(self) -> None:
        """Let go of files and connections. Further use opens them again."""
        ...
