"""A second agent whose model is the first, served."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from loom_py import Agent, AgentBuilder


def weather(of: str) -> str:
    """The weather of a city.

    Args:
        of: the city.
    """
    return f"rain in {of}"


def _openai(url: str) -> AgentBuilder:
    return AgentBuilder().with_openai_llm("key", "helper", base_url=f"{url}/v1", surface="chat")


def _compatible(url: str) -> AgentBuilder:
    if importlib.util.find_spec("loom_openai_compatible") is None:
        pytest.skip("the package loom-openai-compatible is not installed")
    return AgentBuilder().with_openai_compatible_llm(f"{url}/v1", "helper", "key")


@pytest.fixture(params=[_openai, _compatible], ids=["openai", "openai-compatible"])
def outer(request: pytest.FixtureRequest, url: str) -> Iterator[Agent]:
    """An agent with a tool of its own."""
    with request.param(url).with_tools(weather).build() as agent:
        yield agent


def test_it_uses_its_own_tools_and_the_served_agents(outer: Agent) -> None:
    response = outer.chat("weather")
    assert response.message == "echo rain in Oslo"
    assert [result.content for result in response.tool_results] == ["rain in Oslo"]
    assert response.tokens_used.total == 30
    assert outer.chat("stock").message == "echo 12 of Oslo"  # the served agent's tool, unseen from here
    assert outer.chat("stock").tool_results == ()


async def test_it_streams_to_tasks(outer: Agent) -> None:
    async with outer:
        text = "".join([event.delta async for event in outer.astream_chat("weather")])
    assert text == "echo rain in Oslo"


def test_it_streams(outer: Agent) -> None:
    assert "".join(event.delta for event in outer.stream_chat("slow 3")) == "word0 word1 word2 "


def test_its_sessions_are_its_own(outer: Agent) -> None:
    outer.chat("one", session_id="ada")
    assert outer.chat("history", session_id="ada").message == (
        "user: one | assistant: echo one | user: history"
    )
