"""A hundred questions at once on one agent: async verbs, one client, a limit of ten at a time."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from offline import azure

from loom_py import Agent, AgentBuilder, Response

QUESTIONS = [f"How much is {number} times {number}?" for number in range(100)]


async def ask_all(agent: Agent) -> list[Response]:
    """All answers, in the order of the questions."""
    ten_at_a_time = asyncio.Semaphore(10)

    async def ask(question: str) -> Response:
        async with ten_at_a_time:
            return await agent.achat(question)

    return await asyncio.gather(*(ask(question) for question in QUESTIONS))


async def main() -> None:
    with azure(*("A square number." for _ in QUESTIONS)) as settings:
        async with AgentBuilder().with_azure_openai_llm(*settings).build() as agent:
            responses = await ask_all(agent)
    cost = sum((response.cost_usd or Decimal(0) for response in responses), Decimal(0))
    tokens = sum(response.tokens_used.total for response in responses)
    print(f"{len(responses)} answers, {tokens} tokens, {cost} USD")


asyncio.run(main())
