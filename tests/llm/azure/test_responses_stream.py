"""Streams of the Responses API, put together; synthetic, and cut from the recorded answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py.errors import (
    ContentFilterError,
    IncompleteResponseError,
    LoomError,
    ProviderError,
    RateLimitError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.llm.azure.responses import decode_responses
from loom_py.llm.azure.responses_stream import ResponsesAssembler
from loom_py.llm.azure.schema import encode_tools
from loom_py.llm.azure.stream import StreamDecoder
from loom_py.messages import Response, TokenUsage, ToolSpec

CORPUS = Path(__file__).parents[4] / "shared" / "azure_corpus" / "exchanges"
ANSWERS = ("036", "042", "048", "076", "078", "100", "101", "102")
needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="the recorded exchanges are not on this machine"
)

TOOLS = encode_tools([ToolSpec("look up")])
USAGE = {"input_tokens": 10, "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 5}}
SPENT = TokenUsage(10, 7, reasoning=5)


def reasoning(text: str = "gAAAA") -> dict[str, Any]:
    return {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": text}


def said(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}


def refused(text: str) -> dict[str, Any]:
    return {**said(""), "content": [{"type": "refusal", "refusal": text}]}


def called(call_id: str, arguments: str = "{}") -> dict[str, Any]:
    item = {"id": f"fc_{call_id}", "type": "function_call", "call_id": call_id, "name": "look_up"}
    return {**item, "arguments": arguments, "status": "completed"}


def answer(*output: Any, **fields: Any) -> dict[str, Any]:
    return {"status": "completed", "model": "prod", "output": list(output), "usage": USAGE, **fields}


def events_of(response: dict[str, Any], size: int = 3) -> list[dict[str, Any]]:
    """The stream in which the service would have sent ``response``, in pieces of ``size`` characters."""
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "content_filters": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(response["output"]):
        events += _item_events(index, item, size)
    events.append({"type": f"response.{response['status']}", "response": response})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _item_events(index: int, item: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    place = {"output_index": index, "item_id": item["id"]}
    begun: dict[str, Any] = {**item, "status": "in_progress"}
    if item["type"] != "reasoning":
        begun["content" if item["type"] == "message" else "arguments"] = ""
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    for position, part in enumerate(item.get("content", ())):
        kind = part["type"]
        text = part.get("text") or part.get("refusal") or ""
        here = {**place, "content_index": position}
        yield {"type": "response.content_part.added", **here, "part": {"type": kind}}
        for piece in _pieces(text, size):
            yield {"type": f"response.{kind}.delta", **here, "delta": piece, "obfuscation": "xyz"}
        yield {"type": f"response.{kind}.done", **here, "text": text}
        yield {"type": "response.content_part.done", **here, "part": part}
    if item["type"] == "function_call":
        for piece in _pieces(item["arguments"], size):
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        yield {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]}
    if item["type"] == "reasoning":
        yield {"type": "response.reasoning_summary_text.delta", **place, "delta": "I think"}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def feed(assembler: ResponsesAssembler, events: Iterable[Any]) -> list[StreamEvent]:
    return [ours for event in events for ours in assembler.feed(event)]


def shown(events: Iterable[StreamEvent]) -> str:
    return "".join(event.delta for event in events)


def without(events: Iterable[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [event for event in events if not event["type"].removeprefix("response.").startswith(kinds)]


# ── whole streams ────────────────────────────────────────────────────────────────────────


def test_a_stream_gives_text_as_it_comes_and_calls_as_they_begin() -> None:
    assembler = ResponsesAssembler(TOOLS)
    whole = answer(reasoning(), said("Let me see."), called("c1", '{"q": 1}'))
    events = feed(assembler, events_of(whole, size=8))
    assert events == [TextDelta("Let me s"), TextDelta("ee."), ToolCallStarted("c1", "look up")]
    assert (assembler.is_whole, assembler.finish_reason, assembler.model) == (True, "tool_calls", "prod")
    assert assembler.complete() == decode_responses(whole, TOOLS)


@needs_corpus
@pytest.mark.parametrize("number", ANSWERS)
def test_a_recorded_answer_in_pieces_is_the_answer(number: str) -> None:
    (path,) = CORPUS.glob(f"{number}_*.json")
    whole = json.loads(path.read_text())["response"]["json"]
    assembler = ResponsesAssembler()
    events = feed(assembler, events_of(whole))
    response = decode_responses(whole)
    assert assembler.complete() == response
    assert shown(events) == response.message


OUTPUT = st.lists(
    st.one_of(
        st.builds(reasoning, st.text(max_size=5)),
        st.builds(said, st.text(max_size=9)),
        st.builds(refused, st.text(max_size=9)),
        st.builds(called, st.sampled_from("abc"), st.sampled_from(["{}", ' {"a": 12}', "{", ""])),
    ),
    max_size=5,
)
FILTERS = [{"source_type": "completion", "content_filter_results": {"hate": {"filtered": True}}}]
ENDINGS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
        {"status": "incomplete", "incomplete_details": None},
        {"content_filters": FILTERS},
        {"usage": None},
    ]
)


def outcome(decode: Any) -> Any:
    """The response, or what tells one error from another."""
    try:
        return decode()
    except ProviderError as error:
        told = {"partial_text", "side", "categories", "tokens_used"}
        return type(error), error.message, {key: vars(error).get(key) for key in told}


@given(OUTPUT, ENDINGS, st.integers(1, 5))
def test_a_stream_pieced_together_equals_the_whole_response(
    output: list[dict[str, Any]], ending: dict[str, Any], size: int
) -> None:
    whole = answer(*output, **ending)
    assembler = ResponsesAssembler(TOOLS)
    feed(assembler, events_of(whole, size))
    expected = outcome(lambda: decode_responses(whole, TOOLS))
    got = outcome(assembler.complete)
    if not isinstance(expected, Response) and ending.get("usage", USAGE) is None:
        expected[2]["tokens_used"] = None
    assert got == expected


@given(OUTPUT, st.integers(1, 5))
def test_the_pieces_alone_make_the_response_where_the_end_repeats_nothing(
    output: list[dict[str, Any]], size: int
) -> None:
    whole = answer(*output)
    events = events_of(whole, size)
    events[-1] = {"type": "response.completed", "response": {**whole, "output": []}}
    assembler = ResponsesAssembler(TOOLS)
    feed(assembler, events)
    assert assembler.complete() == decode_responses(whole, TOOLS)


@given(OUTPUT, st.data())
def test_every_prefix_of_a_stream_is_interrupted_or_whole(output: list[dict[str, Any]], data: Any) -> None:
    whole = answer(*output)
    events = events_of(whole)
    cut = data.draw(st.integers(0, len(events)))
    assembler = ResponsesAssembler(TOOLS)
    text = shown(feed(assembler, events[:cut]))
    assert assembler.is_whole == (cut == len(events))
    if assembler.is_whole:
        assert assembler.complete() == decode_responses(whole, TOOLS)
        return
    with pytest.raises(StreamInterruptedError) as caught:
        assembler.complete()
    assert caught.value.partial_text == text
    known = {call.id for call in decode_responses(whole, TOOLS).tool_calls}
    assert {call.id for call in caught.value.partial_tool_calls} <= known


@pytest.mark.parametrize(
    "left_out", ["output_text.delta", "output_item.added", "output_item", "content_part"]
)
def test_what_a_gateway_left_out_is_made_up_for_by_the_rest(left_out: str) -> None:
    whole = answer(said("Let me see."), called("c1", '{"q": 1}'))
    assembler = ResponsesAssembler(TOOLS)
    events = feed(assembler, without(events_of(whole), left_out))
    assert shown(events) == "Let me see."
    assert [event for event in events if isinstance(event, ToolCallStarted)] == [
        ToolCallStarted("c1", "look up")
    ]
    assert assembler.complete() == decode_responses(whole, TOOLS)


def test_events_without_an_index_find_their_item_by_its_id() -> None:
    calls = [called("c1", '{"q": 1}'), called("c2", '{"q": 2}')]
    events: list[dict[str, Any]] = [
        *({"type": "response.output_item.added", "item": {**call, "arguments": ""}} for call in calls),
        *(
            {"type": "response.function_call_arguments.delta", "item_id": call["id"], "delta": piece}
            for start in (0, 4)
            for call in calls
            for piece in [call["arguments"][start : start + 4]]
        ),
        {"type": "response.completed", "response": answer()},
    ]
    assembler = ResponsesAssembler(TOOLS)
    feed(assembler, events)
    assert assembler.complete().tool_calls == decode_responses(answer(*calls), TOOLS).tool_calls


def test_arguments_that_came_all_at_once_are_taken() -> None:
    events = without(
        events_of(answer(called("c1", '{"q": 1}'))), "function_call_arguments.delta", "output_item.done"
    )
    events[-1]["response"] = answer()
    assembler = ResponsesAssembler(TOOLS)
    feed(assembler, events)
    assert assembler.complete().tool_calls[0].arguments == {"q": 1}


def test_text_that_was_shown_is_the_text_of_the_response() -> None:
    events = events_of(answer(said("Hello")))
    events[-1]["response"] = answer(said("Goodbye"))
    assembler = ResponsesAssembler()
    assert shown(feed(assembler, events)) == assembler.complete().message == "Hello"


def test_what_follows_the_end_is_passed_over() -> None:
    assembler = ResponsesAssembler()
    late = [{"type": "response.output_text.delta", "delta": "!"}, {"type": "error", "message": "late"}]
    assert shown(feed(assembler, [*events_of(answer(said("Hi"))), *late])) == "Hi"
    assert assembler.complete().message == "Hi"


# ── streams that fail ────────────────────────────────────────────────────────────────────

BEGUN = events_of(answer(said("")))[:2]
PREFIX = events_of(answer(said("Once upon a time")))[:6]


def test_a_call_that_was_cut_off_shows_its_fragments() -> None:
    assembler = ResponsesAssembler(TOOLS)
    feed(assembler, events_of(answer(called("c1", '{"city": "Berlin"}')))[:5])
    (call,) = assembler.interrupted("cut").partial_tool_calls
    assert (call.id, call.name, call.arguments_json) == ("c1", "look up", '{"city')
    assert call.error is not None


def test_a_call_whose_arguments_never_began_is_not_one_without_arguments() -> None:
    assembler = ResponsesAssembler(TOOLS)
    feed(assembler, events_of(answer(called("c1")))[:3])
    assert assembler.has_output
    assert assembler.calls()[0].error is not None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "error", "code": "server_error", "message": "x", "param": None}, ServiceUnavailableError),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "x"}, RateLimitError),
        ({"type": "error", "error": {"code": "rate_limit_exceeded", "message": "x"}}, RateLimitError),
        ({"error": {"code": "429", "message": "x"}}, RateLimitError),
        ({"type": "error", "error": {"code": "content_filter", "message": "x"}}, ContentFilterError),
        (
            {"type": "response.failed", "response": {"error": {"code": "server_error"}}},
            ServiceUnavailableError,
        ),
        ({"type": "error"}, ServiceUnavailableError),
    ],
)
def test_an_error_event_before_any_output_is_its_error(event: Any, expected: type[LoomError]) -> None:
    assembler = ResponsesAssembler()
    with pytest.raises(expected):
        feed(assembler, [*BEGUN, event])


def test_a_passing_fault_after_text_is_an_interruption_with_the_text() -> None:
    failed = {"status": "failed", "usage": USAGE, "error": {"code": "server_error", "message": "Sorry"}}
    assembler = ResponsesAssembler()
    with pytest.raises(StreamInterruptedError, match="Sorry") as caught:
        feed(assembler, [*PREFIX, {"type": "response.failed", "response": failed}])
    assert caught.value.partial_text == "Once u"
    assert caught.value.tokens_used == SPENT
    assert caught.value.provider_code == "server_error"


def test_the_reason_of_a_failed_response_may_come_after_it() -> None:
    """Azure's filter ends a stream with a failed response that says nothing, and then says why."""
    filters = [
        {"blocked": True, "source_type": "prompt", "content_filter_results": {"hate": {"filtered": True}}}
    ]
    failed = {"status": "failed", "error": None, "usage": USAGE, "content_filters": filters}
    reason = {"type": "error", "error": {"code": "content_policy_violation", "message": "No."}}
    assembler = ResponsesAssembler()
    with pytest.raises(ContentFilterError, match="No") as caught:
        feed(assembler, [*BEGUN, {"type": "response.failed", "response": failed}, reason])
    error = caught.value
    assert (error.provider_code, error.filtered, error.side) == (
        "content_policy_violation",
        ("hate",),
        "prompt",
    )
    assert error.tokens_used == SPENT


