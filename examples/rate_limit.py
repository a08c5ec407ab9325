"""Forty callers on a quota for ten a minute: they wait in line, in virtual time, and none is refused."""

from __future__ import annotations

import asyncio
from collections import Counter

from loom_py import AgentBuilder, AzureEmulator, PolicyEvent, VirtualClock
from loom_py.emulator import Quota
from loom_py.resilience.events import QuotaWarning

CALLERS = 40
QUOTA = 10_000

clock = VirtualClock()  # it stands still until it is moved on
minutes: Counter[int] = Counter()


def show(event: PolicyEvent) -> None:
    """Print the warning that the quota is nearly used up."""
    if isinstance(event, QuotaWarning):
        print(f"{clock.now():3.0f} s  {event.usage_pct:.0f} % of {event.quota:,} tokens used")


async def main() -> None:
    """Ask forty times at once, and move the clock on whenever everyone waits."""
    with AzureEmulator(clock=clock, quotas={"gpt-4o-deployment": Quota(QUOTA)}) as azure:
        async with (
            AgentBuilder()
            .with_azure_openai_llm(**azure.client_kwargs(), max_tokens=990)
            .with_rate_limit(tokens_per_minute=QUOTA)
            .with_listener(show)
            .with_clock(clock)
            .build() as agent
        ):

            async def ask() -> None:
                await agent.achat("Are you there?")
                minutes[int(clock.now() // 60) + 1] += 1

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask()) for _ in range(CALLERS)]
                while waiting := sum(not task.done() for task in tasks):
                    if clock.sleeping == waiting:
                        clock.advance_to_next()
                    await asyncio.sleep(0.001)
        refused = sum(request.status == 429 for request in azure.requests)
        print(f"{len(azure.requests)} requests, {refused} refused, {clock.now():.0f} s")


asyncio.run(main())
print(", ".join(f"minute {minute}: {count}" for minute, count in sorted(minutes.items())))
