"""Exact amounts of money."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TypeAlias

__all__ = ["EXACT", "Amount", "amount_of", "plain", "total"]

Amount: TypeAlias = Decimal | str | int | float
"""An amount a caller gives; a float is taken at its shortest decimal form, so 0.15 is 0.15."""

EXACT = Context(prec=10_000, traps=[Inexact, InvalidOperation])
"""Nothing is ever rounded: more digits than any sum of token counts and prices can have."""

_ZERO = Decimal(0)
_LARGEST_EXPONENT = 12
_MOST_DECIMALS = 40


def amount_of(name: str, given: object, unit: str = "an amount in USD per 1M tokens") -> Decimal:
    """``given`` as an exact amount.

    Raises `ValueError` for one that is negative, not finite, 10¹³ or more, or has more than 40 decimals,
    and `TypeError` for what is no amount at all; both name the setting ``name``.
    """
    if isinstance(given, bool) or not isinstance(given, (Decimal, str, int, float)):
        raise TypeError(f"{name} must be {unit}, not {given!r}")
    try:
        amount = Decimal(repr(given) if isinstance(given, float) else given)
    except InvalidOperation:
        raise ValueError(f"{name} must be {unit}, not {given!r}") from None
    if not amount.is_finite():
        raise ValueError(f"{name} must be {unit} and finite, not {given!r}")
    if amount < 0:
        raise ValueError(f"{name} must not be negative: {given!r}")
    if amount.adjusted() > _LARGEST_EXPONENT or _decimals(amount) > _MOST_DECIMALS:
        raise ValueError(f"{name} must be {unit} below 1E+13, of at most {_MOST_DECIMALS} decimals")
    return plain(amount)


def plain(amount: Decimal) -> Decimal:
    """The same amount without trailing zeros; never 5E+1 or -0."""
    short = EXACT.normalize(amount.copy_abs())
    return Decimal(f"{short:f}") if "E+" in str(short) else short


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum, whatever the caller's decimal context is."""
    found = _ZERO
    for amount in amounts:
        if amount:
            found = EXACT.add(found, amount)
    return plain(found)


def _decimals(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0
