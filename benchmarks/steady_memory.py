"""Whether a process that chats for long keeps its size."""

from __future__ import annotations

from benchmarks.figures import Figure
from benchmarks.race import Race

NAME = "steady_memory"


def measure(race: Race, *, turns: int = 3000) -> Figure:
    """Bytes of resident memory that are added per chat, after as many to warm up.

    The ledger fills up to its bound in the meantime. Only our agents are asked, each in a fresh process.
    """
    values = {}
    for entry in (each for each in race.builders if each.is_ours):
        found = race.alone(entry, "steady", endpoint=race.endpoint("plain"), turns=turns)
        if found is not None:
            values[entry.name] = found["bytes"] / turns
    return Figure("growth of memory", "bytes per chat", values, details={"turns": turns})
