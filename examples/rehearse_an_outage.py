"""A bad day, rehearsed: limits, a slow region and an outage, all within seconds and always the same."""

from __future__ import annotations

from collections import Counter

from loom_py import AgentBuilder, AzureEmulator, LoomError, VirtualClock
from loom_py.emulator import FaultPlan, FaultRule, Latency

PLAN = FaultPlan(
    seed=7,
    rules=[
        FaultRule(latency=Latency.lognormal(median=0.8, sigma=0.6)),  # every answer takes its time
        FaultRule(error="429-2026", probability=0.1, retry_after=5),  # one in ten is over the limit
        FaultRule(error="503-empty", window=(60, 120)),  # an outage in the second minute
    ],
)

clock = VirtualClock(auto_advance=True)  # whoever waits does not wait really
outcomes: dict[int, Counter[str]] = {}
with (
    AzureEmulator(faults=PLAN, clock=clock) as azure,
    AgentBuilder()
    .with_azure_openai_llm(**azure.client_kwargs())
    .with_retries(jitter_seconds=0)  # chance has no place in a rehearsal
    .with_clock(clock)
    .build() as agent,
):
    while clock.now() < 180:
        minute = int(clock.now() // 60) + 1
        try:
            agent.chat("Are you there?")
            outcome = "answered"
        except LoomError as error:
            outcome = error.code
        outcomes.setdefault(minute, Counter())[outcome] += 1

for minute, counts in outcomes.items():
    print(f"minute {minute}: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
print(f"{len(azure.requests)} requests in {clock.now():.0f} virtual seconds")
