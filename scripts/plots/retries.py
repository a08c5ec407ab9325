"""Attempts and waits: single calls that fail in different ways, and one 429 that pauses them all."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from loom_py import AgentBuilder, AzureEmulator, LoomError, PolicyEvent, VirtualClock
from loom_py.emulator import FaultPlan, FaultRule, Latency
from loom_py.resilience.events import DeploymentThrottled, RetryScheduled
from scripts.plots.style import COLORS, panels, save
from scripts.plots.virtual import together

LATENCY = 0.8
SLOW = FaultRule(latency=Latency.fixed(LATENCY))
CALLS = {
    "503, twice": (FaultRule(error="503", times=2), None),
    "429, Retry-After: 12": (FaultRule(error="429-2025", retry_after=12, times=1), None),
    "503, for ever": (FaultRule(error="503"), None),
    "503, and a deadline of 8 s": (FaultRule(error="503"), 8.0),
    "429, Retry-After: 45, 20 s left": (FaultRule(error="429-2025", retry_after=45), 20.0),
}
CALLERS = 8
THROTTLED_AT = 12
SECONDS = 15
END = 36.0


class Bar(NamedTuple):
    """Something that lasted: an attempt that was answered or failed, or a wait."""

    kind: str
    begin: float
    end: float


def draw(path: Path) -> None:
    """Run it and draw it."""
    random.seed(7)
    figure, (single, several) = panels(2, height=2.6)
    for row, (name, (fault, deadline)) in enumerate(CALLS.items()):
        bars, outcome = _call(fault, deadline)
        _show(single, row, bars)
        if deadline is not None:
            single.plot([deadline] * 2, [row - 0.45, row + 0.45], color=COLORS["muted"], linestyle="--")
        last = max(bars[-1].end, deadline or 0.0)
        single.text(last + 0.4, row, outcome, va="center")
        single.text(-0.4, row, name, va="center", ha="right")
    chats, pause = asyncio.run(_callers())
    for row, bars in enumerate(chats):
        _show(several, row, bars)
    several.axvspan(*pause, color=COLORS["muted"], alpha=0.15, linewidth=0, zorder=0)
    several.text(sum(pause) / 2, -0.9, f"paused for {SECONDS} s", ha="center", va="center")
    several.text(-0.4, (CALLERS - 1) / 2, f"{CALLERS} callers of\none deployment", va="center", ha="right")
    for axis, rows in ((single, len(CALLS)), (several, CALLERS)):
        axis.set_ylim(rows - 0.4, -1.4 if axis is several else -0.6)
        axis.set_yticks([])
        axis.grid(visible=False, axis="y")
        axis.spines["left"].set_visible(False)
    several.set_xlim(0, END)
    for name, color in (("answered", "good"), ("failed", "bad"), ("waits", "wait")):
        single.bar(0, 0, color=COLORS[color], label=name)
    single.legend(loc="upper right", ncols=3)
    save(figure, path)


def _show(axis: Any, row: int, bars: list[Bar]) -> None:
    for kind, begin, end in bars:
        height = 0.2 if kind == "wait" else 0.62
        axis.barh(row, end - begin, height, left=begin, color=COLORS[kind], linewidth=0)


def _call(fault: FaultRule, deadline: float | None) -> tuple[list[Bar], str]:
    """One chat: its attempts and waits, and how it ended."""
    clock = VirtualClock(auto_advance=True)
    bars: list[Bar] = []
    began = 0.0

    def note(event: PolicyEvent) -> None:
        nonlocal began
        if isinstance(event, RetryScheduled):
            bars.append(Bar("bad", began, clock.now()))
            began = clock.now() + event.wait_seconds

    builder = AgentBuilder().with_clock(clock).with_listener(note)
    if deadline is not None:
        builder = builder.with_timeouts(run=deadline)
    with (
        AzureEmulator(faults=FaultPlan(rules=[SLOW, fault]), clock=clock) as azure,
        builder.with_azure_openai_llm(**azure.client_kwargs()).build() as agent,
    ):
        try:
            agent.chat("Are you there?")
            outcome, kind = "answered", "good"
        except LoomError as error:
            outcome, kind = type(error).__name__, "bad"
        if len(azure.requests) > len(bars):
            bars.append(Bar(kind, began, clock.now()))
    waits = [Bar("wait", before.end, after.begin) for before, after in pairwise(bars)]
    return [*waits, *bars], outcome


async def _callers() -> tuple[list[list[Bar]], tuple[float, float]]:
    """Eight who call again and again; one of their requests is throttled."""
    clock = VirtualClock()
    rules = [SLOW, FaultRule(error="429-2025", retry_after=SECONDS, nth=THROTTLED_AT)]
    chats: list[list[Bar]] = [[] for _ in range(CALLERS)]
    pauses: list[float] = []

    def note(event: PolicyEvent) -> None:
        if isinstance(event, DeploymentThrottled):
            pauses.append(clock.now())

    with AzureEmulator(faults=FaultPlan(rules=rules), clock=clock) as azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs())
        async with builder.with_clock(clock).with_listener(note).build() as agent:

            async def caller(bars: list[Bar], number: int) -> None:
                await clock.asleep(0.3 * number + 0.1)
                while clock.now() < END:
                    began = clock.now()
                    response = await agent.achat("Are you there?")
                    if response.metadata.get("attempts"):
                        bars.append(Bar("bad", began, began + LATENCY))
                        began += LATENCY
                    if clock.now() - began > 1.5 * LATENCY:
                        bars.append(Bar("wait", began, clock.now() - LATENCY))
                    bars.append(Bar("good", clock.now() - LATENCY, clock.now()))
                    await clock.asleep(1.7)

            await together(clock, [caller(bars, number) for number, bars in enumerate(chats)])
    return chats, (pauses[0], pauses[0] + SECONDS)
