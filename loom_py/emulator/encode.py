"""To the wire: responses and stream events as chat-completions JSON."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from loom_py.emulator.filters import Filtering
from loom_py.emulator.wire_errors import WireError, filter_down, verdicts
from loom_py.events import FinalResponse, StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["Completion", "StreamEncoder", "encode_json", "encode_response", "encode_usage", "sse"]

DONE = b"data: [DONE]\n\n"
FRAGMENTS = re.compile(r"\w{1,5}|\W{1,3}")
"""The pieces in which a stream delivers arguments."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What all pieces of one answer have in common; ``created`` is in Unix seconds."""

    model: str
    created: int
    quirks: bool = True
    include_usage: bool = False
    deployment: str = ""
    filter_down: bool = False
    filtering: Filtering = field(default_factory=Filtering)
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex[:29]}")


def encode_json(value: Any) -> bytes:
    """``value`` as compact UTF-8 JSON, escaped where it holds what UTF-8 cannot."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def sse(value: Any) -> bytes:
    """``value`` as one server-sent event."""
    return b"data: " + encode_json(value) + b"\n\n"


def padding() -> str:
    """What the service pads its chunks with, so that their length tells nothing."""
    noise = uuid.uuid4().hex
    return noise[: 1 + int(noise[-1], 16)]


def encode_usage(usage: TokenUsage) -> dict[str, Any]:
    """The ``usage`` object, with its details."""
    prompt_details = {"audio_tokens": 0, "cached_tokens": usage.cached_input}
    if usage.cache_writes:
        prompt_details["cache_write_tokens"] = usage.cache_writes
    return {
        "completion_tokens": usage.output,
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "audio_tokens": 0,
            "reasoning_tokens": usage.reasoning,
            "rejected_prediction_tokens": 0,
        },
        "prompt_tokens": usage.input,
        "prompt_tokens_details": prompt_details,
        "total_tokens": usage.total,
    }


def encode_response(response: Response, completion: Completion) -> dict[str, Any]:
    """The body of a chat completion that is not streamed."""
    filtered = response.finish_reason == "content_filter"
    message: dict[str, Any] = {
        "annotations": [],
        "content": response.message,
        "refusal": None,
        "role": "assistant",
    }
    if response.tool_calls:
        message["content"] = response.message or None
        message["tool_calls"] = [_encode_call(call) for call in response.tool_calls]
    elif filtered and not response.message:
        message = {"role": "assistant"}
    choice = {
        "content_filter_results": completion_results(response, completion),
        "finish_reason": response.finish_reason,
        "index": 0,
        "logprobs": None,
        "message": message,
    }
    return {
        "choices": [choice],
        "created": completion.created,
        "id": completion.id,
        "model": completion.model,
        "object": "chat.completion",
        "prompt_filter_results": _prompt_results(),
        "system_fingerprint": None,
        "usage": encode_usage(response.tokens_used),
    }


def completion_results(response: Response, completion: Completion) -> dict[str, Any]:
    """What the filter says of the answer; nothing of tool calls and of most that it blocked."""
    if completion.filter_down:
        return dict(filter_down().body)
    if completion.filtering.blocked:
        return verdicts(completion.filtering.blocked)
    if response.finish_reason == "content_filter" or response.tool_calls:
        return {}
    return verdicts(_PROTECTED)


_PROTECTED = {
    "protected_material_code": {"filtered": False, "detected": False},
    "protected_material_text": {"filtered": False, "detected": False},
}


def _prompt_results() -> list[dict[str, Any]]:
    results = verdicts({"jailbreak": {"filtered": False, "detected": False}})
    return [{"prompt_index": 0, "content_filter_results": results}]


def _encode_call(call: ToolCall) -> dict[str, Any]:
    return {
        "function": {"arguments": call.arguments_json, "name": call.name},
        "id": call.id,
        "type": "function",
    }


class StreamEncoder:
    """Turns one stream of events into chunks: `start`, then `feed` each event, then `finish`.

    Quirks of the service: the first chunk has no choices and empty names and carries the filter's
    verdict on the prompt; every chunk is padded with ``obfuscation``; tool calls come as fragments.
    """

    def __init__(self, completion: Completion) -> None:
        self.completion = completion
        self._has_role = False
        self._text = ""
        self._calls: dict[str, int] = {}
        self._whole: set[str] = set()
        self._final: Response | None = None

    @property
    def text(self) -> str:
        """The text that went out so far."""
        return self._text

    @property
    def begun(self) -> bool:
        """Whether text or a call has gone out."""
        return bool(self._text or self._calls)

    def start(self) -> Iterator[dict[str, Any]]:
        """The chunk before the first."""
        if self.completion.quirks:
            yield {
                "choices": [],
                "created": 0,
                "id": "",
                "model": "",
                "object": "",
                "prompt_filter_results": _prompt_results(),
            }

    def feed(self, event: StreamEvent) -> Iterator[dict[str, Any]]:
        """The chunks for ``event``, possibly none."""
        if isinstance(event, TextDelta):
            yield from self._say(event.delta)
        elif isinstance(event, ToolCallStarted):
            yield from self._begin(event.call_id, event.name)
        elif isinstance(event, ToolCallCompleted):
            yield from self._complete(event.call)
        elif isinstance(event, FinalResponse):
            self._final = event.response

    def error(self, error: WireError) -> dict[str, Any]:
        """An error after the stream has begun."""
        body: dict[str, Any] = error.body
        return body

    @property
    def final(self) -> Response | None:
        """The engine's final response."""
        return self._final

    def finish(self) -> Iterator[dict[str, Any]]:
        """What the deltas left out, the finish reason, and the usage if it was asked for."""
        final = self._final or Response(self._text)
        if final.message.startswith(self._text):
            yield from self._say(final.message[len(self._text) :])
        for call in final.tool_calls:
            yield from self._complete(call)
        if not self._has_role:
            yield self._delta({"content": ""})
        last = self._choice({}, final.finish_reason)
        if self.completion.filtering.blocked:
            last["content_filter_results"] = verdicts(self.completion.filtering.blocked)
        yield self._chunk([last])
        yield from self._late_verdict()
        if self.completion.include_usage:
            chunk = self._chunk([])
            chunk["usage"] = encode_usage(final.tokens_used)
            yield chunk

    def _late_verdict(self) -> Iterator[dict[str, Any]]:
        """The asynchronous filter's chunk: without a delta, and without names."""
        late = self.completion.filtering.late
        if late is None:
            return
        size = len(self._text)
        offsets = {"check_offset": 0, "start_offset": 0, "end_offset": size}
        choice = {
            "content_filter_offsets": offsets,
            "content_filter_results": verdicts(late),
            "finish_reason": None,
            "index": 0,
        }
        yield {"choices": [choice], "created": 0, "id": "", "model": "", "object": ""}

    def _say(self, text: str) -> Iterator[dict[str, Any]]:
        if not text:
            return
        if not self._has_role:
            yield self._delta({"content": ""})
        self._text += text
        yield self._delta({"content": text})

    def _begin(self, call_id: str, name: str) -> Iterator[dict[str, Any]]:
        if call_id in self._calls:
            return
        index = self._calls[call_id] = len(self._calls)
        function = {"arguments": "", "name": name}
        call = {"function": function, "id": call_id, "index": index, "type": "function"}
        yield self._delta(
            {"tool_calls": [call]} if self._has_role else {"content": None, "tool_calls": [call]}
        )

    def _complete(self, call: ToolCall) -> Iterator[dict[str, Any]]:
        yield from self._begin(call.id, call.name)
        if call.id in self._whole:
            return
        self._whole.add(call.id)
        index = self._calls[call.id]
        for piece in FRAGMENTS.findall(call.arguments_json):
            yield self._delta({"tool_calls": [{"function": {"arguments": piece}, "index": index}]})

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        if not self._has_role:
            self._has_role = True
            delta = {**delta, "refusal": None, "role": "assistant"}
        return self._chunk([self._choice(delta, None)])

    def _choice(self, delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        return {
            "content_filter_results": {},
            "delta": delta,
            "finish_reason": finish_reason,
            "index": 0,
            "logprobs": None,
        }

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        chunk: dict[str, Any] = {
            "choices": choices,
            "created": self.completion.created,
            "id": self.completion.id,
            "model": self.completion.model,
            "object": "chat.completion.chunk",
            "system_fingerprint": None,
        }
        if self.completion.quirks:
            chunk["obfuscation"] = padding()
        if self.completion.include_usage:
            chunk["usage"] = None
        return chunk
