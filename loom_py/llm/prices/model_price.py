"""The price of one model's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from loom_py.llm.prices.amounts import EXACT, Amount, amount_of, plain, total
from loom_py.messages import TokenUsage

__all__ = ["ModelPrice", "TokenCosts"]

_ZERO = Decimal(0)
_MONEY = ("input", "output", "cached_input", "cache_write")
_TIER = ("above_input", "above_output", "above_cached_input", "above_cache_write")


class TokenCosts(NamedTuple):
    """What the four kinds of tokens of a call cost, in USD; together they are the cost of the call."""

    uncached_input: Decimal
    cached_input: Decimal
    cache_writes: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The price of a model, in USD per 1 million tokens.

    Amounts may be given as `~decimal.Decimal`, text, int or float, and are kept as ``Decimal``.
    ``cached_input`` and ``cache_write`` are the prices of input read from and written to the prompt
    cache; where they are ``None`` that input costs ``input``. A call with more than ``above_tokens``
    input tokens costs the ``above_*`` prices throughout.

    Raises `ValueError` for an amount that is negative or not finite, and for a tier that is incomplete;
    `TypeError` for what is no amount at all.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    above_tokens: int | None = None
    above_input: Decimal | None = None
    above_output: Decimal | None = None
    above_cached_input: Decimal | None = None
    above_cache_write: Decimal | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            input: Amount,
            output: Amount,
            cached_input: Amount | None = None,
            cache_write: Amount | None = None,
            above_tokens: int | None = None,
            above_input: Amount | None = None,
            above_output: Amount | None = None,
            above_cached_input: Amount | None = None,
            above_cache_write: Amount | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in (*_MONEY, *_TIER):
            given = getattr(self, name)
            if given is not None or name in ("input", "output"):
                object.__setattr__(self, name, amount_of(name, given))
        if self.above_tokens is None:
            stray = [name for name in _TIER if getattr(self, name) is not None]
            if stray:
                raise ValueError(f"{', '.join(stray)}: give above_tokens too, the input from which it holds")
        elif self.above_tokens < 1:
            raise ValueError(f"above_tokens must be at least 1, not {self.above_tokens}")
        elif self.above_input is None or self.above_output is None:
            raise ValueError("a price above_tokens needs above_input and above_output")

    def cost(self, usage: TokenUsage) -> Decimal:
        """What one call with this ``usage`` costs, in USD, exactly; the sum of its `parts`."""
        return total(self.parts(usage))

    def parts(self, usage: TokenUsage) -> TokenCosts:
        """What each kind of token of one call costs, in USD, exactly.

        Cached input and cache writes are parts of the input and are priced apart from it; reasoning
        is a part of the output and costs nothing more. Parts that exceed the input are cut to it.
        """
        input_, output, cached_input, cache_write = self._rates(usage.input)
        everything = max(usage.input, 0)
        cached = min(max(usage.cached_input, 0), everything)
        written = min(max(usage.cache_writes, 0), everything - cached)
        return TokenCosts(
            _cost(everything - cached - written, input_),
            _cost(cached, cached_input),
            _cost(written, cache_write),
            _cost(max(usage.output, 0), output),
        )

    def dearest(self, tokens: int) -> tuple[Decimal, Decimal]:
        """The most that a token of input, cached or not, and one of output cost beside so much input.

        In USD per 1 million tokens.
        """
        input_, output, cached, write = self._rates(tokens)
        return max(input_, cached, write), output

    def _rates(self, tokens: int) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """The prices of input, output, cached input and cache writes for so much input."""
        input_, output, cached, write = self.input, self.output, self.cached_input, self.cache_write
        if self.above_tokens is not None and tokens > self.above_tokens:
            assert self.above_input is not None
            assert self.above_output is not None
            input_, output = self.above_input, self.above_output
            cached, write = self.above_cached_input, self.above_cache_write
        return input_, output, input_ if cached is None else cached, input_ if write is None else write


def _cost(tokens: int, price: Decimal) -> Decimal:
    """So many tokens at a price per million."""
    if not tokens:
        return _ZERO
    return plain(EXACT.scaleb(EXACT.multiply(price, tokens), -6))
