"""Reading a stream of Ollama: lines of JSON, put together event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from loom_ollama.config import OllamaConfig
from loom_ollama.failures import stream_error
from loom_ollama.wire import NOT_OLLAMA, decode_response, tool_calls_of
from loom_py.errors import LoomError, MalformedResponseError, StreamInterruptedError
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.messages import Response, ToolCall
from loom_py.options import ChatOptions

__all__ = ["StreamAssembler"]

MAX_LINE = 64 * 1024 * 1024
"""Bytes of one line at most: what does not end is no stream."""


class StreamAssembler:
    """Takes the bytes as they come and gives the events they make; pure, no I/O."""

    def __init__(self, config: OllamaConfig, options: ChatOptions) -> None:
        self._config = config
        self._options = options
        self._rest = b""
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCall] = []
        self._last: Mapping[str, Any] | None = None
        self._seen = False

    @property
    def is_done(self) -> bool:
        """Whether the server has said that this was all."""
        return self._last is not None

    @property
    def has_begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._seen

    def feed(self, piece: bytes) -> Iterator[StreamEvent]:
        """The events of the lines that are whole now. Raises an error of `loom_py.errors`."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE:
            raise self.interrupted("a line of the stream has no end")
        for line in lines:
            if line.strip():
                yield from self._line(line)

    def end(self) -> Iterator[StreamEvent]:
        """The events of a last line that had no end."""
        rest, self._rest = self._rest, b""
        if rest.strip():
            yield from self._line(rest)

    def response(self) -> Response:
        """The whole response. Raises `StreamInterruptedError` where the stream was not whole."""
        if self._last is None:
            raise self.interrupted("the stream ended before the answer was whole")
        message: dict[str, Any] = {"content": "".join(self._text), "thinking": "".join(self._thinking)}
        whole = decode_response({**self._last, "message": message}, self._config, self._options)
        if not self._calls:
            return whole
        calls = tuple(self._calls)
        return Response(
            whole.message,
            whole.tokens_used,
            tool_calls=calls,
            finish_reason="tool_calls",
            model=whole.model,
            metadata=whole.metadata,
            provider_data=whole.provider_data,
        )

    def interrupted(self, why: str, cause: LoomError | None = None) -> StreamInterruptedError:
        """The error of a stream that broke off, with what had come."""
        return StreamInterruptedError(
            why,
            partial_text="".join(self._text),
            partial_tool_calls=self._calls,
            deployment=self._config.model,
            retry_after=None if cause is None else cause.retry_after,
        )

    def _line(self, line: bytes) -> Iterator[StreamEvent]:
        if self.is_done:
            return
        data = self._parsed(line)
        if "error" in data:
            failure = stream_error(data, self._config)
            if not self._seen:
                raise failure
            raise self.interrupted(f"the stream broke off: {failure.message}", failure)
        message = data.get("message")
        if not isinstance(message, Mapping):
            raise self._malformed("a line of the stream holds no message")
        yield from self._said(message)
        self._seen = True
        if data.get("done") is True:
            self._last = data

    def _said(self, message: Mapping[str, Any]) -> Iterator[StreamEvent]:
        thinking, content = message.get("thinking") or "", message.get("content") or ""
        if not isinstance(content, str) or not isinstance(thinking, str):
            raise self._malformed("the text of the stream is no text")
        self._thinking.append(thinking)
        if content:
            self._text.append(content)
            yield TextDelta(content)
        for call in tool_calls_of(message, self._config.model):
            if self._calls and self._options.parallel_tool_calls is False:
                return
            self._calls.append(call)
            yield ToolCallStarted(call.id, call.name)
            yield ToolCallCompleted(call)

    def _parsed(self, line: bytes) -> Mapping[str, Any]:
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            raise self._malformed("a line of the stream is no JSON") from None
        if not isinstance(data, dict):
            raise self._malformed("a line of the stream is no JSON object")
        return data

    def _malformed(self, why: str) -> LoomError:
        if self._seen:
            return self.interrupted(why)
        return MalformedResponseError(why, deployment=self._config.model, hint=NOT_OLLAMA)
