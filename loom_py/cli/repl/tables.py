"""What ``/tools``, ``/cost`` and ``/health`` show, on a screen of any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from loom_py.cli.screen import safe
from loom_py.llm.costs import CostReport
from loom_py.resilience.budget import BudgetStatus
from loom_py.tools import Tool

__all__ = ["budget_line", "cost_notes", "cost_table", "dollars", "indented", "tool_lines"]

NARROW = 80
"""Columns of a screen below which a description stands below its name, not beside it."""


def dollars(amount: Decimal) -> str:
    """``amount`` of USD without zeros that say nothing: ``$0.00404``, ``$1.50``, ``$12``."""
    whole, _, cents = f"{amount:f}".partition(".")
    cents = cents.rstrip("0")
    return f"${whole}.{cents:0<2}" if cents else f"${whole}"


def indented(content: Table | Text) -> Padding:
    """Two cells to the right, as everything that is said beside an answer."""
    return Padding(content, (0, 0, 0, 2), expand=False)


def tool_lines(tools: Iterable[Tool[..., Any]], width: int) -> Iterator[Table | Text | Padding]:
    """Each tool with what it takes and does."""
    table = Table.grid(padding=(0, 2))
    for tool in tools:
        taken = ", ".join(tool.spec.parameters.get("properties", {}))
        name = Text.assemble((safe(tool.name), "bold"), (f"({safe(taken)})", "dim"))
        told = Text(safe(tool.spec.description.strip().partition("\n")[0]), style="dim")
        if width < NARROW:
            yield indented(name)
            yield indented(Text.assemble("  ", told)) if told else Text()
        else:
            table.add_row(name, told)
    if table.row_count:
        yield indented(table)


def cost_table(report: CostReport) -> Table:
    """What was used and spent, a row for each model and deployment, and their sum."""
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    for _ in range(4):
        table.add_column(justify="right", no_wrap=True)
    head = ("model", "calls", "tokens in", "out", "USD")
    table.add_row(*(Text(each, style="bold") for each in head))
    groups = report.grouped("model", "deployment")
    for key, part in groups.items():
        names = dict.fromkeys(name for name in (key.model, key.deployment) if name)
        table.add_row(Text(safe(" at ".join(names))), *_figures(part))
    if len(groups) > 1:
        table.add_row(Text("total", style="bold"), *_figures(report))
    return table


def cost_notes(report: CostReport) -> Iterator[str]:
    """What the sum leaves out, and what it holds for nothing."""
    if report.failed_calls:
        yield f"{_calls(report.failed_calls)} failed after being billed: {dollars(report.failed_total)}"
    for reason, calls in report.unpriced_reasons.items():
        yield f"{_calls(calls)} without a price: {reason}"


def budget_line(status: BudgetStatus) -> str:
    """How much of a budget is used: ``budget per day · $1.20 of $20 · 143 of 20,000 tokens``."""
    parts = [f"budget per {status.per}"]
    if status.usd.limit is not None:
        parts.append(f"{dollars(status.usd.spent)} of {dollars(status.usd.limit)}")
    if status.tokens.limit is not None:
        parts.append(f"{status.tokens.spent:,.0f} of {status.tokens.limit:,.0f} tokens")
    return " · ".join(parts)


def _figures(report: CostReport) -> tuple[str, ...]:
    usage = report.usage
    return (f"{report.calls:,}", f"{usage.input:,}", f"{usage.output:,}", _usd(report))


def _usd(report: CostReport) -> str:
    if report.is_complete:
        return dollars(report.total)
    return "not known" if report.unpriced_calls == report.calls else f"over {dollars(report.total)}"


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"
