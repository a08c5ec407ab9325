"""What the model behind the emulator said, as messages and as events of a stream."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from loom_anthropic.emulator.blocks import signature_of
from loom_anthropic.raw_json import RawObject
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["StreamEncoder", "encode_message", "frame", "new_id"]

STOP_REASONS = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
PIECE = 12
"""Characters of a call's arguments in one event."""


def new_id(prefix: str) -> str:
    """An id such as the service gives."""
    return f"{prefix}_01{secrets.token_hex(11)}"


def encode_message(response: Response, model: str, thought: str | None = None) -> dict[str, Any]:
    """The body of an answer that is not streamed; it begins with a ``thought``, if there is one."""
    usage = _usage(response.tokens_used)
    return {**_head(model), "content": _content(response, thought), **_end(response), "usage": usage}


def _head(model: str) -> dict[str, Any]:
    return {"id": new_id("msg"), "type": "message", "role": "assistant", "model": model}


def _end(response: Response) -> dict[str, Any]:
    reason = STOP_REASONS.get(response.finish_reason, response.finish_reason)
    details = response.provider_data.get("stop_details")
    return {
        "stop_reason": reason,
        "stop_sequence": response.metadata.get("stop_sequence"),
        "stop_details": details,
    }


def _content(response: Response, thought: str | None) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if thought is not None:
        signature = signature_of(thought)
        content.append({"type": "thinking", "thinking": thought, "signature": signature})
    if response.message:
        content.append({"type": "text", "text": response.message})
    return content + [_call(call) for call in response.tool_calls]


def _call(call: ToolCall) -> dict[str, Any]:
    """A call; arguments that are no object go out as the text they are, as some gateways have it."""
    block: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": call.name}
    try:
        is_object = isinstance(json.loads(call.arguments_json or "{}"), dict)
    except ValueError:
        is_object = False
    text = call.arguments_json
    return {**block, "input": (RawObject(text) if text else {}) if is_object else text}


def _usage(usage: TokenUsage) -> dict[str, Any]:
    """The counts as the service has them: input without what the cache had to do with."""
    counts: dict[str, Any] = {
        "input_tokens": usage.input - usage.cached_input - usage.cache_writes,
        "cache_creation_input_tokens": usage.cache_writes,
        "cache_read_input_tokens": usage.cached_input,
        "output_tokens": usage.output,
        "service_tier": "standard",
    }
    if usage.reasoning:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return counts


def frame(event: Mapping[str, Any]) -> bytes:
    """An event as the service writes it."""
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + data + b"\n\n"


class StreamEncoder:
    """Turns one stream of the model into the service's: `start`, `feed` each event, `finish`."""

    def __init__(self, model: str, usage: TokenUsage, thought: str | None = None) -> None:
        self._model = model
        self._usage = usage
        self._thought = thought
        self._index = -1
        self._open: str | None = None
        self.has_output = False

    def start(self) -> Iterator[dict[str, Any]]:
        """The first events, before the model has said anything."""
        message = {
            **_head(self._model),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(TokenUsage(self._usage.input, 1)),
        }
        yield {"type": "message_start", "message": message}
        yield {"type": "ping"}
        if self._thought is not None:
            yield from self.think(self._thought)

    def feed(self, event: StreamEvent) -> Iterator[dict[str, Any]]:
        """The events for a piece of text or a call."""
        if isinstance(event, TextDelta) and event.delta:
            if self._open != "text":
                yield from self._begin({"type": "text", "text": ""})
            yield self._delta({"type": "text_delta", "text": event.delta})
            self.has_output = True
        elif isinstance(event, ToolCallCompleted):
            yield from self._call(event.call)
            self.has_output = True

    def think(self, thought: str) -> Iterator[dict[str, Any]]:
        """The events of a block of thinking."""
        yield from self._begin({"type": "thinking", "thinking": "", "signature": ""})
        for start in range(0, len(thought), PIECE):
            yield self._delta({"type": "thinking_delta", "thinking": thought[start : start + PIECE]})
        yield self._delta({"type": "signature_delta", "signature": signature_of(thought)})

    def _call(self, call: ToolCall) -> Iterator[dict[str, Any]]:
        yield from self._begin({"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        text = call.arguments_json
        yield self._delta({"type": "input_json_delta", "partial_json": ""})
        for start in range(0, len(text), PIECE):
            yield self._delta({"type": "input_json_delta", "partial_json": text[start : start + PIECE]})

    def finish(self, response: Response) -> Iterator[dict[str, Any]]:
        """The last events of a reply that is whole."""
        yield from self._close()
        end = _end(response)
        yield {"type": "message_delta", "delta": end, "usage": _usage(response.tokens_used)}
        yield {"type": "message_stop"}

    def _begin(self, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self._close()
        self._index += 1
        self._open = block["type"]
        yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> Iterator[dict[str, Any]]:
        if self._open is not None:
            self._open = None
            yield {"type": "content_block_stop", "index": self._index}
