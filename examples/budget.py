"""Money that cannot be overspent: fifty questions at once, somebody who approves more, and a restart.

The emulated model answers each question with 400 tokens; a call is allowed 1,000.
"""

from __future__ import annotations

import asyncio
import tempfile
from decimal import Decimal
from pathlib import Path

from loom_py import AgentBuilder, AzureEmulator, BudgetAlert, ScriptedProvider, TokenUsage, reply
from loom_py.errors import BudgetExceededError
from loom_py.resilience.spending import SQLiteLedger

MODEL = ScriptedProvider(lambda request: reply("Done.", tokens=TokenUsage(20, 400)))
ledger = Path(tempfile.mkdtemp()) / "spending.db"
approved: list[Decimal] = []


def ask_the_boss(alert: BudgetAlert) -> Decimal | None:
    """Somebody who allows another cent, once."""
    if not alert.refused or approved:
        return None
    approved.append(Decimal("0.01"))
    print(f"asked: {alert.remaining:.4f} USD left, the next call may cost {alert.needed:.4f}")
    return approved[0]


async def ask_fifty(builder: AgentBuilder) -> None:
    """Fifty questions at once: those that might overspend are refused, before anything is sent."""
    async with builder.with_budget(usd="0.05", per="agent").build() as agent:
        questions = [agent.achat(f"Question {number}?") for number in range(50)]
        outcomes = await asyncio.gather(*questions, return_exceptions=True)
        refused = sum(isinstance(outcome, BudgetExceededError) for outcome in outcomes)
        print(f"50 at once, some refused: {refused > 0}, ", end="")
        print(f"within the budget: {agent.costs().total <= Decimal('0.05')}")


with AzureEmulator(MODEL) as azure:
    base = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs(), max_tokens=1000)
    asyncio.run(ask_fifty(base))

    with base.with_budget(usd="0.05", per="agent", approve=ask_the_boss, ledger=ledger).build() as agent:
        try:
            for number in range(100):
                agent.chat(f"Question {number}?")
        except BudgetExceededError as error:
            print(f"after {number} answers: {error.message}")

    with base.with_budget(usd="0.05", per="agent", ledger=ledger).build() as restarted:
        try:
            restarted.chat("And now?")
        except BudgetExceededError as error:
            print(f"restarted, {error.spent} of {error.limit} USD are still spent")

with SQLiteLedger(ledger) as book:
    print(book.report())
