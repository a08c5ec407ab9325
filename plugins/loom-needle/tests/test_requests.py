"""Settings and requests the provider refuses, and the schemas it shows the engine."""

from __future__ import annotations

from typing import Any

import pytest

from loom_needle import MAX_QUESTION_CHARACTERS, MAX_TOOLS, NeedleProvider, create_provider
from loom_needle.schema import engine_tools
from loom_py import AgentBuilder
from loom_py.errors import ConfigError, ContextLengthError, InvalidRequestError
from loom_py.llm.provider import LLMProvider
from loom_py.messages import ImagePart, Message, TextPart, ToolSpec
from loom_py.options import ChatOptions


def test_it_is_a_provider() -> None:
    assert isinstance(NeedleProvider(), LLMProvider)
    assert repr(NeedleProvider()) == "NeedleProvider(model='needle-3', min_confidence=0.3)"


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), True, "0.5", None])
def test_a_gate_that_is_no_share_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="min_confidence must be between") as caught:
        NeedleProvider(min_confidence=value)
    assert caught.value.field == "min_confidence"


def test_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is only 'needle-3'"):
        create_provider(model="gpt-4o")


def test_one_name_as_text_is_not_taken_for_names() -> None:
    with pytest.raises(ConfigError, match="offer takes several names"):
        NeedleProvider(offer="get_weather")


def test_more_tools_than_the_model_can_choose_among_are_refused() -> None:
    tools = [ToolSpec(f"tool_{number}") for number in range(MAX_TOOLS + 1)]
    with pytest.raises(InvalidRequestError, match="11 tools are offered") as caught:
        NeedleProvider().chat([Message.user("Hello")], tools)
    assert caught.value.param == "tools"
    assert "offer=" in (caught.value.hint or "")


def test_a_conversation_without_a_user_message_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no user message"):
        NeedleProvider().chat([Message.system("You are terse.")])


def test_images_are_refused(tools: list[ToolSpec]) -> None:
    message = Message.user([TextPart("What is this?"), ImagePart(data=b"\x89PNG")])
    with pytest.raises(InvalidRequestError, match="reads text only"):
        NeedleProvider().chat([message], tools)


def test_a_question_beyond_the_limit_is_refused_before_the_engine_is_held_up(tools: list[ToolSpec]) -> None:
    with pytest.raises(ContextLengthError, match=f"the limit is {MAX_QUESTION_CHARACTERS}"):
        NeedleProvider().chat([Message.user("x" * (MAX_QUESTION_CHARACTERS + 1))], tools)


def test_a_demanded_tool_that_is_not_there_is_refused(tools: list[ToolSpec]) -> None:
    with pytest.raises(InvalidRequestError, match="'send_mail', which is not a tool here") as caught:
        NeedleProvider().chat([Message.user("Hi")], tools, options=ChatOptions(tool_choice="send_mail"))
    assert caught.value.param == "tool_choice"


def test_no_tool_is_called_where_none_is_wanted(tools: list[ToolSpec]) -> None:
    question = [Message.user("What is the weather in Oslo?")]
    response = NeedleProvider().chat(question, tools, options=ChatOptions(tool_choice="none"))
    assert response.tool_calls == ()
    assert response.message


def test_an_empty_question_is_declined_with_what_can_be_done(tools: list[ToolSpec]) -> None:
    assert "- get_weather: " in NeedleProvider().chat([Message.user("  ")], tools).message


def test_closing_keeps_nobody_from_asking_again() -> None:
    with NeedleProvider() as provider:
        first = provider.chat([Message.user("Hi")]).message
    assert provider.chat([Message.user("Hi")]).message == first


# ── schemas ──────────────────────────────────────────────────────────────────────────────


def seen(schema: dict[str, Any], **definitions: Any) -> Any:
    parameters = {"type": "object", "properties": {"x": schema}, "$defs": definitions}
    return engine_tools([ToolSpec("t", "", parameters)])[0]["parameters"]["properties"]["x"]


@pytest.mark.parametrize(
    ("schema", "simple"),
    [
        ({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, {"type": "integer", "minimum": 1}),
        ({"anyOf": [{"type": "null"}, {"type": "number"}]}, {"type": "number"}),
        ({"type": ["null", "string"]}, {"type": "string"}),
        ({"enum": [1, 2]}, {"type": "integer", "enum": [1, 2]}),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"type": "array", "items": {"$ref": "#/$defs/U"}}, {"type": "array", "items": {"type": "boolean"}}),
        ({"$ref": "#/$defs/U", "description": "d"}, {"type": "boolean", "description": "d"}),
        ({"allOf": [{"$ref": "#/$defs/U"}], "title": "T", "default": True}, {"type": "boolean"}),
        ({"$ref": "#/$defs/gone"}, {"type": "string"}),
        ({}, {"type": "string"}),
    ],
)
def test_a_schema_is_simplified_for_the_engine(schema: dict[str, Any], simple: dict[str, Any]) -> None:
    assert seen(schema, U={"type": "boolean"}) == simple


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    assert seen({"$ref": "#/$defs/Node"}, Node=node)["properties"]["next"]["type"] == "object"
    assert seen({"$ref": "#/$defs/A"}, A={"$ref": "#/$defs/A"}) == {"type": "string"}


def test_the_order_of_the_keys_does_not_depend_on_how_the_schema_was_written() -> None:
    one = engine_tools(
        [ToolSpec("t", "", {"type": "object", "properties": {"x": {"type": "string", "enum": ["a"]}}})]
    )
    two = engine_tools(
        [ToolSpec("t", "", {"properties": {"x": {"enum": ["a"], "type": "string"}}, "type": "object"})]
    )
    assert repr(one) == repr(two)


# ── money ────────────────────────────────────────────────────────────────────────────────


def test_a_call_costs_nothing_and_a_budget_lets_it_through() -> None:
    provider = NeedleProvider()
    assert provider.worst_cost(1_000_000, 512).usd == 0
    with (
        AgentBuilder().with_llm(provider).with_budget(usd="0.01", on_unknown_price="refuse").build() as agent
    ):
        response = agent.chat("Hello?")
        assert response.cost_usd == 0
        assert response.metadata["turns"] == 1
        assert agent.costs().total == 0
        assert agent.costs().unpriced_calls == 0
