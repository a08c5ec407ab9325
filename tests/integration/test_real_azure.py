"""The same promises against a real deployment; run where the environment names one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from loom_py import Agent, AgentBuilder, tool

NEEDED = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_API_KEY")
MISSING = [name for name in NEEDED if not os.environ.get(name)]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no real Azure: {', '.join(MISSING)} not set")


@tool
def secret_word(colour: str) -> str:
    """The secret word that belongs to a colour."""
    return {"green": "heliotrope"}.get(colour.lower(), "unknown colour")


@pytest.fixture
def agent() -> Iterator[Agent]:
    with AgentBuilder().with_azure_openai_llm().with_tools(secret_word).build() as agent:
        yield agent


def test_a_chat_is_answered_and_priced(agent: Agent) -> None:
    response = agent.chat("Reply with the single word: pong")
    assert "pong" in response.message.lower()
    assert response.tokens_used.input > 0
    assert response.cost_usd is not None
    assert response.cost_usd > 0
    assert response.metadata["request_id"]


async def test_an_async_chat_is_answered(agent: Agent) -> None:
    response = await agent.achat("Reply with the single word: pong")
    assert "pong" in response.message.lower()
    await agent.aclose()


def test_a_stream_is_whole(agent: Agent) -> None:
    events = list(agent.stream_chat("Count from one to five, in words."))
    response = events[-1].response
    assert response is not None
    assert "".join(event.delta for event in events) == response.message
    assert response.tokens_used.output > 0


def test_a_tool_is_called_and_its_result_used(agent: Agent) -> None:
    response = agent.chat("What is the secret word for green? Use the tool.")
    assert [call.name for call in response.tool_calls] == ["secret_word"]
    assert "heliotrope" in response.message.lower()
