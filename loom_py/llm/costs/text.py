"""A report of costs as a table to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loom_py.llm.costs.report import CostKey, CostReport

__all__ = ["report_text"]

_HEAD = ("model", "deployment", "type", "calls", "input", "cached", "output", "USD")
_TEXT_COLUMNS = 3


def report_text(report: CostReport) -> str:
    """One row for each model, deployment and type; the sum; and what the sum leaves out."""
    rows = [
        (key.model or "-", key.deployment or "-", _sold(key), *_figures(part))
        for key, part in report.grouped("model", "deployment", "deployment_type", "tier").items()
    ]
    return "\n".join([*_table([_HEAD, *rows, ("total", "", "", *_figures(report))]), *_notes(report)])


def _sold(key: CostKey) -> str:
    is_plain = key.tier in ("standard", key.deployment_type)
    return key.deployment_type if is_plain else f"{key.deployment_type} {key.tier}"


def _figures(report: CostReport) -> tuple[str, ...]:
    usage = report.usage
    counts = (report.calls, usage.input, usage.cached_input, usage.output)
    return (*(f"{count:,}" for count in counts), _usd(report))


def _usd(report: CostReport) -> str:
    if report.is_complete:
        return f"{report.total:f}"
    return "not known" if report.unpriced_calls == report.calls else f"more than {report.total:f}"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows in columns, text to the left and figures to the right, with rules below head and body."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        if number == len(rows) - 1:
            yield rule
        yield "  ".join(cells).rstrip()
        if number == 0 and len(rows) > 2:
            yield rule


def _notes(report: CostReport) -> Iterator[str]:
    if report.failed_calls:
        usd = f"{report.failed_total:f} USD"
        yield f"failed after they were billed, {_calls(report.failed_calls)}: {usd}"
    for reason, calls in report.unpriced_reasons.items():
        yield f"not priced, {_calls(calls)}: {reason}"


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"
