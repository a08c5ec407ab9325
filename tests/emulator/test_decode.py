"""Request bodies read back: shapes of our own, and every recorded one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.emulator.checks import check_request, is_reasoning_model
from loom_py.emulator.decode import decode_request, parse_body
from loom_py.emulator.wire_errors import WireError
from loom_py.messages import ImagePart, Message, TextPart, ToolCall, ToolSpec

CORPUS = Path(__file__).parents[3] / "shared" / "azure_corpus" / "exchanges"
USER = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOLD = {"role": "tool", "tool_call_id": "c1", "content": "seen"}


def body(**fields: Any) -> dict[str, Any]:
    return {"messages": [USER], **fields}


def tool(name: str = "look", parameters: Any = None) -> dict[str, Any]:
    function = {"name": name} if parameters is None else {"name": name, "parameters": parameters}
    return {"type": "function", "function": function}


def refusal(data: Mapping[str, Any], model: str = "gpt-4o") -> tuple[str | None, str | None, str]:
    """``code``, ``param`` and ``message`` of the 400 for ``data``."""
    with pytest.raises(WireError) as caught:
        check_request(decode_request(data), data, model)
    assert caught.value.status == 400
    error = caught.value.body["error"]
    assert error["type"] == "invalid_request_error"
    return error["code"], error["param"], error["message"]


def recorded() -> list[Any]:
    cases = []
    for path in sorted(CORPUS.glob("*.json")):
        exchange = json.loads(path.read_text("utf-8"))
        data = exchange["request"].get("body")
        if "chat/completions" in exchange["request"]["url"] and isinstance(data, dict) and "messages" in data:
            cases.append(pytest.param(data, exchange["response"]["status"], id=path.stem))
    return cases


@pytest.mark.skipif(not CORPUS.exists(), reason="the recorded exchanges are not here")
@pytest.mark.parametrize(("data", "status"), recorded())
def test_a_recorded_request_decodes(data: dict[str, Any], status: int) -> None:
    request = decode_request(data)
    assert len(request.messages) == len(data["messages"])
    assert [spec.name for spec in request.tools] == [
        each["function"]["name"] for each in data.get("tools", ())
    ]
    assert request.stream == bool(data.get("stream"))
    for message, wire in zip(request.messages, data["messages"], strict=True):
        assert [call.arguments_json for call in message.tool_calls] == [
            call["function"]["arguments"] or "{}" for call in wire.get("tool_calls", ())
        ]
    if status == 200 and "<" not in str(data["messages"][-1]["content"]):  # some images were elided
        check_request(request, data, "gpt-4o")


def test_every_role_becomes_a_message() -> None:
    request = decode_request(
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                USER,
                ASKED,
                TOLD,
                {**USER, "name": "Ada"},
            ]
        }
    )
    assert request.messages == (
        Message.system("Be brief."),
        Message.user("Hi"),
        Message.assistant("", [ToolCall("c1", "look", {}, "{}")]),
        Message.tool("seen", "c1"),
        Message("user", "Hi", name="Ada"),
    )


def test_parts_become_text_and_images() -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAEC"}},
    ]
    request = decode_request({"messages": [{"role": "user", "content": parts}]})
    assert request.messages[0].content == (
        TextPart("What is this?"),
        ImagePart(url="https://example.com/a.png", detail="high"),
        ImagePart(data=b"\x00\x01\x02", media_type="image/jpeg"),
    )


def test_arguments_that_are_no_json_are_kept_as_the_model_wrote_them() -> None:
    broken = {**CALL, "function": {"name": "look", "arguments": "{oops"}}
    (_, message, _) = decode_request(
        {"messages": [USER, {"role": "assistant", "tool_calls": [broken]}, TOLD]}
    ).messages
    assert message.tool_calls[0].arguments_json == "{oops"
    assert message.tool_calls[0].error is not None


def test_a_tool_without_parameters_takes_none() -> None:
    assert decode_request(body(tools=[tool()])).tools == (ToolSpec("look"),)


def test_both_names_of_the_token_limit_are_read() -> None:
    assert decode_request(body(max_tokens=5)).options.max_tokens == 5
    assert decode_request(body(max_completion_tokens=6)).options.max_tokens == 6


def test_settings_without_a_field_travel_as_extra_body() -> None:
    request = decode_request(body(logit_bias={"1": 2}, metadata={"a": "b"}, stream=True, model="x"))
    assert request.options.extra_body == {"logit_bias": {"1": 2}, "metadata": {"a": "b"}}
    assert (request.stream, request.model) == (True, "x")


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b"nul"])
def test_a_body_that_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError, match="could not parse the JSON body"):
        parse_body(raw)


def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(WireError, match="expected an object, but got an array instead"):
        parse_body(b"[]")


@pytest.mark.parametrize(
    ("data", "code", "param"),
    [
        ({}, "missing_required_parameter", "messages"),
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": "Hi"}, "invalid_type", "messages"),
        ({"messages": []}, "empty_array", "messages"),
        ({"messages": ["Hi"]}, "invalid_type", "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, None, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type", "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "invalid_value",
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,#"}}],
                    }
                ]
            },
            "invalid_base64",
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "invalid_value",
            "messages[0]",
        ),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, None, "messages[1].tool_call_id"),
        (body(temperature=2.5), "decimal_above_max_value", "temperature"),
        (body(temperature="hot"), "invalid_type", "temperature"),
        (body(temperature=True), "invalid_type", "temperature"),
        (body(top_p=-1), "decimal_below_min_value", "top_p"),
        (body(max_tokens=0), "integer_below_min_value", "max_tokens"),
        (body(max_tokens=1.5), "invalid_type", "max_tokens"),
        (body(max_tokens=1, max_completion_tokens=1), "invalid_parameter_combination", "max_tokens"),
        (body(stop=5), "invalid_type", "stop"),
        (body(tools=[]), "empty_array", "tools"),
        (body(tools={"a": 1}), "invalid_type", "tools"),
        (body(tools=[{"type": "custom"}]), "invalid_value", "tools[0].type"),
        (body(tools=[{"type": "function"}]), "missing_required_parameter", "tools[0].function"),
        (body(tools=[tool()], tool_choice="maybe"), "invalid_value", "tool_choice"),
        (
            body(tools=[tool()], tool_choice={"type": "function", "function": {"name": "x"}}),
            None,
            "tool_choice",
        ),
        (body(tool_choice="auto"), None, "tool_choice"),
        (body(parallel_tool_calls=True), None, "parallel_tool_calls"),
        (body(stream_options={"include_usage": True}), None, "stream_options"),
        (body(stream="yes"), "invalid_type", "stream"),
        (body(n=2), "unsupported_value", "n"),
        (body(tools=[tool(f"t{n}") for n in range(129)]), "array_above_max_length", "tools"),
        (body(tools=[tool("x" * 65)]), "string_above_max_length", "tools[0].function.name"),
        (body(tools=[tool("no spaces")]), "invalid_value", "tools[0].function.name"),
        (body(tools=[tool("look\n")]), "invalid_value", "tools[0].function.name"),
        (
            body(tools=[tool(parameters={"type": "string"})]),
            "invalid_function_parameters",
            "tools[0].function.parameters",
        ),
    ],
)
def test_a_bad_body_is_refused_where_it_is_bad(data: Any, code: str | None, param: str) -> None:
    assert refusal(data)[:2] == (code, param)


def test_a_bad_tool_name_is_refused_with_the_services_pattern() -> None:
    code, param, message = refusal(body(tools=[tool("a b")]))
    assert (code, param) == ("invalid_value", "tools[0].function.name")
    assert message == (
        "Invalid 'tools[0].function.name': string does not match pattern. "
        r"Expected a string that matches the pattern '^[a-zA-Z0-9_\.-]+$'."
    )


def test_a_name_the_model_made_up_is_refused_in_the_history() -> None:
    made_up = {**CALL, "function": {"name": "functions.look", "arguments": "{}"}}
    history = [USER, {**ASKED, "tool_calls": [made_up]}, TOLD]
    code, param, message = refusal({"messages": history})
    assert (code, param) == ("invalid_value", "messages[1].tool_calls[0].function.name")
    assert "^[a-zA-Z0-9_-]{1,64}$" in message
    offered = {"messages": history, "tools": [tool("functions.look")]}
    check_request(decode_request(offered), offered, "gpt-4o")


def test_schemas_lacking_properties_or_items_are_refused() -> None:
    _, _, message = refusal(body(tools=[tool(parameters={"type": "object"})]))
    assert message == "Invalid schema for function 'look': In context=(), object schema missing properties."
    schema = {"type": "object", "properties": {"ids": {"type": "array"}}}
    _, _, message = refusal(body(tools=[tool(parameters=schema)]))
    assert "In context=('properties', 'ids'), array schema missing items." in message


def test_unanswered_calls_are_refused() -> None:
    twice = {**ASKED, "tool_calls": [CALL, {**CALL, "id": "c2"}]}
    for history in ([USER, twice, TOLD], [USER, twice, TOLD, USER]):
        _, _, message = refusal({"messages": history})
        assert message == (
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            "'tool_call_id'. The following tool_call_ids did not have response messages: c2"
        )


def test_tool_messages_that_answer_nothing_are_refused() -> None:
    _, param, message = refusal({"messages": [USER, TOLD]})
    assert param == "messages.[1].role"
    assert "must be a response to a preceeding message with 'tool_calls'" in message
    _, param, message = refusal({"messages": [USER, ASKED, {**TOLD, "tool_call_id": "c9"}]})
    assert param == "messages.[2].tool_call_id"
    assert "'tool_call_id' of 'c9' not found" in message
    _, param, _ = refusal({"messages": [USER, ASKED, TOLD, USER, TOLD]})
    assert param == "messages.[4].role"


@pytest.mark.parametrize(
    "model", ["o1-2024-12-17", "o4-mini", "gpt-5-nano", "gpt-5.2-2025-12-11", "gpt-6-sol"]
)
def test_reasoning_models_refuse_sampling_parameters(model: str) -> None:
    assert is_reasoning_model(model)
    code, param, message = refusal(body(max_tokens=5), model)
    assert (code, param) == ("unsupported_parameter", "max_tokens")
    assert message.endswith("Use 'max_completion_tokens' instead.")
    assert refusal(body(temperature=0.2), model)[:2] == ("unsupported_value", "temperature")
    assert refusal(body(top_p=0.5), model)[:2] == ("unsupported_parameter", "top_p")
    fine = body(temperature=1, max_completion_tokens=50)
    check_request(decode_request(fine), fine, model)


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "gpt-5.2-chat-latest", "gpt-35-turbo"]
)
def test_other_models_take_them(model: str) -> None:
    data = body(temperature=0.2, max_tokens=5, top_p=0.5)
    check_request(decode_request(data), data, model)


def test_the_o_series_takes_no_parallel_tool_calls() -> None:
    data = body(tools=[tool()], parallel_tool_calls=True)
    assert refusal(data, "o3-mini")[:2] == ("unsupported_parameter", "parallel_tool_calls")
    check_request(decode_request(data), data, "gpt-5")


def test_the_latest_models_refuse_tools_unless_told_not_to_reason() -> None:
    assert refusal(body(tools=[tool()]), "gpt-5.6-terra")[1] == "reasoning_effort"
    assert refusal(body(tools=[tool()], reasoning_effort="low"), "gpt-5.4")[1] == "reasoning_effort"
    for data, model in [
        (body(tools=[tool()], reasoning_effort="none"), "gpt-5.6-terra"),
        (body(tools=[tool()]), "gpt-5.4"),
        (body(tools=[tool()], reasoning_effort="low"), "gpt-5.2"),
    ]:
        check_request(decode_request(data), data, model)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        "messages",
        "tools",
        "stream",
        "stream_options",
        "temperature",
        "max_tokens",
        "top_p",
        "stop",
        "seed",
        "tool_choice",
        "n",
        "user",
        "model",
    ]
)


@given(st.dictionaries(keys, json_values), st.booleans(), st.sampled_from(["gpt-4o", "o3"]))
def test_any_json_is_decoded_or_refused_and_nothing_else(
    data: dict[str, Any], valid: bool, model: str
) -> None:
    data = {**data, "messages": [USER]} if valid else data
    statuses = []
    try:
        check_request(decode_request(data), data, model)
    except WireError as error:
        statuses.append(error.status)
    assert statuses in ([], [400])
