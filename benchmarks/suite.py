"""Every metric, one after the other, and how much of each is done."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    construction,
    growth,
    idle_agents,
    import_time,
    in_flight,
    long_history,
    plain_call,
    policy_overhead,
    steady_memory,
    stream_chunks,
    tool_rounds,
)
from benchmarks.figures import Figure
from benchmarks.race import Race

POLICIES = "policy_overhead"

TINY: dict[str, dict[str, Any]] = {
    "plain_call": {"calls": 2},
    "tool_rounds": {"chats": 1, "rounds": 2},
    "stream_chunks": {"streams": 1, "chunks": 20},
    "long_history": {"messages": 20, "calls": 1},
    "in_flight": {"together": 4, "rounds": 2},
    "growth": {"lengths": (10, 100), "rounds": 1},
    "import_time": {"rounds": 1},
    "construction": {"agents": 5},
    "idle_agents": {"agents": 5},
    "steady_memory": {"turns": 6},
}
"""Just enough to see that everything works; the figures mean nothing."""

METRICS: dict[str, Callable[..., Figure | dict[str, Figure]]] = {
    "plain_call": plain_call.measure,
    "tool_rounds": tool_rounds.measure,
    "stream_chunks": stream_chunks.measure,
    "long_history": long_history.measure,
    "in_flight": in_flight.measure,
    "growth": growth.measure,
    "import_time": import_time.measure,
    "construction": construction.measure,
    "idle_agents": idle_agents.measure,
    "steady_memory": steady_memory.measure,
}


@dataclass
class Report:
    """What came out, and of what it is true."""

    figures: dict[str, Figure]
    contenders: list[str]
    versions: Mapping[str, Mapping[str, str]]
    problems: Mapping[str, str]
    rounds: int
    seconds: float
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    python: str = platform.python_version()
    machine: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "figures": {name: figure.to_dict() for name, figure in self.figures.items()}}


def run(
    race: Race,
    *,
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
    only: Sequence[str] = (),
    problems: Mapping[str, str] | None = None,
) -> Report:
    """Measure everything, or ``only`` some, in ``sizes`` that differ from the defaults."""
    began = time.monotonic()
    figures: dict[str, Figure] = {}
    for name, measure in METRICS.items():
        if only and name not in only:
            continue
        print(f"{time.monotonic() - began:5.0f} s  {name}", file=sys.stderr)
        found = measure(race, **(sizes or {}).get(name, {}))
        figures |= found if isinstance(found, dict) else {name: found}
    if not only or POLICIES in only:
        figures[POLICIES] = policies()
    return Report(
        figures,
        [entry.name for entry in race.entries],
        race.versions,
        {**(problems or {}), **race.problems},
        race.rounds,
        round(time.monotonic() - began, 1),
        machine=machine(),
    )


def policies() -> Figure:
    """What each of the policies adds to a call, from `policy_overhead`."""
    found = policy_overhead.run()
    unit = str(found.pop("unit"))
    return Figure("policies", unit, {name: float(value) for name, value in found.items()})


def machine() -> str:
    """The processor, the number of cores and the system."""
    model = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"
