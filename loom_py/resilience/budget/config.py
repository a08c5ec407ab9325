"""What a budget allows, and how it is counted."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from loom_py.errors import ConfigError
from loom_py.llm.prices import Amount, ModelPrice
from loom_py.llm.prices.amounts import amount_of
from loom_py.resilience.budget.status import BudgetAlert
from loom_py.resilience.spending import SpendingLedger

__all__ = ["Approve", "BudgetConfig", "Granted", "Per", "UnknownPrice"]

Per: TypeAlias = Literal["chat", "session", "agent", "day"]
UnknownPrice: TypeAlias = Literal["refuse", "warn", "assume"]
Granted: TypeAlias = Decimal | int | None
Approve: TypeAlias = Callable[[BudgetAlert], Granted | Awaitable[Granted]]

_LEAST_USD = Decimal("1E-12")
_MOST_TOKENS = 10**15


@dataclass(frozen=True, slots=True)
class BudgetConfig:
    """What may be spent, at least one of ``usd`` and ``tokens``.

    Args:
        usd: the most that may be spent, in USD; a float is taken at its shortest decimal form.
        tokens: the most tokens, input and output together.
        per: what it is for: each ``"chat"``, each ``"session"``, the ``"agent"`` for good, or each ``"day"``
            (UTC). Without a session a ``"session"`` budget is one for each chat.
        soft: the share of the limit at which ``approve`` is asked, above 0 and up to 1.
        on_unknown_price: what becomes of a call whose price nobody knows, where ``usd`` is given.
            ``"refuse"`` raises `PriceUnknownError`; ``"warn"`` counts it as 0 USD and logs so, once for each
            deployment; ``"assume"`` counts it at ``assumed_price``.
        assumed_price: for ``"assume"``. Without it a call costs as much as it would with the dearest
            model of the bundled price list, rate by rate.
        approve: called with a `BudgetAlert` when the soft threshold is crossed; returns how much more may be
            spent, in the alert's unit, and ``None`` or 0 for no more. It may be async for async calls.
        ledger: where the sums are kept. Without one they are in memory and end with the process. A path is
            an SQLite file, made if missing; a URL such as ``postgresql+psycopg://…`` is a database.
            What a process that died had reserved then counts as spent, and is shown as uncertain.

    Raises `ConfigError`, whose ``field`` names the setting.
    """

    usd: Decimal | None = None
    tokens: int | None = None
    per: Per = "chat"
    soft: float = 0.8
    on_unknown_price: UnknownPrice = "refuse"
    assumed_price: ModelPrice | None = None
    approve: Approve | None = None
    ledger: SpendingLedger | str | Path | None = field(default=None, repr=False)  # a URL may hold a password

    if TYPE_CHECKING:

        def __init__(
            self,
            usd: Amount | None = None,
            tokens: int | None = None,
            per: Per = "chat",
            soft: float = 0.8,
            on_unknown_price: UnknownPrice = "refuse",
            assumed_price: ModelPrice | None = None,
            approve: Approve | None = None,
            ledger: SpendingLedger | str | Path | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        if self.usd is None and self.tokens is None:
            raise ConfigError("a budget needs usd=, tokens= or both", field="usd")
        if self.usd is not None:
            object.__setattr__(self, "usd", _usd(self.usd))
        if self.tokens is not None:
            _check_tokens(self.tokens)
        _check_choice("per", self.per, get_args(Per))
        _check_choice("on_unknown_price", self.on_unknown_price, get_args(UnknownPrice))
        if type(self.soft) not in (int, float) or not 0 < self.soft <= 1:
            raise ConfigError(f"soft must be a share above 0 and up to 1, not {self.soft!r}", field="soft")
        self._check_objects()

    def _check_objects(self) -> None:
        if self.assumed_price is not None:
            if not isinstance(self.assumed_price, ModelPrice):
                kind = type(self.assumed_price).__name__
                raise ConfigError(f"assumed_price must be a ModelPrice, not {kind}", field="assumed_price")
            if self.on_unknown_price != "assume":
                raise ConfigError(
                    f'assumed_price is not used with on_unknown_price="{self.on_unknown_price}"',
                    field="assumed_price",
                    hint='Set on_unknown_price="assume".',
                )
        if self.approve is not None and not callable(self.approve):
            raise ConfigError("approve must be callable", field="approve")
        if self.ledger is not None and not isinstance(self.ledger, (str, os.PathLike, SpendingLedger)):
            kind = type(self.ledger).__name__
            raise ConfigError(f"ledger must be a path, a URL or a SpendingLedger, not {kind}", field="ledger")
        if isinstance(self.ledger, str) and not self.ledger.strip():
            raise ConfigError("ledger is empty", field="ledger", hint="Name a file, or leave it out.")


def _usd(given: object) -> Decimal:
    try:
        usd = amount_of("usd", given, "an amount in USD")
    except (TypeError, ValueError) as exc:
        raise ConfigError(str(exc), field="usd") from None
    if usd < _LEAST_USD:
        raise ConfigError(f"usd must be above 0, and no less than {_LEAST_USD}: not {given!r}", field="usd")
    return usd


def _check_tokens(tokens: object) -> None:
    if type(tokens) is not int or not 1 <= tokens <= _MOST_TOKENS:
        raise ConfigError(f"tokens must be a whole number from 1 to 10**15, not {tokens!r}", field="tokens")


def _check_choice(name: str, given: object, known: tuple[str, ...]) -> None:
    if given not in known:
        choices = ", ".join(f'"{choice}"' for choice in known)
        raise ConfigError(f"{name} must be one of {choices}, not {given!r}", field=name)
