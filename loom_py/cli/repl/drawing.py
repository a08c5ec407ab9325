"""One turn of an agent on a terminal: its text, its tool calls and what it cost, while it happens."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import closing
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from loom_py.cli.repl.interruption import uninterrupted
from loom_py.cli.repl.prose import Piece, Prose
from loom_py.cli.repl.tables import dollars, indented
from loom_py.cli.screen import safe
from loom_py.events import (
    StreamEvent,
    StreamRestarted,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResultEvent,
)
from loom_py.messages import Response, ToolCall, ToolResult

__all__ = ["Drawing", "bill", "draw_turn", "on_one_line"]

WIDEST = 100
"""Cells of a line of prose at most; longer ones are hard to read."""


def draw_turn(console: Console, events: Generator[StreamEvent, None, None]) -> Response:
    """Draw a turn as it happens and return its response. What ends ``events`` early is raised."""
    started = time.perf_counter()
    with closing(events), Drawing(console) as drawing:
        response = drawing.draw(events)
    console.print(indented(Text(bill(response, time.perf_counter() - started), style="dim")))
    return response


class Drawing:
    """Draws the events of one turn. A context manager: leaving it ends the line and the spinner."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._prose = Prose(min(console.width - 1, WIDEST))
        self._status = console.status(Text("thinking …", style="dim"), spinner="dots")
        self._waiting: list[str] = []

    def __enter__(self) -> Self:
        with uninterrupted():
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with uninterrupted():
            self._status.stop()
            self._print(self._prose.finish())

    def draw(self, events: Iterable[StreamEvent]) -> Response:
        """Draw all ``events``; the response that the last one has."""
        response: Response | None = None
        for event in events:
            with uninterrupted():
                self._show(event)
            response = event.response
        assert response is not None
        return response

    def _show(self, event: StreamEvent) -> None:
        if isinstance(event, TextDelta):
            pieces = self._prose.feed(safe(event.delta))
            if pieces:
                self._status.stop()
                self._print(pieces)
        elif isinstance(event, ToolCallStarted):
            self._wait(f"asking {event.name} …")
        elif isinstance(event, ToolCallCompleted):
            self._line(_call_line(event.call))
            self._waiting.append(event.call.name)
            self._wait(f"running {', '.join(dict.fromkeys(self._waiting))} …")
        elif isinstance(event, ToolResultEvent):
            self._waiting.clear()
            self._line(_result_line(event.result))
            self._wait("thinking …")
        elif isinstance(event, StreamRestarted):
            self._line(Text(f"  ↻ it broke off ({event.reason}) and begins anew", style="yellow"))
            self._wait("thinking …")

    def _wait(self, what: str) -> None:
        self._print(self._prose.finish())
        self._status.update(Text(safe(what), style="dim"))
        self._status.start()

    def _line(self, text: Text) -> None:
        """A line of its own, cut where the screen ends."""
        self._status.stop()
        self._print(self._prose.finish())
        self._console.print(text, no_wrap=True, overflow="ellipsis", crop=True)

    def _print(self, pieces: Iterable[Piece]) -> None:
        text = Text.assemble(*((piece.text, piece.style) for piece in pieces))
        if text:
            self._console.print(text, end="", soft_wrap=True)


def bill(response: Response, seconds: float) -> str:
    """Tokens, cost, time and model of a turn, on a line."""
    usage = response.tokens_used
    model = f" as {response.model}" if response.model else ""
    cost = "no price known" if response.cost_usd is None else dollars(response.cost_usd)
    guess = "about " if response.metadata.get("usage_estimated") else ""
    parts = [f"{guess}{usage.input:,} tokens in, {usage.output:,} out", f"{cost}{model}", f"{seconds:.1f} s"]
    if response.finish_reason not in ("stop", ""):
        parts.append(f"ended by {response.finish_reason}")
    return safe(" · ".join(parts))


def on_one_line(text: str, longest: int = 400) -> str:
    """``text`` folded to one line, and cut where it is too long to be looked at."""
    return safe(" ".join(text[: longest * 2].split()))[:longest]


def _call_line(call: ToolCall) -> Text:
    if call.error is None:
        given = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
    else:
        given = call.arguments_json
    return Text.assemble(("  → ", "magenta"), (on_one_line(call.name), "bold"), f"({on_one_line(given)})")


def _result_line(result: ToolResult) -> Text:
    text = on_one_line(result.text) or ("(no text)" if result.content else "(nothing)")
    took = f"  {result.duration_ms / 1000:.1f} s" if result.duration_ms >= 1000 else ""
    sign = ("  ✗ ", "red") if result.is_error else ("  ← ", "green")
    return Text.assemble(sign, (f"{text}{took}", "red" if result.is_error else "dim"))
