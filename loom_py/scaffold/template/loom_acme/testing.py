"""A fake service on loopback that speaks acme's wire, and the adapter of the conformance suite.

Run ``python -m loom_py.conformance loom_acme.testing:AcmeAdapter``.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from loom_acme.provider import AcmeProvider
from loom_py.conformance import BaseAdapter, Playback
from loom_py.conformance.script import Answer, Failure, Script, SeenRequest
from loom_py.llm.estimates import estimate_usage
from loom_py.llm.provider import LLMProvider
from loom_py.llm.scripted import words
from loom_py.messages import Message, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["AcmeAdapter", "FakeAcme"]

KEY = "acme-test-key-1f8e7d6c"

STATUSES = {
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "invalid_request": 400,
    "context_length": 400,
    "content_filter": 400,
    "rate_limited": 429,
    "server_error": 500,
    "timeout": 408,
}


class FakeAcme:
    """A service that answers as a `Playback` says; a context manager."""

    def __init__(self, playback: Playback) -> None:
        handler = type("_Handler", (_Handler,), {"playback": playback})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class AcmeAdapter(BaseAdapter):
    """An `AcmeProvider` before a `FakeAcme`: it can do everything the suite asks for."""

    name = "acme"
    secrets = (KEY,)

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A provider whose service plays the script."""
        self._playback = Playback(script)
        model = "acme-1" if script.priced else "acme-unpriced"
        with FakeAcme(self._playback) as service:
            yield AcmeProvider(model, api_key=KEY, base_url=service.base_url)

    def requests(self) -> Sequence[SeenRequest]:
        """What the service was asked."""
        return () if self._playback is None else self._playback.requests


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # a hundred calls at once are nothing special here

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    playback: Playback

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a chat."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers.get("authorization") != f"Bearer {KEY}":
            self._whole(401, {"error": {"message": "wrong key", "code": "unauthorized"}})
            return
        answer = self.playback.answer(*_understood(body))
        time.sleep(answer.delay)
        try:
            self._answer(answer, body)
        except OSError:  # the client has hung up
            self.close_connection = True

    def _answer(self, answer: Answer, body: Any) -> None:
        stream, failure = body.get("stream", False), answer.failure
        if failure is None:
            whole = _whole_answer(answer, body)
            if stream:
                self._lines(answer.pieces, whole, answer.pause)
            else:
                self._whole(200, whole)
        elif failure.kind == "unreachable":
            self.close_connection = True
        elif failure.kind in {"malformed", "empty_stream"}:
            self._send(200, b"" if stream and failure.kind == "empty_stream" else b"<html>Sign in</html>\n")
        elif stream and failure.after_text:
            self._lines(words(failure.after_text), _ending(answer, body), 0.0)
        elif failure.kind == "content_filter" and failure.after_text:
            self._whole(200, _ending(answer, body))
        else:
            self._refuse(failure)

    def _refuse(self, failure: Failure) -> None:
        said = f"the key {KEY} is wrong" if failure.echo_secret else "it failed"
        wait = {} if failure.retry_after is None else {"retry-after": f"{failure.retry_after:g}"}
        error = {"error": {"message": said, "code": failure.kind}}
        self._whole(STATUSES.get(failure.kind, 500), error, wait)

    def _lines(self, pieces: Sequence[str], last: dict[str, Any] | None, pause: float) -> None:
        """A stream of lines; without a ``last`` one it is cut off."""
        self._head(200, {"transfer-encoding": "chunked"})
        for place, piece in enumerate(pieces):
            time.sleep(pause if place else 0)
            self._chunk({"delta": piece})
        if last is None:
            self.close_connection = True
            return
        self._chunk(last)
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: dict[str, Any]) -> None:
        line = json.dumps(data).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

    def _whole(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(data).encode(), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, {**(headers or {}), "content-length": str(len(content))})
        self.wfile.write(content)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"x-request-id": uuid.uuid4().hex, **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _understood(body: Any) -> tuple[list[Message], list[ToolSpec], ChatOptions]:
    """The request in loom_py's nouns."""
    options = ChatOptions(
        temperature=body.get("temperature"),
        max_tokens=body.get("max_tokens"),
        tool_choice=body.get("tool_choice"),
        response_format=body.get("response_format"),
    )
    messages = [Message.from_dict(message) for message in body["messages"]]
    return messages, [ToolSpec(**tool) for tool in body.get("tools", ())], options


def _whole_answer(answer: Answer, body: Any) -> dict[str, Any]:
    messages, tools, _ = _understood(body)
    reply = Message.assistant(answer.text)
    return {
        "text": answer.text,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.calls
        ],
        "usage": (answer.usage or estimate_usage(messages, tools, reply)).to_dict(),
        "finish_reason": answer.finish_reason,
    }


def _ending(answer: Answer, body: Any) -> dict[str, Any] | None:
    """How an answer ends that fails after some text."""
    failure = answer.failure
    assert failure is not None
    if failure.kind == "cut_stream":
        return None
    if failure.kind != "content_filter":
        return {"error": {"message": "it failed"}}
    filtered = Answer(failure.after_text, usage=answer.usage, finish_reason="content_filter")
    return _whole_answer(filtered, body)
