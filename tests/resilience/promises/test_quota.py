"""A hundred agents on one quota: never refused, hardly a token left unused, and nobody starves."""

from __future__ import annotations

import asyncio
import statistics
from random import Random

from loom_py import Agent, AgentBuilder, AzureEmulator, ChatOptions, ScriptedProvider, TokenUsage
from loom_py.clock import VirtualClock
from loom_py.emulator import Quota
from loom_py.llm.estimates import estimate_tokens
from loom_py.llm.scripted import ScriptedRequest, reply
from loom_py.messages import Message, Response
from tests.resilience.promises.pilot import fly

TPM = 60_000
AGENTS = 100
MINUTES = 10
TASK = "Please do the work." * 4


async def test_a_hundred_agents_use_a_quota_to_the_full_and_are_never_refused() -> None:
    clock, random = VirtualClock(), Random(4)

    async def think(_: ScriptedRequest) -> Response:
        await clock.asleep(random.uniform(0.3, 4))
        return reply("Done.", tokens=TokenUsage(120, 60))

    quota = Quota(tokens_per_minute=TPM)
    azure = AzureEmulator(ScriptedProvider(think), clock=clock, quotas={"gpt-4o-deployment": quota})
    waits: list[float] = []
    answered: list[int] = [0] * AGENTS

    async def work(number: int, agent: Agent) -> None:
        while True:
            options = ChatOptions(max_tokens=random.randint(400, 700))
            began = clock.now()
            response = await agent.achat(TASK, options=options)
            waits.append(clock.now() - began)
            answered[number] += 1
            assert "attempts" not in response.metadata

    with azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_clock(clock)
        builder = builder.with_rate_limit(tokens_per_minute=TPM, queue_timeout=None)
        agents = [builder.with_name(f"agent-{number}").build() for number in range(AGENTS)]
        try:
            calls = [work(number, agent) for number, agent in enumerate(agents)]
            outcomes = await fly(clock, calls, until=MINUTES * 60)
        finally:
            await asyncio.gather(*(agent.aclose() for agent in agents))
        statuses = [request.status for request in azure.requests]
        limits = [
            request.body["max_completion_tokens"] for request in azure.requests if request.status == 200
        ]
    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}, set(map(repr, outcomes))
    prompt = estimate_tokens([Message.user(TASK)], (), 0)
    used = sum(limit + prompt for limit in limits) / (TPM * clock.now() / 60)
    typical, longest = statistics.median(waits), max(waits)
    print(
        f"\n{len(limits)} calls in {clock.now():.0f} s, {statuses.count(429)} x 429, {used:.1%} of the quota;"
        f" median {typical:.1f} s, longest {longest:.1f} s ({longest / typical:.2f} times);"
        f" each agent {min(answered)} to {max(answered)} calls"
    )
    assert statuses.count(429) == 0
    assert used >= 0.95
    assert longest <= 3 * typical
    assert min(answered) >= 0.5 * max(answered)
