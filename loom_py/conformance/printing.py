"""The scorecard on a terminal: a table with rich where it is installed, plain lines otherwise."""

from __future__ import annotations

from collections import Counter
from typing import Any, TextIO

from loom_py.conformance.scorecard import Result, Scorecard, Status

__all__ = ["print_scorecard"]

_MARKS = {Status.PASSED: "✓", Status.FAILED: "✗", Status.SKIPPED: "–", Status.ERROR: "!"}
_COLOURS = {Status.PASSED: "green", Status.FAILED: "red", Status.SKIPPED: "dim", Status.ERROR: "magenta"}


def print_scorecard(scorecard: Scorecard, file: TextIO, *, plain: bool = False) -> None:
    """Write the scorecard to ``file``; ``plain`` does without rich."""
    rich = None if plain else _rich()
    if rich is None:
        file.write(as_text(scorecard))
    else:
        _print_table(rich, scorecard, file)


def as_text(scorecard: Scorecard) -> str:
    """The scorecard as plain lines: one for each scenario, the counts of each group, and the sum."""
    width = max((len(result.id) for result in scorecard), default=0)
    lines = [f"{result.status:<8} {result.id:<{width}}  {_told(result)}".rstrip() for result in scorecard]
    groups = [f"{name:<{width + 9}}  {counts}" for name, counts in _groups(scorecard)]
    return "\n".join([*lines, "", *groups, "", scorecard.summary, ""])


def _told(result: Result) -> str:
    return result.detail or result.scenario.sentence


def _groups(scorecard: Scorecard) -> list[tuple[str, str]]:
    counts: dict[str, Counter[Status]] = {}
    for result in scorecard:
        counts.setdefault(result.scenario.group, Counter())[result.status] += 1
    return [
        (name, ", ".join(f"{count[status]} {status}" for status in Status if count[status]))
        for name, count in counts.items()
    ]


def _rich() -> Any:
    try:
        import rich.console
        import rich.table
        import rich.text
    except ImportError:
        return None
    return rich


def _print_table(rich: Any, scorecard: Scorecard, file: TextIO) -> None:
    table = rich.table.Table(title=f"Conformance of {scorecard.adapter}", title_justify="left")
    table.add_column("")
    table.add_column("Scenario", no_wrap=True)
    table.add_column("What it shows", overflow="fold")
    table.add_column("s", justify="right")
    group = ""
    for result in scorecard:
        if group and group != result.scenario.group:
            table.add_section()
        group = result.scenario.group
        style = _COLOURS[result.status]
        cells = (_MARKS[result.status], result.id, _told(result), f"{result.seconds:.2f}")
        table.add_row(*(rich.text.Text(cell, style=style) for cell in cells))
    console = rich.console.Console(file=file)
    console.print(table)
    console.print(rich.text.Text(scorecard.summary, style="bold green" if scorecard.ok else "bold red"))
