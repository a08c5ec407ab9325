"""What 1,000 agents that do nothing add to the memory of a process."""

from __future__ import annotations

from benchmarks.figures import Figure
from benchmarks.race import Race

NAME = "idle_agents"


def measure(race: Race, *, agents: int = 1000) -> Figure:
    """Resident memory, each contender in a fresh process."""
    values = {}
    for entry in race.builders:
        found = race.alone(entry, "idle", endpoint=race.endpoint("plain"), count=agents)
        if found is not None:
            values[entry.name] = found["bytes"] / 2**20
    return Figure(f"{agents:,} idle agents", "MiB resident", values)
