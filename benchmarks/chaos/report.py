"""The figures of a soak, and those of several side by side."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.chaos.soak import Soak

__all__ = ["figures", "table"]

IN_TIME = 60.0
"""Seconds after which nobody waits for an answer any more."""


def figures(soak: Soak) -> dict[str, Any]:
    """Everything measured, ready for JSON. Times in virtual seconds, money in USD."""
    right = [each for each in soak.outcomes if each.verdict == "right"]
    in_time = sum(each.seconds <= IN_TIME for each in right)
    runs, total = len(soak.outcomes), soak.bill.total
    wasted = total - soak.bill.needed({each.run for each in right})
    requests = sum(happened["requests"] for happened in soak.happened.values())
    return {
        "runs": runs,
        "right": len(right),
        "right_share": len(right) / runs,
        "in_time": in_time,
        "goodput_per_second": in_time / soak.scenario.span,
        "errors": dict(Counter(each.error for each in soak.outcomes if each.error).most_common()),
        "wrong": sum(each.verdict == "wrong" for each in soak.outcomes),
        "untyped": sum(each.verdict == "untyped" for each in soak.outcomes),
        "p50": _percentile([each.seconds for each in right], 0.5),
        "p99": _percentile([each.seconds for each in right], 0.99),
        "p99_of_all": _percentile([each.seconds for each in soak.outcomes], 0.99),
        "longest": max(each.seconds for each in soak.outcomes),
        "requests": requests,
        "requests_per_right_answer": requests / max(1, len(right)),
        "wasted_requests": requests - 2 * len(right),
        "billed_usd": float(total),
        "wasted_usd": float(wasted),
        "usd_per_right_answer": float(total) / max(1, len(right)),
        "books_usd": None if soak.books is None else {k: float(v) for k, v in asdict(soak.books).items()},
        "leaks": {what: str(left) for what, left in soak.leaks.items()},
        "happened": {region: dict(counts) for region, counts in soak.happened.items()},
        "events": dict(soak.notes.most_common()),
        "virtual_seconds": soak.took,
        "real_seconds": soak.real_seconds,
    }


def _percentile(values: Sequence[float], share: float) -> float:
    """The least value that so large a share does not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.nan


def _of_books(it: dict[str, Any], kind: str) -> str:
    return "—" if it["books_usd"] is None else f"{it['books_usd'][kind]:.4f}"


_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("right answers", lambda it: f"{it['right']} of {it['runs']} ({it['right_share']:.2%})"),
    ("of them within 60 s", lambda it: str(it["in_time"])),
    ("goodput: those per second of load", lambda it: f"{it['goodput_per_second']:.2f}"),
    ("wrong answers", lambda it: str(it["wrong"])),
    ("exceptions outside the library's tree", lambda it: str(it["untyped"])),
    ("errors", lambda it: "<br>".join(f"{n} {kind}" for kind, n in it["errors"].items()) or "none"),
    ("p50 of right answers, s", lambda it: f"{it['p50']:.2f}"),
    ("p99 of right answers, s", lambda it: f"{it['p99']:.2f}"),
    ("p99 of all runs, s", lambda it: f"{it['p99_of_all']:.2f}"),
    ("longest run, s", lambda it: f"{it['longest']:.2f}"),
    ("requests sent", lambda it: str(it["requests"])),
    ("requests per right answer (2 needed)", lambda it: f"{it['requests_per_right_answer']:.3f}"),
    ("wasted requests", lambda it: str(it["wasted_requests"])),
    ("billed, USD", lambda it: f"{it['billed_usd']:.4f}"),
    ("wasted of that, USD", lambda it: f"{it['wasted_usd']:.4f}"),
    ("USD per 1,000 right answers", lambda it: f"{it['usd_per_right_answer'] * 1000:.4f}"),
    ("its own books: cost known, USD", lambda it: _of_books(it, "costs")),
    ("its own books: held for spent, USD", lambda it: _of_books(it, "spent")),
    ("of that uncertain, USD", lambda it: _of_books(it, "uncertain")),
    ("leaks", lambda it: "<br>".join(f"{what}: {n}" for what, n in it["leaks"].items()) or "none"),
    ("virtual seconds", lambda it: f"{it['virtual_seconds']:.0f}"),
    ("real seconds", lambda it: f"{it['real_seconds']:.0f}"),
)


def table(columns: dict[str, dict[str, Any]]) -> str:
    """The soaks side by side, as Markdown."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for title, show in _ROWS:
        lines.append(f"| {title} | " + " | ".join(show(each) for each in columns.values()) + " |")
    return "\n".join(lines)
