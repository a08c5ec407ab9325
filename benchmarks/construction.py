"""One more agent with a system prompt and one tool, on a client that is there already."""

from __future__ import annotations

import statistics

from benchmarks.figures import Figure, scaled_medians, spread
from benchmarks.race import Race

NAME = "construction"
MEMORY = "construction_memory"


def measure(race: Race, *, agents: int = 200) -> dict[str, Figure]:
    """CPU of building it, and its size as Python counts it."""
    samples = race.interleaved("build", race.builders, endpoint=race.endpoint("plain"), count=agents)
    sizes = {
        name: statistics.median(each.bytes or 0.0 for each in found) / 1024 for name, found in samples.items()
    }
    times = {name: value * 1e6 for name, value in scaled_medians(samples).items()} if samples else {}
    return {
        NAME: Figure("build an agent", "µs of CPU", times, details={"spread": spread(samples)}),
        MEMORY: Figure("size of an agent", "KiB", sizes),
    }
