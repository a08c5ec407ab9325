"""A breaker from ill to well: it opens in an outage, tries again by itself, and closes, in virtual time."""

from __future__ import annotations

from loom_py import AgentBuilder, AzureEmulator, LoomError, PolicyEvent, VirtualClock
from loom_py.emulator import FaultPlan, FaultRule
from loom_py.errors import CircuitOpenError
from loom_py.resilience.events import CircuitChanged

OUTAGE = FaultPlan(rules=[FaultRule(error="503", window=(10, 50))])

clock = VirtualClock(auto_advance=True)


def show(event: PolicyEvent) -> None:
    """Print each change of a state."""
    if isinstance(event, CircuitChanged):
        print(f"{clock.now():3.0f} s  {event.before} → {event.after}  {event.reason or ''}".rstrip())


outcomes = {"answered": 0, "failed": 0, "refused": 0}
with (
    AzureEmulator(faults=OUTAGE, clock=clock) as azure,
    AgentBuilder()
    .with_azure_openai_llm(**azure.client_kwargs())
    .with_circuit_breakers(failure_threshold=3, open_seconds=15)
    .with_retries(max_attempts=1)  # a question each second is patient enough
    .with_listener(show)
    .with_clock(clock)
    .build() as agent,
):
    while clock.now() < 90:
        try:
            agent.chat("Are you there?")
            outcomes["answered"] += 1
        except CircuitOpenError:
            outcomes["refused"] += 1
        except LoomError:
            outcomes["failed"] += 1
        clock.advance(1)
    print(outcomes)
    print(f"{len(azure.requests)} requests; {agent.health().status} at the end")
