"""A streamed message, put together from its events.

`StreamDecoder` takes the bytes of the body and gives stream events; `finish` gives the whole response, or
raises: a stream is whole or it is an error. It is whole once the stop reason has come.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from loom_anthropic.answers import decode_calls, decode_message, decode_usage
from loom_anthropic.errors import error_from_body, is_error
from loom_anthropic.raw_json import loads
from loom_py.errors import LoomError, MalformedResponseError, ProviderError, StreamInterruptedError
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.azure.sse import SSEReader
from loom_py.llm.provider import events_of
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["StreamAssembler", "StreamDecoder"]

_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
"""Kinds of delta: the field of the delta, and of its block, that grows."""


class StreamAssembler:
    """The state of one streamed message: fed with events, it gives ours and at last the response."""

    def __init__(self, tools: EncodedTools = NO_TOOLS, *, model: str = "") -> None:
        self._tools = tools
        self._asked = model
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}

    @property
    def model(self) -> str:
        """The model that answers, empty until the stream has named it."""
        model = self._message.get("model")
        return model if isinstance(model, str) else ""

    @property
    def is_whole(self) -> bool:
        """Whether everything an answer needs has come."""
        return bool(self._message.get("stop_reason"))

    @property
    def has_output(self) -> bool:
        """Whether any text or tool call has come."""
        return bool(self._text()) or any(block["type"] == "tool_use" for block in self._blocks.values())

    @property
    def usage(self) -> TokenUsage | None:
        """The tokens so far, where the stream has said them."""
        return decode_usage(self._usage) if self._usage else None

    def feed(self, event: Any) -> Iterator[StreamEvent]:
        """Our events in one of the stream's. Raises the typed error of an error event."""
        if not isinstance(event, Mapping):
            raise self.interrupted(f"an event is a JSON {type(event).__name__}, not an object")
        kind = event.get("type")
        if is_error(event):
            raise self._error(error_from_body(event))
        if kind == "message_start":
            self._start(event.get("message"))
        elif kind == "content_block_start":
            yield from self._begin_block(_index(event), event.get("content_block"))
        elif kind == "content_block_delta":
            yield from self._delta(_index(event), event.get("delta"))
        elif kind == "message_delta":
            delta = event.get("delta")
            self._message.update(delta if isinstance(delta, Mapping) else {})
            self._take_usage(event.get("usage"))

    def _start(self, message: Any) -> None:
        if isinstance(message, Mapping):
            self._message = {key: value for key, value in message.items() if key != "content"}
            self._take_usage(message.get("usage"))

    def _take_usage(self, usage: Any) -> None:
        """The counts are cumulative; those that are left out stay as they were."""
        if isinstance(usage, Mapping):
            self._usage.update({key: value for key, value in usage.items() if value is not None})

    def _begin_block(self, index: int, block: Any) -> Iterator[StreamEvent]:
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            return
        self._blocks[index] = dict(block)
        for field in ("text", "thinking", "signature"):
            if isinstance(block.get(field), str):
                self._pieces[index, field] = [block[field]]
        if block["type"] == "text" and block.get("text"):
            yield TextDelta(block["text"])
        elif block["type"] == "tool_use" and block.get("name"):
            yield ToolCallStarted(str(block.get("id")), self._tools.own_name(str(block["name"])))

    def _delta(self, index: int, delta: Any) -> Iterator[StreamEvent]:
        if not isinstance(delta, Mapping):
            return
        kind = delta.get("type")
        if kind == "input_json_delta":
            self._add(index, "input", delta.get("partial_json"))
        elif isinstance(kind, str) and kind in _PIECES:
            piece = self._add(index, _PIECES[kind], delta.get(_PIECES[kind]))
            if kind == "text_delta" and piece:
                self._blocks.setdefault(index, {"type": "text"})
                yield TextDelta(piece)

    def _add(self, index: int, field: str, piece: Any) -> str:
        if not isinstance(piece, str) or not piece:
            return ""
        self._pieces.setdefault((index, field), []).append(piece)
        return piece

    def blocks(self) -> list[dict[str, Any]]:
        """The blocks as they have come so far; the input of a call is its text."""
        found = []
        for index, block in sorted(self._blocks.items()):
            grown = {
                field: "".join(self._pieces[index, field])
                for field in ("text", "thinking", "signature", "input")
                if (index, field) in self._pieces
            }
            found.append({**block, **grown})
        return found

    def _text(self) -> str:
        return "".join("".join(pieces) for (_, field), pieces in self._pieces.items() if field == "text")

    def _calls(self) -> tuple[ToolCall, ...]:
        try:
            return decode_calls(self.blocks(), self._tools)
        except MalformedResponseError:
            return ()

    def complete(self) -> Response:
        """The whole response; raises what the reply turned out to be if it is no answer."""
        usage = self._usage or None
        message = {**self._message, "content": self.blocks(), "usage": usage}
        return decode_message(message, self._tools, model=self._asked)

    def interrupted(self, why: str, **facts: Any) -> StreamInterruptedError:
        """The error for a stream that broke off, with all that had come."""
        return StreamInterruptedError(
            why, partial_text=self._text(), partial_tool_calls=self._calls(), tokens_used=self.usage, **facts
        )

    def _error(self, error: ProviderError) -> ProviderError:
        """An error event's error; of a passing fault after output, an interruption."""
        error.tokens_used = self.usage
        if not (self.has_output and (error.retryable or type(error) is ProviderError)):
            return error
        return self.interrupted(
            f"the stream broke off with an error: {error.message}",
            provider_code=error.provider_code,
            request_id=error.request_id,
            retry_after=error.retry_after,
        )


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


