"""An outage as two processes see it: each for itself, and with a Redis between them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loom_py import Agent, AgentBuilder, AzureEmulator, LoomError, PolicyEvent, VirtualClock
from loom_py.emulator import FaultPlan, FaultRule
from loom_py.errors import CircuitOpenError
from loom_py.resilience.events import CircuitChanged
from scripts.plots.style import COLORS, panels, save

OUTAGE = (20, 50)
END = 100
EVERY = {"A": 1, "B": 4}
"""Seconds between two calls: one process is busy, the other is not."""


@dataclass
class Seen:
    """What became of each call, and when a breaker was open, by process."""

    calls: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: {name: [] for name in EVERY})
    opened: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in EVERY})
    closed: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in EVERY})
    sent: int = 0


def draw(path: Path) -> None:
    """Run it both ways and draw it; without a redis-server nothing is drawn."""
    program = shutil.which("redis-server")
    if program is None:
        print("no redis-server: shared_state is not drawn")
        return
    alone = _run(None)
    with _redis(program) as url:
        together = _run(url)
    figure, axes = panels(2, height=1.9)
    for axis, seen, title in zip(
        axes, (alone, together), ("each for itself", "with shared state"), strict=True
    ):
        _draw(axis, seen)
        failed = sum(outcome == "failed" for calls in seen.calls.values() for _, outcome in calls)
        axis.set_title(f"{title}: {failed} calls ran into the outage", loc="left", fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    axes[-1].set_xlim(-1, END)
    save(figure, path)


def _draw(axis: Any, seen: Seen) -> None:
    rows = {"B": 0, "A": 1}
    axis.axvspan(*OUTAGE, color=COLORS["muted"], alpha=0.15, linewidth=0, zorder=0, label="outage")
    for name, row in rows.items():
        for began, ended in zip(seen.opened[name], [*seen.closed[name], END], strict=False):
            label = "breaker not closed" if row == 0 else None
            axis.barh(row, ended - began, 0.62, began, color=COLORS["wait"], alpha=0.35, label=label)
        for outcome, color, marker in (
            ("answered", COLORS["good"], "o"),
            ("failed", COLORS["bad"], "X"),
            ("refused", COLORS["wait"], "|"),
        ):
            times = [at for at, what in seen.calls[name] if what == outcome]
            label = outcome if row == 0 else None
            axis.scatter(times, [row] * len(times), s=26, color=color, marker=marker, label=label, zorder=3)
    axis.set_yticks(list(rows.values()), [f"process {name}" for name in rows])
    axis.set_ylim(-0.6, 1.6)


def _run(url: str | None) -> Seen:
    """A busy agent and one that calls now and then, with a Redis between them or without one."""
    seen, clock = Seen(), VirtualClock(auto_advance=True)
    plan = FaultPlan(rules=[FaultRule(error="503-empty", window=OUTAGE)])
    with AzureEmulator(faults=plan, clock=clock) as azure, contextlib.ExitStack() as stack:
        agents = {name: stack.enter_context(_agent(azure, url, clock, seen, name)) for name in EVERY}
        for second in range(END):
            for name, agent in agents.items():
                if second % EVERY[name] == 0:
                    seen.calls[name].append((clock.now(), _outcome(agent)))
            clock.advance(1)
        seen.sent = len(azure.requests)
    return seen


def _agent(azure: AzureEmulator, url: str | None, clock: VirtualClock, seen: Seen, name: str) -> Agent:
    def note(event: PolicyEvent) -> None:
        if isinstance(event, CircuitChanged) and event.breaker.startswith("shared") == (url is not None):
            for each in EVERY if url else (name,):  # the one between them is everybody's
                if event.after == "open" and event.before == "closed":
                    seen.opened[each].append(clock.now())
                elif event.after == "closed":
                    seen.closed[each].append(clock.now())

    builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_clock(clock)
    builder = builder.with_circuit_breakers(open_seconds=20).with_retries(max_attempts=1).with_listener(note)
    if url is not None:
        builder = builder.with_shared_state(url, timeout=10, lease=900_000, server_time=clock.now)
    return builder.build()


def _outcome(agent: Agent) -> str:
    try:
        agent.chat("Are you there?")
    except CircuitOpenError:
        return "refused"
    except LoomError:
        return "failed"
    return "answered"


@contextlib.contextmanager
def _redis(program: str) -> Iterator[str]:
    """The URL of a Redis of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
