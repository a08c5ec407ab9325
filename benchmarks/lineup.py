"""Who takes part: ours, the plain SDK, and the peers if they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.contenders.loom import fast_is_an_option, fast_is_installed
from benchmarks.figures import PLAIN
from benchmarks.peers import PEERS
from benchmarks.peers.environments import InstallError, python_of
from benchmarks.race import Entry

AGENT = "loom_py agent"
CLIENT = "loom_py client"
FAST = ", fast"


def ours() -> list[Entry]:
    """The plain SDK, the agent and the client; both with the extra ``fast`` too, where it is installed."""
    entries = [Entry(PLAIN, "benchmarks.contenders.openai_sdk:OpenAISDK")]
    for name, adapter in ((AGENT, "LoomAgent"), (CLIENT, "LoomClient")):
        entries.append(Entry(name, f"benchmarks.contenders.loom:{adapter}", ("core",)))
        if fast_is_an_option() and fast_is_installed():
            entries.append(Entry(name + FAST, f"benchmarks.contenders.loom:{adapter}", ("fast",)))
    return entries


def peers(names: Sequence[str], cache: Path) -> tuple[list[Entry], dict[str, str]]:
    """The peers of these names, installed where they are not yet; and why others are left out."""
    entries, problems = [], {}
    for name in names:
        entry = Entry(name, PEERS[name])
        try:
            python = python_of(name, entry.contender.REQUIREMENTS, cache)
        except InstallError as error:
            problems[name] = f"not installed: {error}"
        else:
            entries.append(replace(entry, python=str(python)))
    return entries, problems
