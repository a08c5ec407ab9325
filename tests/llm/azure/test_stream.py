"""Streams: the same however they are cut, whole or an error."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py.errors import (
    ContentFilterError,
    IncompleteResponseError,
    LoomError,
    MalformedResponseError,
    RateLimitError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.llm.azure.schema import encode_tools
from loom_py.llm.azure.sse import SSEReader
from loom_py.llm.azure.stream import StreamDecoder
from loom_py.messages import Response, TokenUsage, ToolSpec

CORPUS = Path(__file__).parents[4] / "shared" / "azure_corpus" / "exchanges"
TOOLS = encode_tools([ToolSpec("db:query"), ToolSpec("now")])


def choice(delta: Any = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    chosen = {"index": 0, "delta": delta, "finish_reason": reason, **more}
    return {"id": "c", "model": "gpt-4o-2024-11-20", "choices": [chosen], "usage": None}


def text(content: str) -> dict[str, Any]:
    return choice({"content": content})


def call(index: int | None, id: str | None = None, name: str | None = None, arguments: str = "") -> Any:
    fragment: dict[str, Any] = {"id": id, "function": {"name": name, "arguments": arguments}}
    return fragment if index is None else {"index": index, **fragment}


EMPTY = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
STOP = choice({}, "stop")
USAGE = {
    "model": "gpt-4o-2024-11-20",
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": None},
}


def sse(*chunks: Any, end: str = "\n", done: bool = True) -> bytes:
    lines = [chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False) for chunk in chunks]
    lines += ["[DONE]"] if done else []
    return "".join(f"data: {line}{end}{end}" for line in lines).encode()


WHOLE = sse(EMPTY, choice({"role": "assistant", "content": ""}), text("Grüß "), text("Gott €😀"), STOP, USAGE)


def run(*pieces: bytes) -> tuple[list[StreamEvent], Response]:
    decoder = StreamDecoder(TOOLS)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    last, response = decoder.finish()
    return events + last, response


def outcome(*pieces: bytes) -> Any:
    try:
        return run(*pieces)
    except LoomError as error:
        return type(error), error.to_dict()


def attempt(body: bytes) -> Response | StreamInterruptedError:
    try:
        return run(body)[1]
    except StreamInterruptedError as error:
        return error


@cache
def bodies() -> list[bytes]:
    """Every recorded stream, and some made up."""
    recorded = []
    for path in sorted(CORPUS.glob("*.json")) if CORPUS.is_dir() else []:
        answer = json.loads(path.read_text())["response"]
        if "sse" in answer and "responses" not in path.name:
            recorded.append(answer["sse"].encode())
    tools = choice({"tool_calls": [call(0, "1", "db_query", '{"a'), call(1, "2", "now", "{}")]})
    made = [
        WHOLE,
        WHOLE.replace(b"\n", b"\r\n"),
        WHOLE.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf: comment\n\nevent: x\nid: 7\nretry: 5\n" + WHOLE,
        sse(
            EMPTY,
            tools,
            choice({"tool_calls": [call(0, arguments='": 1}')]}),
            choice({}, "tool_calls"),
            USAGE,
        ),
        sse(text("half")),
        sse(text("half"), {"error": {"message": "busy", "code": "429"}}),
        json.dumps({"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}).encode(),
        b"<html>gateway</html>",
        b"",
    ]
    return recorded + made


@settings(max_examples=150)
@given(st.data())
def test_a_stream_is_the_same_however_it_is_cut(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from(bodies()))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert outcome(*pieces) == outcome(body)


@pytest.mark.parametrize("number", range(5))
def test_a_stream_comes_byte_by_byte(number: int) -> None:
    body = bodies()[-10 + number]
    assert outcome(*(body[i : i + 1] for i in range(len(body)))) == outcome(body)


@settings(max_examples=100)
@given(st.data())
def test_a_prefix_is_an_interruption_or_the_whole_answer(data: st.DataObject) -> None:
    body = data.draw(st.sampled_from([body for body in bodies() if not isinstance(outcome(body)[0], type)]))
    if body.startswith(b"{"):
        return
    expected = run(body)[1]
    found = attempt(body[: data.draw(st.integers(0, len(body)))])
    if isinstance(found, StreamInterruptedError):
        assert expected.message.startswith(found.partial_text)
        assert found.retryable
        assert len(found.partial_tool_calls) <= len(expected.tool_calls)
    else:
        assert found == expected


def test_every_prefix_of_one_stream_in_turn() -> None:
    expected = run(WHOLE)[1]
    wholes = 0
    for end in range(len(WHOLE)):
        try:
            assert run(WHOLE[:end])[1] == expected
            wholes += 1
        except StreamInterruptedError:
            assert not wholes, "a longer prefix is never less whole"
    assert 0 < wholes < 40


# ── events ───────────────────────────────────────────────────────────────────────────────


def test_text_comes_as_it_arrives() -> None:
    events, response = run(WHOLE)
    assert [event.delta for event in events] == ["Grüß ", "Gott €😀"]
    assert response.message == "Grüß Gott €😀"
    assert (response.finish_reason, response.model) == ("stop", "gpt-4o-2024-11-20")
    assert response.tokens_used == TokenUsage(9, 4)
    assert response.metadata["content_filter"]["prompt"] == [{"prompt_index": 0}]


def test_parallel_calls_are_told_apart_and_put_in_order() -> None:
    events, response = run(
        sse(
            EMPTY,
            choice({"tool_calls": [call(1, "b", "now")]}),
            choice({"tool_calls": [call(0, "a", "db_query", '{"n":')]}),
            choice({"tool_calls": [call(1, arguments="{}"), call(0, arguments=" 1}")]}),
            choice({}, "tool_calls"),
            USAGE,
        )
    )
    assert [(c.id, c.name, c.arguments) for c in response.tool_calls] == [
        ("a", "db:query", {"n": 1}),
        ("b", "now", {}),
    ]
    assert [type(event) for event in events] == [ToolCallStarted] * 2 + [ToolCallCompleted] * 2
    assert events[:2] == [ToolCallStarted("b", "now"), ToolCallStarted("a", "db:query")]


def test_fragments_without_an_index_are_told_apart_by_their_ids() -> None:
    _, response = run(
        sse(
            choice({"tool_calls": [call(None, "a", "now", '{"x"')]}),
            choice({"tool_calls": [call(None, arguments=": 1}")]}),
            choice({"tool_calls": [call(None, "b", "now", "{}")]}),
            choice({}, "tool_calls"),
        )
    )
    assert [(c.id, c.arguments) for c in response.tool_calls] == [("a", {"x": 1}), ("b", {})]


def test_a_call_that_was_cut_by_the_limit_says_so() -> None:
    fragments = choice({"tool_calls": [call(0, "a", "now", '{"x": [1, ')]})
    _, response = run(sse(fragments, choice({}, "length")))
    assert response.tool_calls[0].error is not None
    assert response.finish_reason == "length"


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        {"choices": [{"index": 0}]},
        {"choices": [{"index": None, "delta": {"content": None, "tool_calls": None}}]},
        {"choices": [{"index": 1, "delta": {"content": "another choice"}}]},
        {"choices": [{"delta": {"tool_calls": [None, 1]}}]},
        {"object": "unknown", "obfuscation": "abc"},
    ],
)
def test_odd_chunks_change_nothing(chunk: dict[str, Any]) -> None:
    assert run(sse(EMPTY, chunk, text("a"), chunk, STOP, chunk, USAGE))[1].message == "a"


@pytest.mark.parametrize("index", [{"index": None}, {}, {"index": 0}])
def test_a_choice_without_an_index_is_the_only_one(index: dict[str, Any]) -> None:
    chunk = {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop", **index}]}
    assert run(sse(chunk))[1].message == "a"


def test_a_refusal_is_told_as_text() -> None:
    events, response = run(sse(choice({"refusal": "I "}), choice({"refusal": "cannot."}), STOP))
    assert response.message == "I cannot."
    assert "".join(event.delta for event in events) == "I cannot."


# ── what is no whole stream ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "why", "partial"),
    [
        (sse(text("half"), done=False), "without a finish reason", "half"),
        (sse(text("half")), "without a finish reason", "half"),
        (sse(text("half"), STOP, done=False), "before its usage", "half"),
        (sse(EMPTY, done=False), "without any output", ""),
        (b"data: [DONE]\n\n", "finish reason", ""),
        (b": keep-alive\n\n", "without any output", ""),
        (b"", "without any output", ""),
        (b"upstream connect error", "without any output", ""),
        (sse(text("half"), '{"choices": [{"delta"'), "not JSON", "half"),
        (sse(text("half"), "[1]"), "JSON list", "half"),
    ],
)
def test_a_stream_that_is_not_whole_is_an_error_with_what_had_come(
    body: bytes, why: str, partial: str
) -> None:
    with pytest.raises(StreamInterruptedError, match=why) as caught:
        run(body)
    assert caught.value.partial_text == partial


def test_calls_that_had_begun_are_kept_with_the_error() -> None:
    body = sse(choice({"tool_calls": [call(0, "a", "db_query", '{"n":')]}), done=False)
    with pytest.raises(StreamInterruptedError) as caught:
        run(body)
    assert [c.name for c in caught.value.partial_tool_calls] == ["db:query"]


def test_the_last_event_needs_no_empty_line_if_it_is_whole() -> None:
    for ending in (b"\n\n", b"\n", b""):
        assert run(WHOLE.removesuffix(b"\n\n") + ending)[1].message == "Grüß Gott €😀"


def test_data_of_several_lines_is_one_event() -> None:
    body = b'data: {"choices": [{"delta":\ndata: {"content": "a"}, "finish_reason": "stop"}]}\n\n'
    assert run(body + b"data:[DONE]\n\n")[1].message == "a"


def test_a_big_piece_of_many_lines_takes_no_time() -> None:
    body = sse(*[text("word ")] * 40_000, STOP, USAGE)
    assert len(run(body)[1].message) == 200_000


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        ({"message": "busy", "code": "429"}, RateLimitError, StreamInterruptedError),
        ({"message": "boom", "type": "server_error"}, ServiceUnavailableError, StreamInterruptedError),
        ({"message": "blocked", "code": "content_filter"}, ContentFilterError, ContentFilterError),
    ],
)
def test_an_error_chunk_is_itself_before_output_and_an_interruption_after(
    error: dict[str, Any], before: type[LoomError], after: type[LoomError]
) -> None:
    with pytest.raises(before) as caught:
        run(sse(EMPTY, {"error": error}))
    assert type(caught.value) is before
    with pytest.raises(after) as late:
        run(sse(EMPTY, text("half"), {"error": error}))
    assert type(late.value) is after
    assert late.value.partial_text == "half"  # type: ignore[attr-defined]


FILTERED = [
    {"hate": {"filtered": True, "severity": "high"}},
    {"custom_blocklists": {"filtered": True, "details": []}},
    {"custom_blocklists": [{"filtered": True, "id": "mine"}]},
]


@pytest.mark.parametrize("verdicts", FILTERED)
def test_the_filter_s_late_verdict_withdraws_the_answer(verdicts: dict[str, Any]) -> None:
    late = {"choices": [{"index": 0, "content_filter_results": verdicts, "content_filter_offsets": {}}]}
    safe = {"choices": [{"index": 0, "content_filter_results": {"hate": {"filtered": False}}}]}
    with pytest.raises(ContentFilterError, match="withdrew") as caught:
        run(sse(text("shown"), STOP, late, safe, USAGE))
    assert (caught.value.partial_text, caught.value.side) == ("shown", "completion")
    assert caught.value.tokens_used == TokenUsage(9, 4)


def test_a_filter_that_stops_the_answer_is_an_error() -> None:
    with pytest.raises(ContentFilterError) as caught:
        run(sse(text("half"), choice({}, "content_filter"), USAGE))
    assert (caught.value.partial_text, caught.value.tokens_used) == ("half", TokenUsage(9, 4))


def test_a_limit_without_text_is_an_error() -> None:
    with pytest.raises(IncompleteResponseError):
        run(sse(choice({}, "length"), USAGE))


def test_a_whole_answer_to_a_stream_request_is_the_answer() -> None:
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}], "usage": USAGE["usage"]}
    events, response = run(json.dumps(body).encode())
    assert events == [TextDelta("Hi")]
    assert response.tokens_used == TokenUsage(9, 4)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b'{"error": {"message": "slow down", "code": "429"}}', RateLimitError, "slow down"),
        (b'{"choices": [], "model": "m"}', MalformedResponseError, "no choices"),
        (b'{"choices": [', MalformedResponseError, "broken or cut off"),
        (b"\n <!doctype html>", MalformedResponseError, "HTML page"),
    ],
)
def test_another_answer_to_a_stream_request_is_its_error(
    body: bytes, kind: type[LoomError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        run(body)


# ── server-sent events alone ─────────────────────────────────────────────────────────────


@given(
    st.lists(st.binary(max_size=8).map(lambda b: b.replace(b"\r", b"").replace(b"\n", b"")), max_size=5),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.data(),
)
def test_events_survive_any_line_ending_and_any_cut(
    payloads: list[bytes], end: bytes, data: st.DataObject
) -> None:
    body = b"".join(b": note" + end + b"data: " + payload + end + end for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    reader = SSEReader()
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += reader.feed(body[start:stop])
    rest = reader.rest()
    assert found + ([rest] if end == b"\r" and len(found) < len(payloads) else []) == payloads


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "tool_calls",
                    "function",
                    "index",
                    "id",
                    "name",
                    "usage",
                    "error",
                    "finish_reason",
                    "arguments",
                    "content_filter_results",
                    "refusal",
                    "hate",
                    "filtered",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(st.lists(st.one_of(json_values, json_values.map(lambda v: {"choices": [v]})), max_size=4), st.binary())
def test_garbage_is_a_response_or_an_error_of_ours(chunks: list[Any], tail: bytes) -> None:
    for body in (sse(*chunks), sse(*chunks) + tail, tail):
        assert outcome(body)


CORPUS = Path(__file__).parents[4] / "shared" / "azure_corpus" / "exchanges"


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the recorded exchanges are not on this machine")
@pytest.mark.parametrize(
    ("number", "filtered", "blocklists", "start"),
    [
        ("211", ("custom_blocklists",), ("TestBlocklistNoBanana",), 105),
        ("250", ("protected_material_text",), (), 65),
    ],
)
def test_the_asynchronous_filter_says_what_it_blocked_and_where(
    number: str, filtered: tuple[str, ...], blocklists: tuple[str, ...], start: int
) -> None:
    body = json.loads(next(CORPUS.glob(f"{number}_*.json")).read_text())["response"]["sse"].encode()
    decoder = StreamDecoder()
    shown = "".join(event.delta for event in decoder.feed(body))
    with pytest.raises(ContentFilterError) as caught:
        decoder.finish()
    error = caught.value
    assert (error.side, error.filtered, error.blocklists) == ("completion", filtered, blocklists)
    assert error.offsets["start_offset"] == start
    assert error.partial_text == shown
    assert error.severities["hate"] == "safe"
