"""How long an import takes: the CPU of a whole process, less that of the bare interpreter."""

from __future__ import annotations

import resource
import statistics
import subprocess

from benchmarks.figures import PLAIN, Figure
from benchmarks.race import Entry, Race, clean_environment

NAME = "import_time"
MOST_ROUNDS = 5
"""Each takes every contender a second or more."""


def measure(race: Race, *, rounds: int | None = None) -> Figure:
    """CPU milliseconds of each contender's first import statement."""
    statements = {entry.name: statement for entry in race.entries if (statement := _statement(entry))}
    pythons = {entry.name: entry.python for entry in race.entries if entry.name in statements}
    runs: dict[str, list[float]] = {name: [] for name in statements}
    for name, statement in statements.items():  # once uncounted, to write and warm the compiled files
        _cpu_of(pythons[name], statement)
    for _ in range(min(race.rounds, MOST_ROUNDS) if rounds is None else rounds):
        for name, statement in statements.items():
            bare = _cpu_of(pythons[name], "pass")
            runs[name].append(_cpu_of(pythons[name], statement) - bare)
    values = {name: statistics.median(found) * 1e3 for name, found in runs.items()}
    plain = values.get(PLAIN)
    return Figure(
        "import",
        "ms of CPU",
        values,
        {name: value / plain for name, value in values.items()} if plain else {},
        details={"statements": statements},
    )


def _statement(entry: Entry) -> str | None:
    """What its users import first; those of ours that differ only in options count once."""
    if entry.is_ours and entry.arguments != ("core",):
        return None
    return entry.contender.IMPORT


def _cpu_of(python: str, statement: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, "-c", statement], check=True, env=clean_environment(), stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
