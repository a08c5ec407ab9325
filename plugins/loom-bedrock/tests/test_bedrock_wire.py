"""What a call looks like as a Converse request."""

from __future__ import annotations

import json
import re
from typing import Any

import botocore.session  # type: ignore[import-untyped]
import pytest
from botocore.validate import ParamValidator  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_bedrock.config import BedrockConfig
from loom_bedrock.content import BEFORE, NAMESPACE, NO_OUTPUT, pack_reasoning
from loom_bedrock.names import ToolNames, wire_id
from loom_bedrock.wire import MEMBERS, ConverseRequest, encode_request
from loom_py.content import ImagePart, TextPart
from loom_py.errors import ConfigError, InvalidRequestError, UnsupportedParameterError
from loom_py.messages import Message, ToolCall, ToolSpec
from loom_py.options import ChatOptions

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "us.amazon.nova-lite-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
WEATHER = ToolSpec(
    "get_weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}}
)
USED = [
    Message.user("Rain?"),
    Message.assistant("", [ToolCall("call_1", "get_weather", {"city": "Oslo"})]),
    Message.tool("It rains.", "call_1", "get_weather"),
]


def encode(
    messages: list[Message] | str = "Hello",
    tools: tuple[ToolSpec, ...] = (),
    *,
    model: str = CLAUDE,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> ConverseRequest:
    said = [Message.user(messages)] if isinstance(messages, str) else messages
    settings = BedrockConfig(model=model, region="us-east-1", **(config or {}))
    request = encode_request(said, tools, ChatOptions(**options), settings)
    shape = (
        botocore.session.Session()
        .get_service_model("bedrock-runtime")
        .operation_model("Converse")
        .input_shape
    )
    report = ParamValidator().validate(request.params, shape)
    assert not report.has_errors(), report.generate_report()
    return request


def params(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return encode(*args, **kwargs).params


def test_the_members_of_a_request_are_those_of_botocores_own_model() -> None:
    model = botocore.session.Session().get_service_model("bedrock-runtime")
    assert set(model.operation_model("Converse").input_shape.members) == MEMBERS | {"modelId"}


def test_instructions_go_to_system_wherever_they_stand() -> None:
    sent = params([Message.system("Be brief."), Message.user("Hi"), Message.system("Be kind.")])
    assert sent["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert sent["messages"] == [{"role": "user", "content": [{"text": "Hi"}]}]


def test_neighbours_of_one_role_become_one_message() -> None:
    sent = params([Message.user("One"), Message.user("Two"), Message.assistant("A"), Message.assistant("B")])
    assert sent["messages"] == [
        {"role": "user", "content": [{"text": "One"}, {"text": "Two"}]},
        {"role": "assistant", "content": [{"text": "A"}, {"text": "B"}]},
    ]


def test_blank_texts_are_left_out_because_bedrock_refuses_them() -> None:
    sent = params([Message.system("  "), Message.user("Hi"), Message.assistant(""), Message.user(" \n")])
    assert "system" not in sent
    assert sent["messages"] == [{"role": "user", "content": [{"text": "Hi"}]}]


def test_a_blank_question_is_told_as_one_for_a_turn_must_say_something() -> None:
    said = params([Message.user("a"), Message.assistant("b"), Message.user(" \n")])["messages"]
    assert said[-1] == {"role": "user", "content": [{"text": "(no text)"}]}
    assert params("")["messages"] == [{"role": "user", "content": [{"text": "(no text)"}]}]


def test_a_conversation_that_begins_with_the_assistant_gets_a_first_turn() -> None:
    said = params([Message.assistant("Hello, I am Loom."), Message.user("Hi")])["messages"]
    assert [turn["role"] for turn in said] == ["user", "assistant", "user"]
    assert said[0]["content"] == [{"text": BEFORE}]


def test_a_reply_that_is_to_be_continued_ends_without_white_space() -> None:
    said = params([Message.user("a"), Message.assistant("b \n")])["messages"]
    assert said[-1]["content"] == [{"text": "b"}]


@pytest.mark.parametrize("messages", [[], [Message.system("Be kind.")], [Message.assistant(" ")]])
def test_a_conversation_without_a_question_is_refused_before_it_is_sent(messages: list[Message]) -> None:
    with pytest.raises(InvalidRequestError, match="no message to answer") as caught:
        encode(messages)
    assert caught.value.sent is False


def _round(*calls: str) -> list[Message]:
    asked = [ToolCall(call_id, "get_weather", {"place": place}) for place, call_id in enumerate(calls)]
    results = [Message.tool(f"result {place}", call_id) for place, call_id in enumerate(calls)]
    return [Message.assistant("", asked), *results]


def test_ids_that_a_provider_uses_anew_are_told_apart() -> None:
    said = params([Message.user("?"), *_round("call_0"), *_round("call_0"), *_round("x", "x")], (WEATHER,))
    blocks = [block for turn in said["messages"] for block in turn["content"]]
    asked = [block["toolUse"]["toolUseId"] for block in blocks if "toolUse" in block]
    answered = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
    assert asked == answered
    assert len(set(asked)) == 4
    assert asked[0] == "call_0"
    results = [block["toolResult"]["content"][0]["text"] for block in blocks if "toolResult" in block]
    assert results == ["result 0", "result 0", "result 0", "result 1"]


def test_the_results_of_one_turn_share_a_message_and_stand_before_the_users_words() -> None:
    calls = [ToolCall("a", "get_weather", {"city": "Oslo"}), ToolCall("b", "get_weather", {"city": "Rome"})]
    turn = [
        Message.user("Rain?"),
        Message.assistant("Looking.", calls),
        Message.tool("rain", "a", "get_weather"),
        Message.tool("Error (tool_error): no such city", "b", "get_weather"),
        Message.user("Hurry up."),
    ]
    sent = params(turn, (WEATHER,))["messages"]
    assert sent[1]["content"][0] == {"text": "Looking."}
    assert [block["toolUse"]["toolUseId"] for block in sent[1]["content"][1:]] == ["a", "b"]
    assert sent[2]["content"] == [
        {"toolResult": {"toolUseId": "a", "content": [{"text": "rain"}]}},
        {
            "toolResult": {
                "toolUseId": "b",
                "content": [{"text": "Error (tool_error): no such city"}],
                "status": "error",
            }
        },
        {"text": "Hurry up."},
    ]


def test_a_result_without_a_word_says_so() -> None:
    sent = params([*USED[:2], Message.tool("", "call_1", "get_weather")], (WEATHER,))
    assert sent["messages"][2]["content"][0]["toolResult"]["content"] == [{"text": NO_OUTPUT}]


def test_arguments_that_were_no_json_go_back_wrapped_for_an_input_must_be_an_object() -> None:
    broken = ToolCall.parse("call_1", "get_weather", '{"city": "Os')
    sent = params([USED[0], Message.assistant("", [broken]), USED[2]], (WEATHER,))
    assert sent["messages"][1]["content"][0]["toolUse"]["input"] == {"INVALID_JSON": '{"city": "Os'}


def test_numbers_json_does_not_have_go_back_as_nulls() -> None:
    odd = ToolCall.parse("call_1", "get_weather", '{"x": [NaN, 1], "y": {"z": -Infinity}}')
    sent = params([USED[0], Message.assistant("", [odd]), USED[2]], (WEATHER,))
    assert sent["messages"][1]["content"][0]["toolUse"]["input"] == {"x": [None, 1], "y": {"z": None}}


def test_images_are_sent_as_bytes_also_those_of_a_data_url_and_of_a_tool() -> None:
    image = ImagePart.from_bytes(PNG)
    by_url = ImagePart.from_url(image.source)
    sent = params([Message.user([TextPart("See"), image, by_url])])["messages"][0]["content"]
    wanted = {"image": {"format": "png", "source": {"bytes": PNG}}}
    assert sent == [{"text": "See"}, wanted, wanted]
    shot = params([*USED[:2], Message.tool([image], "call_1", "get_weather")], (WEATHER,))["messages"][2]
    assert shot["content"][0]["toolResult"]["content"] == [wanted]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (ImagePart.from_url("https://example.com/cat.png"), "not a URL"),
        (ImagePart(url="data:image/png;base64,%%%"), "not base64"),
        (ImagePart(data=b"x", media_type="image/tiff"), "image/tiff"),
    ],
)
def test_an_image_bedrock_cannot_read_is_refused_with_what_to_do(part: ImagePart, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said) as caught:
        encode([Message.user([part])])
    assert caught.value.sent is False


# ── tools ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (None, None),
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        ("get_weather", {"tool": {"name": "get_weather"}}),
    ],
)
def test_a_tool_choice_is_said_in_bedrocks_words(choice: str | None, wanted: dict[str, Any] | None) -> None:
    assert params("Hi", (WEATHER,), tool_choice=choice)["toolConfig"].get("toolChoice") == wanted


