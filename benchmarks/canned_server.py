"""A loopback server that costs next to nothing: it looks at no more of a request than it must.

``python -m benchmarks.canned_server plain rounds=10 stream=2000`` listens on one port per scenario, prints
them as one line of JSON and serves until its standard input closes.

``plain`` always answers with a text. ``rounds=N`` asks for the tool until the request holds the results of N
calls. ``stream=N`` sends N chunks of text as server-sent events, each in an HTTP chunk of its own, as fast as
the socket takes them. ``GET /seen`` says what the last request to that port was like.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.contender import ANSWER, word

MODEL = "gpt-4o-2024-11-20"
USAGE = {"prompt_tokens": 40, "completion_tokens": 8, "total_tokens": 48}

Reply = Callable[[bytes], bytes]


def completion(message: dict[str, Any], finish_reason: str) -> bytes:
    """A whole answer with its headers."""
    choice = {"index": 0, "finish_reason": finish_reason, "logprobs": None, "message": message}
    body = {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion",
        "created": 1764000000,
        "model": MODEL,
        "system_fingerprint": "fp_benchmark",
        "choices": [choice],
        "usage": USAGE,
    }
    return whole(json.dumps(body).encode())


def whole(body: bytes) -> bytes:
    """``body`` as an HTTP answer."""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: benchmark\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )


TEXT = completion({"role": "assistant", "content": ANSWER, "refusal": None}, "stop")


def plain() -> Reply:
    """Always the text."""
    return lambda body: TEXT


def rounds(number: int) -> Reply:
    """The tool until ``number`` of its results are there, then the text."""
    calls = [_tool_call(index) for index in range(number)]

    def reply(body: bytes) -> bytes:
        done = body.count(b'"tool_call_id"')
        return calls[done] if done < number else TEXT

    return reply


def _tool_call(index: int) -> bytes:
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    call = {"id": f"call_{index:04}", "type": "function", "function": function}
    return completion(
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}, "tool_calls"
    )


def stream(chunks: int) -> Reply:
    """``chunks`` pieces of text, the finish reason, the usage."""
    pieces = [_chunk({"role": "assistant", "content": ""}, None)]
    pieces += [_chunk({"content": word(index)}, None) for index in range(chunks)]
    pieces += [_chunk({}, "stop"), _event({**_chunk_body(), "choices": [], "usage": USAGE})]
    pieces.append(_http_chunk(b"data: [DONE]\n\n"))
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: benchmark\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    answer = head + b"".join(pieces) + b"0\r\n\r\n"
    return lambda body: answer


def _chunk(delta: dict[str, Any], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _event({**_chunk_body(), "choices": [choice | {"content_filter_results": {}}]})


def _chunk_body() -> dict[str, Any]:
    return {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": MODEL,
        "system_fingerprint": "fp_benchmark",
    }


def _event(body: dict[str, Any]) -> bytes:
    return _http_chunk(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n")


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


SCENARIOS: dict[str, Callable[..., Reply]] = {"plain": plain, "rounds": rounds, "stream": stream}


def scenario(name: str) -> Reply:
    """What answers ``plain``, ``rounds=N`` or ``stream=N``."""
    kind, _, number = name.partition("=")
    return SCENARIOS[kind](*([int(number)] if number else []))


class Seen:
    """What one port was sent last."""

    body = b""
    requests = 0

    def answer(self) -> bytes:
        """The number of requests, and the length, messages and tools of the last."""
        sent = json.loads(self.body or b"{}")
        return whole(
            json.dumps(
                {
                    "requests": self.requests,
                    "bytes": len(self.body),
                    "messages": len(sent.get("messages", ())),
                    "tools": len(sent.get("tools") or ()),
                    "stream": bool(sent.get("stream")),
                }
            ).encode()
        )


class CannedAnswers(asyncio.Protocol):
    """Reads whole requests, by their Content-Length, on connections that are kept."""

    def __init__(self, reply: Reply, seen: Seen) -> None:
        self._reply = reply
        self._seen = seen
        self._buffer = bytearray()
        self._end = -1  # of the headers of the request that is under way
        self._needed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._is_whole():
            head, body = bytes(self._buffer[: self._end]), bytes(self._buffer[self._end + 4 : self._needed])
            del self._buffer[: self._needed]
            self._end = -1
            if head.startswith(b"GET /seen"):
                self._transport.write(self._seen.answer())
                continue
            self._seen.body = body
            self._seen.requests += 1
            self._transport.write(self._reply(body))

    def _is_whole(self) -> bool:
        if self._end < 0:
            self._end = self._buffer.find(b"\r\n\r\n")
            if self._end < 0:
                return False
            head = bytes(self._buffer[: self._end]).lower()
            _, found, length = head.partition(b"\r\ncontent-length:")
            self._needed = self._end + 4 + (int(length.partition(b"\r\n")[0]) if found else 0)
        return len(self._buffer) >= self._needed


async def serve(names: list[str]) -> None:
    """Listen for each scenario until standard input closes."""
    loop = asyncio.get_running_loop()
    ports = {}
    servers = []
    for name in names:
        reply, seen = scenario(name), Seen()
        server = await loop.create_server(
            lambda reply=reply, seen=seen: CannedAnswers(reply, seen),  # type: ignore[misc]
            "127.0.0.1",
            0,
            backlog=1024,
        )
        servers.append(server)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:] or ["plain"]))
