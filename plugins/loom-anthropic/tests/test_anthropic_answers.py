"""Messages and streams, read: whatever the service sends is a response or a typed error."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_anthropic.answers import decode_message, decode_usage
from loom_anthropic.raw_json import loads
from loom_anthropic.stream import StreamDecoder
from loom_py.errors import (
    ContentFilterError,
    IncompleteResponseError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.messages import Response, TokenUsage

USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 40,
    "output_tokens": 25,
    "output_tokens_details": {"thinking_tokens": 5},
    "service_tier": "standard",
}


def message(*content: dict[str, Any], stop_reason: str | None = "end_turn", **rest: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": list(content),
        "stop_reason": stop_reason,
        "usage": USAGE,
        **rest,
    }


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def test_input_counts_what_was_read_from_and_written_to_the_cache() -> None:
    assert decode_usage(USAGE) == TokenUsage(150, 25, cached_input=100, cache_writes=40, reasoning=5)
    assert decode_usage(None) is None
    assert decode_usage({"input_tokens": None, "output_tokens": "7"}) == TokenUsage()


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "pause_turn"),
        ("something_new", "something_new"),
        (None, "stop"),
    ],
)
def test_stop_reasons_in_the_words_of_chat_completions(reason: str | None, finish: str) -> None:
    response = decode_message(message(text("Hi"), stop_reason=reason))
    assert response.finish_reason == finish
    assert response.metadata.get("stop_reason") == reason


def test_a_refusal_is_a_content_filter_error_that_says_its_category() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "It looked like malware."}
    refused = message(text("Once"), stop_reason="refusal", stop_details=details)
    with pytest.raises(ContentFilterError, match=r"cyber.*malware") as caught:
        decode_message(refused)
    assert (caught.value.side, caught.value.partial_text) == ("completion", "Once")
    assert caught.value.filtered == ("cyber",)
    assert caught.value.tokens_used is not None
    with pytest.raises(ContentFilterError) as caught:
        decode_message(message(stop_reason="refusal"))
    assert caught.value.side == "prompt"


def test_a_limit_that_left_no_text_is_an_error_with_its_tokens() -> None:
    with pytest.raises(IncompleteResponseError, match="25 output tokens, 5 of them on thinking"):
        decode_message(
            message({"type": "thinking", "thinking": "hm", "signature": "s"}, stop_reason="max_tokens")
        )


def test_a_call_that_the_limit_cut_off_is_not_run() -> None:
    cut = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    (call,) = decode_message(message(cut, stop_reason="max_tokens")).tool_calls
    assert call.error == "the arguments were cut off before their end"
    (call,) = decode_message(message(cut, stop_reason="tool_use")).tool_calls
    assert call.error is None


def test_thinking_is_kept_for_the_next_turn_with_the_order_of_the_blocks() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        text("Let me see."),
        {"type": "redacted_thinking", "data": "abc"},
        {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
    ]
    response = decode_message(message(*blocks, stop_reason="tool_use"), model="claude-y")
    assert response.provider_data == {
        "anthropic": {
            "model": "claude-y",
            "content": [
                blocks[0],
                {"type": "text", "characters": 11},
                blocks[2],
                {"type": "tool_use", "id": "t1"},
            ],
        }
    }
    assert Response.from_json(response.to_json()) == response
    assert decode_message(message(text("Hi"))).provider_data == {}


def test_arguments_keep_their_text_in_a_whole_answer() -> None:
    raw = json.dumps(message({"type": "tool_use", "id": "t1", "name": "w", "input": "@"}))
    body = raw.replace('"@"', '{ "a":1.0, "b":{"c" : []} }').encode()
    (call,) = decode_message(loads(body)).tool_calls
    assert call.arguments_json == '{ "a":1.0, "b":{"c" : []} }'
    assert call.arguments == {"a": 1.0, "b": {"c": []}}


@pytest.mark.parametrize(
    "data", [None, 3, [], {}, {"content": None}, {"content": "text"}, message({"type": "tool_use"})]
)
def test_what_is_no_message_is_a_malformed_response(data: Any) -> None:
    with pytest.raises(MalformedResponseError):
        decode_message(data)


def test_an_error_that_came_with_status_200_is_that_error() -> None:
    with pytest.raises(InvalidRequestError, match="bad"):
        decode_message({"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}})


# ── streams ──────────────────────────────────────────────────────────────────────────────


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
        for event in events
    )


START: dict[str, Any] = {"type": "message_start", "message": message(stop_reason=None) | {"content": []}}
STOP: list[dict[str, Any]] = [
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 99}},
    {"type": "message_stop"},
]


def begin(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


WHOLE: list[dict[str, Any]] = [
    START,
    {"type": "ping"},
    begin(0, {"type": "thinking", "thinking": "", "signature": ""}),
    delta(0, "thinking_delta", thinking="Rain"),
    delta(0, "thinking_delta", thinking="?"),
    delta(0, "signature_delta", signature="sig"),
    {"type": "content_block_stop", "index": 0},
    begin(1, text("")),
    delta(1, "text_delta", text="Grüße "),
    delta(1, "text_delta", text="🌧"),
    {"type": "content_block_stop", "index": 1},
    begin(2, {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}),
    delta(2, "input_json_delta", partial_json=""),
    delta(2, "input_json_delta", partial_json='{ "city"'),
    delta(2, "input_json_delta", partial_json=': "Oslo"}'),
    {"type": "content_block_stop", "index": 2},
    {"type": "something_new", "index": 3},
    begin(3, {"type": "tool_use", "id": "t2", "name": "now", "input": {}}),
    {"type": "content_block_stop", "index": 3},
    *STOP,
]


def read(*pieces: bytes) -> tuple[list[StreamEvent], Response]:
    decoder = StreamDecoder(model="m")
    events = [event for piece in pieces for event in decoder.feed(piece)]
    last, response = decoder.finish()
    return events + last, response


def test_a_stream_is_put_together_block_by_block() -> None:
    events, response = read(sse(*WHOLE))
    assert response.message == "Grüße 🌧"
    assert [(call.id, call.name, call.arguments_json) for call in response.tool_calls] == [
        ("t1", "weather", '{ "city": "Oslo"}'),
        ("t2", "now", "{}"),
    ]
    assert response.tokens_used == TokenUsage(150, 99, 100, 40, 5)
    assert response.provider_data["anthropic"]["content"][0] == {
        "type": "thinking",
        "thinking": "Rain?",
        "signature": "sig",
    }
    assert [type(event) for event in events] == [
        TextDelta,
        TextDelta,
        ToolCallStarted,
        ToolCallStarted,
        ToolCallCompleted,
        ToolCallCompleted,
    ]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_a_stream_is_the_same_however_its_bytes_are_cut(sizes: list[int]) -> None:
    data = sse(*WHOLE)
    pieces: list[bytes] = []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[:size])
        data = data[size:]
    assert read(*pieces) == read(sse(*WHOLE))


def test_every_stream_that_breaks_off_early_is_an_error_with_what_had_come() -> None:
    for count in range(len(WHOLE) - 2):
        with pytest.raises(StreamInterruptedError) as caught:
            read(sse(*WHOLE[:count]))
        assert "Grüße 🌧".startswith(caught.value.partial_text)
    with pytest.raises(StreamInterruptedError) as caught:
        read(sse(*WHOLE[:14]))
    assert caught.value.tokens_used is not None
    assert caught.value.tokens_used.input == 150
    assert [call.name for call in caught.value.partial_tool_calls] == ["weather"]


def test_a_stream_without_its_last_event_is_whole() -> None:
    assert read(sse(*WHOLE[:-1]))[1] == read(sse(*WHOLE))[1]
    assert read(sse(*WHOLE[:-1]).rstrip(b"\n"))[1] == read(sse(*WHOLE))[1]


def test_an_overloaded_stream_is_unavailable_before_and_interrupted_after_the_first_word() -> None:
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(ServiceUnavailableError) as early:
        read(sse(START, overloaded))
    assert (early.value.http_status, early.value.provider_code) == (529, "overloaded_error")
    with pytest.raises(StreamInterruptedError, match="Overloaded") as late:
        read(sse(*WHOLE[:9], overloaded))
    assert late.value.partial_text == "Grüße "
    refused = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    with pytest.raises(InvalidRequestError):
        read(sse(*WHOLE[:9], refused))


def test_a_whole_message_in_place_of_a_stream_is_taken_for_what_it_is() -> None:
    events, response = read(json.dumps(message(text("Hi"))).encode())
    assert (response.message, [event.delta for event in events]) == ("Hi", ["Hi"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "index", "delta", "message", "content_block", "usage", "text", "error"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
kinds = st.sampled_from([event["type"] for event in WHOLE])


@given(st.lists(st.tuples(kinds, json_values, json_values), max_size=6))
def test_no_stream_makes_anything_but_events_and_typed_errors(
    parts: list[tuple[str, Any, Any]],
) -> None:
    keys = {"message_start": "message", "content_block_start": "content_block"}
    events = [{"type": kind, "index": index, keys.get(kind, "delta"): value} for kind, index, value in parts]
    with suppress(LoomError):
        read(sse(*events))
