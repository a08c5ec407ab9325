"""Server-sent events with Azure's quirks, and streams that break."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIError, AzureOpenAI

from loom_py.emulator import AzureEmulator
from loom_py.emulator.encode import Completion, StreamEncoder
from loom_py.errors import ContentFilterError, RateLimitError, ServiceUnavailableError, StreamInterruptedError
from loom_py.events import FinalResponse, StreamEvent, TextDelta, ToolCallCompleted
from loom_py.llm.provider import events_of
from loom_py.llm.scripted import ScriptedProvider, call, reply
from loom_py.messages import Response, TokenUsage, ToolCall

DEPLOYMENT = "gpt-4o-deployment"
USER: Any = [{"role": "user", "content": "Hello there"}]
Ask = Callable[..., httpx2.Response]


def events(response: httpx2.Response) -> list[Any]:
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_the_first_chunk_is_empty_and_the_second_opens_the_message(ask: Ask) -> None:
    first, second, *_ = events(ask(stream=True))
    assert (first["choices"], first["id"], first["model"], first["object"]) == ([], "", "", "")
    assert first["prompt_filter_results"][0]["content_filter_results"]["hate"]["severity"] == "safe"
    assert second["choices"][0]["delta"]["role"] == "assistant"
    assert second["choices"][0]["delta"]["content"] == ""
    assert second["model"] == "gpt-4o-2024-11-20"


def test_text_comes_word_by_word_and_ends_with_a_finish_reason(ask: Ask) -> None:
    chunks = events(ask(stream=True))
    deltas = [chunk["choices"][0]["delta"].get("content") for chunk in chunks[2:-1]]
    assert deltas == ["Hello ", "there"]
    assert chunks[-1]["choices"][0] | {"content_filter_results": {}} == {
        "content_filter_results": {},
        "delta": {},
        "finish_reason": "stop",
        "index": 0,
        "logprobs": None,
    }
    assert len({chunk["id"] for chunk in chunks[1:]}) == 1
    assert all(chunk["obfuscation"] for chunk in chunks[1:])


def test_usage_comes_only_when_asked_for_and_then_last(azure: AzureEmulator, ask: Ask) -> None:
    azure.engine = ScriptedProvider([reply("hi", tokens=TokenUsage(5, 2, cached_input=4))] * 2)
    assert all("usage" not in chunk for chunk in events(ask(stream=True)))
    chunks = events(ask(stream=True, stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None for chunk in chunks[1:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 7
    assert chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 4


def test_without_quirks_there_is_no_empty_chunk_and_no_padding() -> None:
    with AzureEmulator(quirks=False) as azure, httpx2.Client(base_url=azure.endpoint) as http:
        path = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=1"
        body = {"messages": USER, "stream": True}
        chunks = events(http.post(path, json=body, headers={"api-key": azure.api_key}))
    assert all(chunk["choices"] and "obfuscation" not in chunk for chunk in chunks)


def test_tool_calls_come_in_fragments_by_index(azure: AzureEmulator, ask: Ask) -> None:
    azure.engine = ScriptedProvider([[call("weather", city="Reykjavík"), call("time")]])
    chunks = events(ask(stream=True))
    pieces = [
        each
        for chunk in chunks[1:]
        for choice in chunk["choices"]
        for each in choice["delta"].get("tool_calls", ())
    ]
    opened = [each for each in pieces if "id" in each]
    assert [(each["index"], each["id"], each["function"]["name"]) for each in opened] == [
        (0, "call_1", "weather"),
        (1, "call_2", "time"),
    ]
    arguments = ["", ""]
    for each in pieces:
        arguments[each["index"]] += each["function"]["arguments"]
    assert arguments == ['{"city": "Reykjavík"}', "{}"]
    assert len([each for each in pieces if each["index"] == 0]) > 4
    assert chunks[1]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[1]["choices"][0]["delta"]["content"] is None
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_the_sdk_hears_events_as_the_engine_speaks(azure: AzureEmulator, sdk: AzureOpenAI) -> None:
    import threading

    go_on = threading.Event()

    class Halting(ScriptedProvider):
        async def astream_chat(self, *args: Any, **kwargs: Any) -> Any:
            import asyncio

            yield TextDelta("early ")
            await asyncio.to_thread(go_on.wait, 5)
            yield TextDelta("late")
            yield FinalResponse(Response("early late"))

    azure.engine = Halting(["unused"])
    heard = []
    with sdk.chat.completions.create(model=DEPLOYMENT, messages=USER, stream=True) as stream:
        for chunk in stream:
            text = chunk.choices[0].delta.content if chunk.choices else None
            if text:
                heard.append((text, go_on.is_set()))
                go_on.set()
    assert heard == [("early ", False), ("late", True)]


def test_an_error_before_the_first_event_is_a_status(azure: AzureEmulator, ask: Ask) -> None:
    azure.engine = ScriptedProvider([RateLimitError("busy", retry_after=3)])
    response = ask(stream=True)
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/json"
    assert response.headers["retry-after"] == "3"


def test_an_error_in_the_middle_is_an_event(azure: AzureEmulator, sdk: AzureOpenAI) -> None:
    error = ServiceUnavailableError("gone")
    error.partial_text = "half "  # type: ignore[attr-defined]
    azure.engine = ScriptedProvider([error])
    stream = sdk.chat.completions.create(model=DEPLOYMENT, messages=USER, stream=True)
    text: list[str | None] = []
    with pytest.raises(APIError, match="gone"):
        text.extend(chunk.choices[0].delta.content for chunk in stream if chunk.choices)
    assert text == ["", "half "]
    assert azure.requests[0].error is error


def test_a_filtered_answer_ends_with_that_finish_reason(azure: AzureEmulator, ask: Ask) -> None:
    azure.engine = ScriptedProvider([ContentFilterError("no", side="completion", partial_text="so far ")])
    chunks = events(ask(stream=True))
    assert chunks[-1]["choices"][0]["finish_reason"] == "content_filter"
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[1:])
    assert text == "so far "


def test_an_engine_whose_stream_breaks_off_drops_the_connection(azure: AzureEmulator, ask: Ask) -> None:
    azure.engine = ScriptedProvider([StreamInterruptedError("cut", partial_text="half ")])
    with pytest.raises(httpx2.RemoteProtocolError):
        ask(stream=True)


def test_a_stream_can_be_cut_with_the_connection(azure: AzureEmulator, http: httpx2.Client, ask: Ask) -> None:
    azure.cut_next_stream(after_chunks=3)
    path = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=1"
    received: list[bytes] = []
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        http.stream("POST", path, json={"messages": USER, "stream": True}) as response,
    ):
        received.extend(response.iter_raw())
    assert b"".join(received).count(b"data: ") == 3
    assert ask(stream=True).text.endswith("data: [DONE]\n\n")


def test_a_stream_can_end_cleanly_and_too_early(azure: AzureEmulator, ask: Ask) -> None:
    azure.cut_next_stream(after_chunks=3, clean=True)
    response = ask(stream=True)
    assert response.text.count("data: ") == 3
    assert "[DONE]" not in response.text


def test_a_chunk_delay_spreads_the_stream() -> None:
    with AzureEmulator(chunk_delay=0.02) as azure, httpx2.Client(base_url=azure.endpoint) as http:
        path = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=1"
        response = http.post(
            path, json={"messages": USER, "stream": True}, headers={"api-key": azure.api_key}
        )
    assert response.elapsed.total_seconds() >= 0.02 * 5


def encoded(stream: list[StreamEvent]) -> tuple[str, dict[int, str], str | None]:
    """Text, arguments by index and finish reason, as a client would put them together."""
    encoder = StreamEncoder(Completion("m", 0))
    chunks = [
        *encoder.start(),
        *(chunk for event in stream for chunk in encoder.feed(event)),
        *encoder.finish(),
    ]
    text, arguments, finish = "", dict[int, str](), None
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        text += choice["delta"].get("content") or ""
        finish = choice["finish_reason"] or finish
        for each in choice["delta"].get("tool_calls", ()):
            arguments[each["index"]] = arguments.get(each["index"], "") + each["function"]["arguments"]
    return text, arguments, finish


@given(st.text(), st.lists(st.text(max_size=30), max_size=3))
def test_the_chunks_put_together_are_the_response(text: str, arguments: list[str]) -> None:
    calls = tuple(ToolCall(f"id{n}", "t", {}, raw or " ") for n, raw in enumerate(arguments))
    response = Response(text, tool_calls=calls, finish_reason="stop")
    expected = (text, {n: each.arguments_json for n, each in enumerate(calls)}, "stop")
    assert encoded(list(events_of(response))) == expected
    assert encoded([FinalResponse(response)]) == expected
    assert encoded([*map(ToolCallCompleted, calls), FinalResponse(response)]) == expected
