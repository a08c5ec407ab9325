"""The service's wire, as pure functions: what is sent, and what an answer means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loom_acme.config import AcmeConfig
from loom_py.errors import (
    ContentFilterError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    StreamInterruptedError,
)
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.messages import Message, Response, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["StreamReader", "decode_response", "encode_request", "written"]


def encode_request(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    options: ChatOptions,
    config: AcmeConfig,
    *,
    stream: bool,
) -> dict[str, Any]:
    """The body of a request."""
    temperature = config.temperature if options.temperature is None else options.temperature
    wanted = {
        "model": config.model,
        "messages": [message.to_dict() for message in messages],
        "tools": [
            {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
            for tool in tools
        ],
        "tool_choice": options.tool_choice,
        "max_tokens": options.max_tokens or config.max_tokens,
        "temperature": temperature,
        "response_format": options.response_format,
        "stream": stream,
        **options.extra_body,
    }
    return {name: value for name, value in wanted.items() if value not in (None, [])}


def written(body: Mapping[str, Any], config: AcmeConfig) -> bytes:
    """The body as JSON; half of a surrogate pair becomes a question mark.

    Raises `InvalidRequestError` for what JSON cannot hold.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        said = f"the request cannot be written as JSON: {exc}"
        raise InvalidRequestError(said, deployment=config.model, sent=False) from None
    return text.encode("utf-8", "replace")


def decode_response(data: Any, config: AcmeConfig) -> Response:
    """The response of an answer, without its cost. Raises `MalformedResponseError` for what is none."""
    try:
        calls = tuple(
            ToolCall.parse(call["id"], call["name"], call["arguments"]) for call in data["tool_calls"]
        )
        usage = TokenUsage(**data["usage"])
        text, reason = str(data["text"]), str(data["finish_reason"])
    except (TypeError, KeyError, AttributeError):
        raise MalformedResponseError("the answer is not one of acme's", deployment=config.model) from None
    if reason == "content_filter":
        raise ContentFilterError(
            "the answer was filtered",
            side="completion",
            partial_text=text,
            tokens_used=usage,
            deployment=config.model,
        )
    return Response(text, usage, tool_calls=calls, finish_reason=reason, model=config.model)


class StreamReader:
    """Puts a stream of JSON lines together; takes the bytes cut anywhere."""

    def __init__(self, config: AcmeConfig) -> None:
        self._config = config
        self._rest = b""
        self._text = ""
        self.response: Response | None = None

    @property
    def has_begun(self) -> bool:
        """Whether anything has been shown."""
        return bool(self._text)

    def feed(self, piece: bytes) -> Iterator[StreamEvent]:
        """The events of the lines that are whole now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in filter(bytes.strip, lines):
            yield from self._line(line)

    def finished(self) -> Response:
        """The whole response. Raises `StreamInterruptedError` where there is none."""
        if self.response is None:
            raise self.interrupted("the stream ended before the answer was whole")
        return self.response

    def interrupted(self, why: str, cause: LoomError | None = None) -> StreamInterruptedError:
        """What is raised for a stream that broke off, with what it had said."""
        return StreamInterruptedError(
            why,
            partial_text=self._text,
            deployment=self._config.model,
            request_id=None if cause is None else cause.request_id,
        )

    def _line(self, line: bytes) -> Iterator[StreamEvent]:
        try:
            data: Any = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, Mapping):
            raise MalformedResponseError("a line of the stream is no object", deployment=self._config.model)
        if "error" in data:
            raise self.interrupted("the service failed in the middle of the answer")
        if isinstance(delta := data.get("delta"), str):
            self._text += delta
            yield TextDelta(delta)
            return
        self.response = decode_response(data, self._config)
        for call in self.response.tool_calls:
            yield ToolCallStarted(call.id, call.name)
            yield ToolCallCompleted(call)
