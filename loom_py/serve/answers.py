"""Answers in the form of OpenAI's chat completions: whole, and as chunks of a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["Chunks", "completion", "handed_over", "loom_facts", "sse", "usage_of"]

DONE = b"data: [DONE]\n\n"
"""What ends a stream."""

ALIVE = b": still working\n\n"
"""A comment, which clients pass over; it keeps the connection from being taken for dead."""

_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "end_turn": "stop",
    "stop_sequence": "stop",
}


def encode(data: Any) -> bytes:
    """Compact JSON in UTF-8; half a surrogate pair, which a model may send, becomes a question mark."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace")


def sse(data: Any, *, event: str | None = None) -> bytes:
    """One event of a stream."""
    head = b"" if event is None else f"event: {event}\n".encode()
    return head + b"data: " + encode(data) + b"\n\n"


def handed_over(response: Response) -> tuple[ToolCall, ...]:
    """The calls that the caller has to run: those without a result, the last ones."""
    return response.tool_calls[len(response.tool_results) :]


def usage_of(usage: TokenUsage) -> dict[str, Any]:
    """The tokens of the whole chat, every model call counted."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def loom_facts(response: Response) -> dict[str, Any]:
    """What a client that knows loom_py may ask for: cost, and what was done to get the answer."""
    metadata = response.metadata
    return {
        "type": "final",
        "cost_usd": None if response.cost_usd is None else f"{response.cost_usd:f}",
        "usage": response.tokens_used.to_dict(),
        "chat_id": metadata.get("chat_id"),
        "turns": metadata.get("turns"),
        "tool_executions": metadata.get("tool_executions"),
    }


def completion(
    response: Response, model: str, request_id: str, events: Sequence[Mapping[str, Any]] | None
) -> bytes:
    """The whole answer; with ``events``, what led to it stands under ``loom``."""
    calls = handed_over(response)
    message: dict[str, Any] = {"role": "assistant", "content": response.message, "refusal": None}
    if calls:
        message["content"] = response.message or None
        message["tool_calls"] = [_call(call) for call in calls]
    body: dict[str, Any] = {
        "id": f"chatcmpl-{request_id.removeprefix('req_')}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": _reason(response), "logprobs": None}],
        "usage": usage_of(response.tokens_used),
    }
    if events is not None:
        body["loom"] = {**loom_facts(response), "events": list(events)}
    return encode(body)


class Chunks:
    """Makes the chunks of one stream."""

    def __init__(self, model: str, request_id: str, *, include_usage: bool) -> None:
        self._base = {
            "id": f"chatcmpl-{request_id.removeprefix('req_') or uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._usage = {"usage": None} if include_usage else {}
        self._include_usage = include_usage

    def begin(self) -> bytes:
        """The first chunk: who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, delta: str) -> bytes:
        """More of the answer."""
        return self._chunk({"content": delta})

    def loom(self, event: Mapping[str, Any]) -> bytes:
        """Something that happened, for a client that asked for it."""
        return sse({**self._base, "choices": [], **self._usage, "loom": dict(event)})

    def end(self, response: Response) -> bytes:
        """The calls for the caller, the finish reason, the usage where it was asked for, and the end."""
        calls = [{"index": index, **_call(call)} for index, call in enumerate(handed_over(response))]
        parts = [self._chunk({"tool_calls": calls})] if calls else []
        parts.append(self._chunk({}, _reason(response)))
        if self._include_usage:
            parts.append(sse({**self._base, "choices": [], "usage": usage_of(response.tokens_used)}))
        return b"".join([*parts, DONE])

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse({**self._base, "choices": [choice], **self._usage})


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_json}
    return {"id": call.id, "type": "function", "function": function}


def _reason(response: Response) -> str:
    """The finish reason in OpenAI's words."""
    return "tool_calls" if handed_over(response) else _REASONS.get(response.finish_reason, "stop")
