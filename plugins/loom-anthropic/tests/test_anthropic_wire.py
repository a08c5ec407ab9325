"""Requests: settings, tools, thinking, caching and the API version they need."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loom_anthropic import AnthropicConfig
from loom_anthropic.wire import check_call, encode_request
from loom_py.errors import ConfigError
from loom_py.messages import Message, ToolCall, ToolSpec
from loom_py.options import ChatOptions

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = ToolSpec("weather", "The weather.", PLACE)
ASK = [Message.system("Be brief."), Message.user("Rain?")]


def config(model: str = "claude-sonnet-4-6", **settings: Any) -> AnthropicConfig:
    return AnthropicConfig.resolve({"api_key": "k" * 20, "model": model, **settings})


def body(
    options: ChatOptions | None = None,
    tools: tuple[ToolSpec, ...] = (),
    messages: list[Message] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    request = encode_request(messages or ASK, tools, options, config=config(**settings))
    decoded: dict[str, Any] = json.loads(request.content)
    return decoded


def version(options: ChatOptions, model: str) -> str:
    return encode_request(ASK, (), options, config=config(model)).headers["anthropic-version"]


def test_sampling_parameters_bring_the_api_version_that_knows_them() -> None:
    warm = ChatOptions(temperature=0.3)
    assert version(warm, "claude-sonnet-4-6") == "2023-06-01"
    assert version(ChatOptions(), "claude-sonnet-4-6") == "2026-10-21"
    assert body(warm)["temperature"] == 0.3


@pytest.mark.parametrize("model", ["claude-opus-4-7", "claude-sonnet-5-5", "claude-opus-9"])
def test_sampling_parameters_are_left_out_for_models_that_refuse_them(model: str) -> None:
    warm = ChatOptions(temperature=0.3, top_p=0.5)
    assert not {"temperature", "top_p"} & body(warm, model=model).keys()
    assert version(warm, model) == "2026-10-21"


def test_of_temperature_and_top_p_only_one_is_sent_and_at_most_one() -> None:
    sent = body(ChatOptions(temperature=1.7, top_p=0.5))
    assert (sent["temperature"], "top_p" in sent) == (1.0, False)
    assert body(ChatOptions(top_p=0.5))["top_p"] == 0.5


def test_there_is_always_a_token_limit_that_fits_the_model() -> None:
    assert body()["max_tokens"] == 8192
    assert body(model="claude-opus-5-5")["max_tokens"] == 16_384
    assert body(thinking=10_000)["max_tokens"] == 18_192
    assert body(model="claude-haiku-4-5", thinking=63_000)["max_tokens"] == 64_000
    assert body(ChatOptions(max_tokens=5), max_tokens=100)["max_tokens"] == 5


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("weather", True, {"type": "tool", "name": "weather", "disable_parallel_tool_use": False}),
        ("none", False, {"type": "none"}),
    ],
)
def test_the_choice_of_tools_in_the_apis_words(
    choice: str | None, parallel: bool | None, sent: dict[str, Any] | None
) -> None:
    options = ChatOptions(tool_choice=choice, parallel_tool_calls=parallel)
    assert body(options, (WEATHER,)).get("tool_choice") == sent


def test_without_tools_there_is_no_choice_among_them() -> None:
    assert "tool_choice" not in body(ChatOptions(tool_choice="none", parallel_tool_calls=False))


def test_a_tool_has_its_schema_and_a_description_if_it_has_one() -> None:
    tools = body(None, (WEATHER, ToolSpec("now")))["tools"]
    assert tools[0] == {"name": "weather", "description": "The weather.", "input_schema": PLACE}
    assert tools[1] == {"name": "now", "input_schema": {"type": "object", "properties": {}}}


def test_caching_marks_the_ends_of_tools_system_prompt_and_conversation() -> None:
    sent = body(None, (ToolSpec("now"), WEATHER), prompt_caching=True)
    mark = {"type": "ephemeral"}
    assert [tool.get("cache_control") for tool in sent["tools"]] == [None, mark]
    assert sent["system"][-1]["cache_control"] == mark
    assert sent["messages"][-1]["content"][-1]["cache_control"] == mark
    hour = body(prompt_caching="1h")
    assert hour["system"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert b"cache_control" not in encode_request(ASK, (WEATHER,), config=config()).content


def test_a_mark_for_the_cache_does_not_stay_on_the_tools() -> None:
    tools = (WEATHER,)
    encode_request(ASK, tools, config=config(prompt_caching=True))
    assert b"cache_control" not in encode_request(ASK, tools, config=config()).content


def test_a_thinking_budget_leaves_sampling_out_and_fits_below_the_limit() -> None:
    sent = body(ChatOptions(temperature=0.2, max_tokens=2000), thinking=1500)
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 1500}
    assert "temperature" not in sent
    assert body(ChatOptions(max_tokens=1200), thinking=1500)["thinking"]["budget_tokens"] == 1199
    assert "thinking" not in body(ChatOptions(max_tokens=500), thinking=1500)


def test_a_call_that_must_use_a_tool_does_not_think_first() -> None:
    must = ChatOptions(tool_choice="required")
    assert "thinking" not in body(must, (WEATHER,), thinking=2000)
    assert "thinking" not in body(must, (WEATHER,), thinking="adaptive")
    assert body(must, (WEATHER,), model="claude-opus-5")["thinking"] == {"type": "disabled"}


def test_a_budget_waits_for_the_next_turn_where_another_provider_began_this_one() -> None:
    call = ToolCall("call_1", "weather", {"city": "Oslo"})
    begun = [Message.user("?"), Message.assistant("", [call]), Message.tool("wet", "call_1")]
    assert "thinking" not in body(None, (WEATHER,), begun, thinking=2000)
    assert "thinking" in body(None, (WEATHER,), [Message.user("?")], thinking=2000)


@pytest.mark.parametrize(
    ("model", "thinking", "sent"),
    [
        ("claude-sonnet-4-6", "adaptive", {"type": "adaptive"}),
        ("claude-sonnet-4-6", None, None),
        ("claude-opus-5", "off", {"type": "disabled"}),
        ("claude-sonnet-5-5", "off", {"type": "between_tools"}),
    ],
)
def test_thinking_in_the_models_own_words(model: str, thinking: Any, sent: Any) -> None:
    assert body(model=model, thinking=thinking).get("thinking") == sent


def test_effort_is_sent_to_models_that_have_it() -> None:
    hard = ChatOptions(reasoning_effort="high")
    assert body(hard, model="claude-opus-5-5")["output_config"] == {"effort": "high"}
    assert "output_config" not in body(hard, model="claude-haiku-4-5")
    assert (
        body(ChatOptions(reasoning_effort="none"), model="claude-sonnet-5")["thinking"]["type"] == "disabled"
    )
    assert body(ChatOptions(reasoning_effort="minimal"), model="claude-sonnet-5")["output_config"] == {
        "effort": "low"
    }


def test_a_json_schema_becomes_the_output_format() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    sent = body(ChatOptions(response_format=wanted))["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert sent["schema"]["additionalProperties"] is False
    assert "minimum" not in sent["schema"]["properties"]["n"]
    assert "output_config" not in body(ChatOptions(response_format={"type": "text"}))


def test_json_without_a_schema_is_refused_with_a_way_out() -> None:
    with pytest.raises(ConfigError, match="must hold a JSON schema") as caught:
        body(ChatOptions(response_format={"type": "json_object"}))
    assert "output=" in str(caught.value.hint)


def test_the_rest_of_the_options_find_their_places() -> None:
    sent = body(ChatOptions(stop="END", user="u1", seed=4, extra_body={"service_tier": "standard_only"}))
    assert sent["stop_sequences"] == ["END"]
    assert sent["metadata"] == {"user_id": "u1"}
    assert sent["service_tier"] == "standard_only"
    assert "seed" not in sent


def test_headers_of_betas_and_of_the_call_go_together() -> None:
    options = ChatOptions(extra_headers={"anthropic-beta": "b-1", "X-Team": "ops"})
    headers = encode_request(ASK, (), options, config=config(betas=["a-1", "a-2"])).headers
    assert headers["anthropic-beta"] == "a-1,a-2,b-1"
    assert headers["X-Team"] == "ops"
    older = ChatOptions(extra_headers={"Anthropic-Version": "2023-06-01"})
    headers = encode_request(ASK, (), older, config=config()).headers
    assert [value for name, value in headers.items() if name.lower() == "anthropic-version"] == ["2023-06-01"]


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("claude-opus-5-5", ChatOptions(tool_choice="required"), "cannot be made to call a tool"),
        ("claude-opus-5-5", ChatOptions(reasoning_effort="none"), "always thinks"),
        ("claude-opus-5-5", ChatOptions(reasoning_effort="hard"), "must be one of"),
        ("claude-opus-5-5", ChatOptions(tool_choice="wether"), "no such tool"),
        ("house-model", ChatOptions(response_format={"type": "json_schema"}), "not known to keep"),
    ],
)
def test_what_a_model_cannot_do_is_said_before_it_is_sent(
    model: str, options: ChatOptions, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check_call(ASK, (WEATHER,), options, config(model))


def test_a_conversation_without_a_word_to_answer_is_refused() -> None:
    for messages in ([], [Message.system("Be brief.")]):
        with pytest.raises(ConfigError, match="no message to answer"):
            check_call(messages, (), ChatOptions(), config())
