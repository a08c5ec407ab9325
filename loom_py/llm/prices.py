"""What model calls cost: exact, in US dollars, and only where a price is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeAlias

from loom_py.llm.models import family_of, resolve_model
from loom_py.messages import TokenUsage

__all__ = ["Amount", "ModelPrice", "PriceTable"]

Amount: TypeAlias = Decimal | str | int | float
"""USD per million tokens; a float is taken at its shortest decimal form, so 0.15 is 0.15."""

_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])
_MONEY = ("input", "output", "cached_input", "cache_write")
_TIER = ("above_input", "above_output", "above_cached_input", "above_cache_write")


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
                object.__setattr__(self, name, _amount(name, given))
        if self.above_tokens is None:
            stray = [name for name in _TIER if getattr(self, name) is not None]
            if stray:
                raise ValueError(f"{', '.join(stray)}: give above_tokens too, the input from which it holds")
        elif self.above_tokens < 1:
            raise ValueError(f"above_tokens must be at least 1, not {self.above_tokens}")
        elif self.above_input is None or self.above_output is None:
            raise ValueError("a price above_tokens needs above_input and above_output")

    def cost(self, usage: TokenUsage) -> Decimal:
        """What one call with this ``usage`` costs, in USD, exactly.

        Cached input and cache writes are parts of the input and are priced apart from it; reasoning
        is a part of the output and costs nothing more. Parts that exceed the input are cut to it.
        """
        input_, output, cached_input, cache_write = self._rates(usage.input)
        total = max(usage.input, 0)
        cached = min(max(usage.cached_input, 0), total)
        written = min(max(usage.cache_writes, 0), total - cached)
        with localcontext(_EXACT):
            millionths = (
                (total - cached - written) * input_
                + cached * cached_input
                + written * cache_write
                + max(usage.output, 0) * output
            )
            return _plain(millionths.scaleb(-6))

    def _rates(self, tokens: int) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """The prices of input, output, cached input and cache writes for so much input."""
        input_, output, cached, write = self.input, self.output, self.cached_input, self.cache_write
        if self.above_tokens is not None and tokens > self.above_tokens:
            assert self.above_input is not None
            assert self.above_output is not None
            input_, output = self.above_input, self.above_output
            cached, write = self.above_cached_input, self.above_cache_write
        return input_, output, input_ if cached is None else cached, input_ if write is None else write


def _amount(name: str, given: object) -> Decimal:
    if isinstance(given, bool) or not isinstance(given, (Decimal, str, int, float)):
        raise TypeError(f"{name} must be an amount in USD per 1M tokens, not {given!r}")
    try:
        amount = Decimal(repr(given) if isinstance(given, float) else given)
    except InvalidOperation:
        raise ValueError(f"{name} must be an amount in USD per 1M tokens, not {given!r}") from None
    if not amount.is_finite():
        raise ValueError(f"{name} must be a finite amount in USD per 1M tokens, not {given!r}")
    if amount < 0:
        raise ValueError(f"{name} must not be negative: {given!r} USD per 1M tokens")
    return _plain(amount)


def _plain(amount: Decimal) -> Decimal:
    """The same amount without trailing zeros; never 5E+1 or -0."""
    with localcontext(_EXACT):
        return Decimal(f"{abs(amount).normalize():f}")


class PriceTable:
    """Prices by model name. Immutable; names are told apart without regard to case.

    ``source`` says where the prices come from and ``date`` of when they are.
    """

    __slots__ = ("_layers", "date", "source")

    def __init__(self, prices: Mapping[str, ModelPrice], *, source: str = "", date: str = "") -> None:
        self._layers: tuple[Mapping[str, ModelPrice], ...] = (_by_name(prices),)
        self.source = source
        self.date = date

    @classmethod
    def bundled(cls) -> PriceTable:
        """The table in this package: Azure's global standard prices. Read on first use, then kept."""
        return _bundled()

    @property
    def models(self) -> tuple[str, ...]:
        """The names that have a price of their own, in order."""
        return tuple(sorted({name for layer in self._layers for name in layer}))

    def get(self, model: str) -> ModelPrice | None:
        """The price of ``model``; ``None`` where it is not known.

        A version's own price comes first (``gpt-4o-2024-05-13`` cost more than its successors), then its
        family's. Overlaid prices, the family's too, come before all those beneath.
        """
        name = model.strip().lower()
        spellings = dict.fromkeys((name, resolve_model(name), family_of(name)))
        for layer in self._layers:
            for spelling in spellings:
                if spelling is not None and spelling in layer:
                    return layer[spelling]
        return None

    def overlaid(self, prices: Mapping[str, ModelPrice]) -> Self:
        """A table in which ``prices`` come first, and these where those say nothing."""
        table = type(self)({}, source=self.source, date=self.date)
        table._layers = (_by_name(prices), *self._layers)
        return table

    def __repr__(self) -> str:
        return f"PriceTable({len(self.models)} models, source={self.source!r}, date={self.date!r})"


def _by_name(prices: Mapping[str, ModelPrice]) -> Mapping[str, ModelPrice]:
    names = {name.strip().lower(): price for name, price in prices.items()}
    return MappingProxyType({resolve_model(name) or name: price for name, price in names.items()})


@cache
def _bundled() -> PriceTable:
    text = (files("loom_py.llm") / "data" / "azure_prices.json").read_text(encoding="utf-8")
    data = json.loads(text)
    prices = {name: ModelPrice(**fields) for name, fields in data["models"].items()}
    return PriceTable(prices, source=data["source"], date=data["date"])
