"""What the policies cost when nothing fails: CPU time of one model call beyond the provider's own.

The provider answers from memory, so that all that is measured is the gateway: choosing the deployment, the
rate limit's queue, the budget's reservation, the breaker, settling, the ledger and the (silent) log.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from loom_py.clock import RealClock
from loom_py.llm.costs import Cost, CostLedger
from loom_py.llm.prices import ModelPrice
from loom_py.llm.provider import BaseProvider
from loom_py.messages import Message, Response, TokenUsage, ToolSpec
from loom_py.options import ChatOptions
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.gateway import ModelGateway
from loom_py.resilience.spec import Resilience

ROUNDS = 60
CALLS = 100
PRICE = ModelPrice("2.5", "10")
USAGE = TokenUsage(120, 40)
COST = PRICE.cost(USAGE)
MESSAGES = (Message.system("Be brief."), Message.user("How many desk lamps are in stock?"))
TOOLS = (ToolSpec("stock", "How many are in stock.", {"type": "object", "properties": {}}),)
FIELDS = {"agent": "bench", "chat_id": "c", "session_id": "s"}


class Instant(BaseProvider):
    """Answers at once, without a network."""

    name = "instant"
    model = "instant-1"
    keeps_timeouts = True  # it is over before any

    def __init__(self) -> None:
        self._worst = Cost(Decimal("0.05"), other=Decimal("0.05"))

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        return Response("There are 12.", tokens_used=USAGE, cost_usd=COST, model="instant-1")

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        return self.chat(messages, tools, options=options)

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        return 1000

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        return self._worst


def gateway(resilience: Resilience, deployments: int = 1) -> ModelGateway:
    """A gateway to so many instant deployments."""
    members = resilience.ranked([Deployment(Instant()) for _ in range(deployments)], [], [])
    providers: list[Any] = [deployment.provider for deployment, _ in members]
    policies = resilience.policies(members, providers, "bench")
    return ModelGateway(policies, ledger=CostLedger(agent="bench"))


def settings() -> dict[str, tuple[Resilience, int]]:
    """What is measured, from little to everything."""
    breakers: dict[str, Any] = {}
    rate: dict[str, Any] = {"tokens_per_minute": 10**12, "requests_per_minute": None}
    money: dict[str, Any] = {"usd": 10**6, "per": "session"}
    clock = RealClock()
    return {
        "retries": (Resilience(clock=clock), 1),
        "+ breakers": (Resilience(clock=clock, breakers=breakers), 1),
        "+ rate limit": (Resilience(clock=clock, breakers=breakers, rate_limit=rate), 1),
        "+ budget": (Resilience(clock=clock, breakers=breakers, rate_limit=rate, budgets=(money,)), 1),
        "+ pool of two, timeouts": (
            Resilience(
                clock=clock,
                breakers=breakers,
                rate_limit=rate,
                budgets=(money,),
                timeouts={"total": 60},
                strategy="least-loaded",
            ),
            2,
        ),
    }


def timed(work: Callable[[], object]) -> float:
    """CPU microseconds of one of so many calls."""
    began = time.process_time()
    for _ in range(CALLS):
        work()
    return (time.process_time() - began) / CALLS * 1e6


def run() -> dict[str, Any]:
    """Measure all, in turns; medians in microseconds."""
    provider = Instant()
    gateways = {name: gateway(*setting) for name, setting in settings().items()}
    works: dict[str, Callable[[], object]] = {"provider alone": lambda: provider.chat(MESSAGES, TOOLS)}
    for name, each in gateways.items():
        works[name] = lambda each=each: each.chat(MESSAGES, TOOLS, None, FIELDS)  # type: ignore[misc]
    everything, now = gateways["+ pool of two, timeouts"], RealClock().now
    works["+ run deadline"] = lambda: everything.chat(MESSAGES, TOOLS, None, FIELDS, now() + 60)
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        timed(work)
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(timed(work))
    base = statistics.median(times["provider alone"])
    return {
        "unit": "µs of CPU per call, beyond the provider's own",
        **{name: round(statistics.median(found) - base, 1) for name, found in times.items() if found},
        "everything, async": round(asyncio.run(_async(everything, now)) - base, 1),
    }


async def _async(gateway: ModelGateway, now: Callable[[], float]) -> float:
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            await gateway.achat(MESSAGES, TOOLS, None, FIELDS, now() + 60)
        found.append((time.process_time() - began) / CALLS * 1e6)
    return statistics.median(found)


if __name__ == "__main__":
    for name, value in run().items():
        print(f"{name:28} {value}")
