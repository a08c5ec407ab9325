"""Whether a process that chats for long keeps its size."""

from __future__ import annotations

from benchmarks.figures import PLAIN, Figure
from benchmarks.race import Race

NAME = "steady_memory"


def measure(race: Race, *, turns: int = 4000) -> Figure:
    """Bytes of resident memory that are added per chat, after a third as many to warm up.

    Only the whole agent and the plain SDK are asked, each in a fresh process.
    """
    values = {}
    for entry in race.entries:
        if entry.name != PLAIN and not (entry.is_ours and "agent" in entry.name):
            continue
        found = race.alone(entry, "steady", endpoint=race.endpoint("plain"), turns=turns)
        if found is not None:
            values[entry.name] = found["bytes"] / turns
    return Figure("growth of memory", "bytes per chat", values, details={"turns": turns})