def test_the_choice_none_leaves_the_tools_out() -> None:
    request = encode("Hi", (WEATHER,), tool_choice="none")
    assert "toolConfig" not in request.params
    assert request.drops_calls


def test_a_history_with_tools_keeps_naming_some_though_none_may_be_called() -> None:
    off = encode(USED, (WEATHER,), tool_choice="none")
    assert [tool["toolSpec"]["name"] for tool in off.params["toolConfig"]["tools"]] == ["get_weather"]
    assert "toolChoice" not in off.params["toolConfig"]
    assert off.drops_calls
    without = encode(USED)
    assert [tool["toolSpec"]["name"] for tool in without.params["toolConfig"]["tools"]] == ["get_weather"]
    assert not without.drops_calls


def test_a_tool_choice_that_names_no_tool_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no such tool"):
        encode("Hi", (WEATHER,), tool_choice="get_time")


def test_tools_for_a_model_that_takes_none_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="takes no tools"):
        encode("Hi", (WEATHER,), model="us.deepseek.r1-v1:0")


def test_a_schema_arrives_as_it_is_and_one_without_a_type_becomes_an_object() -> None:
    nested = {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/A"}]}}}
    bare = {"properties": {"x": {"type": "integer"}}}
    tools = (ToolSpec("a", "A.", nested), ToolSpec("b", "", bare), ToolSpec("c", "", {}))
    sent = [tool["toolSpec"] for tool in params("Hi", tools)["toolConfig"]["tools"]]
    assert sent[0] == {"name": "a", "description": "A.", "inputSchema": {"json": nested}}
    assert sent[1] == {"name": "b", "inputSchema": {"json": {"type": "object", **bare}}}
    assert sent[2]["inputSchema"]["json"] == {"type": "object", "properties": {}}


def test_parallel_calls_are_forbidden_in_claudes_own_words_and_ignored_where_there_are_none() -> None:
    claude = encode("Hi", (WEATHER,), tool_choice="required", parallel_tool_calls=False)
    assert "toolChoice" not in claude.params["toolConfig"]
    assert claude.params["additionalModelRequestFields"] == {
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True}
    }
    nova = encode("Hi", (WEATHER,), model=NOVA, parallel_tool_calls=False)
    assert "additionalModelRequestFields" not in nova.params
    assert nova.ignored == ("parallel_tool_calls",)


