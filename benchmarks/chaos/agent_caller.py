"""An agent of loom_py with every policy on, over both regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx2

from benchmarks.chaos.network import sync_client
from benchmarks.chaos.plan import REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE, Verb
from benchmarks.chaos.soak import Ask, Books, Caller, World
from loom_py import Agent, AgentBuilder, LoomError, tool
from loom_py.events import StreamEvent, StreamRestarted, TextDelta
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.events import PolicyEvent

__all__ = ["agent_caller"]


def agent_caller(**retries: Any) -> Ask:
    """The agent as a caller: pool, failover, breakers, retries, rate limit, budget and timeouts.

    ``retries`` are settings of ``with_retries`` in place of its defaults.
    """

    @asynccontextmanager
    async def make(world: World) -> AsyncIterator[Caller]:
        @tool
        async def look_up(item: int) -> str:
            """The code of an item."""
            return world.scenario.secret(item)

        notes: Counter[str] = Counter()

        def listen(event: PolicyEvent) -> None:
            notes[type(event).__name__] += 1

        with sync_client(world.loop) as http:
            builder = _builder(world, http).with_retries(restart_streams=True, **retries)
            async with builder.with_tools(look_up).with_listener(listen).build() as agent:
                caller = Caller(_Asking(agent, world).ask, LoomError, lambda: _leaks(agent), notes=notes)
                caller.stuck, caller.books = lambda: _stuck(agent), lambda: _books(agent)
                yield caller

    return make


def _builder(world: World, http: httpx2.Client) -> AgentBuilder:
    """Every policy but the retries and hedging.

    Blocking verbs race their two attempts on the library's own background loop, which goes by real time.
    """
    deployments = [
        Deployment.azure(each.endpoint, each.deployment, each.api_key, region=each.name)
        for each in world.regions
    ]
    return (
        AgentBuilder()
        .with_azure_openai_llm(model_name="gpt-4o", max_tokens=500, http_client=http, deployments=deployments)
        .with_load_balancing(strategy="round-robin")
        .with_circuit_breakers()
        .with_rate_limit(tokens_per_minute=TOKENS_PER_MINUTE, requests_per_minute=REQUESTS_PER_MINUTE)
        .with_budget(usd=Decimal(500), per="agent")
        .with_timeouts(connect=5, read=20, run=180)
        .with_clock(world.clock)
    )


class _Asking:
    def __init__(self, agent: Agent, world: World) -> None:
        self._agent = agent
        self._world = world

    async def ask(self, run: int, verb: Verb) -> str:
        """The answer by one of the four verbs; the blocking ones in a thread."""
        question, agent, loop = f"What is the code of item {run}?", self._agent, self._world.loop
        if verb == "achat":
            return (await agent.achat(question)).message
        if verb == "chat":
            return await loop.run_thread(lambda: agent.chat(question).message)
        if verb == "stream_chat":
            return await loop.run_thread(lambda: _shown(agent.stream_chat(question)))
        return _shown([event async for event in agent.astream_chat(question)])


def _shown(events: Iterable[StreamEvent]) -> str:
    """The text on the screen of somebody who does as the events say; it must be what is answered."""
    text, answer = "", None
    for event in events:
        if isinstance(event, TextDelta):
            text += event.delta
        elif isinstance(event, StreamRestarted):
            text = text.removesuffix(event.discarded)
        elif event.response is not None:
            answer = event.response.message
    return text if text == answer else f"shown {text!r}, answered {answer!r}"


def _leaks(agent: Agent) -> dict[str, object]:
    """What the policies still hold now that nothing is under way."""
    health = agent.health()
    left: dict[str, object] = {}
    for name, each in health.deployments.items():
        left[f"{name} in flight"] = each.in_flight
        if each.rate_limit is not None:
            left[f"{name} tokens reserved"] = each.rate_limit.tokens_reserved
            left[f"{name} queued"] = each.rate_limit.queued
    for budget in health.budgets:
        left[f"budget per {budget.per} reserved"] = budget.usd.reserved or budget.tokens.reserved
    return {what: amount for what, amount in left.items() if amount}


def _stuck(agent: Agent) -> dict[str, object]:
    """The breakers that let nobody through after so long: a probe of theirs has never ended."""
    breakers = agent.circuit_breakers.items()
    return {f"breaker {name}": each.stats().state for name, each in breakers if not each.is_available}


def _books(agent: Agent) -> Books:
    (budget,) = agent.health().budgets
    return Books(agent.costs().total, budget.usd.spent, budget.usd.uncertain)
