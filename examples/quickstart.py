"""The smallest agent: one question, one answer, and what it cost.

Run it as it is and it talks to an emulator on this machine. Set ``AZURE_OPENAI_ENDPOINT``,
``AZURE_OPENAI_DEPLOYMENT`` and ``AZURE_OPENAI_API_KEY`` and it talks to your deployment.
"""

from __future__ import annotations

from offline import azure

from loom_py import AgentBuilder

with (
    azure("The warp is held taut; the weft is woven through it.") as settings,
    AgentBuilder().with_azure_openai_llm(*settings).build() as agent,
):
    response = agent.chat("What is the difference between warp and weft?")

print(response.message)
print(f"{response.tokens_used.total} tokens, {response.cost_usd} USD, model {response.model}")
