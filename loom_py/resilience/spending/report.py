"""What a ledger says when it is read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Self

from loom_py.llm.prices.amounts import total
from loom_py.resilience.spending.accounts import Account, Balance, amount_in

__all__ = ["LedgerEntry", "report_text"]

_HEAD = ("agent", "per", "key", "calls", "USD", "reserved", "uncertain", "tokens", "used last (UTC)")
_NUMBERS = range(3, 8)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What was spent on one account: an agent's chat, session, day, or the agent as a whole.

    ``usd`` and ``tokens`` are spent; the ``uncertain`` amounts are that part of them which may never have
    been billed; the ``reserved`` ones come on top while calls are under way; the ``extra`` ones were
    approved beyond the limit. ``updated`` is when it was last used, in seconds since 1970.
    """

    agent: str
    per: str
    key: str
    calls: int
    usd: Decimal
    reserved_usd: Decimal
    uncertain_usd: Decimal
    extra_usd: Decimal
    tokens: int
    reserved_tokens: int
    uncertain_tokens: int
    extra_tokens: int
    updated: float

    @classmethod
    def of(cls, account: Account, balance: Balance, updated: float) -> Self:
        """The entry of an account."""
        usd, tokens = balance.usd, balance.tokens
        return cls(
            *account,
            calls=balance.calls,
            usd=amount_in("usd", usd.spent),
            reserved_usd=amount_in("usd", usd.reserved),
            uncertain_usd=amount_in("usd", usd.uncertain),
            extra_usd=amount_in("usd", usd.extra),
            tokens=tokens.spent,
            reserved_tokens=tokens.reserved,
            uncertain_tokens=tokens.uncertain,
            extra_tokens=tokens.extra,
            updated=updated,
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields, JSON-compatible: amounts of money as text."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: f"{v:f}" if isinstance(v, Decimal) else v for name, v in found.items()}


def report_text(entries: Sequence[LedgerEntry]) -> str:
    """One row for each entry, and the sum."""
    rows = [_row(entry) for entry in entries]
    return "\n".join(_table([_HEAD, *rows, _sum(entries)]))


def _row(entry: LedgerEntry) -> tuple[str, ...]:
    used = dt.datetime.fromtimestamp(entry.updated, dt.UTC)
    return (
        entry.agent or "-",
        entry.per,
        entry.key or "-",
        f"{entry.calls:,}",
        f"{entry.usd:f}",
        f"{entry.reserved_usd:f}",
        f"{entry.uncertain_usd:f}",
        f"{entry.tokens:,}",
        f"{used:%Y-%m-%d %H:%M:%S}",
    )


def _sum(entries: Sequence[LedgerEntry]) -> tuple[str, ...]:
    money = (
        f"{total(getattr(entry, name) for entry in entries):f}"
        for name in ("usd", "reserved_usd", "uncertain_usd")
    )
    calls, tokens = (f"{sum(getattr(entry, name) for entry in entries):,}" for name in ("calls", "tokens"))
    return ("total", "", "", calls, *money, tokens, "")


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        if number in (1, len(rows) - 1):
            yield "  ".join("-" * width for width in widths)
        cells = (
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
