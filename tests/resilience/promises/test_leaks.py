"""Five hundred calls on a bad day leave nothing behind: no permits, reservations, tasks or sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from loom_py import AgentBuilder, AzureEmulator
from loom_py.clock import VirtualClock
from loom_py.emulator import FaultPlan, FaultRule
from loom_py.errors import LoomError
from loom_py.resilience.deployment import Deployment
from tests.resilience.promises.pilot import VERBS, held, settled

BAD_DAY = [
    FaultRule(error="429-2026", probability=0.1),
    FaultRule(error="503", probability=0.05),
    FaultRule(error="connection-drop", probability=0.04),
    FaultRule(error="200-html", probability=0.03),
    FaultRule(error="400", probability=0.03),
    FaultRule(error="content-filter-prompt", probability=0.03),
    FaultRule(cut_after_chunks=4, probability=0.05),
]
CALLS = 500
AT_ONCE = 20


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_after_a_bad_day() -> None:
    clock = VirtualClock(auto_advance=True)
    files = open_files()
    outcomes: Counter[str] = Counter()
    azures = [
        AzureEmulator(faults=FaultPlan(seed=seed, rules=BAD_DAY), clock=clock).start() for seed in (1, 2)
    ]
    members = [
        Deployment.azure(**azure.client_kwargs(), name=name) for azure, name in zip(azures, "ab", strict=True)
    ]
    builder = AgentBuilder().with_azure_openai_llm(deployments=members).with_clock(clock)
    builder = builder.with_rate_limit(tokens_per_minute=10**6).with_budget(tokens=10**9, per="agent")
    agent = builder.with_retries(budget_minimum=1000).build()
    try:
        async with agent:

            async def work(number: int) -> None:
                for turn in range(number, CALLS, AT_ONCE):
                    try:
                        if turn % 10 == 9:  # some callers have no patience
                            await asyncio.wait_for(
                                VERBS[1 + 2 * (turn % 2)](agent, "one two three four"), 0.002
                            )
                        else:
                            response = await VERBS[turn % 4](agent, "one two three four")
                            assert response.message == "one two three four"
                        outcomes["right"] += 1
                    except TimeoutError:
                        outcomes["cancelled"] += 1
                    except LoomError as error:
                        outcomes[error.code] += 1

            await asyncio.gather(*(work(number) for number in range(AT_ONCE)))
            print(f"\n{dict(outcomes)}")
            assert outcomes.total() == CALLS
            assert outcomes["right"] > 0.7 * CALLS
            assert len(outcomes) > 3
            await settled(lambda: held(agent) == [], 2)
            assert clock.sleeping == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}
        await settled(lambda: not any(azure.connections for azure in azures), 5)
        assert not any(azure.app._running for azure in azures)
    finally:
        for azure in azures:
            azure.stop()
    await settled(
        lambda: open_files() <= files + 8, 3
    )  # the event loops of the bridge and of the selectors stay
