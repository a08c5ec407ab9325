"""A streamed answer of 2,000 chunks, each a server-sent event in an HTTP chunk of its own."""

from __future__ import annotations

from benchmarks.figures import Figure, cpu_figure
from benchmarks.race import Race

NAME = "stream_chunks"


def measure(race: Race, *, streams: int = 2, chunks: int = 2000) -> Figure:
    """CPU of one chunk: that of a whole stream, divided."""
    endpoint = race.endpoint(f"stream={chunks}")
    samples = race.interleaved("run", verb="stream", endpoint=endpoint, count=streams, chunks=chunks)
    return cpu_figure("stream, per chunk", samples)
