"""A hundred chats at once on one event loop, each of three tool rounds, hence four model calls."""

from __future__ import annotations

import statistics

from benchmarks.figures import Figure, ratios, scaled_medians, spread
from benchmarks.race import Race

NAME = "in_flight"
MOST_ROUNDS = 5
"""Each takes the plain SDK seconds."""


def measure(race: Race, *, together: int = 100, rounds: int = 3, batches: int = 1) -> Figure:
    """Chats that one core gets done in a second of CPU."""
    samples = race.interleaved(
        "run",
        rounds=min(race.rounds, MOST_ROUNDS),
        verb="ask",
        endpoint=race.endpoint(f"rounds={rounds}"),
        count=batches,
        together=together,
        tool_calls=rounds,
    )
    wall = {name: 1 / statistics.median(each.wall for each in found) for name, found in samples.items()}
    return Figure(
        f"{together} in flight",
        "runs per CPU second",
        {name: 1 / value for name, value in scaled_medians(samples).items()},
        {name: 1 / value for name, value in ratios(samples).items()},
        more_is_better=True,
        details={"runs_per_wall_second": wall, "spread": spread(samples)},
    )
