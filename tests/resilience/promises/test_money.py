"""Fifty runs at once on one budget: not one call begins that could overspend."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from loom_py import AgentBuilder, AzureEmulator, ChatOptions, ScriptedProvider, TokenUsage
from loom_py.errors import BudgetExceededError
from loom_py.llm.scripted import ScriptedRequest, reply
from loom_py.messages import Response
from tests.resilience.promises.pilot import VERBS, Verb, held

RUNS = 50
CALLS = 6
BUDGET = Decimal("0.05")
INPUT, OUTPUT = Decimal("2.50") / 10**6, Decimal(10) / 10**6
"""USD a token of gpt-4o-2024-11-20."""

MOST = 200
"""Tokens that a reply may have; each uses half of them."""


class Till:
    """The model, and what it has billed: by its own count, as a bill would be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.billed = Decimal(0)
        self.under_way = 0
        self.calls = 0
        self.most_at_risk = Decimal(0)
        self.most_at_once = 0

    async def __call__(self, request: ScriptedRequest) -> Response:
        assert request.options.max_tokens == MOST
        with self.lock:
            self.under_way += 1
            self.calls += 1
            at_risk = self.billed + self.under_way * (10 * INPUT + MOST * OUTPUT)
            self.most_at_risk = max(self.most_at_risk, at_risk)
            self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0.005)
        used = MOST if request.index % 2 else MOST // 4
        with self.lock:
            self.under_way -= 1
            self.billed += 10 * INPUT + used * OUTPUT
        return reply("Worth it.", tokens=TokenUsage(10, used))


@pytest.mark.parametrize("ask", VERBS)
@pytest.mark.parametrize("where", ["memory", "file"])
async def test_no_call_begins_that_could_overspend(ask: Verb, where: str, tmp_path: Path) -> None:
    till = Till()
    needless: list[bool] = []
    ledger = None if where == "memory" else tmp_path / "spent.db"
    with AzureEmulator(ScriptedProvider(till)) as azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs())
        builder = builder.with_budget(usd=BUDGET, per="agent", ledger=ledger)
        async with builder.build() as agent:

            async def run() -> int:
                done = 0
                for _ in range(CALLS):
                    try:
                        await ask(agent, options=ChatOptions(max_tokens=MOST))
                    except BudgetExceededError as refusal:
                        needless.append(refusal.spent + refusal.reserved + refusal.needed <= refusal.limit)
                        await asyncio.sleep(0.01)
                    else:
                        done += 1
                return done

            done = sum(await asyncio.gather(*(run() for _ in range(RUNS))))
            (status,) = agent.health().budgets
            assert held(agent) == []
            assert agent.costs().total == till.billed
        print(
            f"\n{till.calls} calls, up to {till.most_at_once} at once, {till.billed} of {BUDGET} USD billed,"
            f" {till.most_at_risk} at most at risk"
        )
        assert needless
        assert not any(needless)
        assert done == till.calls == len(azure.requests)
        assert till.billed <= BUDGET
        assert till.most_at_risk <= BUDGET
        assert status.usd.spent == till.billed
        assert till.calls >= 25
        assert till.most_at_once > 1
        assert till.billed > BUDGET * Decimal("0.9")  # it was not saved by refusing for nothing
