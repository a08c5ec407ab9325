"""The emulator as an ASGI application: routes, checks, answers and streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import unquote

from loom_bedrock.emulator.checks import check_conversation
from loom_bedrock.emulator.exceptions import BedrockException, RawAnswer, as_exception
from loom_bedrock.emulator.faults import Fault, FaultQueue
from loom_bedrock.emulator.frames import event_frame, exception_frame
from loom_bedrock.emulator.reading import read_messages, read_options, read_tools
from loom_bedrock.emulator.shapes import check_shape
from loom_bedrock.emulator.signature import Account, check_signature
from loom_bedrock.emulator.writing import StreamWriter, converse_answer, filtered_answer, signature_of
from loom_py.emulator.exchange import ABORT
from loom_py.errors import (
    ConnectionFailedError,
    ContentFilterError,
    IncompleteResponseError,
    StreamInterruptedError,
)
from loom_py.events import FinalResponse, TextDelta
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Response, TokenUsage

__all__ = ["BedrockApp", "RecordedCall"]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 25_000_000
"""Bytes of a request; AWS's limit for a body is reported as 25,000,000."""

_ROUTE = re.compile(r"/model/(?P<model>[^/]+)/(?P<verb>converse|converse-stream)")
_OPERATIONS = {"converse": "Converse", "converse-stream": "ConverseStream"}


class _DroppedError(Exception):
    """The connection is dropped here."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A request the emulator took: what was called, with which headers and body."""

    operation: str
    model: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(repr=False)


class BedrockApp:
    """Answers for one account in one region, with an engine as its model."""

    def __init__(
        self, engine: LLMProvider, account: Account, models: frozenset[str] | None, event_delay: float
    ) -> None:
        self.account = account
        self.expired = False
        self.engine = engine
        self.faults = FaultQueue()
        self.calls: list[RecordedCall] = []
        self.received = 0
        self.hung_up = 0
        self._models = models
        self._event_delay = event_delay
        self._running: set[asyncio.Task[None]] = set()
        self._reasoned: dict[str, str] = {}

    def abort(self) -> None:
        """End every request in flight."""
        for task in self._running:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. A client that hangs up ends its engine's work."""
        if scope["type"] != "http":
            return
        self.received += 1
        body = await _body(receive)
        if body is None:
            return
        work = asyncio.create_task(self._serve(scope, body, send))
        self._running.add(work)
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.hung_up += 1
                work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            gone.cancel()
            self._running.discard(work)

    async def _serve(self, scope: Scope, body: bytes, send: Send) -> None:
        answer = _Answer(send)
        try:
            await self._respond(scope, body, answer)
        except _DroppedError:
            scope.get(ABORT, lambda: None)()
        except RawAnswer as raw:
            await answer.whole(raw.status, raw.body, {"content-type": "text/html", **raw.headers})
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is answered
            exception = as_exception(error)
            headers = {"x-amzn-errortype": f"{exception.code}:{_NAMESPACE}", **exception.headers}
            await answer.whole(exception.status, _json(exception.body), {**_JSON, **headers})

    async def _respond(self, scope: Scope, raw: bytes, answer: _Answer) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        fault = self.faults.take()
        await asyncio.sleep(fault.delay)
        _raise(fault, now=fault.after_events is None)
        path = scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
        route = _ROUTE.fullmatch(path)
        if route is None or scope["method"] != "POST":
            raise BedrockException("UnknownOperationException")
        if len(raw) > MAX_BODY:
            raise BedrockException("RequestEntityTooLargeException", "Request body too large")
        check_signature(self.account, f"http://{headers.get('host', '')}{path}", headers, raw)
        if self.expired:
            raise BedrockException("ExpiredTokenException")
        model, operation = unquote(route["model"]), _OPERATIONS[route["verb"]]
        call = self._read(operation, model, raw, headers)
        if operation == "Converse":
            await self._converse(call, answer)
        else:
            await self._stream(call, answer, fault)

    def _read(self, operation: str, model: str, raw: bytes, headers: Mapping[str, str]) -> RecordedCall:
        try:
            body = json.loads(raw, parse_constant=_refuse_constant)
        except ValueError:
            raise BedrockException("SerializationException", "The body is not JSON.") from None
        if self._models is not None and model not in self._models:
            raise BedrockException("ValidationException", "The provided model identifier is invalid.")
        check_shape(operation, model, body)
        check_conversation(model, body)
        self._check_reasoning(body)
        call = RecordedCall(operation, model, body, headers)
        self.calls.append(call)
        return call

    # ── one answer ───────────────────────────────────────────────────────────────────────

    async def _converse(self, call: RecordedCall, answer: _Answer) -> None:
        begun = time.monotonic()
        body = call.body
        try:
            response = await self.engine.achat(
                read_messages(body), read_tools(body), options=read_options(body)
            )
        except Exception as error:  # noqa: BLE001 - told, or raised again
            response = _told(error)
        self._note_reasoning(response)
        latency = round((time.monotonic() - begun) * 1000)
        await answer.whole(200, _json(converse_answer(response, latency)), _JSON)

    async def _stream(self, call: RecordedCall, answer: _Answer, fault: Fault) -> None:
        sent = 0
        frames = self._frames(call)
        try:
            async for frame in frames:
                if sent == fault.after_events:
                    _raise(fault, now=True)
                if sent and self._event_delay:
                    await asyncio.sleep(self._event_delay)
                await answer.start(200, _EVENTS)
                await answer.write(frame)
                sent += 1
        except (_DroppedError, RawAnswer):
            raise
        except Exception as error:
            if not answer.started:
                raise
            exception = as_exception(error)
            await answer.write(exception_frame(exception.event_type, exception.body))
        await answer.start(200, _EVENTS)
        await answer.write(b"", last=True)

    async def _frames(self, call: RecordedCall) -> AsyncIterator[bytes]:
        begun = time.monotonic()
        writer = StreamWriter()
        body, seen = call.body, ""
        response: Response | None = None
        try:
            events = self.engine.astream_chat(
                read_messages(body), read_tools(body), options=read_options(body)
            )
            async for event in events:
                if isinstance(event, FinalResponse):
                    response = event.response
                    break
                seen += event.delta if isinstance(event, TextDelta) else ""
                for frame in _encoded(writer.write(event)):
                    yield frame
        except StreamInterruptedError:
            raise _DroppedError from None
        except Exception as error:  # noqa: BLE001 - told, or raised again
            response = _told(error)
            if len(response.message) > len(seen):
                for frame in _encoded(writer.write(TextDelta(response.message[len(seen) :]))):
                    yield frame
        if response is None:
            raise _DroppedError
        if reasoning := response.metadata.get("reasoning"):
            for frame in _encoded(writer.reason(reasoning)):
                yield frame
        self._note_reasoning(response)
        for frame in _encoded(writer.finish(response, round((time.monotonic() - begun) * 1000))):
            yield frame

    # ── reasoning ────────────────────────────────────────────────────────────────────────

    def _note_reasoning(self, response: Response) -> None:
        if reasoning := response.metadata.get("reasoning"):
            self._reasoned.update({call.id: reasoning for call in response.tool_calls})

    def _check_reasoning(self, body: Mapping[str, Any]) -> None:
        """A model that reasoned before it asked for a tool wants to see that again, signed as it was."""
        turns = [message for message in body["messages"] if message["role"] == "assistant"]
        for place, message in enumerate(turns):
            said = [block["reasoningContent"] for block in message["content"] if "reasoningContent" in block]
            for content in said:
                _check_signed(content.get("reasoningText") or {}, place)
            ids = [block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block]
            is_last = message is turns[-1]
            if is_last and not said and any(one in self._reasoned for one in ids):
                raise BedrockException(
                    "ValidationException",
                    "The model returned the following errors: messages.1.content.0.type: Expected `thinking`"
                    " or `redacted_thinking`, but found `tool_use`. When `thinking` is enabled, a final"
                    " `assistant` message must start with a thinking block.",
                )


