"""Requests as Azure takes them, and whole answers as it gives them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.errors import (
    ConfigError,
    ContentFilterError,
    DeploymentNotFoundError,
    IncompleteResponseError,
    LoomError,
    MalformedResponseError,
)
from loom_py.llm.azure.schema import encode_tools
from loom_py.llm.azure.wire import decode_json, decode_response, encode_json, encode_request
from loom_py.llm.profiles import profile_for
from loom_py.messages import ImagePart, Message, Response, TextPart, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

HELLO = [Message.user("Hello")]
TOOLS = encode_tools([ToolSpec("db:query", "Ask the database"), ToolSpec("now")])


def request(
    messages: list[Message] = HELLO, model: str | None = "gpt-4o", tools: Any = TOOLS, **settings: Any
) -> dict[str, Any]:
    more = {key: settings.pop(key) for key in ("stream", "api_version") if key in settings}
    options = ChatOptions(**settings)
    return encode_request(messages, tools, options, deployment="d", profile=profile_for(model), **more)


# ── requests ─────────────────────────────────────────────────────────────────────────────


def test_a_plain_request_holds_what_was_asked_and_nothing_more() -> None:
    assert encode_request(HELLO, deployment="my-d") == {
        "messages": [{"role": "user", "content": "Hello"}],
        "model": "my-d",
    }


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "max_completion_tokens"),
        ("gpt-4o-mini-2024-07-18", "max_completion_tokens"),
        ("gpt-4-turbo", "max_completion_tokens"),
        ("gpt-4.1", "max_completion_tokens"),
        ("o1", "max_completion_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("o4-mini", "max_completion_tokens"),
        ("gpt-5", "max_completion_tokens"),
        (None, "max_completion_tokens"),
        ("gpt-35-turbo", "max_tokens"),
        ("gpt-3.5-turbo-16k", "max_tokens"),
        ("gpt-4-0613", "max_tokens"),
        ("gpt-4-32k", "max_tokens"),
    ],
)
def test_the_limit_travels_under_the_family_s_name(model: str | None, name: str) -> None:
    body = request(model=model, max_tokens=7)
    assert body[name] == 7
    assert len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1


@pytest.mark.parametrize(
    ("version", "model", "name", "asks_for_usage"),
    [
        ("2024-06-01", "gpt-4o", "max_tokens", False),
        ("2023-05-15", None, "max_tokens", False),
        ("2024-06-01", "o1", "max_completion_tokens", False),
        ("2024-08-01-preview", "gpt-4o", "max_completion_tokens", True),
        ("2024-10-21", "gpt-4o", "max_completion_tokens", True),
        ("preview", "gpt-4o", "max_completion_tokens", True),
    ],
)
def test_an_old_api_version_gets_no_names_it_does_not_know(
    version: str, model: str | None, name: str, asks_for_usage: bool
) -> None:
    body = request(model=model, max_tokens=7, stream=True, api_version=version)
    assert body[name] == 7
    assert ("stream_options" in body) is asks_for_usage


def test_a_stream_asks_for_its_usage() -> None:
    assert request(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream" not in request()


@pytest.mark.parametrize("model", ["o1", "o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.2"])
def test_a_reasoning_model_gets_no_sampling_parameters(model: str) -> None:
    body = request(model=model, temperature=0.2, top_p=0.5, reasoning_effort="low", max_tokens=9)
    assert body.keys() & {"temperature", "top_p", "max_tokens"} == set()
    assert body["reasoning_effort"] == "low"


def test_zero_is_a_temperature() -> None:
    assert request(temperature=0.0)["temperature"] == 0.0
    assert request(model="gpt-5-chat", temperature=0.0)["temperature"] == 0.0
    assert "temperature" not in request()


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("db:query", {"type": "function", "function": {"name": "db_query"}}),
    ],
)
def test_a_tool_choice_names_tools_as_the_wire_does(choice: str | None, sent: Any) -> None:
    body = request(tool_choice=choice)
    assert body["tool_choice"] == sent
    assert [tool["function"]["name"] for tool in body["tools"]] == ["db_query", "now"]


def test_without_tools_there_is_no_word_of_tools() -> None:
    body = request(tools=encode_tools(()), tool_choice="required", parallel_tool_calls=True)
    assert body.keys() & {"tools", "tool_choice", "parallel_tool_calls"} == set()


def test_parallel_calls_are_asked_for_only_where_the_model_can() -> None:
    assert request(parallel_tool_calls=False)["parallel_tool_calls"] is False
    assert "parallel_tool_calls" not in request()
    assert "parallel_tool_calls" not in request(model="o3", parallel_tool_calls=True)


def test_other_settings_and_own_fields_travel_as_they_are() -> None:
    body = request(
        stop=("a", "b"), seed=0, user="u", top_p=0.0, extra_body={"logprobs": True, "user": "other"}
    )
    assert (body["stop"], body["seed"], body["top_p"]) == (["a", "b"], 0, 0.0)
    assert (body["logprobs"], body["user"]) == (True, "other")


def test_a_conversation_with_tools_goes_back_byte_for_byte() -> None:
    spaced = '{ "sql" : "select 1",\n"n": 1.0 }'
    messages = [
        Message.system("Be brief."),
        Message.assistant("", [ToolCall.parse("1", "db:query", spaced), ToolCall.parse("2", "now", "")]),
        Message.assistant("text", [ToolCall("3", "functions.gone:tool")]),
        Message.assistant("", [ToolCall.parse("4", "now", '{"cut": ')]),
        Message.tool("result", "1", "db:query"),
    ]
    system, asked, both, broken, result = request(messages)["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert asked["content"] is None
    assert [call["function"] for call in asked["tool_calls"]] == [
        {"name": "db_query", "arguments": spaced},
        {"name": "now", "arguments": "{}"},
    ]
    assert both["content"] == "text"
    assert both["tool_calls"][0] == {
        "id": "3",
        "type": "function",
        "function": {"name": "gone_tool", "arguments": "{}"},
    }
    assert broken["tool_calls"][0]["function"]["arguments"] == '{"cut": '
    assert result == {"role": "tool", "tool_call_id": "1", "content": "result"}


def test_images_and_texts_travel_as_parts() -> None:
    message = Message.user(
        [TextPart("What is it?"), ImagePart(url="https://x/y.png", detail="low"), ImagePart(data=b"\x89PNG")]
    )
    assert request([message])["messages"][0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw==", "detail": "auto"}},
    ]


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_what_json_cannot_hold_is_a_config_error(value: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        encode_json({"a": value})


def test_half_a_surrogate_pair_does_not_stop_a_request() -> None:
    assert json.loads(encode_json({"a": "x\udc80é"})) == {"a": "x?é"}


# ── answers ──────────────────────────────────────────────────────────────────────────────


def whole(message: Any = None, **changes: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": message or {"content": "Hi"}}
    choice.update(changes.pop("choice", {}))
    usage = {"prompt_tokens": 15, "completion_tokens": 10, "total_tokens": 25}
    return {"model": "gpt-4o-2024-11-20", "choices": [choice], "usage": usage, **changes}


def test_an_answer_is_read() -> None:
    response = decode_response(whole({"role": "assistant", "content": "Hello from Azure OpenAI!"}))
    assert response == Response(
        "Hello from Azure OpenAI!", TokenUsage(15, 10), finish_reason="stop", model="gpt-4o-2024-11-20"
    )


def test_tool_calls_are_read_and_named_as_ours() -> None:
    calls = [
        {"id": "call_abc", "function": {"name": "db_query", "arguments": '{"location":"Seattle"}'}},
        {"id": None, "function": {"name": "functions.now", "arguments": ""}},
        {"id": "c", "function": {"name": "now", "arguments": {"zone": "CET"}}},
        {"id": "d", "function": {"name": "now", "arguments": '{"zone": "C'}},
    ]
    answer = whole({"content": None, "tool_calls": calls}, choice={"finish_reason": "tool_calls"})
    response = decode_response(answer, TOOLS)
    assert [(call.id, call.name, call.arguments) for call in response.tool_calls] == [
        ("call_abc", "db:query", {"location": "Seattle"}),
        ("call_1", "now", {}),
        ("c", "now", {"zone": "CET"}),
        ("d", "now", {}),
    ]
    assert [call.error is None for call in response.tool_calls] == [True, True, True, False]
    assert response.finish_reason == "tool_calls"


def test_sub_counts_are_parts_and_may_be_missing() -> None:
    usage = {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 128},
    }
    assert decode_response(whole(usage=usage)).tokens_used == TokenUsage(2006, 300, 1920, 5, 128)
    odd = {"prompt_tokens": 3, "completion_tokens": None, "prompt_tokens_details": None}
    assert decode_response(whole(usage=odd)).tokens_used == TokenUsage(3, 0)
    assert decode_response(whole(usage=None)).tokens_used == TokenUsage()


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "weird"])
def test_a_finish_reason_is_the_server_s_own_word(reason: str) -> None:
    assert decode_response(whole(choice={"finish_reason": reason})).finish_reason == reason


@pytest.mark.parametrize("message", [{"role": "assistant"}, {"content": None}, {"content": "part"}])
def test_a_filtered_answer_is_an_error_with_what_it_cost(message: dict[str, Any]) -> None:
    choice = {"finish_reason": "content_filter", "content_filter_results": {"hate": {"filtered": True}}}
    with pytest.raises(ContentFilterError) as caught:
        decode_response(whole(message, choice=choice))
    error = caught.value
    assert (error.side, error.filtered, error.partial_text) == (
        "completion",
        ("hate",),
        message.get("content") or "",
    )
    assert error.tokens_used == TokenUsage(15, 10)


def test_a_limit_that_left_no_text_is_an_error_that_says_where_it_went() -> None:
    usage = {"completion_tokens": 16, "completion_tokens_details": {"reasoning_tokens": 16}}
    with pytest.raises(
        IncompleteResponseError, match="all 16 output tokens, 16 of them on reasoning"
    ) as caught:
        decode_response(whole({"content": ""}, choice={"finish_reason": "length"}, usage=usage))
    assert caught.value.tokens_used == TokenUsage(0, 16, reasoning=16)
    assert "max_tokens" in (caught.value.hint or "")


def test_a_refusal_is_the_answer() -> None:
    response = decode_response(whole({"content": None, "refusal": "I cannot."}))
    assert response.message == "I cannot."
    assert response.metadata["refusal"] == "I cannot."


@pytest.mark.parametrize(
    "changes",
    [
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        {"choices": {}},
        {"choices": [{"message": None}]},
        {"choices": [{"message": "text"}]},
        {"choices": [{"message": {"tool_calls": [{"id": "1"}]}}]},
        {"choices": [{"message": {"tool_calls": ["call"]}}]},
    ],
)
def test_no_answer_is_an_error_that_keeps_the_usage(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedResponseError) as caught:
        decode_response({**whole(), **changes})
    assert caught.value.tokens_used == TokenUsage(15, 10)
    assert caught.value.retryable


def test_an_error_with_status_200_is_an_error() -> None:
    error = {"message": "Invalid deployment", "type": "invalid_request_error", "code": "DeploymentNotFound"}
    with pytest.raises(DeploymentNotFoundError, match="Invalid deployment"):
        decode_response({"error": error})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty body"),
        (b" \n", "empty body"),
        (b"<html>login</html>", "HTML page"),
        (b'{"choices": [', "broken or cut off"),
        (b"[" * 100_000, "broken or cut off"),
        (b"hello", "text/plain that is not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_what_is_no_json_is_named(body: bytes, message: str) -> None:
    with pytest.raises(MalformedResponseError, match=message):
        decode_json(body, "text/plain")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "name",
                    "id",
                    "usage",
                    "finish_reason",
                    "error",
                    "refusal",
                    "content_filter_results",
                    "prompt_tokens",
                    "model",
                    "text",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(json_values, json_values, json_values)
def test_garbage_is_an_answer_or_an_error_of_ours(data: Any, message: Any, usage: Any) -> None:
    for answer in (data, {"choices": data}, {"choices": [{"message": message}], "usage": usage}):
        with contextlib.suppress(LoomError):
            assert isinstance(decode_response(answer, TOOLS), Response)
