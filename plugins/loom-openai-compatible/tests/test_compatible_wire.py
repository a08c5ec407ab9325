"""The lenient reader: whatever the server's way with calls, the same calls come out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_openai_compatible.lenient import finish_reason_of, usage_of
from loom_openai_compatible.wire import LENIENT_CHAT, decode_leniently
from loom_py import Response, TokenUsage
from loom_py.events import ToolCallStarted
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
    if indexes == "zero" and not has_ids:
        indexes = "none"  # nothing at all would tell the calls apart
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
    ],
)
def test_finish_reasons_are_openais(said: Any, has_calls: bool, meant: str) -> None:
    assert finish_reason_of(said, has_calls=has_calls) == meant


def test_cached_tokens_are_found_where_deepseek_tells_them() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_cache_hit_tokens": 8}
    response = decode_leniently({**message(content="Hi"), "usage": usage})
    assert response.tokens_used == TokenUsage(10, 2, cached_input=8)
    assert usage_of(None) is None


def test_thoughts_beside_text_in_one_chunk_are_both_kept() -> None:
    response, _ = streamed(
        {"content": "4", "reasoning_content": "2 + "},
        {"content": "2", "reasoning_content": "2"},
        {"content": "."},
    )
    assert (response.message, response.metadata["reasoning_content"]) == ("42.", "2 + 2")