def _check_signed(said: Mapping[str, Any], place: int) -> None:
    if said and said.get("signature") != signature_of(said.get("text", "")):
        raise BedrockException(
            "ValidationException",
            f"The model returned the following errors: messages.{place}.content.0: Invalid `signature` in"
            " `thinking` block",
        )


# ── how it is sent ───────────────────────────────────────────────────────────────────────

_NAMESPACE = "http://internal.amazon.com/coral/com.amazon.bedrock/"
_JSON = {"content-type": "application/json"}
_EVENTS = {"content-type": "application/vnd.amazon.eventstream"}


class _Answer:
    """An answer on its way out, with its request id."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head, once."""
        if self.started:
            return
        self.started = True
        named = {"x-amzn-requestid": str(uuid.uuid4()), **headers}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, piece: bytes, *, last: bool = False) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": not last})

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Send all of it."""
        await self.start(status, {**headers, "content-length": str(len(body))})
        await self.write(body, last=True)


def _raise(fault: Fault, *, now: bool) -> None:
    """Let the fault happen, if it is time."""
    if not now:
        return
    if fault.dropped:
        raise _DroppedError
    if fault.error is not None:
        raise fault.error


def _told(error: Exception) -> Response:
    """The reply for errors that Bedrock tells by a stop reason; anything else is raised again."""
    if isinstance(error, ConnectionFailedError):
        raise _DroppedError from None
    if isinstance(error, ContentFilterError):
        return filtered_answer(error)
    if isinstance(error, IncompleteResponseError):
        return Response("", error.tokens_used or TokenUsage(), finish_reason="length")
    raise error


def _encoded(events: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[bytes]:
    return (event_frame(kind, body) for kind, body in events)


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


async def _body(receive: Receive) -> bytes | None:
    """The whole body; ``None`` where the client went away."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
