"""An engine's reply as Bedrock writes it: one answer, or the events of a stream."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from loom_bedrock.answers import FINISH_REASONS
from loom_py.errors import ContentFilterError
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["BLOCKED", "StreamWriter", "converse_answer", "filtered_answer", "signature_of"]

BLOCKED = "Sorry, this is blocked by our guardrail."
"""What the emulator's guardrail says in place of an answer."""

PIECE = 7
"""Characters of a tool's input in one event."""

_PADDING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_STOP_REASONS = {ours: theirs for theirs, ours in reversed(FINISH_REASONS.items())}


def signature_of(text: str) -> str:
    """The signature under a piece of reasoning, which the model demands back with it."""
    return base64.b64encode(hashlib.sha256(f"reasoning:{text}".encode()).digest()).decode("ascii")


def converse_answer(response: Response, latency_ms: int) -> dict[str, Any]:
    """The body of a Converse answer."""
    content: list[dict[str, Any]] = []
    if reasoning := response.metadata.get("reasoning"):
        said = {"text": reasoning, "signature": signature_of(reasoning)}
        content.append({"reasoningContent": {"reasoningText": said}})
    if response.message:
        content.append({"text": response.message})
    content += [{"toolUse": _tool_use(call)} for call in response.tool_calls]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _stop_reason(response),
        **_metadata(response, latency_ms),
    }


def filtered_answer(error: ContentFilterError) -> Response:
    """The reply in which Bedrock tells that something was blocked."""
    is_prompt = error.side == "prompt"
    trace = {
        "inputAssessment" if is_prompt else "outputAssessments": {
            "emulator": _assessment() if is_prompt else [_assessment()]
        }
    }
    return Response(
        BLOCKED if is_prompt else error.partial_text,
        error.tokens_used or TokenUsage(),
        finish_reason="guardrail_intervened" if is_prompt else "content_filtered",
        metadata={"guardrail": trace} if is_prompt else {},
    )


def _assessment() -> dict[str, Any]:
    finding = {"type": "VIOLENCE", "confidence": "HIGH", "filterStrength": "HIGH", "action": "BLOCKED"}
    return {"contentPolicy": {"filters": [finding]}}


def _stop_reason(response: Response) -> str:
    return _STOP_REASONS.get(response.finish_reason, response.finish_reason)


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"toolUseId": call.id, "name": call.name, "input": _input(call)}


def _input(call: ToolCall) -> Any:
    """The input as a document: the model's own value, or its text where that is no JSON."""
    if call.error is None or not call.arguments_json:
        return call.arguments
    try:
        return json.loads(call.arguments_json)
    except ValueError:
        return call.arguments_json


def _metadata(response: Response, latency_ms: int) -> dict[str, Any]:
    used = response.tokens_used
    usage = {
        "inputTokens": used.input - used.cached_input - used.cache_writes,
        "outputTokens": used.output,
        "totalTokens": used.total,
    }
    if used.cached_input or used.cache_writes:
        usage["cacheReadInputTokens"] = used.cached_input
        usage["cacheWriteInputTokens"] = used.cache_writes
    told: dict[str, Any] = {"usage": usage, "metrics": {"latencyMs": latency_ms}}
    if guardrail := response.metadata.get("guardrail"):
        told["trace"] = {"guardrail": guardrail}
    return told


class StreamWriter:
    """Turns an engine's events into those of ConverseStream: pairs of the event's type and its body."""

    def __init__(self) -> None:
        self._index = 0
        self._in_text = False
        self._started = False

    def write(self, event: StreamEvent) -> Iterator[tuple[str, dict[str, Any]]]:
        """What Bedrock sends for ``event``."""
        if isinstance(event, TextDelta):
            yield from self.start()
            self._in_text = True
            yield self._delta({"text": event.delta})
        elif isinstance(event, ToolCallCompleted):
            yield from self.start()
            yield from self._end_text()
            yield from self._call(event.call)

    def reason(self, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The model's reasoning, before all else."""
        yield from self.start()
        yield self._delta({"reasoningContent": {"text": text}})
        yield self._delta({"reasoningContent": {"signature": signature_of(text)}})
        yield self._stop()

    def finish(self, response: Response, latency_ms: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """The last events."""
        yield from self.start()
        yield from self._end_text()
        yield "messageStop", _padded({"stopReason": _stop_reason(response)})
        yield "metadata", _padded(_metadata(response, latency_ms))

    def start(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The first event, once."""
        if not self._started:
            self._started = True
            yield "messageStart", _padded({"role": "assistant"})

    def _call(self, call: ToolCall) -> Iterator[tuple[str, dict[str, Any]]]:
        use = {"toolUse": {"toolUseId": call.id, "name": call.name}}
        yield "contentBlockStart", _padded({"contentBlockIndex": self._index, "start": use})
        text = call.arguments_json
        for start in range(0, len(text), PIECE):
            yield self._delta({"toolUse": {"input": text[start : start + PIECE]}})
        yield self._stop()

    def _end_text(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._in_text:
            self._in_text = False
            yield self._stop()

    def _delta(self, delta: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        return "contentBlockDelta", _padded({"contentBlockIndex": self._index, "delta": delta})

    def _stop(self) -> tuple[str, dict[str, Any]]:
        body = _padded({"contentBlockIndex": self._index})
        self._index += 1
        return "contentBlockStop", body


def _padded(body: dict[str, Any]) -> dict[str, Any]:
    """Bedrock hides the length of what the model says behind letters nobody reads."""
    return {**body, "p": _PADDING[: len(json.dumps(body)) % len(_PADDING)]}
