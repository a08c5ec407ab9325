"""A region goes down for a minute: the calls go to another one, and come back by themselves.

Two emulators play two regions, and everything happens in virtual time: seven minutes are over at once.
"""

from __future__ import annotations

from collections import Counter

from loom_py import AgentBuilder, AzureEmulator, Deployment, PolicyEvent, VirtualClock
from loom_py.emulator import FaultPlan, FaultRule
from loom_py.resilience.events import CircuitChanged, FailedOver

OUTAGE = FaultPlan(rules=[FaultRule(error="503-empty", window=(60, 120))])  # seconds

clock = VirtualClock(auto_advance=True)
failed_over: Counter[str] = Counter()


def tell(event: PolicyEvent) -> None:
    """Say what happens to the breakers, and count the calls that moved."""
    if isinstance(event, CircuitChanged):
        print(f"{clock.now():4.0f} s  {event.breaker}: {event.before} -> {event.after}")
    elif isinstance(event, FailedOver):
        failed_over[f"{event.deployment} -> {event.to}"] += 1


with (
    AzureEmulator(faults=OUTAGE, clock=clock) as sweden,
    AzureEmulator(clock=clock) as france,
    AgentBuilder()
    .with_azure_openai_llm(
        deployments=[
            Deployment.azure(sweden.endpoint, "gpt-4o-deployment", sweden.api_key, name="sweden"),
            Deployment.azure(france.endpoint, "gpt-4o-deployment", france.api_key, name="france"),
        ]
    )
    .with_listener(tell)
    .with_clock(clock)
    .build() as agent,
):
    while clock.now() < 420:
        agent.chat("Are you there?")  # it never raises: one of the two always answers
        clock.advance(1)
    print(f"moved in the middle of a call: {dict(failed_over)}")
    wasted = sum(request.status == 503 for request in sweden.requests)
    print(f"sweden {len(sweden.requests) - wasted} answers and {wasted} refusals, ", end="")
    print(f"france {len(france.requests)} answers")
    print(f"status: {agent.health().status}")
