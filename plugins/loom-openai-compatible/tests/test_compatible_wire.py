"""The lenient reader: whatever the server's way with calls, the same calls come out."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_openai_compatible.lenient import finish_reason_of, usage_of
from loom_openai_compatible.wire import LENIENT_CHAT, decode_leniently
from loom_py import Response, TokenUsage
from loom_py.errors import ServiceUnavailableError, StreamInterruptedError
from loom_py.events import TextDelta, ToolCallStarted
from loom_py.llm.azure.schema import NO_TOOLS

names = st.sampled_from(["find", "now", "look_up"])
arguments = st.dictionaries(st.text(max_size=6), st.text(max_size=6) | st.integers() | st.none(), max_size=3)


def message(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", **fields}, "finish_reason": "stop"}]}


def streamed(*deltas: dict[str, Any], end: str | None = "stop") -> tuple[Response, list[str]]:
    """The response in a stream without usage and end mark, and the ids of the calls it began."""
    decoder = LENIENT_CHAT.stream_decoder(NO_TOOLS)
    chunks = [{"model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": end}]})
    body = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    events = list(decoder.feed(body))
    _, response = decoder.finish()
    return response, [event.call_id for event in events if isinstance(event, ToolCallStarted)]


@given(
    st.lists(st.tuples(names, arguments), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["own", "none", "zero"]),
    st.booleans(),
)
def test_streamed_calls_are_the_same_in_every_form(
    wanted: list[tuple[str, dict[str, Any]]], has_ids: bool, is_object: bool, indexes: str, together: bool
) -> None:
    pieces = []
    for place, (name, given_arguments) in enumerate(wanted):
        function = {
            "name": name,
            "arguments": given_arguments if is_object else json.dumps(given_arguments),
        }
        piece: dict[str, Any] = {"function": function}
        if has_ids:
            piece["id"] = f"id-{place}"
        if indexes != "none":
            piece["index"] = place if indexes == "own" else 0
        pieces.append(piece)
    deltas = [{"tool_calls": pieces}] if together else [{"tool_calls": [piece]} for piece in pieces]
    response, begun = streamed(*deltas)
    assert [(call.name, dict(call.arguments)) for call in response.tool_calls] == wanted
    ids = [call.id for call in response.tool_calls]
    assert len(set(ids)) == len(wanted)
    assert begun == ids
    assert response.finish_reason == "tool_calls"
    if has_ids:
        assert ids == [f"id-{place}" for place in range(len(wanted))]


def test_arguments_in_pieces_belong_to_the_call_that_was_begun_last() -> None:
    response, _ = streamed(
        {"tool_calls": [{"function": {"name": "find", "arguments": ""}}]},
        {"tool_calls": [{"function": {"arguments": '{"q":'}}]},
        {"tool_calls": [{"function": {"arguments": " 1}"}}]},
        {"tool_calls": [{"function": {"name": "now", "arguments": ""}}]},
        {"tool_calls": [{"function": {"arguments": "{}"}}]},
    )
    found = [(call.name, call.arguments_json) for call in response.tool_calls]
    assert found == [("find", '{"q": 1}'), ("now", "{}")]


def test_a_name_that_is_repeated_in_every_piece_begins_no_other_call() -> None:
    response, _ = streamed(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "find", "arguments": '{"q"'}}]},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "find", "arguments": ": 1}"}}]},
    )
    assert [(call.id, call.arguments_json) for call in response.tool_calls] == [("a", '{"q": 1}')]


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_calls": [{"id": "a", "function": {"name": "find", "arguments": '{"q": 1}'}}]},
        {"tool_calls": [{"id": "a", "name": "find", "arguments": {"q": 1}}]},
        {"tool_calls": [{"function": {"name": "find", "arguments": {"q": 1}}}], "content": None},
        {"function_call": {"name": "find", "arguments": '{"q": 1}'}, "tool_calls": None},
        {"tool_calls": ["noise", None, {"function": {"name": "find", "arguments": {"q": 1}}}]},
    ],
)
def test_a_whole_call_may_have_any_form(fields: dict[str, Any]) -> None:
    response = decode_leniently(message(**fields))
    (call,) = response.tool_calls
    assert (call.name, dict(call.arguments), response.finish_reason) == ("find", {"q": 1}, "tool_calls")
    assert call.id


def test_interleaved_pieces_without_an_index_go_by_their_ids() -> None:
    response, begun = streamed(
        {"tool_calls": [{"id": "a", "function": {"name": "find", "arguments": '{"q"'}}]},
        {"tool_calls": [{"id": "b", "function": {"name": "now", "arguments": "{"}}]},
        {"tool_calls": [{"id": "a", "function": {"arguments": ": 1}"}}]},
        {"tool_calls": [{"id": "b", "function": {"arguments": "}"}}]},
    )
    assert [(call.id, call.arguments_json) for call in response.tool_calls] == [
        ("a", '{"q": 1}'),
        ("b", "{}"),
    ]
    assert begun == ["a", "b"]


def test_a_name_that_is_repeated_without_an_id_begins_another_call_only_after_a_whole_one() -> None:
    response, _ = streamed(
        {"tool_calls": [{"index": 0, "function": {"name": "find", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "find", "arguments": '{"q"'}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "find", "arguments": ": 1}"}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "find", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "find", "arguments": '{"q": 2}'}}]},
    )
    assert [call.arguments_json for call in response.tool_calls] == ['{"q": 1}', '{"q": 2}']


def test_the_calls_of_other_choices_are_not_mixed_in() -> None:
    decoder = LENIENT_CHAT.stream_decoder(NO_TOOLS)
    for place, arguments in ((0, '{"q"'), (1, "{"), (0, ": 1}"), (1, "}")):
        piece = {"index": 0, "function": {"arguments": arguments}}
        if arguments[0] == "{":
            piece |= {"id": f"id-{place}", "function": {"name": "find", "arguments": arguments}}
        choice = {"index": place, "delta": {"tool_calls": [piece]}}
        list(decoder.feed(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"))
    list(decoder.feed(b"data: [DONE]\n\n"))
    (call,) = decoder.finish()[1].tool_calls
    assert (call.id, call.arguments_json) == ("id-0", '{"q": 1}')


def test_calls_of_one_reply_never_share_an_id() -> None:
    calls = [{"index": at, "id": "call_0", "function": {"name": "now", "arguments": "{}"}} for at in (0, 1)]
    for response in (decode_leniently(message(tool_calls=calls)), streamed({"tool_calls": calls})[0]):
        first, second = response.tool_calls
        assert first.id == "call_0" != second.id


def test_two_answers_without_ids_do_not_share_one() -> None:
    fields = {"tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}
    first, second = (decode_leniently(message(**fields)).tool_calls[0].id for _ in range(2))
    assert first != second


@pytest.mark.parametrize(
    ("said", "has_calls", "meant"),
    [
        ("stop", False, "stop"),
        ("stop", True, "tool_calls"),
        (None, True, "tool_calls"),
        (None, False, ""),
        ("eos_token", False, "stop"),
        ("length", True, "length"),
        ("content_filter", False, "content_filter"),
        (7, False, ""),
        ("STOP", False, "stop"),
        ("STOP", True, "tool_calls"),
        ("tool_use", True, "tool_calls"),
        ("tool_calls", False, "stop"),
        ("function_call", True, "tool_calls"),
        ("MAX_TOKENS", True, "length"),
    ],
)
def test_finish_reasons_are_openais(said: Any, has_calls: bool, meant: str) -> None:
    assert finish_reason_of(said, has_calls=has_calls) == meant


def test_cached_tokens_are_found_where_deepseek_tells_them() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 8}
    response = decode_leniently({**message(content="Hi"), "usage": usage})
    assert response.tokens_used == TokenUsage(10, 2, cached_input=8)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": None}, "none"])
def test_usage_without_a_number_is_no_usage(usage: Any) -> None:
    response = decode_leniently({**message(content="Hi"), "usage": usage})
    assert (usage_of(usage), response.metadata["usage_reported"]) == (None, False)


def test_numbers_of_tokens_may_have_a_point() -> None:
    usage = {"prompt_tokens": 10.0, "completion_tokens": 2.0}
    assert decode_leniently({**message(content="Hi"), "usage": usage}).tokens_used == TokenUsage(10, 2)


@pytest.mark.parametrize(
    ("choice", "status"),
    [
        ({"finish_reason": "error"}, 503),
        ({"finish_reason": "abort"}, 503),
        ({"finish_reason": "error", "error": {"code": 502, "message": "upstream"}}, 502),
    ],
)
def test_an_answer_that_the_server_gave_up_on_is_none(choice: dict[str, Any], status: int) -> None:
    with pytest.raises(ServiceUnavailableError) as caught:
        decode_leniently({"choices": [{"message": {"content": "half"}, **choice}]})
    assert caught.value.http_status == status
    decoder = LENIENT_CHAT.stream_decoder(NO_TOOLS)
    chunk = {"choices": [{"index": 0, "delta": {"content": "half"}, **choice}]}
    with pytest.raises(StreamInterruptedError) as broken:
        list(decoder.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n"))
    assert broken.value.partial_text == "half"


CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "He"}}]},
    {"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "llo"}]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
]


@given(st.lists(st.integers(0, 400), max_size=6), st.sampled_from([b"\n", b"\r\n", b"\n\n"]), st.booleans())
def test_chunks_that_are_lines_and_no_events_are_read_however_they_are_cut(
    cuts: list[int], end: bytes, is_ended: bool
) -> None:
    body = end.join(json.dumps(chunk).encode() for chunk in CHUNKS) + (end if is_ended else b"")
    decoder = LENIENT_CHAT.stream_decoder(NO_TOOLS)
    places = [0, *sorted(cuts), len(body)]
    events = [event for start, stop in pairwise(places) for event in decoder.feed(body[start:stop])]
    late, response = decoder.finish()
    assert "".join(event.delta for event in [*events, *late] if isinstance(event, TextDelta)) == "Hello"
    assert (response.message, response.tokens_used) == ("Hello", TokenUsage(1, 2))


@pytest.mark.parametrize("document", [{"choices": [{"message": {"content": "Hi"}}]}, message(content="Hi")])
def test_one_document_instead_of_a_stream_is_still_read_whole(document: dict[str, Any]) -> None:
    for indent in (None, 2):
        decoder = LENIENT_CHAT.stream_decoder(NO_TOOLS)
        assert list(decoder.feed(json.dumps(document, indent=indent).encode() + b"\n")) == []
        assert decoder.finish()[1].message == "Hi"


def test_the_end_mark_ends_an_answer_without_a_finish_reason() -> None:
    decoder = LENIENT_CHAT.stream_decoder(NO_TOOLS)
    list(decoder.feed(b"data: " + json.dumps(CHUNKS[0]).encode() + b"\n\ndata:[DONE]\n\n"))
    assert (decoder.finish()[1].message, decoder.finish()[1].finish_reason) == ("He", "stop")
    nothing = LENIENT_CHAT.stream_decoder(NO_TOOLS)
    list(nothing.feed(b"data: [DONE]\n\n"))
    with pytest.raises(StreamInterruptedError):
        nothing.finish()


def test_a_whole_message_in_a_stream_is_the_answer_unless_its_pieces_came_before() -> None:
    whole = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}
    for before, said in (([], "Hello"), ([CHUNKS[0], CHUNKS[1]], "Hello")):
        decoder = LENIENT_CHAT.stream_decoder(NO_TOOLS)
        list(
            decoder.feed(b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in [*before, whole]))
        )
        assert decoder.finish()[1].message == said


def test_thoughts_beside_text_in_one_chunk_are_both_kept() -> None:
    response, _ = streamed(
        {"content": "4", "reasoning_content": "2 + "},
        {"content": "2", "reasoning_content": "2"},
        {"content": "."},
    )
    assert (response.message, response.metadata["reasoning_content"]) == ("42.", "2 + 2")