class StreamDecoder:
    """The bytes of a streamed answer as events, whatever the server really sent.

    A plain JSON answer to a stream request is taken for what it is: a whole message, or an error.
    """

    def __init__(self, tools: EncodedTools = NO_TOOLS, *, model: str = "") -> None:
        self._tools = tools
        self._asked = model
        self._reader = SSEReader()
        self._head: bytes | None = b""
        self._document: list[bytes] | None = None
        self.payloads = 0
        """How many events of the stream have come, pings aside: what counts as progress."""
        self.assembler = StreamAssembler(tools, model=model)

    @property
    def model(self) -> str:
        """The model that answers, as far as it has named itself."""
        return self.assembler.model

    @property
    def is_whole(self) -> bool:
        """Whether everything an answer needs has come."""
        return self.assembler.is_whole

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        """The events in the next bytes of the body."""
        if self._head is not None:
            self._head += data
            start = self._head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
            if not start:
                return
            data, self._head = self._head, None
            if start in {b"{", b"<", b"["}:
                self._document = []
        if self._document is not None:
            self._document.append(data)
            return
        for payload in self._reader.feed(data):
            yield from self._payload(payload)

    def _payload(self, payload: bytes) -> Iterator[StreamEvent]:
        try:
            event = json.loads(payload)
        except (ValueError, RecursionError):
            shown = payload[:80].decode("utf-8", "replace")
            raise self.assembler.interrupted(f"an event of the stream is not JSON: {shown!r}") from None
        if isinstance(event, Mapping) and event.get("type") == "ping":
            return
        self.payloads += 1
        yield from self.assembler.feed(event)

    def finish(self) -> tuple[list[StreamEvent], Response]:
        """After the last byte: the events still due, and the whole response."""
        if self._document is not None:
            response = decode_message(read_json(b"".join(self._document)), self._tools, model=self._asked)
            return list(events_of(response))[:-2], response
        events: list[StreamEvent] = []
        rest = self._reader.rest()
        if rest and not self.is_whole:
            try:
                events += self._payload(rest)
            except StreamInterruptedError:  # an event that was cut in the middle
                events = []
        if not self.is_whole:
            said = "without a stop reason" if self.assembler.has_output else "without any output"
            raise self.assembler.interrupted(f"the stream ended {said}")
        response = self.assembler.complete()
        return events + [ToolCallCompleted(call) for call in response.tool_calls], response


def read_json(body: bytes, content_type: str | None = None) -> Any:
    """The JSON of an answer with status 200, whatever its Content-Type claims.

    Raises `MalformedResponseError` that says what it is instead.
    """
    try:
        return loads(body)
    except (ValueError, RecursionError):
        pass
    start = body.lstrip()[:1]
    if not start:
        raise MalformedResponseError("the server answered 200 with an empty body")
    if start in {b"{", b"["}:
        raise MalformedResponseError("the server answered 200 with JSON that is broken or cut off")
    kind = "an HTML page" if start == b"<" else f"{content_type or 'a body'} that is not JSON"
    raise MalformedResponseError(
        f"the server answered 200 with {kind}",
        hint="Check that base_url is Anthropic's API and not a portal or proxy page.",
    )


def is_about_thinking(error: LoomError) -> bool:
    """Whether the API refused thinking that was sent back, as it does once the conversation was changed."""
    said = error.message.lower()
    return error.http_status == 400 and "thinking" in said and ("signature" in said or "block" in said)
