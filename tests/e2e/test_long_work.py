"""Long work in bounded memory: many tools, large results, long streams, long sessions.

The bounds are those of ``docs/performance.md``. Memory is what Python allocates, by tracemalloc; where the
wire has a part in it, it goes over real sockets.
"""

from __future__ import annotations

import gc
import json
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from loom_py import AgentBuilder, AzureEmulator, BaseProvider, Response, StreamEvent, TextDelta, TokenUsage
from loom_py.emulator import EchoProvider
from loom_py.errors import InvalidRequestError
from loom_py.events import FinalResponse
from loom_py.llm.scripted import ScriptedProvider, call, reply
from loom_py.messages import Message, ToolSpec
from loom_py.options import ChatOptions
from loom_py.tools import tool

MB = 2**20
CHUNKS = 100_000
RESULT = 10 * MB


class Short(BaseProvider):
    """Says one word and keeps nothing."""

    name = "short"
    model = "short"
    keeps_timeouts = True

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        return Response("Yes.", TokenUsage(len(messages), 1))


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """The body may allocate so much at its peak."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= megabytes * MB, f"{peak / MB:.1f} MB"


def _tools(count: int) -> list[Any]:
    def made(number: int) -> Any:
        def run(city: str, days: int = 1) -> str:
            """The weather.

            Args:
                city: where.
                days: for how long.
            """
            return f"{number} {city} {days}"

        return tool(name=f"tool_{number}")(run)

    return [made(number) for number in range(count)]


def test_two_hundred_tools_take_some_megabytes() -> None:
    tools = _tools(200)
    with at_most(10), AgentBuilder().with_llm(Short()).with_tools(*tools).build() as agent:
        assert len(agent.tools) == 200
        assert agent.chat("Hello?").message == "Yes."


def test_azure_s_refusal_of_too_many_tools_says_what_to_do() -> None:
    with AzureEmulator(EchoProvider()) as azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_tools(*_tools(129))
        with builder.build() as agent, pytest.raises(InvalidRequestError) as caught:
            agent.chat("Hello?")
    assert "128" in str(caught.value.hint)


def test_a_tool_s_result_of_ten_megabytes_is_held_a_few_times_at_most() -> None:
    @tool
    def report() -> str:
        """A long report."""
        return "x" * RESULT

    seen: list[int] = []

    def answer(request: Any) -> Any:
        last = request.messages[-1]
        if last.role == "tool":
            seen.append(len(last.text))
            return reply("Read it.")
        return [call("report")]

    model = ScriptedProvider(answer)
    with AzureEmulator(model, max_body=64 * MB) as azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_tools(report)
        with builder.build() as agent, at_most(10 * RESULT / MB):  # the emulator's own copies included
            assert agent.chat("Report?").message == "Read it."
    assert seen == [RESULT]


def test_a_stream_of_a_hundred_thousand_chunks_is_held_once() -> None:
    with _streaming_server() as endpoint:
        builder = AgentBuilder().with_azure_openai_llm(endpoint, "gpt-4o", "key")
        with builder.build() as agent:
            count, last = 0, None
            with at_most(12):
                for event in agent.stream_chat("Go on."):
                    count += bool(event.delta)
                    last = event.response
    assert count == CHUNKS
    assert last is not None
    assert len(last.message) == CHUNKS * len("word ")


async def test_a_foreign_stream_of_a_hundred_thousand_pieces_is_passed_on_as_it_comes() -> None:
    class Talker(BaseProvider):
        name = "talker"
        model = "talker"

        async def astream_chat(
            self,
            messages: Sequence[Message],
            tools: Sequence[ToolSpec] = (),
            *,
            options: ChatOptions | None = None,
        ) -> AsyncIterator[StreamEvent]:
            for _ in range(CHUNKS):
                yield TextDelta("word ")
            yield FinalResponse(Response("done", TokenUsage(1, CHUNKS)))

    async with AgentBuilder().with_llm(Talker()).build() as agent:
        count = 0
        with at_most(2):
            async for event in agent.astream_chat("Go on."):
                count += bool(event.delta)
    assert count == CHUNKS


def test_a_session_of_ten_thousand_messages_is_held_once() -> None:
    with AgentBuilder().with_llm(Short()).build() as agent, at_most(8):
        for number in range(5_000):
            agent.chat(f"Question {number}?", session_id="long")
        assert agent.chat("And?", session_id="long").tokens_used.input == 10_001


@contextmanager
def _streaming_server() -> Iterator[str]:
    """Answers one request with a long stream that is never whole in memory."""

    def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = {
            "id": "c",
            "object": "chat.completion.chunk",
            "model": "gpt-4o-2024-11-20",
            "choices": [choice],
        }
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    word = event({"content": "word "})
    slices = CHUNKS // 100

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
            )
            for _ in range(slices):
                connection.sendall(word * 100)
            connection.sendall(event({}, "stop") + b"data: [DONE]\n\n")
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):  # what is not read would be a reset at the end
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)
