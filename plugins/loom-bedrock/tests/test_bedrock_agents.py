"""Agents on Bedrock: tools, typed answers, reasoning, and pools in which it is the last resort."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from pydantic import BaseModel

from loom_bedrock import BedrockProvider
from loom_bedrock.emulator import BedrockEmulator
from loom_py import AgentBuilder, AzureEmulator, ChatOptions, ScriptedProvider, call, reply
from loom_py.errors import ContextLengthError
from loom_py.messages import Message, TokenUsage, ToolCall

Serve = Callable[..., tuple[BedrockEmulator, BedrockProvider]]
HELLO = [Message.user("Hello")]


def weather(city: str) -> str:
    """The weather in a city."""
    if city == "Atlantis":
        raise ValueError("no such city")
    return f"rain in {city}"


class Report(BaseModel):
    """The weather."""

    city: str
    wet: bool


def test_an_agent_runs_tools_and_its_failures_are_told_as_such(serve: Serve) -> None:
    calls = [ToolCall("t1", "weather", {"city": "Oslo"}), ToolCall("t2", "weather", {"city": "Atlantis"})]
    bedrock, provider = serve(ScriptedProvider([reply("Let me see.", tool_calls=calls), "It rains."]))
    with AgentBuilder().with_llm(provider).with_tools(weather).build() as agent:
        response = agent.chat("Rain?")
    assert response.message == "It rains."
    results = [block["toolResult"] for block in bedrock.calls[1].body["messages"][-1]["content"]]
    assert [(one["toolUseId"], one.get("status")) for one in results] == [("t1", None), ("t2", "error")]
    assert response.cost_usd is not None


def test_reasoning_returns_with_the_results_of_its_tools(serve: Serve) -> None:
    wanted = ToolCall("t1", "weather", {"city": "Oslo"})
    thinking = reply("", tool_calls=[wanted], metadata={"reasoning": "Which city?"})
    bedrock, provider = serve(ScriptedProvider([thinking, "It rains."] * 2))
    with AgentBuilder().with_llm(provider).with_tools(weather).build() as agent:
        assert agent.chat("Rain?").message == "It rains."
        assert list(agent.stream_chat("Again?"))[-1].delta == ""
    sent = bedrock.calls[1].body["messages"][1]["content"]
    assert [next(iter(block)) for block in sent] == ["reasoningContent", "toolUse"]
    assert sent[0]["reasoningContent"]["reasoningText"]["text"] == "Which city?"
    assert len(bedrock.calls) == 4


def test_reasoning_survives_a_stored_session(serve: Serve) -> None:
    wanted = ToolCall("t1", "weather", {"city": "Oslo"})
    thinking = reply("", tool_calls=[wanted], metadata={"reasoning": "Which city?"})
    _, provider = serve(ScriptedProvider([thinking, "It rains."]))
    first = provider.chat(HELLO)
    assert first.metadata["reasoning"] == "Which city?"
    again = Message.from_json(first.to_message().to_json())
    turn = [*HELLO, again, Message.tool("rain", "t1", "weather")]
    assert provider.chat(turn).message == "It rains."


@pytest.mark.parametrize(
    "model", ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.amazon.nova-lite-v1:0"]
)
def test_a_typed_answer_comes_by_schema_or_by_a_forced_tool(serve: Serve, model: str) -> None:
    has_schema = "claude" in model
    text = '{"city": "Oslo", "wet": true}'
    engine = (
        ScriptedProvider([text])
        if has_schema
        else ScriptedProvider([call("final_answer", city="Oslo", wet=True)])
    )
    bedrock, provider = serve(engine, model=model)
    with AgentBuilder().with_llm(provider).build() as agent:
        response = agent.chat("Weather?", output=Report)
    assert response.output == Report(city="Oslo", wet=True)
    body = bedrock.calls[0].body
    assert ("outputConfig" in body) is has_schema
    assert ("toolConfig" in body) is not has_schema


def test_calls_that_were_forbidden_never_reach_the_agent(serve: Serve) -> None:
    used = [
        *HELLO,
        Message.assistant("", [ToolCall("t1", "weather", {"city": "Oslo"})]),
        Message.tool("rain", "t1", "weather"),
    ]
    unruly = reply("Done.", tool_calls=[ToolCall("t2", "weather", {"city": "Rome"})])
    _, provider = serve(ScriptedProvider([unruly] * 2))
    response = provider.chat(used, options=ChatOptions(tool_choice="none"))
    assert (response.message, response.tool_calls, response.finish_reason) == ("Done.", (), "stop")
    seen = list(provider.stream_chat(used, options=ChatOptions(tool_choice="none")))
    assert [event.type for event in seen] == ["text_delta", "usage", "final_response"]


def test_bedrock_answers_where_azure_is_down_and_the_session_goes_on_across_both_wires() -> None:
    azure_calls = [ToolCall("call_azure.1", "weather", {"city": "Oslo"})]
    azure_brain = ScriptedProvider([reply("", tool_calls=azure_calls), "Oslo is wet.", "And Rome is too."])
    bedrock_brain = ScriptedProvider(
        [reply("", tool_calls=[ToolCall("tooluse_b1", "weather", {"city": "Rome"})]), "Rome is wet."]
    )
    with AzureEmulator(azure_brain) as azure, BedrockEmulator(bedrock_brain) as bedrock:
        claude = BedrockProvider(model="us.anthropic.claude-sonnet-4-5-20250929-v1:0", **bedrock.settings)
        builder = (
            AgentBuilder()
            .with_azure_openai_llm(azure.endpoint, "gpt-4o-deployment", azure.api_key)
            .with_failover([claude])
            .with_retries(max_attempts=2, initial_seconds=0.01, jitter_seconds=0)
            .with_tools(weather)
        )
        with builder.build() as agent:
            first = agent.chat("Oslo?", session_id="s")
            assert first.message == "Oslo is wet."
            azure.fail_next(503, times=20)
            second = agent.chat("Rome?", session_id="s")
            assert second.message == "Rome is wet."
            assert second.model.startswith("us.anthropic")
            azure.reset()
            third = agent.chat("Both?", session_id="s")
        ids = [
            block["toolUse"]["toolUseId"]
            for message in bedrock.calls[-1].body["messages"]
            for block in message["content"]
            if "toolUse" in block
        ]
        assert len(ids) == 2
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one) for one in ids)
        assert second.cost_usd is not None
        assert second.cost_usd > Decimal(0)
        assert third.message


def test_a_throttled_bedrock_is_retried_by_the_agent_and_waits_as_it_was_told(serve: Serve) -> None:
    bedrock, provider = serve(ScriptedProvider(["Hi"]))
    bedrock.fail("ThrottlingException", headers={"retry-after": "0.05"})
    with (
        AgentBuilder()
        .with_llm(provider)
        .with_retries(max_attempts=3, initial_seconds=0.01, jitter_seconds=0)
        .build() as agent
    ):
        assert agent.chat("Hello").message == "Hi"
    assert bedrock.received == 2


def test_a_conversation_too_long_says_so_through_the_agent(serve: Serve) -> None:
    bedrock, provider = serve()
    bedrock.fail("ValidationException", "Input is too long for requested model.")
    with AgentBuilder().with_llm(provider).build() as agent, pytest.raises(ContextLengthError):
        agent.chat("Hello")


def test_a_budget_is_kept_with_the_prices_of_bedrock(serve: Serve) -> None:
    bedrock, provider = serve(
        ScriptedProvider([reply("Hi", tokens=TokenUsage(1000, 100))] * 3), max_tokens=1000
    )
    with AgentBuilder().with_llm(provider).with_budget(usd="0.02", per="agent").build() as agent:
        agent.chat("Hello")
        with pytest.raises(Exception, match="budget"):
            agent.chat("Hello")
    assert len(bedrock.calls) == 1
