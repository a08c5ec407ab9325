"""The most a call can cost, told before it is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from loom_py.llm.costs.cost import Cost
from loom_py.llm.prices.amounts import EXACT, plain
from loom_py.llm.prices.rows import DeploymentType, PriceRow
from loom_py.messages import TokenUsage

__all__ = ["Bound", "BoundLine"]


@dataclass(frozen=True, slots=True)
class BoundLine:
    """A price that a call may turn out to have: a row of the list, and what it is multiplied with.

    ``likely`` is one that a call cannot do without: where it has a gap, nothing can be told.
    """

    row: PriceRow
    multiplier: Decimal = Decimal(1)
    type: DeploymentType = "global"
    tier: str = "standard"
    likely: bool = True

    @property
    def per_token(self) -> tuple[Decimal, ...]:
        """The dearest a token of input and one of output can be, up to ``above_tokens`` and beyond it."""
        above = self.row.price.above_tokens
        short = self.row.price.dearest(0)
        long = short if above is None else self.row.price.dearest(above + 1)
        scale = EXACT.multiply(self.multiplier, _PER_MILLION)
        return tuple(EXACT.multiply(rate, scale) for rate in (*short, *long))


class Bound:
    """The dearest of several prices; with none of them, the ``reason`` why nothing is known.

    It is made once and asked before every call, so it reckons with as few numbers as it can.
    """

    __slots__ = ("_facts", "_lines", "_reason")

    def __init__(self, lines: Iterable[BoundLine] = (), *, reason: str = "", **facts: Any) -> None:
        self._lines: list[tuple[BoundLine, tuple[Decimal, ...]]] = []
        for line in sorted(lines, key=lambda line: (not line.likely, *(-rate for rate in line.per_token))):
            if not any(_covers(other, rates, line) for other, rates in self._lines):
                self._lines.append((line, line.per_token))
        self._reason = reason
        self._facts = facts

    def cost(self, input_tokens: int, output_tokens: int) -> Cost:
        """The most a call of at most so many tokens can cost; all of its input stands as uncached."""
        usage = TokenUsage(max(input_tokens, 0), max(output_tokens, 0))
        best: tuple[Decimal, Decimal, Decimal, BoundLine] | None = None
        for line, rates in self._lines:
            tokens = usage.input
            if gap := line.row.gap(usage):
                if line.likely:
                    reason = f"no price of {line.row.model} is listed for {gap}"
                    return Cost.unknown(reason, model=line.row.model, usage=usage)
                tokens = line.row.max_input or tokens  # the call may turn out to be that short
            found = _most(tokens, usage.output, rates, line.row.price.above_tokens)
            if best is None or found[0] > best[0]:
                best = *found, line
        if best is None:
            return Cost.unknown(self._reason, usage=usage, **self._facts)
        usd, input_, output, line = best
        return Cost(
            _shown(usd),
            uncached_input=_shown(input_),
            output=_shown(output),
            model=line.row.model,
            deployment_type=line.type,
            tier=line.tier,
            usage=usage,
            source=line.row.source,
            date=line.row.date,
        )


_PER_MILLION = Decimal("1e-6")


def _most(
    tokens: int, output_tokens: int, rates: tuple[Decimal, ...], above: int | None
) -> tuple[Decimal, Decimal, Decimal]:
    """The most in all, for input and for output, on whichever side of ``above`` the input turns out to be."""
    is_long = above is not None and tokens > above
    input_ = EXACT.multiply(above if is_long and above is not None else tokens, rates[0])
    output = EXACT.multiply(output_tokens, rates[1])
    usd = EXACT.add(input_, output)
    if not is_long:
        return usd, input_, output
    long_input, long_output = EXACT.multiply(tokens, rates[2]), EXACT.multiply(output_tokens, rates[3])
    long = EXACT.add(long_input, long_output)
    return (long, long_input, long_output) if long > usd else (usd, input_, output)


def _covers(other: BoundLine, rates: tuple[Decimal, ...], line: BoundLine) -> bool:
    """Whether no call can be dearer by ``line`` than by the ``other`` one, and none lacks a price by it."""
    is_alike = (line.row.max_input, line.row.price.above_tokens) == (
        other.row.max_input,
        other.row.price.above_tokens,
    )
    return is_alike and all(mine <= theirs for mine, theirs in zip(line.per_token, rates, strict=True))


def _shown(amount: Decimal) -> Decimal:
    """The same amount without trailing zeros, as all our amounts are."""
    amount = EXACT.normalize(amount)
    return plain(amount) if amount >= 10 else amount
