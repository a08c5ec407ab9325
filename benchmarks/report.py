"""The figures as markdown tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.figures import PLAIN, Figure
from benchmarks.suite import POLICIES, Report

BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
TIMES = ("plain_call", "tool_rounds", "stream_chunks", "long_history", "in_flight")
SIZES = ("import_time", "construction", "construction_memory", "idle_agents", "steady_memory")


def markdown(report: Report) -> str:
    """All of it: where and when, the tables, and what could not be measured."""
    parts = [
        f"{report.date}, Python {report.python}, {report.machine}; medians of {report.rounds} rounds.",
        ratio_table(report),
        size_table(report),
        growth_table(report),
        policy_table(report),
        versions(report),
    ]
    if report.problems:
        missing = [f"- {name}: {reason}" for name, reason in report.problems.items()]
        parts.append("Not measured:\n\n" + "\n".join(missing))
    return "\n\n".join(part for part in parts if part) + "\n"


def renew_page(report: Report, page: Path) -> None:
    """Put the tables into a page, between its two marks. Raises `ValueError` where it has none."""
    text = page.read_text()
    if not (BEGIN in text and END in text):
        raise ValueError(f"{page} has no {BEGIN} and {END} to put the figures between")
    before, _, rest = text.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{markdown(report)}\n{END}{rest.partition(END)[2]}")


def ratio_table(report: Report) -> str:
    """Each contender's CPU over the plain SDK's, whose own row has the figures themselves."""
    figures = [report.figures[name] for name in TIMES if name in report.figures]
    if not figures:
        return ""
    head = ["CPU as a ratio to plain openai"]
    head += [f"{each.title}{', runs/s' if each.more_is_better else ''}" for each in figures]
    rows = []
    for name in report.contenders:
        cells = [_ratio(each, name) for each in figures]
        if name == PLAIN:
            cells = [
                f"1.00 ({_value(each, name)} {'' if each.more_is_better else each.unit.split()[0]})".replace(
                    " )", ")"
                )
                for each in figures
            ]
        rows.append([name, *cells])
    return _table(head, rows)


def size_table(report: Report) -> str:
    """What is no ratio: import, building an agent, memory."""
    figures = [report.figures[name] for name in SIZES if name in report.figures]
    if not figures:
        return ""
    head = ["", *(f"{each.title}, {each.unit}" for each in figures)]
    rows = [[name, *(_value(each, name) for each in figures)] for name in report.contenders]
    return _table(head, [row for row in rows if set(row[1:]) != {"–"}])


def growth_table(report: Report) -> str:
    """The cost of one more message, and the exponent by which it grows."""
    figure = report.figures.get("growth")
    if figure is None:
        return ""
    exponents = figure.details["exponent"]
    rows = [
        [name, f"{value:.2f}", f"{exponents[name]:.2f}"]
        for name, value in sorted(figure.values.items(), key=lambda pair: -pair[1])
    ]
    return _table([figure.title, figure.unit, "exponent"], rows)


def policy_table(report: Report) -> str:
    """What the policies add to a call."""
    figure = report.figures.get(POLICIES)
    if figure is None:
        return ""
    rows = [[name, f"{value:.1f}"] for name, value in figure.values.items()]
    return _table(["policies on", figure.unit], rows)


def versions(report: Report) -> str:
    """What was installed, each once, beside the contender it was first seen with."""
    lines: dict[str, str] = {}
    for name, found in report.versions.items():
        text = ", ".join(f"{package} {version}" for package, version in found.items())
        lines.setdefault(text, f"- {name}: {text}")
    return "Versions:\n\n" + "\n".join(lines.values())


def _ratio(figure: Figure, name: str) -> str:
    return f"{figure.ratios[name]:.3g}" if name in figure.ratios else "–"


def _value(figure: Figure, name: str) -> str:
    if name not in figure.values:
        return "–"
    value = figure.values[name]
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
