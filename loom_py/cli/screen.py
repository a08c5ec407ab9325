"""The two places ``loom`` writes to, and what may be written there."""

from __future__ import annotations

import os
import re
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["err", "is_terminal", "out", "print_table", "safe"]

WIDEST = 1000
"""Cells that a line of a table in a pipe has at most."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PICTURES = 0x2400
"""Unicode's pictures of control characters begin here."""


def out() -> Console:
    """Standard output: answers, and what a command was asked to print."""
    return Console(highlight=False)


def err() -> Console:
    """Standard error: problems, and what is told beside an answer."""
    return Console(stderr=True, highlight=False)


def print_table(table: Table, console: Console | None = None) -> None:
    """Print ``table``, by default to standard output: as wide as the screen; in a pipe, as wide as it is."""
    console = console or out()
    if not (console.is_terminal or console.record or "COLUMNS" in os.environ):
        wide = console.options.update(width=WIDEST)
        console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)


def is_terminal(stream: Any) -> bool:
    """Whether ``stream`` (``sys.stdin``, …) is a terminal; a closed one is none."""
    try:
        return bool(stream is not None and stream.isatty())
    except ValueError:
        return False


def safe(text: str) -> str:
    """``text`` without what would steer a terminal: control characters become pictures of themselves.

    A model, a tool's result or a file must not move the cursor, change the title or hide what was said.
    """
    return _CONTROL.sub(_picture, text.replace("\r\n", "\n"))


def _picture(found: re.Match[str]) -> str:
    code = ord(found.group())
    return chr(_PICTURES + code) if code < 0x20 else ("␡" if code == 0x7F else "�")
