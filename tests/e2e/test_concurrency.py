"""Many chats at once on one agent with one Azure client, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from loom_py import Agent, AgentBuilder, ScriptedProvider, TokenUsage, ToolCall, VirtualClock, tool
from loom_py.emulator import AzureEmulator
from loom_py.errors import (
    CircuitOpenError,
    ProviderError,
    RateLimitError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.llm.scripted import ScriptedRequest, call, reply

CHATS = 200
NAMES = [f"team:{letter}/look up" for letter in "abcde"]
"""Names that are not legal on the wire, and differ only where they are mapped."""


def _tool(name: str) -> Any:
    @tool(name=name)
    async def look(number: int) -> str:
        """Look a number up."""
        await asyncio.sleep(0.001)
        return f"{name} found {number}"

    return look


def _answer(request: ScriptedRequest) -> Any:
    """Ask for the tool the user's number is due; then repeat what it said. The usage tells the number."""
    number = int(next(message for message in request.messages if message.role == "user").text)
    tokens = TokenUsage(1000 + number, 1 + number)
    if request.messages[-1].role == "tool":
        return reply(request.messages[-1].text, tokens=tokens)
    wanted = request.tools[number % len(NAMES)].name
    return reply(tool_calls=[ToolCall(f"call_{number}", wanted, {"number": number})], tokens=tokens)


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    with AzureEmulator(ScriptedProvider(_answer)) as emulator:
        yield emulator


def agent_on(azure: AzureEmulator) -> AgentBuilder:
    """Without retries: every failure is to be seen."""
    builder = AgentBuilder().with_azure_openai_llm(azure.endpoint, "gpt-4o-deployment", azure.api_key)
    return builder.with_retries(max_attempts=1)


async def test_200_concurrent_chats_mix_no_names_no_usage_and_no_messages(azure: AzureEmulator) -> None:
    async with agent_on(azure).with_tools(*map(_tool, NAMES)).with_circuit_breakers().build() as agent:

        async def one(number: int) -> None:
            name = NAMES[number % len(NAMES)]
            verb = number % 2
            session = f"s{number}"
            if verb:
                response = await agent.achat(str(number), session_id=session)
            else:
                events = [event async for event in agent.astream_chat(str(number), session_id=session)]
                assert events[-1].response is not None
                response = events[-1].response
            assert response.message == f"{name} found {number}"
            assert [(item.name, item.arguments) for item in response.tool_calls] == [
                (name, {"number": number})
            ]
            assert response.tool_calls[0].id == f"call_{number}"
            assert response.tokens_used == TokenUsage(2 * (1000 + number), 2 * (1 + number))
            assert response.cost_usd is not None
            history = agent.history(session)
            assert [message.role for message in history] == ["user", "assistant", "tool", "assistant"]
            assert history[0].text == str(number)

        await asyncio.gather(*(one(number) for number in range(CHATS)))
        assert len(agent.sessions()) == CHATS
    assert len(azure.requests) == 2 * CHATS
    assert {request.status for request in azure.requests} == {200}


async def test_the_breaker_guards_a_real_deployment(azure: AzureEmulator) -> None:
    azure.engine = ScriptedProvider(["fine"])
    azure.fail_next(429, times=6)
    azure.fail_next(503, times=5)
    clock = VirtualClock()
    async with agent_on(azure).with_circuit_breakers().with_clock(clock).build() as agent:
        for _ in range(6):
            with pytest.raises(RateLimitError):
                await agent.achat("Go")
            clock.advance(60)  # as long as a throttled deployment is left alone here
        for _ in range(5):
            with pytest.raises(ServiceUnavailableError):
                await agent.achat("Go")
        with pytest.raises(CircuitOpenError) as caught:
            await agent.achat("Go")
        assert caught.value.deployment == "gpt-4o-deployment"
    assert len(azure.requests) == 11


@pytest.mark.parametrize("clean", [False, True])
async def test_a_stream_that_breaks_off_leaves_the_session_usable(azure: AzureEmulator, clean: bool) -> None:
    azure.engine = ScriptedProvider(["a rather long answer", "fine"])
    azure.cut_next_stream(3, clean=clean)
    async with agent_on(azure).build() as agent:
        seen: list[str] = []

        async def read() -> None:
            async for event in agent.astream_chat("Go", session_id="s"):
                seen.append(event.delta)  # noqa: PERF401 - what came before the cut is kept

        with pytest.raises(StreamInterruptedError):
            await read()
        assert "".join(seen)
        assert agent.sessions() == ()
        assert (await agent.achat("Go", session_id="s")).message == "fine"


@pytest.mark.parametrize(
    "body", ["<html>portal</html>", "", "null", "[]", {"id": "x"}, {"choices": []}, {"choices": [{}]}]
)
async def test_a_malformed_reply_is_a_clear_error_by_every_verb(azure: AzureEmulator, body: Any) -> None:
    azure.answer_next(body=body, headers={"content-type": "application/json"}, times=4)
    async with agent_on(azure).build() as agent:

        async def read() -> None:
            async for _ in agent.astream_chat("Go", session_id="s"):
                pass

        with pytest.raises(ProviderError):
            await agent.achat("Go", session_id="s")
        with pytest.raises(ProviderError):
            await read()
        with pytest.raises(ProviderError):
            agent.chat("Go", session_id="s")
        with pytest.raises(ProviderError):
            list(agent.stream_chat("Go", session_id="s"))
        assert agent.sessions() == ()


def test_a_stream_closed_early_frees_its_connection_and_session(azure: AzureEmulator) -> None:
    azure.engine = ScriptedProvider(["one two three four five", "fine"])
    agent: Agent = agent_on(azure).build()
    with agent:
        events = agent.stream_chat("Go", session_id="s")
        next(events)
        events.close()
        assert agent.chat("Go", session_id="s").message == "fine"


def test_a_tool_call_over_the_wire_is_run_and_answered(azure: AzureEmulator) -> None:
    @tool
    def double(number: int) -> int:
        """Twice a number."""
        return 2 * number

    azure.engine = ScriptedProvider([[call("double", number=2), call("double", number=3)], "4 and 6"])
    with agent_on(azure).with_tools(double).build() as agent:
        response = agent.chat("Go")
    assert [item.content for item in response.tool_results] == ["4", "6"]
    assert response.message == "4 and 6"
