"""A question every five seconds, through an outage: what is sent, what is refused, and the breaker."""

from __future__ import annotations

from pathlib import Path

from loom_py import AgentBuilder, AzureEmulator, LoomError, PolicyEvent, VirtualClock
from loom_py.emulator import FaultPlan, FaultRule, Latency
from loom_py.errors import CircuitOpenError
from loom_py.resilience.events import CircuitChanged
from scripts.plots.style import COLORS, panels, save

OUTAGE = (60.0, 200.0)
END = 300.0
EVERY = 5.0
STATES = ("closed", "half-open", "open")
OUTCOMES = {"answered": "good", "failed": "bad", "refused at once": "wait"}


def draw(path: Path) -> None:
    """Run it and draw it."""
    questions, states, waits = _run()
    figure, (asked, state, wait) = panels(3, height=1.5)
    for row, (outcome, color) in enumerate(OUTCOMES.items()):
        asked.vlines(questions[outcome], row - 0.35, row + 0.35, color=COLORS[color], linewidth=2)
    asked.set_yticks(range(len(OUTCOMES)), list(OUTCOMES))
    asked.set_ylim(len(OUTCOMES) - 0.4, -0.6)
    asked.set_title(
        "a question every 5 seconds; the deployment is down in the gray time", loc="left", fontsize=10
    )
    times, names = zip(*states, strict=True)
    state.step(times, [STATES.index(name) for name in names], where="post", color=COLORS["line"], linewidth=2)
    state.set_yticks(range(len(STATES)), STATES)
    state.set_ylim(-0.3, 2.3)
    state.set_ylabel("breaker")
    wait.plot(*zip(*waits, strict=True), color=COLORS["wait"])
    wait.set_ylabel("seconds until\nthe next probe")
    wait.set_yticks([0, 30, 60])
    for axis in (asked, state, wait):
        axis.axvspan(*OUTAGE, color=COLORS["muted"], alpha=0.15, linewidth=0, zorder=0)
        axis.grid(visible=False, axis="y")
    wait.set_xlim(0, END)
    wait.set_xticks(range(0, int(END) + 1, 30))
    save(figure, path)


def _run() -> tuple[dict[str, list[float]], list[tuple[float, str]], list[tuple[float, float]]]:
    """When what was answered, failed or refused; the breaker's states; and its ``retry_in``, each second."""
    clock = VirtualClock(auto_advance=True)
    plan = FaultPlan(rules=[FaultRule(latency=Latency.fixed(0.5)), FaultRule(error="503", window=OUTAGE)])
    questions: dict[str, list[float]] = {outcome: [] for outcome in OUTCOMES}
    states = [(0.0, "closed")]
    waits: list[tuple[float, float]] = []

    def note(event: PolicyEvent) -> None:
        if isinstance(event, CircuitChanged):
            states.append((clock.now(), event.after))

    with (
        AzureEmulator(faults=plan, clock=clock) as azure,
        AgentBuilder()
        .with_azure_openai_llm(**azure.client_kwargs())
        .with_circuit_breakers()
        .with_retries(max_attempts=1)
        .with_listener(note)
        .with_clock(clock)
        .build() as agent,
    ):
        (deployment,) = agent.health().deployments
        for number in range(int(END / EVERY)):
            asked = clock.now()
            try:
                agent.chat("Are you there?")
                questions["answered"].append(asked)
            except CircuitOpenError:
                questions["refused at once"].append(asked)
            except LoomError:
                questions["failed"].append(asked)
            while clock.now() < (number + 1) * EVERY:
                waits.append((clock.now(), agent.health().deployments[deployment].retry_in))
                clock.advance(0.5)
    states.append((END, states[-1][1]))
    return questions, states, waits
