"""What Claude's tokens cost on Anthropic's own API, in USD per 1 million tokens.

Source: the list of Anthropic's models in the package genai-prices 0.2.3 (prices of November 2026), which
cites Anthropic's page of prices. A cache entry that is kept for an hour costs twice the input to write, one
kept for five minutes a quarter more than it. Batches, fast mode and data residency are priced otherwise and
are not listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from loom_anthropic.profiles import bare_name
from loom_py.llm.costs import Cost, Pricing
from loom_py.llm.costs.bound import Bound
from loom_py.llm.prices import ModelPrice, PriceOverride, PriceRow, PriceTable
from loom_py.messages import TokenUsage

__all__ = ["DATE", "SOURCE", "ClaudePrices", "price_table"]

SOURCE = "genai-prices 0.2.3, its prices of Anthropic"
DATE = "2026-11-23"

# input, output, cached input, cache write for 5 minutes, and for 1 hour
_ROWS: Mapping[str, tuple[str, str, str, str, str]] = {
    "claude-fable-5-2": ("8", "40", "0.2", "10", "16"),
    "claude-mythos-5-2": ("8", "40", "0.2", "10", "16"),
    "claude-fable-5-1": ("10", "50", "0.25", "12.5", "20"),
    "claude-opus-5-5": ("4", "20", "0.2", "5", "8"),
    "claude-sonnet-5-5": ("2", "10", "0.1", "2.5", "4"),
    "claude-fable-5": ("10", "50", "1", "12.5", "20"),
    "claude-opus-5": ("5", "25", "0.5", "6.25", "10"),
    "claude-sonnet-5": ("2", "10", "0.2", "2.5", "4"),
    "claude-opus-4-8": ("5", "25", "0.5", "6.25", "10"),
    "claude-opus-4-7": ("5", "25", "0.5", "6.25", "10"),
    "claude-opus-4-6": ("5", "25", "0.5", "6.25", "10"),
    "claude-sonnet-4-6": ("3", "15", "0.3", "3.75", "6"),
    "claude-opus-4-5": ("5", "25", "0.5", "6.25", "10"),
    "claude-haiku-4-5": ("1", "5", "0.1", "1.25", "2"),
}
# the same, and again for more input than the number of tokens at the end
_LONG_ROWS: Mapping[str, tuple[tuple[str, str, str, str, str], tuple[str, str, str, str, str], int]] = {
    "claude-haiku-5-5": (
        ("0.1", "0.5", "0.01", "0.125", "0.2"),
        ("0.5", "2.5", "0.05", "0.625", "1"),
        100_000,
    ),
    "claude-sonnet-4-5": (
        ("3", "15", "0.3", "3.75", "6"),
        ("6", "22.5", "0.6", "7.5", "12"),
        200_000,
    ),
}


def _price(row: tuple[str, str, str, str, str], ttl: str | None) -> ModelPrice:
    input_, output, cached, short, hour = row
    return ModelPrice(input_, output, cached, hour if ttl == "1h" else short)


def _long_price(
    row: tuple[str, str, str, str, str], above: tuple[str, str, str, str, str], tokens: int, ttl: str | None
) -> ModelPrice:
    low, high = _price(row, ttl), _price(above, ttl)
    return ModelPrice(
        low.input,
        low.output,
        low.cached_input,
        low.cache_write,
        tokens,
        high.input,
        high.output,
        high.cached_input,
        high.cache_write,
    )


@cache
def price_table(ttl: str | None = None) -> PriceTable:
    """Anthropic's list prices; cache writes at the price of entries kept for ``"5m"`` or ``"1h"``."""
    prices = {name: _price(row, ttl) for name, row in _ROWS.items()}
    prices |= {name: _long_price(*row, ttl) for name, row in _LONG_ROWS.items()}
    rows = [
        PriceRow(name, price, type=None, tier="standard", source=SOURCE, date=DATE)
        for name, price in prices.items()
    ]
    return PriceTable(rows=rows, source=SOURCE, date=DATE)


KEPT = 64
"""How many served models are remembered with their price."""


class ClaudePrices:
    """Prices the calls of one model: by the user's own price, the model that served, the model asked for.

    ``prices`` are the user's own, by model. ``ttl`` is how long cache entries are kept. The service tier
    ``priority`` is paid by contract and has no list price.
    """

    def __init__(
        self,
        model: str,
        prices: Mapping[str, ModelPrice | PriceOverride] | None = None,
        ttl: str | None = None,
    ) -> None:
        self._model = bare_name(model)
        self._own = {bare_name(name): price for name, price in (prices or {}).items()}
        self._table = price_table(ttl)
        self._kept: dict[str, Pricing] = {}
        self._bound: Bound | None = None

    def cost(self, usage: TokenUsage | None, served: str = "", tier: str | None = None) -> Cost:
        """The cost of ``usage`` by the model that ``served``, in its service ``tier``."""
        return self._pricing(served).cost(usage, tier=tier)

    def most(self, input_tokens: int, output_tokens: int) -> Cost:
        """The most a call of so many tokens can cost, all of its input taken at its dearest."""
        if self._bound is None:  # no listed price ends on a day
            self._bound = self._pricing("").bound()
        return self._bound.cost(input_tokens, output_tokens)

    def _pricing(self, served: str) -> Pricing:
        pricing = self._kept.get(served)
        if pricing is None:
            name = bare_name(served)
            if name not in self._own and (self._model in self._own or not self._table.knows(name)):
                name = self._model
            own = {name: self._own[name]} if name in self._own else {}
            pricing = Pricing(name, model_name=name, prices=own, table=self._table)
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[served] = pricing
        return pricing
