"""An outage of one region for a minute: where the requests go, and how the first region comes back."""

from __future__ import annotations

from pathlib import Path

from loom_py import AgentBuilder, AzureEmulator, Deployment, PolicyEvent, VirtualClock
from loom_py.emulator import FaultPlan, FaultRule, Latency
from loom_py.resilience.events import CircuitChanged
from scripts.plots.style import COLORS, panels, save

OUTAGE = (60.0, 120.0)
END = 240.0
EVERY = 0.5
WIDTH = 5.0
STATES = ("closed", "half-open", "open")


def draw(path: Path) -> None:
    """Run it and draw it."""
    answered, failed, moved, states = _run()
    figure, (primary, secondary, breaker) = panels(3, height=1.7)
    primary.bar(*_counted(answered), WIDTH * 0.85, color=COLORS["good"], label="answered")
    bottom = dict(zip(*_counted(answered), strict=True))
    times, counts = _counted(failed)
    primary.bar(
        times,
        counts,
        WIDTH * 0.85,
        bottom=[bottom.get(at, 0) for at in times],
        color=COLORS["bad"],
        label="failed",
    )
    primary.set_ylabel("to Sweden")
    secondary.bar(*_counted(moved), WIDTH * 0.85, color=COLORS["line"], label="answered")
    secondary.set_ylabel("to France")
    primary.set_ylim(0, 9.5)
    secondary.set_ylim(0, 9.5)
    for axis in (primary, secondary):
        axis.set_yticks([0, 3, 6])
    breaker.step(
        [at for at, _ in states],
        [STATES.index(state) for _, state in states],
        where="post",
        color=COLORS["line"],
    )
    breaker.set_yticks(range(len(STATES)), STATES)
    breaker.set_ylabel("Sweden's breaker")
    for axis in (primary, secondary, breaker):
        axis.axvspan(*OUTAGE, color=COLORS["muted"], alpha=0.15, linewidth=0, zorder=0)
    primary.text(sum(OUTAGE) / 2, 8.1, "Sweden is down", ha="center")
    primary.legend(loc="upper right", ncols=2)
    secondary.legend(loc="upper right")
    breaker.set_xlim(0, END)
    breaker.set_xticks(range(0, int(END) + 1, 30))
    primary.set_title(f"requests in each {WIDTH:g} seconds", loc="left", fontsize=10)
    save(figure, path)


def _run() -> tuple[list[float], list[float], list[float], list[tuple[float, str]]]:
    """When Sweden answered and failed, when France answered, and how the breaker of Sweden stood."""
    clock = VirtualClock(auto_advance=True)
    slow = FaultRule(latency=Latency.lognormal(median=0.3, sigma=0.3))
    plan = FaultPlan(seed=7, rules=[slow, FaultRule(error="503-empty", window=OUTAGE)])
    answered: list[float] = []
    failed: list[float] = []
    moved: list[float] = []
    states = [(0.0, "closed")]

    def note(event: PolicyEvent) -> None:
        if isinstance(event, CircuitChanged):
            states.append((clock.now(), event.after))

    with (
        AzureEmulator(faults=plan, clock=clock) as sweden,
        AzureEmulator(faults=FaultPlan(seed=8, rules=[slow]), clock=clock) as france,
        AgentBuilder()
        .with_azure_openai_llm(
            deployments=[
                Deployment.azure(sweden.endpoint, "gpt-4o-deployment", sweden.api_key, name="sweden"),
                Deployment.azure(france.endpoint, "gpt-4o-deployment", france.api_key, name="france"),
            ]
        )
        .with_listener(note)
        .with_clock(clock)
        .build() as agent,
    ):
        while clock.now() < END:
            seen = len(sweden.requests), len(france.requests)
            agent.chat("Are you there?")
            for request in sweden.requests[seen[0] :]:
                (answered if request.status == 200 else failed).append(clock.now())
            moved += [clock.now()] * (len(france.requests) - seen[1])
            clock.advance(EVERY)
    states.append((END, states[-1][1]))
    return answered, failed, moved, states


def _counted(times: list[float]) -> tuple[list[float], list[int]]:
    """The middle of each slice of time, and how many fall into it."""
    slices = [int(at // WIDTH) for at in times]
    found = sorted(set(slices))
    return [(number + 0.5) * WIDTH for number in found], [slices.count(number) for number in found]
