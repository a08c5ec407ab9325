"""The events of ConverseStream, put together. Pure: fed with events, it yields ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loom_bedrock.answers import decode_call, response_of
from loom_bedrock.wire import ConverseRequest
from loom_py.errors import StreamInterruptedError
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.messages import Response, ToolCall

__all__ = ["StreamAssembler"]


class StreamAssembler:
    """Makes a reply of a stream's events, one call's worth.

    ``is_whole`` once the model's last word is known; ``has_output`` once anything was yielded.
    """

    def __init__(self, request: ConverseRequest) -> None:
        self._request = request
        self._blocks: dict[int, dict[str, Any]] = {}
        self._facts: dict[str, Any] = {}
        self._calls: list[ToolCall] = []
        self.has_output = False

    @property
    def is_whole(self) -> bool:
        return "stopReason" in self._facts

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(block["text"] for block in self._blocks.values() if "text" in block)

    def feed(self, event: Mapping[str, Any]) -> Iterator[StreamEvent]:
        """What ``event``, as botocore parsed it, means. Events of an unknown kind mean nothing."""
        for kind, body in event.items():
            if kind == "contentBlockStart":
                yield from self._start(_index(body), body.get("start") or {})
            elif kind == "contentBlockDelta":
                yield from self._delta(_index(body), body.get("delta") or {})
            elif kind == "contentBlockStop":
                yield from self._stop(_index(body))
            elif kind in {"messageStop", "metadata"}:
                self._facts.update(body)

    def finish(self) -> Response:
        """The whole reply.

        Raises `StreamInterruptedError` where the stream ended without the model's last word, and as
        `loom_bedrock.answers.decode_response` does.
        """
        if not self.is_whole:
            what = "before the answer was whole" if self._blocks else "without a single event"
            raise self.interrupted(f"the stream ended {what}")
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        return response_of(blocks, self._facts, self._request)

    def interrupted(self, message: str, **facts: Any) -> StreamInterruptedError:
        """The error of a stream that broke off here."""
        return StreamInterruptedError(
            message, partial_text=self.text, partial_tool_calls=self._calls, **facts
        )

    # ── blocks ───────────────────────────────────────────────────────────────────────────

    def _start(self, index: int, start: Mapping[str, Any]) -> Iterator[StreamEvent]:
        use = start.get("toolUse")
        if isinstance(use, Mapping):
            self._blocks[index] = {"toolUse": {**use, "input": ""}}
            if not self._request.drops_calls:
                self.has_output = True
                yield ToolCallStarted(str(use.get("toolUseId", "")), self._name(use))

    def _delta(self, index: int, delta: Mapping[str, Any]) -> Iterator[StreamEvent]:
        if isinstance(text := delta.get("text"), str):
            block = self._blocks.setdefault(index, {})
            block["text"] = block.get("text", "") + text
            if text:
                self.has_output = True
                yield TextDelta(text)
        elif isinstance(use := delta.get("toolUse"), Mapping):
            block = self._blocks.setdefault(index, {"toolUse": {"input": ""}})
            block["toolUse"]["input"] += use.get("input") or ""
        elif isinstance(reasoning := delta.get("reasoningContent"), Mapping):
            self._reason(self._blocks.setdefault(index, {}).setdefault("reasoningContent", {}), reasoning)

    def _reason(self, content: dict[str, Any], delta: Mapping[str, Any]) -> None:
        if "redactedContent" in delta:
            content["redactedContent"] = content.get("redactedContent", b"") + delta["redactedContent"]
            return
        said = content.setdefault("reasoningText", {"text": ""})
        for part in ("text", "signature"):
            if isinstance(delta.get(part), str):
                said[part] = said.get(part, "") + delta[part]

    def _stop(self, index: int) -> Iterator[StreamEvent]:
        use = self._blocks.get(index, {}).get("toolUse")
        if use is not None and not self._request.drops_calls:
            call = decode_call(str(use.get("toolUseId", "")), self._name(use), use["input"])
            self._calls.append(call)
            yield ToolCallCompleted(call)

    def _name(self, use: Mapping[str, Any]) -> str:
        return self._request.names.from_wire(str(use.get("name", "")))


def _index(body: Mapping[str, Any]) -> int:
    return int(body.get("contentBlockIndex") or 0)
