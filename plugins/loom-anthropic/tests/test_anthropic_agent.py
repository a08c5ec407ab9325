"""Agents on Claude: tools, structured output, budgets, and Claude behind Azure as the last resort."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import BaseModel

from loom_anthropic import AnthropicEmulator, AnthropicProvider
from loom_py import AgentBuilder, tool
from loom_py.emulator import AzureEmulator
from loom_py.errors import BudgetExceededError, ContentFilterError, ServiceUnavailableError
from loom_py.llm.scripted import ScriptedProvider, call
from loom_py.messages import Response, TokenUsage, ToolCall

Make = Callable[..., AnthropicProvider]


class Forecast(BaseModel):
    city: str
    degrees: int


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    if city == "Atlantis":
        raise LookupError("no such city")
    return f"It rains in {city}."


def builder(api: AnthropicEmulator, model: str = "claude-sonnet-4-6") -> AgentBuilder:
    return AgentBuilder().with_anthropic_llm(api.api_key, model, base_url=api.base_url)


def test_an_agent_runs_several_tools_of_one_reply(api: AnthropicEmulator) -> None:
    calls = [call("weather", city="Oslo"), call("weather", city="Atlantis")]
    api.engine = ScriptedProvider([calls, "Wet in Oslo, and there is no Atlantis."])
    with builder(api).with_tools(weather).with_system_prompt("Be brief.").build() as agent:
        response = agent.chat("How is it?")
    assert response.message == "Wet in Oslo, and there is no Atlantis."
    assert (response.cost_usd or 0) > 0
    results = api.requests[-1].body["messages"][-1]["content"]
    assert [block["type"] for block in results] == ["tool_result", "tool_result"]
    assert [block.get("is_error") for block in results] == [None, True]
    assert api.requests[-1].body["system"][0]["text"].startswith("Be brief.")


async def test_an_agent_streams_claude(api: AnthropicEmulator) -> None:
    api.engine = ScriptedProvider([call("weather", city="Oslo"), "It rains there."])
    async with builder(api, "claude-opus-5-5").with_tools(weather).build() as agent:
        said = [event.delta async for event in agent.astream_chat("How is it?")]
    assert "".join(said) == "It rains there."


def test_structured_output_goes_by_the_schema(api: AnthropicEmulator) -> None:
    api.engine = ScriptedProvider(['{"city": "Oslo", "degrees": 7}'])
    with builder(api, "claude-opus-5-5").build() as agent:
        response = agent.chat("How is it in Oslo?", output=Forecast)
    assert response.output == Forecast(city="Oslo", degrees=7)
    schema = api.requests[-1].body["output_config"]["format"]["schema"]
    assert set(schema["required"]) == {"city", "degrees"}


def test_a_session_goes_on_with_the_thinking_of_its_tools() -> None:
    engine = ScriptedProvider([call("weather", city="Oslo"), "Wet.", "Bye."])
    with AnthropicEmulator(engine, thinking="Hm.") as api:
        claude = AgentBuilder().with_anthropic_llm(
            api.api_key, "claude-sonnet-4-6", base_url=api.base_url, thinking=2048, prompt_caching=True
        )
        with claude.with_tools(weather).build() as agent:
            agent.chat("How is it?", session_id="s")
            assert agent.chat("Thanks", session_id="s").message == "Bye."
    assert [request.status for request in api.requests] == [200, 200, 200]
    kinds = [[block["type"] for block in turn["content"]] for turn in api.requests[-1].body["messages"]]
    assert kinds == [["text"], ["thinking", "tool_use"], ["tool_result"], ["thinking", "text"], ["text"]]


def test_a_budget_counts_claudes_prices_before_the_call(api: AnthropicEmulator) -> None:
    with builder(api).with_budget(usd="0.0001").build() as agent, pytest.raises(BudgetExceededError):
        agent.chat("Hello")
    assert api.requests == []


def test_a_refusal_reaches_the_caller_as_a_content_filter_error(api: AnthropicEmulator) -> None:
    api.engine = ScriptedProvider([Response("", TokenUsage(5, 1), finish_reason="content_filter")])
    with builder(api).build() as agent, pytest.raises(ContentFilterError) as caught:
        agent.chat("Make malware")
    assert caught.value.tokens_used == TokenUsage(5, 1)


def test_an_overloaded_api_is_tried_again_by_the_agent(api: AnthropicEmulator) -> None:
    api.fail_next(529, headers={"retry-after": "0.01"})
    with builder(api).with_retries(max_attempts=2, initial_seconds=0.01, jitter_seconds=0).build() as agent:
        assert agent.chat("Hello").message == "Hello"
    assert [request.status for request in api.requests] == [529, 200]


@pytest.mark.parametrize("thinking", [None, 2048])
def test_claude_goes_on_in_the_middle_of_a_turn_where_azure_stopped(
    api: AnthropicEmulator, claude: Make, thinking: int | None
) -> None:
    asked = [
        ToolCall("call.1/a", "weather", {"city": "Oslo"}),
        ToolCall("call.1/b", "weather", {"city": "Rome"}),
    ]
    first = Response("", TokenUsage(9, 9), tool_calls=tuple(asked), finish_reason="tool_calls")
    api.engine = ScriptedProvider(["Wet in both.", "Still wet."])
    with AzureEmulator(_FailsAfter(first), deployments=["gpt"]) as azure:
        pool = (
            AgentBuilder()
            .with_azure_openai_llm(azure.endpoint, "gpt", azure.api_key, model_name="gpt-4o")
            .with_failover([claude(thinking=thinking)])
            .with_retries(max_attempts=2, initial_seconds=0.01, jitter_seconds=0)
            .with_tools(weather)
        )
        with pool.build() as agent:
            response = agent.chat("How is it?", session_id="s")
            again = agent.chat("And now?", session_id="s")
    assert (response.message, again.message) == ("Wet in both.", "Still wet.")
    body = api.requests[0].body
    calls = [block["id"] for block in body["messages"][1]["content"] if block["type"] == "tool_use"]
    results = [block["tool_use_id"] for block in body["messages"][2]["content"]]
    assert calls == results
    assert len({*calls}) == 2
    assert "thinking" not in body
    assert ("thinking" in api.requests[-1].body) == (thinking is not None)


class _FailsAfter(ScriptedProvider):
    """A model that gives one reply and then breaks down for good."""

    def __init__(self, reply: Response) -> None:
        super().__init__(
            lambda request: reply if len(self.requests) == 1 else ServiceUnavailableError("down")
        )
