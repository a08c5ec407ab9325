"""Costs while they are being added up: what a ledger keeps, before anybody asks for a report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from loom_py.llm.costs.cost import PARTS, Cost
from loom_py.llm.costs.report import CostKey, CostLine
from loom_py.llm.prices.amounts import EXACT, plain
from loom_py.messages import TokenUsage

__all__ = ["Sums"]

_ZERO = Decimal(0)


class _Line:
    """A `CostLine` that can still grow, so that one more call makes no new objects but numbers."""

    __slots__ = (
        "cache_writes",
        "cached_input",
        "calls",
        "failed_calls",
        "failed_usd",
        "input",
        "output",
        "parts",
        "reasoning",
    )

    def __init__(self) -> None:
        self.calls = self.failed_calls = 0
        self.input = self.output = self.cached_input = self.cache_writes = self.reasoning = 0
        self.parts: dict[str, Decimal] = {}  # but for those that are 0
        self.failed_usd = _ZERO

    def add(self, cost: Cost, *, failed: bool) -> None:
        """One more call."""
        self.calls += 1
        self._add_usage(cost.usage)
        usd = cost.usd
        if usd is None:
            failed_usd = _ZERO
        elif cost.other is usd:  # in one sum, as its parts add up to the whole
            self._add_part("other", usd)
            failed_usd = usd
        else:
            for name in PARTS:
                self._add_part(name, getattr(cost, name))
            failed_usd = usd
        if failed:
            self.failed_calls += 1
            self.failed_usd = EXACT.add(self.failed_usd, failed_usd)

    def add_line(self, line: CostLine) -> None:
        """The calls of another line."""
        self.calls += line.calls
        self.failed_calls += line.failed_calls
        self._add_usage(line.usage)
        for name, part in line.parts.items():
            self._add_part(name, part)
        self.failed_usd = EXACT.add(self.failed_usd, line.failed_usd)

    def _add_usage(self, usage: TokenUsage) -> None:
        self.input += usage.input
        self.output += usage.output
        if usage.cached_input:
            self.cached_input += usage.cached_input
        if usage.cache_writes:
            self.cache_writes += usage.cache_writes
        if usage.reasoning:
            self.reasoning += usage.reasoning

    def _add_part(self, name: str, more: Decimal) -> None:
        if more:
            self.parts[name] = EXACT.add(self.parts.get(name, _ZERO), more)

    def as_line(self, key: CostKey) -> CostLine:
        """The sums at this moment."""
        usage = TokenUsage(self.input, self.output, self.cached_input, self.cache_writes, self.reasoning)
        parts = {name: plain(self.parts.get(name, _ZERO)) for name in PARTS}
        return CostLine(key, self.calls, self.failed_calls, usage, parts, plain(self.failed_usd))


class Sums:
    """The calls of one chat, session or agent, added up by what they have in common."""

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[CostLine] = ()) -> None:
        self._lines: dict[tuple[Any, ...], _Line] = {}
        self.add_lines(lines)

    def __iter__(self) -> Iterator[CostLine]:
        return (line.as_line(CostKey(*key)) for key, line in self._lines.items())

    def add(
        self,
        cost: Cost,
        deployment: str,
        chat: str | None,
        session: str | None,
        agent: str | None,
        *,
        failed: bool,
    ) -> None:
        """Count one call."""
        key = (
            cost.model,
            deployment,
            cost.deployment_type,
            cost.tier,
            cost.source,
            cost.reason,
            chat,
            session,
            agent,
        )
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        line.add(cost, failed=failed)

    def add_lines(self, lines: Iterable[CostLine]) -> None:
        """Count the calls of other lines."""
        for line in lines:
            found = self._lines.get(line.key)
            if found is None:
                found = self._lines[line.key] = _Line()
            found.add_line(line)