@pytest.mark.parametrize(
    ("filters", "expected"),
    [(None, ServiceUnavailableError), ([{"blocked": True, "source_type": "prompt"}], ContentFilterError)],
)
def test_a_failed_response_without_a_reason_fails_at_the_end(filters: Any, expected: type[LoomError]) -> None:
    assembler = ResponsesAssembler()
    failed = {"status": "failed", "error": None, "content_filters": filters}
    feed(assembler, [*BEGUN, {"type": "response.failed", "response": failed}])
    assert assembler.is_whole
    with pytest.raises(expected) as caught:
        assembler.complete()
    assert caught.value.__context__ is None


def test_a_stream_the_filter_stopped_has_the_text_so_far() -> None:
    details = {"reason": "content_filter"}
    whole = answer(said("First you"), status="incomplete", incomplete_details=details)
    assembler = ResponsesAssembler()
    feed(assembler, events_of(whole))
    with pytest.raises(ContentFilterError) as caught:
        assembler.complete()
    assert (caught.value.partial_text, caught.value.tokens_used) == ("First you", SPENT)
    assert caught.value.__context__ is None


def test_a_stream_that_only_reasoned_is_incomplete() -> None:
    whole = answer(reasoning(), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assembler = ResponsesAssembler()
    feed(assembler, events_of(whole))
    assert not assembler.has_output
    with pytest.raises(IncompleteResponseError):
        assembler.complete()


@pytest.mark.parametrize("event", [None, [], "x", {"type": "response.completed"}])
def test_an_event_that_is_none_interrupts(event: Any) -> None:
    with pytest.raises(StreamInterruptedError):
        feed(ResponsesAssembler(), [event])


NAMES = (
    "created output_item.added output_item.done output_text.delta refusal.delta failed completed incomplete"
    " function_call_arguments.delta function_call_arguments.done unheard.of"
)
TYPES = st.sampled_from(["error", *(f"response.{name}" for name in NAMES.split())])
KEYS = st.sampled_from(
    [
        "type",
        "response",
        "item",
        "delta",
        "output_index",
        "content_index",
        "item_id",
        "error",
        "id",
        "content",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["message", "function_call", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=10,
)
EVENTS = st.builds(
    lambda fields, kind: {**fields, "type": kind}, st.dictionaries(KEYS, JSON, max_size=6), TYPES
)


@settings(max_examples=300)
@given(st.lists(EVENTS | JSON, max_size=6))
def test_no_events_make_it_raise_anything_but_our_errors(events: list[Any]) -> None:
    assembler = ResponsesAssembler()
    text = ""
    try:
        for event in events:
            text += shown(assembler.feed(event))
        response = assembler.complete()
    except LoomError:
        return
    assert response.message == text or not text


# ── in the decoder of bytes ──────────────────────────────────────────────────────────────


def body(events: Iterable[dict[str, Any]]) -> bytes:
    lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return "".join(lines).encode()


def decode(data: bytes, size: int) -> tuple[list[StreamEvent], Response]:
    decoder = StreamDecoder(TOOLS)
    cast(Any, decoder).assembler = ResponsesAssembler(TOOLS)
    events = [
        event for start in range(0, len(data), size) for event in decoder.feed(data[start : start + size])
    ]
    late, response = decoder.finish()
    return [*events, *late], response


@given(OUTPUT, st.integers(1, 200))
def test_however_the_bytes_are_cut_the_events_are_the_same(output: list[dict[str, Any]], size: int) -> None:
    data = body(events_of(answer(*output)))
    events, response = decode(data, size)
    assert response == decode_responses(answer(*output), TOOLS)
    assert (events, response) == decode(data, len(data))
    assert shown(events) == response.message
    done = [event.call for event in events if isinstance(event, ToolCallCompleted)]
    assert tuple(done) == response.tool_calls


def test_whatever_prefix_of_the_bytes_is_served_the_stream_is_whole_or_interrupted() -> None:
    data = body(events_of(answer(reasoning(), said("Grüß dich"), called("c1", '{"q": 1}')), size=9))
    whole = decode(data, len(data))
    for cut in range(len(data) - 2):
        with pytest.raises(StreamInterruptedError):
            decode(data[:cut], 512)
    assert decode(data[:-2], 512)[1] == whole[1]


def test_a_failed_stream_is_its_error_also_where_the_reason_never_came() -> None:
    failed = {"type": "response.failed", "response": {"status": "failed", "error": None}}
    with pytest.raises(ServiceUnavailableError):
        decode(body([*BEGUN, failed]), 100)
