"""What is spent, reserved and left on one account: sums in whole numbers, and no I/O.

USD are counted in units of 10⁻¹² USD, so that every sum is exact; what is finer is rounded up.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context, Decimal
from typing import Literal, NamedTuple, TypeAlias

from loom_py.llm.prices.amounts import EXACT, plain

__all__ = ["Account", "Balance", "Limits", "Tally", "Unit", "amount_in", "limit_units_of", "units_of"]

Unit: TypeAlias = Literal["usd", "tokens"]

_DECIMALS = 12
_UP = Context(prec=10_000, rounding=ROUND_CEILING)
_LARGEST_EXPONENT = 18


def units_of(usd: Decimal) -> int:
    """USD in whole units, rounded up. Raises `ValueError` for an amount that is negative or not finite."""
    if not usd.is_finite() or usd < 0 or usd.adjusted() > _LARGEST_EXPONENT:
        raise ValueError(f"an amount in USD must be finite and not negative, not {usd}")
    return math.ceil(usd.scaleb(_DECIMALS, _UP))


def limit_units_of(usd: Decimal) -> int:
    """A limit in whole units, rounded down, as costs are rounded up."""
    return int(usd.scaleb(_DECIMALS, EXACT))


def amount_in(unit: Unit, units: int) -> Decimal:
    """Whole units as an amount of USD or of tokens; the sign is kept."""
    if unit == "tokens":
        return Decimal(units)
    amount = plain(Decimal(units).scaleb(-_DECIMALS, EXACT))
    return -amount if units < 0 else amount


class Account(NamedTuple):
    """Whose money it is: the agent's name, what it is counted by, and the id of that chat, session or day."""

    agent: str
    per: str
    key: str


class Limits(NamedTuple):
    """What an account may spend, in whole units, ``None`` for no limit; ``soft`` is a share as a fraction."""

    usd: int | None
    tokens: int | None
    soft: tuple[int, int] = (1, 1)


class Tally:
    """The sums of one unit, in whole units.

    ``uncertain`` is that part of ``spent`` which may never have been billed; ``extra`` was approved on
    top of the limit; ``alerted`` says that the soft threshold has been crossed and told.
    """

    __slots__ = ("alerted", "extra", "reserved", "spent", "uncertain")

    def __init__(
        self, spent: int = 0, reserved: int = 0, uncertain: int = 0, extra: int = 0, alerted: bool = False
    ) -> None:
        self.spent = spent
        self.reserved = reserved
        self.uncertain = uncertain
        self.extra = extra
        self.alerted = alerted

    def __repr__(self) -> str:
        return f"Tally({', '.join(f'{name}={getattr(self, name)}' for name in self.__slots__)})"

    def copy(self) -> Tally:
        """The sums as they are now."""
        return Tally(self.spent, self.reserved, self.uncertain, self.extra, self.alerted)

    def fits(self, amount: int, limit: int | None) -> bool:
        """Whether so much more can be spent, whatever becomes of the calls under way."""
        return limit is None or self.spent + self.reserved + amount <= limit + self.extra

    def crosses(self, limit: int | None, soft: tuple[int, int]) -> bool:
        """Whether the soft threshold is crossed and nobody has been told; now it counts as told."""
        if limit is None or self.alerted:
            return False
        part, whole = soft
        self.alerted = (self.spent + self.reserved) * whole >= (limit + self.extra) * part
        return self.alerted

    def end(self, held: int, spent: int, uncertain: int, *, was_lost: bool = False) -> None:
        """What was held becomes what was ``spent``, of which ``uncertain`` may not have been billed.

        ``was_lost`` says that it was given up and counted as spent before.
        """
        if was_lost:
            self.spent -= held
            self.uncertain -= held
        else:
            self.reserved -= held
        self.spent += spent
        self.uncertain += uncertain

    def extend(self, amount: int) -> None:
        """Allow so much more; the soft threshold is a new one."""
        self.extra += amount
        self.alerted = False


class Balance:
    """Both tallies of an account; ``calls`` were reserved for, and not taken back."""

    __slots__ = ("calls", "tokens", "usd")

    def __init__(self, usd: Tally | None = None, tokens: Tally | None = None, calls: int = 0) -> None:
        self.usd = usd or Tally()
        self.tokens = tokens or Tally()
        self.calls = calls

    def __repr__(self) -> str:
        return f"Balance(usd={self.usd}, tokens={self.tokens}, calls={self.calls})"

    def of(self, unit: Unit) -> Tally:
        """The sums of one unit."""
        return self.usd if unit == "usd" else self.tokens

    def copy(self) -> Balance:
        """The sums as they are now."""
        return Balance(self.usd.copy(), self.tokens.copy(), self.calls)

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return not (self.usd.reserved or self.tokens.reserved)

    def short_of(self, usd: int, tokens: int, limits: Limits) -> Unit | None:
        """The unit in which the amounts do not fit; ``None`` where they do, and they are then reserved."""
        mine, counted = self.usd, self.tokens
        if not mine.fits(usd, limits.usd):
            return "usd"
        if not counted.fits(tokens, limits.tokens):
            return "tokens"
        mine.reserved += usd
        counted.reserved += tokens
        self.calls += 1
        return None

    def crossed(self, limits: Limits) -> Unit | None:
        """The unit whose soft threshold was just crossed. Of two the second is told with the next call."""
        if self.usd.crosses(limits.usd, limits.soft):
            return "usd"
        return "tokens" if self.tokens.crosses(limits.tokens, limits.soft) else None
