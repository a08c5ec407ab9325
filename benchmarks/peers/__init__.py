"""Other libraries, each in an environment of its own. A missing or broken one is reported and left out."""

from __future__ import annotations

PEERS = {
    "pydantic-ai": "benchmarks.peers.pydantic_ai:PydanticAI",
    "langchain": "benchmarks.peers.langchain:LangChain",
    "agno": "benchmarks.peers.agno:Agno",
    "openai-agents": "benchmarks.peers.openai_agents:OpenAIAgents",
    "litellm": "benchmarks.peers.litellm:LiteLLM",
}
"""Each peer's adapter. All talk chat completions to the same server, by the SDK where they can."""
