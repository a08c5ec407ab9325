"""What a call is taken to cost where nobody knows its price."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import cache

from loom_py.llm.prices import ModelPrice, PriceTable
from loom_py.llm.prices.amounts import total
from loom_py.messages import TokenUsage

__all__ = ["dearest_price", "highest_cost"]

_ROUTERS = ("model-router",)


@cache
def dearest_price() -> ModelPrice:
    """At least what any call costs by the bundled list: the highest rate of input and that of output.

    Rates of a long context count, and of every type and tier; so does the flat fee of a router.
    """
    table = PriceTable.bundled()
    prices = [row.price for row in table.rows]
    fees = [fee.price for model in (*table.models, *_ROUTERS) if (fee := table.fee(model)) is not None]
    return ModelPrice(
        input=total((_highest(prices, _input_rates), _highest(fees, _input_rates))),
        output=total((_highest(prices, _output_rates), _highest(fees, _output_rates))),
    )


def highest_cost(price: ModelPrice, input_tokens: int, output_tokens: int) -> Decimal:
    """The most that a call of up to so many tokens can cost, in USD, however much of it is cached."""
    inputs = {input_tokens, min(input_tokens, price.above_tokens or input_tokens)}
    return max(
        price.cost(TokenUsage(tokens, output_tokens, cached_input=cached, cache_writes=written))
        for tokens in inputs
        for cached, written in ((0, 0), (tokens, 0), (0, tokens))
    )


def _highest(
    prices: Iterable[ModelPrice], rates: Callable[[ModelPrice], Iterator[Decimal | None]]
) -> Decimal:
    found = [rate for price in prices for rate in rates(price) if rate is not None]
    return max(found, default=Decimal(0))


def _input_rates(price: ModelPrice) -> Iterator[Decimal | None]:
    yield from (price.input, price.cached_input, price.cache_write)
    yield from (price.above_input, price.above_cached_input, price.above_cache_write)


def _output_rates(price: ModelPrice) -> Iterator[Decimal | None]:
    yield from (price.output, price.above_output)