# ── options ──────────────────────────────────────────────────────────────────────────────


def test_the_settings_of_a_call_are_its_inference_config() -> None:
    sent = params("Hi", model=NOVA, temperature=0.2, max_tokens=99, top_p=0.9, stop=["END", "STOP"])
    assert sent["inferenceConfig"] == {
        "temperature": 0.2,
        "maxTokens": 99,
        "topP": 0.9,
        "stopSequences": ["END", "STOP"],
    }
    assert params("Hi", model=LLAMA, stop="END")["inferenceConfig"] == {"stopSequences": ["END"]}
    assert "inferenceConfig" not in params("Hi", model=LLAMA)


@pytest.mark.parametrize(
    ("model", "settings", "options", "limit"),
    [
        (CLAUDE, {}, {}, 8192),
        ("anthropic.claude-3-haiku-20240307-v1:0", {}, {}, 4096),
        (LLAMA, {}, {}, None),
        (CLAUDE, {"max_tokens": 20_000}, {}, 20_000),
        (CLAUDE, {"max_tokens": 20_000}, {"max_tokens": 9}, 9),
        (CLAUDE, {"extra_fields": {"thinking": {"type": "enabled", "budget_tokens": 4000}}}, {}, 12_192),
        (CLAUDE, {}, {"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 90_000}}}, 64_000),
    ],
)
def test_a_reply_has_a_limit_where_the_model_would_take_its_own(
    model: str, settings: dict[str, Any], options: dict[str, Any], limit: int | None
) -> None:
    sent = params("Hi", model=model, config=settings, **options)
    assert sent.get("inferenceConfig", {}).get("maxTokens") == limit


@pytest.mark.parametrize("model", ["us.amazon.nova-micro-v1:0", "anthropic.claude-3-5-haiku-20241022-v1:0"])
def test_images_for_a_model_that_reads_none_are_a_config_error(model: str) -> None:
    image = ImagePart.from_bytes(PNG)
    for message in (Message.user([image]), Message.tool([TextPart("a"), image], "call_1")):
        with pytest.raises(ConfigError, match="does not read images"):
            encode([*USED[:2], message], (WEATHER,), model=model)
    encode([Message.user([image])], model="acme.unknown-v1:0")


def test_a_temperature_above_the_most_that_converse_takes_is_sent_as_the_most() -> None:
    assert params("Hi", temperature=1.5)["inferenceConfig"]["temperature"] == 1.0


@pytest.mark.parametrize(
    ("model", "sent", "ignored"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", {"temperature": 0.5, "topP": 0.9}, ()),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", {"temperature": 0.5, "topP": 0.9}, ()),
        (CLAUDE, {"temperature": 0.5}, ("top_p",)),
        ("us.anthropic.claude-opus-4-6-v1", {"temperature": 0.5}, ("top_p",)),
        ("us.anthropic.claude-opus-4-7", {}, ("temperature", "top_p")),
        ("global.anthropic.claude-sonnet-5-5", {}, ("temperature", "top_p")),
        (LLAMA, {"temperature": 0.5, "topP": 0.9}, ()),
    ],
)
def test_sampling_is_left_out_where_a_claude_refuses_it(
    model: str, sent: dict[str, Any], ignored: tuple[str, ...]
) -> None:
    request = encode("Hi", model=model, temperature=0.5, top_p=0.9, max_tokens=7)
    assert request.params["inferenceConfig"] == {"maxTokens": 7, **sent}
    assert request.ignored == ignored
    alone = encode("Hi", model=CLAUDE, top_p=0.9, max_tokens=7)
    assert (alone.params["inferenceConfig"], alone.ignored) == ({"maxTokens": 7, "topP": 0.9}, ())


def test_a_users_name_is_spelled_in_the_characters_that_metadata_may_have() -> None:
    assert params("Hi", user="jo@example.com")["requestMetadata"] == {"user": "jo@example.com"}
    one, other = (params("Hi", user=name)["requestMetadata"]["user"] for name in ("jö|n", "jä|n"))
    assert one != other
    assert re.fullmatch(r"[a-zA-Z0-9_]+", one)


@pytest.mark.parametrize("value", ["two\nlines", "snow ☃"])
def test_a_header_that_cannot_be_signed_is_refused_before_it_is_sent(value: str) -> None:
    with pytest.raises(InvalidRequestError, match="'x-note' cannot be sent") as caught:
        encode("Hi", extra_headers={"x-note": value})
    assert (caught.value.sent, caught.value.retryable) == (False, False)
    assert value not in str(caught.value)


def test_extra_members_go_by_name_and_all_else_to_the_model() -> None:
    sent = params(
        "Hi",
        config={"extra_fields": {"top_k": 5, "performanceConfig": {"latency": "optimized"}}},
        max_tokens=10,
        extra_body={"thinking": {"type": "enabled"}, "inferenceConfig": {"topP": 0.5}},
    )
    assert sent["additionalModelRequestFields"] == {"top_k": 5, "thinking": {"type": "enabled"}}
    assert sent["performanceConfig"] == {"latency": "optimized"}
    assert sent["inferenceConfig"] == {"maxTokens": 10, "topP": 0.5}


def test_a_json_schema_is_the_output_format_and_other_formats_are_refused() -> None:
    schema = {"type": "object", "properties": {"größe": {"type": "number"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "Size", "schema": schema, "strict": True}}
    sent = params("Hi", response_format=wanted)["outputConfig"]["textFormat"]
    assert sent["type"] == "json_schema"
    assert sent["structure"]["jsonSchema"]["name"] == "Size"
    assert json.loads(sent["structure"]["jsonSchema"]["schema"]) == schema
    assert "outputConfig" not in params("Hi", response_format={"type": "text"})
    with pytest.raises(UnsupportedParameterError) as caught:
        encode("Hi", response_format={"type": "json_object"})
    assert caught.value.param == "response_format"


def test_effort_is_said_as_the_maker_of_the_model_says_it() -> None:
    both = params(
        "Hi",
        model="us.anthropic.claude-opus-4-6-v1",
        reasoning_effort="high",
        response_format={"type": "json_schema", "json_schema": {"schema": {}}},
    )
    assert both["outputConfig"]["effort"] == "high"
    assert both["outputConfig"]["textFormat"]["type"] == "json_schema"
    gpt = params("Hi", model="openai.gpt-oss-120b-1:0", reasoning_effort="high")
    assert gpt["additionalModelRequestFields"] == {"reasoning_effort": "high"}
    assert encode("Hi", model=LLAMA, reasoning_effort="high", seed=1).ignored == ("seed", "reasoning_effort")
    assert encode("Hi", model=CLAUDE, reasoning_effort="high").ignored == ("reasoning_effort",)


def test_a_guardrail_and_the_user_are_told() -> None:
    sent = params("Hi", config={"guardrail": "abc123:2"}, user="u-1")
    assert sent["guardrailConfig"] == {
        "guardrailIdentifier": "abc123",
        "guardrailVersion": "2",
        "trace": "enabled",
    }
    assert sent["requestMetadata"] == {"user": "u-1"}


def test_cache_points_stand_behind_tools_instructions_and_the_last_question() -> None:
    point = {"cachePoint": {"type": "default"}}
    messages = [Message.system("Long."), Message.user("Hi")]
    claude = params(messages, (WEATHER,), prompt_cache_key="k")
    assert claude["toolConfig"]["tools"][-1] == point
    assert claude["system"][-1] == point
    assert claude["messages"][-1]["content"][-1] == point
    nova = params(messages, (WEATHER,), model=NOVA, prompt_cache_key="k")
    assert point not in nova["toolConfig"]["tools"]
    assert nova["system"][-1] == point
    assert point not in params(messages, (WEATHER,), model=LLAMA, prompt_cache_key="k")["system"]
    assert params(messages, model=LLAMA, config={"prompt_cache": True})["system"][-1] == point
    assert point not in params(messages)["system"]


# ── reasoning ────────────────────────────────────────────────────────────────────────────

THOUGHT = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}}
HIDDEN = {"reasoningContent": {"redactedContent": b"\x00secret"}}
CALL = {"toolUse": {"toolUseId": "call_1", "name": "get_weather", "input": {"city": "Oslo"}}}


