"""Messages, usage, responses and events: immutable, and the same after a trip through JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py import events, messages
from loom_py.events import (
    FinalResponse,
    StreamEvent,
    StreamRestarted,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResultEvent,
    UsageEvent,
    event_from_dict,
)
from loom_py.messages import (
    ImagePart,
    JSONForm,
    Message,
    Response,
    TextPart,
    TokenUsage,
    ToolCall,
    ToolResult,
)

TEXT = st.text(max_size=20)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
TEXT_PARTS = st.builds(TextPart, TEXT)
IMAGES = st.one_of(
    st.builds(ImagePart, url=TEXT, detail=st.sampled_from(["auto", "low", "high"])),
    st.builds(
        ImagePart, data=st.binary(max_size=20), media_type=st.sampled_from(["image/png", "image/jpeg"])
    ),
)
CALLS = st.one_of(st.builds(ToolCall, TEXT, TEXT, OBJECTS), st.builds(ToolCall.parse, TEXT, TEXT, TEXT))
RESULTS = st.builds(
    ToolResult, TEXT, TEXT, TEXT, st.booleans(), st.none() | TEXT, st.floats(0, 1e9, allow_nan=False)
)
USAGES = st.builds(TokenUsage, *[st.integers(0, 10**9)] * 5)
MESSAGES = st.one_of(
    st.builds(Message.system, TEXT),
    st.builds(Message.user, TEXT | st.lists(TEXT_PARTS | IMAGES, max_size=3)),
    st.builds(Message.assistant, TEXT, st.lists(CALLS, max_size=3)),
    st.builds(Message.tool, TEXT, TEXT, st.none() | TEXT),
    st.builds(Message, st.just("assistant"), TEXT, provider_data=OBJECTS),
)
RESPONSES = st.builds(
    Response,
    message=TEXT,
    tokens_used=USAGES,
    cost_usd=st.none() | st.decimals(0, 1000, places=9),
    tool_calls=st.lists(CALLS, max_size=2).map(tuple),
    finish_reason=TEXT,
    model=TEXT,
    metadata=OBJECTS,
    tool_results=st.lists(RESULTS, max_size=2).map(tuple),
    provider_data=OBJECTS,
)
EVENTS: st.SearchStrategy[StreamEvent] = st.one_of(
    st.builds(TextDelta, TEXT),
    st.builds(ToolCallStarted, TEXT, TEXT),
    st.builds(ToolCallCompleted, CALLS),
    st.builds(ToolResultEvent, RESULTS),
    st.builds(UsageEvent, USAGES),
    st.builds(StreamRestarted, TEXT, TEXT),
    st.builds(FinalResponse, RESPONSES),
)
EVERYTHING: st.SearchStrategy[JSONForm] = st.one_of(
    TEXT_PARTS, IMAGES, CALLS, RESULTS, USAGES, MESSAGES, RESPONSES, EVENTS
)


@given(EVERYTHING)
def test_a_trip_through_json_loses_nothing(thing: JSONForm) -> None:
    text = thing.to_json()
    again = type(thing).from_json(text)
    assert again == thing
    assert again.to_json() == text
    assert type(thing).from_json(text.encode()) == thing


@given(EVENTS)
def test_an_event_is_found_by_its_type(event: StreamEvent) -> None:
    again = event_from_dict(json.loads(event.to_json()))
    assert again == event
    assert type(again) is type(event)


def test_the_round_trip_covers_every_class_there_is() -> None:
    classes = {
        thing
        for module in (messages, events)
        for thing in vars(module).values()
        if isinstance(thing, type) and issubclass(thing, JSONForm)
    }
    assert classes - {JSONForm, StreamEvent} == {
        TextPart, ImagePart, ToolCall, ToolResult, TokenUsage, Message, Response,
        TextDelta, ToolCallStarted, ToolCallCompleted, ToolResultEvent, UsageEvent, FinalResponse,
        StreamRestarted,
    }  # fmt: skip


@given(EVERYTHING)
def test_everything_is_slotted_and_immutable(thing: Any) -> None:
    assert not hasattr(thing, "__dict__")
    field = dataclasses.fields(thing)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, field, None)


@given(st.lists(USAGES))
def test_usages_add_up_part_by_part(usages: list[TokenUsage]) -> None:
    total = sum(usages, TokenUsage())
    for name in ("input", "output", "cached_input", "cache_writes", "reasoning", "total"):
        assert getattr(total, name) == sum(getattr(usage, name) for usage in usages)


def test_the_total_is_input_and_output_and_nothing_on_top() -> None:
    usage = TokenUsage(input=100, output=20, cached_input=80, cache_writes=5, reasoning=15)
    assert usage.total == 120


@given(TEXT)
def test_parsing_arguments_never_raises_and_keeps_the_models_own_text(text: str) -> None:
    call = ToolCall.parse("c1", "count", text)
    if call.error is not None:
        assert (call.arguments, call.arguments_json) == ({}, text)
    elif text.strip():
        assert call.arguments_json == text
        assert call.arguments == json.loads(text)
    else:
        assert (call.arguments, call.arguments_json) == ({}, "{}")


@pytest.mark.parametrize("text", ["[1]", '"x"', "3", "null", '{"a":', "{a: 1}"])
def test_arguments_that_are_no_json_object_are_an_error_on_the_call(text: str) -> None:
    assert ToolCall.parse("c1", "count", text).error is not None


def test_very_deep_arguments_are_an_error_on_the_call_too() -> None:
    assert ToolCall.parse("c1", "count", "[" * 100_000).error is not None


@pytest.mark.parametrize("arguments", [{}, {"url": "https://x", "data": b"x"}])
def test_an_image_has_either_a_url_or_data(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        ImagePart(**arguments)


def test_an_images_data_becomes_a_data_url_and_stays_out_of_the_repr() -> None:
    image = ImagePart(data=b"\x00secret", media_type="image/jpeg")
    assert image.source == "data:image/jpeg;base64,AHNlY3JldA=="
    assert "secret" not in repr(image)


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown role 'bot'"):
        Message("bot")  # type: ignore[arg-type]


def test_the_text_of_parts_is_their_text_joined() -> None:
    message = Message.user([TextPart("What "), ImagePart(url="https://x/y.png"), TextPart("is it?")])
    assert message.text == "What is it?"


def test_every_event_answers_delta_and_response() -> None:
    response = Response("hi")
    stream: list[StreamEvent] = [TextDelta("hi"), UsageEvent(TokenUsage()), FinalResponse(response)]
    assert [event.delta for event in stream] == ["hi", "", ""]
    assert [event.response for event in stream] == [None, None, response]
