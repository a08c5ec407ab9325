"""Chats whose history, and some of whose tools, are the caller's."""

from __future__ import annotations

from typing import Any

import pytest

from loom_py import Agent, AgentBuilder, Message, ScriptedProvider, ToolSpec
from loom_py.conversation import Conversation
from loom_py.errors import ConfigError
from loom_py.events import FinalResponse, TextDelta
from loom_py.llm.scripted import Step, call, reply

WEATHER = ToolSpec("weather", "The weather.")


def stock() -> int:
    """How many there are."""
    return 12


def _agent(*steps: Step, **limits: Any) -> tuple[Agent, ScriptedProvider]:
    provider = ScriptedProvider(steps)
    builder = AgentBuilder().with_llm(provider).with_tools(stock).with_system_prompt("Be brief.")
    return builder.with_limits(**limits).build() if limits else builder.build(), provider


def _history() -> list[Message]:
    return [Message.user("I am Ada."), Message.assistant("Hello."), Message.user("Who am I?")]


async def _by_every_verb(agent: Agent, conversation: Conversation) -> list[str]:
    return [
        agent.chat(conversation).message,
        (await agent.achat(conversation)).message,
        "".join(event.delta for event in agent.stream_chat(conversation)),
        "".join([event.delta async for event in agent.astream_chat(conversation)]),
    ]


async def test_every_verb_answers_a_history_after_the_agents_own_instructions() -> None:
    agent, provider = _agent("Ada.", "Ada.", "Ada.", "Ada.")
    with agent:
        assert await _by_every_verb(agent, Conversation(_history())) == ["Ada."] * 4
    for request in provider.requests:
        assert request.messages == (Message.system("Be brief."), *_history())


def test_nothing_of_it_is_kept_without_a_session_and_all_of_it_with_one() -> None:
    agent, _ = _agent("Ada.", "Ada.")
    with agent:
        agent.chat(Conversation(_history()))
        assert agent.sessions() == ()
        agent.chat(Conversation(_history()), session_id="ada")
        assert agent.history("ada") == (*_history(), Message.assistant("Ada."))


def test_a_call_of_the_callers_tool_ends_the_chat_after_the_agents_own_have_run() -> None:
    agent, provider = _agent(call("stock"), reply("One moment.", tool_calls=[call("weather", of="Oslo")]))
    with agent:
        response = agent.chat(Conversation([Message.user("?")], [WEATHER]), session_id="ada")
        history = agent.history("ada")
    assert response.finish_reason == "tool_calls"
    assert response.message == "One moment."
    assert [each.name for each in response.tool_calls] == ["stock", "weather"]
    assert [each.name for each in response.tool_results] == ["stock"]
    assert [spec.name for spec in provider.requests[0].tools] == ["stock", "weather"]
    assert [each.name for each in history[-1].tool_calls] == ["weather"]


def test_own_calls_beside_the_callers_are_left_out_and_not_run() -> None:
    agent, _ = _agent([call("stock"), call("weather")])
    with agent:
        response = agent.chat(Conversation([Message.user("?")], [WEATHER]))
    assert [each.name for each in response.tool_calls] == ["weather"]
    assert response.tool_results == ()
    assert response.metadata["tool_executions"] == 0


def test_the_chat_goes_on_with_the_callers_results() -> None:
    agent, provider = _agent(call("weather"), "Rain.")
    with agent:
        first = Conversation([Message.user("?")], [WEATHER])
        (asked,) = agent.chat(first).tool_calls
        result = Message.tool("rain", asked.id, asked.name)
        more = [*first.messages, Message.assistant(tool_calls=[asked]), result]
        assert agent.chat(Conversation(more, [WEATHER])).message == "Rain."
    assert provider.requests[-1].messages[-1] == result


def test_a_stream_that_ends_with_a_call_shows_no_text_that_nobody_wrote() -> None:
    agent, _ = _agent(call("weather"))
    with agent:
        events = list(agent.stream_chat(Conversation([Message.user("?")], [WEATHER])))
    assert not any(isinstance(event, TextDelta) for event in events)
    assert isinstance(events[-1], FinalResponse)
    assert events[-1].response.tool_calls[-1].name == "weather"


def test_the_callers_tools_are_not_offered_at_a_limit() -> None:
    agent, provider = _agent(call("stock"), "Twelve.", max_turns=1)
    with agent:
        assert agent.chat(Conversation([Message.user("?")], [WEATHER])).message == "Twelve."
    assert provider.requests[-1].tools == ()


def test_a_callers_tool_may_not_bear_the_name_of_an_own_one() -> None:
    agent, provider = _agent("never")
    with agent, pytest.raises(ConfigError, match="the agent has a tool of that name itself: stock"):
        agent.chat(Conversation([Message.user("?")], [ToolSpec("stock")]))
    assert provider.requests == ()


@pytest.mark.parametrize("messages", [[], [Message.assistant("x")], [Message.system("x")]])
def test_what_nobody_can_answer_is_no_conversation(messages: list[Message]) -> None:
    with pytest.raises(ValueError, match="ends with a message of the user"):
        Conversation(messages)


def test_a_conversation_is_made_of_messages_and_tools_of_different_names() -> None:
    wrong: Any = ["hello"]
    with pytest.raises(TypeError, match="not of str"):
        Conversation(wrong)
    with pytest.raises(ValueError, match="two tools have the same name"):
        Conversation(_history(), [WEATHER, WEATHER])