def reply(model: str = CLAUDE, text: str = "Let me see.") -> Message:
    data = pack_reasoning(model, [THOUGHT, {"text": "Let me "}, HIDDEN, {"text": "see."}, CALL])
    call = ToolCall("call_1", "get_weather", {"city": "Oslo"})
    return Message("assistant", text, (call,), provider_data=data)


def test_reasoning_goes_back_signed_and_in_its_place() -> None:
    message = Message.from_json(reply().to_json())
    sent = params([USED[0], message, USED[2]], (WEATHER,))["messages"][1]["content"]
    assert sent == [THOUGHT, {"text": "Let me "}, HIDDEN, {"text": "see."}, CALL]


@pytest.mark.parametrize(
    "message",
    [
        reply(model=NOVA),
        reply(text="Something else."),
        Message("assistant", "Let me see.", reply().tool_calls, provider_data={NAMESPACE: {"model": CLAUDE}}),
        Message("assistant", "Let me see.", reply().tool_calls, provider_data={NAMESPACE: "nonsense"}),
    ],
    ids=["another model", "changed", "damaged", "nonsense"],
)
def test_reasoning_of_another_model_or_of_a_changed_message_stays_out(message: Message) -> None:
    sent = params([USED[0], message, USED[2]], (WEATHER,))["messages"][1]["content"]
    assert sent == [{"text": message.text}, CALL]


