"""Sums of costs: by model, by deployment, by chat, by session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple, Self

from loom_py.llm.costs.cost import PARTS, Cost
from loom_py.llm.costs.text import report_text
from loom_py.llm.prices.amounts import total
from loom_py.messages import JSONForm, JSONObject, TokenUsage

__all__ = ["CostKey", "CostLine", "CostReport"]

_ZERO = Decimal(0)
_MERGEABLE = {"chat", "session", "agent", "source"}


class CostKey(NamedTuple):
    """What the calls of one line have in common."""

    model: str = ""
    deployment: str = ""
    deployment_type: str = "global"
    tier: str = "standard"
    source: str = ""
    reason: str | None = None
    chat: str | None = None
    session: str | None = None
    agent: str | None = None


@dataclass(frozen=True, slots=True)
class CostLine:
    """The sum of calls that have everything in `CostKey` in common.

    ``usd`` is what they cost together, 0 where the line has a ``reason`` why their price is not known.
    ``failed_calls`` of the ``calls`` failed after they were billed, and cost ``failed_usd`` of ``usd``.
    """

    key: CostKey
    calls: int = 0
    failed_calls: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    parts: Mapping[str, Decimal] = field(default_factory=lambda: dict.fromkeys(PARTS, _ZERO))
    failed_usd: Decimal = _ZERO

    @property
    def usd(self) -> Decimal:
        """The sum of the parts."""
        return total(self.parts.values())

    @property
    def unpriced_calls(self) -> int:
        """The calls whose price is not known: all or none."""
        return 0 if self.key.reason is None else self.calls

    def __add__(self, other: CostLine) -> CostLine:
        return CostLine(
            self.key,
            self.calls + other.calls,
            self.failed_calls + other.failed_calls,
            self.usage + other.usage,
            {
                name: total((part, more)) if (more := other.parts[name]) else part
                for name, part in self.parts.items()
            },
            total((self.failed_usd, other.failed_usd)) if other.failed_usd else self.failed_usd,
        )

    def plus(self, cost: Cost) -> CostLine:
        """The sum with one more call, which did not fail."""
        parts = dict(self.parts)
        for name, more in cost.parts.items():
            if more:
                parts[name] = total((parts[name], more))
        usage = self.usage + cost.usage
        return CostLine(self.key, self.calls + 1, self.failed_calls, usage, parts, self.failed_usd)

    @classmethod
    def of(cls, key: CostKey, cost: Cost, *, failed: bool) -> CostLine:
        """The line of one call."""
        failed_usd = (cost.usd or _ZERO) if failed else _ZERO
        return cls(key, 1, int(failed), cost.usage, cost.parts, failed_usd)

    def to_dict(self) -> JSONObject:
        return {
            **self.key._asdict(),
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "usage": self.usage.to_dict(),
            "parts": {name: f"{part:f}" for name, part in self.parts.items()},
            "failed_usd": f"{self.failed_usd:f}",
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CostLine:
        return cls(
            CostKey(**{name: data[name] for name in CostKey._fields}),
            data["calls"],
            data["failed_calls"],
            TokenUsage.from_dict(data["usage"]),
            {name: Decimal(data["parts"][name]) for name in PARTS},
            Decimal(data["failed_usd"]),
        )


class CostReport(JSONForm):
    """Costs added up, exactly and in USD.

    ``total`` is the sum of every call whose price is known; ``is_complete`` says whether that is all of
    them. Calls that failed after they were billed are in the total, and counted apart as well. The
    ``by_*`` properties are reports too, whose totals add up to this one's::

        report.by_model["gpt-5.4"].by_deployment["west"].total

    ``str(report)`` is a table to read. Not for several threads at once: that is `CostLedger`.
    """

    __slots__ = ("_lines",)

    def __init__(self, lines: Iterable[CostLine] = ()) -> None:
        self._lines: dict[CostKey, CostLine] = {}
        for line in lines:
            self._put(line)

    def add(
        self,
        cost: Cost,
        *,
        deployment: str = "",
        chat: str | None = None,
        session: str | None = None,
        agent: str | None = None,
        failed: bool = False,
    ) -> None:
        """Count one call. ``failed`` says that it failed after it was billed; others are not to be added."""
        key = CostKey(
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
        known = self._lines.get(key)
        if known is None or failed:
            self._put(CostLine.of(key, cost, failed=failed))
        else:
            self._lines[key] = known.plus(cost)

    def _put(self, line: CostLine) -> None:
        known = self._lines.get(line.key)
        self._lines[line.key] = line if known is None else known + line

    # ── sums ─────────────────────────────────────────────────────────────────────────────

    @property
    def lines(self) -> tuple[CostLine, ...]:
        """The sums this report is made of, in the order their first calls were added."""
        return tuple(self._lines.values())

    @property
    def total(self) -> Decimal:
        """USD of all calls whose price is known."""
        return total(line.usd for line in self.lines)

    @property
    def parts(self) -> dict[str, Decimal]:
        """The parts of the total, which add up to it."""
        return {name: total(line.parts[name] for line in self.lines) for name in PARTS}

    @property
    def usage(self) -> TokenUsage:
        """Tokens of all calls, priced or not."""
        return sum((line.usage for line in self.lines), TokenUsage())

    @property
    def calls(self) -> int:
        """How many calls were billed, failed ones included."""
        return sum(line.calls for line in self.lines)

    @property
    def unpriced_calls(self) -> int:
        """How many of them have no known price; they are not in the total."""
        return sum(line.unpriced_calls for line in self.lines)

    @property
    def unpriced_reasons(self) -> dict[str, int]:
        """Why calls have no price -> how many."""
        reasons: dict[str, int] = {}
        for line in self.lines:
            if line.key.reason is not None:
                reasons[line.key.reason] = reasons.get(line.key.reason, 0) + line.calls
        return reasons

    @property
    def is_complete(self) -> bool:
        """Whether every call has a price, so that ``total`` is all of it."""
        return not self.unpriced_calls

    @property
    def failed_calls(self) -> int:
        """How many calls failed after they were billed."""
        return sum(line.failed_calls for line in self.lines)

    @property
    def failed_total(self) -> Decimal:
        """What those cost in USD; a part of ``total``."""
        return total(line.failed_usd for line in self.lines)

    # ── parts of the report ──────────────────────────────────────────────────────────────

    @property
    def by_model(self) -> dict[str, CostReport]:
        """A report for each model that was priced."""
        return {key.model: part for key, part in self.grouped("model").items()}

    @property
    def by_deployment(self) -> dict[str, CostReport]:
        """A report for each deployment."""
        return {key.deployment: part for key, part in self.grouped("deployment").items()}

    @property
    def by_chat(self) -> dict[str | None, CostReport]:
        """A report for each chat; ``None`` holds the calls of no chat that is known."""
        return {key.chat: part for key, part in self.grouped("chat").items()}

    @property
    def by_session(self) -> dict[str | None, CostReport]:
        """A report for each session; ``None`` holds the calls of no session that is known."""
        return {key.session: part for key, part in self.grouped("session").items()}

    @property
    def by_agent(self) -> dict[str | None, CostReport]:
        """A report for each agent; ``None`` holds the calls of no agent that is known."""
        return {key.agent: part for key, part in self.grouped("agent").items()}

    def grouped(self, *labels: str) -> dict[CostKey, CostReport]:
        """A report for every combination of ``labels``, fields of `CostKey`; its other fields are blank."""
        groups: dict[CostKey, list[CostLine]] = {}
        for line in self.lines:
            key = CostKey(**{name: getattr(line.key, name) for name in labels})
            groups.setdefault(key, []).append(line)
        return {key: CostReport(lines) for key, lines in groups.items()}

    def merged(self, *labels: str) -> CostReport:
        """The same sums without telling apart by ``labels``: any of chat, session, agent and source.

        Raises `ValueError` for another label.
        """
        if wrong := sorted(set(labels) - _MERGEABLE):
            raise ValueError(f"cannot merge by {', '.join(wrong)}: only by {', '.join(sorted(_MERGEABLE))}")
        blank = {name: CostKey._field_defaults[name] for name in labels}
        return CostReport(replace(line, key=line.key._replace(**blank)) for line in self.lines)

    def __add__(self, other: CostReport) -> CostReport:
        return CostReport((*self.lines, *other.lines))

    def __iter__(self) -> Iterator[CostLine]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self._lines == other._lines if isinstance(other, CostReport) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it can be added to

    # ── as text ──────────────────────────────────────────────────────────────────────────

    def to_dict(self) -> JSONObject:
        return {
            "total": f"{self.total:f}",
            "calls": self.calls,
            "unpriced_calls": self.unpriced_calls,
            "failed_calls": self.failed_calls,
            "failed_total": f"{self.failed_total:f}",
            "usage": self.usage.to_dict(),
            "parts": {name: f"{part:f}" for name, part in self.parts.items()},
            "lines": [line.to_dict() for line in self.lines],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(CostLine.from_dict(line) for line in data["lines"])

    def __repr__(self) -> str:
        return f"CostReport({self.calls} calls, {self.total:f} USD, {self.unpriced_calls} unpriced)"

    def __str__(self) -> str:
        return report_text(self)
