"""One question after 2,000 earlier messages."""

from __future__ import annotations

from benchmarks.figures import Figure, cpu_figure
from benchmarks.race import Race

NAME = "long_history"


def measure(race: Race, *, messages: int = 2000, calls: int = 2) -> Figure:
    """CPU of one call."""
    endpoint = race.endpoint("plain")
    samples = race.interleaved("run", verb="ask", endpoint=endpoint, count=calls, history=messages)
    return cpu_figure(f"{messages:,}-message history", samples, "ms")