# ── names and ids ────────────────────────────────────────────────────────────────────────


@settings(deadline=None)
@given(st.lists(st.text(), max_size=8, unique=True))
def test_any_names_become_legal_stay_apart_and_come_back(names: list[str]) -> None:
    known = ToolNames(names)
    wire = [known.to_wire(name) for name in names]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in wire)
    assert len(set(wire)) == len(names)
    assert [known.from_wire(name) for name in wire] == names


@settings(deadline=None)
@given(st.text())
def test_any_id_becomes_legal_and_the_same_each_time(call_id: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", wire_id(call_id))
    assert wire_id(call_id) == wire_id(call_id)


def test_an_id_with_dots_and_colons_stays_for_models_that_use_them() -> None:
    call = ToolCall("functions.get_weather:0", "get_weather", {"city": "Oslo"})
    turn = [USED[0], Message.assistant("", [call]), Message.tool("rain", call.id, call.name)]
    kimi = params(turn, (WEATHER,), model="us.moonshotai.kimi-k3")["messages"]
    assert kimi[1]["content"][0]["toolUse"]["toolUseId"] == call.id
    claude = params(turn, (WEATHER,))["messages"]
    sent = claude[1]["content"][0]["toolUse"]["toolUseId"]
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", sent)
    assert claude[2]["content"][0]["toolResult"]["toolUseId"] == sent
