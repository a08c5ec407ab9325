"""How long an import takes, as a whole process, over the bare interpreter."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

STATEMENTS = {
    "nothing": "pass",
    "import loom_py": "import loom_py",
    "from loom_py import AgentBuilder": "from loom_py import AgentBuilder",
    "import openai": "import openai",
}


def measure(rounds: int) -> dict[str, float]:
    """CPU seconds (user + system) of a process per statement, median of interleaved ``rounds``."""
    for statement in STATEMENTS.values():  # once uncounted, to write and warm the compiled files
        _cpu_of(statement)
    runs: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        for name, statement in STATEMENTS.items():
            runs[name].append(_cpu_of(statement))
    return {name: statistics.median(values) for name, values in runs.items()}


def _cpu_of(statement: str) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(figures: dict[str, float]) -> str:
    """The figures as text, with the interpreter's own time taken off."""
    bare = figures["nothing"]
    lines = ["Import, CPU time over the bare interpreter:"]
    lines += [
        f"  {name:36} {(value - bare) * 1000:8.1f} ms" for name, value in figures.items() if name != "nothing"
    ]
    return "\n".join(lines) + "\n"
