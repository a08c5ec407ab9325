"""Money: one agent on two sessions, its report, and a contract's own price."""

from __future__ import annotations

from decimal import Decimal

from offline import azure

from loom_py import AgentBuilder, PriceOverride, TokenUsage, reply

DISCOUNT = {"gpt-4o-deployment": PriceOverride(type="data-zone-eu", multiplier="0.9")}  # 10 % off

REPLIES = (  # what the model says and uses offline
    reply("Warp and weft.", tokens=TokenUsage(1200, 300, cached_input=1024)),
    reply("The warp.", tokens=TokenUsage(1500, 40, cached_input=1152)),
    reply("A loom.", tokens=TokenUsage(1200, 20)),
)

with (
    azure(*REPLIES) as settings,
    AgentBuilder().with_azure_openai_llm(*settings, prices=DISCOUNT).build() as agent,
):
    agent.chat("What is cloth made of?", session_id="ada")
    agent.chat("Which of them is held taut?", session_id="ada")
    agent.chat("What holds it?", session_id="bob")
    report = agent.costs()

print(report)
for name, part in report.by_session.items():
    print(f"{name}: {part.total} USD, calls: {part.calls}")
for kind, usd in report.parts.items():
    if usd:
        print(f"{kind}: {usd} USD")
assert report.total == sum((part.total for part in report.by_session.values()), Decimal(0))
