"""One question that takes ten rounds of the tool, hence eleven model calls, to be answered."""

from __future__ import annotations

from benchmarks.figures import Figure, cpu_figure
from benchmarks.race import Race

NAME = "tool_rounds"


def measure(race: Race, *, chats: int = 5, rounds: int = 10) -> Figure:
    """CPU of one such chat."""
    endpoint = race.endpoint(f"rounds={rounds}")
    samples = race.interleaved("run", verb="ask", endpoint=endpoint, count=chats, tool_calls=rounds)
    return cpu_figure(f"{rounds} tool rounds", samples, "ms")
