"""One question, one answer; a system prompt and one tool are sent along."""

from __future__ import annotations

from benchmarks.figures import Figure, cpu_figure
from benchmarks.race import Race

NAME = "plain_call"


def measure(race: Race, *, calls: int = 50) -> Figure:
    """CPU of one call."""
    samples = race.interleaved("run", verb="ask", endpoint=race.endpoint("plain"), count=calls)
    return cpu_figure("plain call", samples)
