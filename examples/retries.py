"""What retries do with each kind of failure, in virtual time: attempts, waits, and how it ends."""

from __future__ import annotations

from loom_py import AgentBuilder, AzureEmulator, LoomError, PolicyEvent, VirtualClock
from loom_py.emulator import FaultPlan, FaultRule
from loom_py.resilience.events import RetryScheduled

FAILURES = {
    "two failures in a row": FaultRule(error="503", times=2),
    "a limit that says 12 s": FaultRule(error="429-2025", retry_after=12, times=1),
    "a limit that says 0 ms": FaultRule(error="429-2026", retry_after=1, times=1),
    "a day's quota": FaultRule(error="429-day"),
    "an outage": FaultRule(error="503"),
    "a request that is wrong": FaultRule(error="400"),
}


def show(event: PolicyEvent) -> None:
    """Print each wait."""
    if isinstance(event, RetryScheduled):
        print(f"  attempt {event.attempt}: {event.error}, wait {event.wait_seconds:.1f} s")


for name, failure in FAILURES.items():
    print(name)
    clock = VirtualClock(auto_advance=True)  # whoever waits does not wait really
    with (
        AzureEmulator(faults=FaultPlan(rules=[failure]), clock=clock) as azure,
        AgentBuilder()
        .with_azure_openai_llm(**azure.client_kwargs())
        .with_clock(clock)
        .with_listener(show)
        .build() as agent,
    ):
        try:
            agent.chat("Are you there?")
            outcome = "answered"
        except LoomError as error:
            outcome = f"{type(error).__name__}, retry after {error.retry_after} s"
        print(f"  {outcome}: {len(azure.requests)} requests, {clock.now():.1f} s")
