"""To the wire: a stream as the Responses API's events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from loom_py.emulator.encode import FRAGMENTS, padding
from loom_py.emulator.responses_encode import ResponseDocument
from loom_py.emulator.wire_errors import WireError
from loom_py.events import FinalResponse, StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.messages import Response, ToolCall

__all__ = ["ResponsesStreamEncoder"]

Event = dict[str, Any]


class ResponsesStreamEncoder:
    """Turns one stream of events into typed, numbered ones, item after item.

    A reasoning item comes first where the model reasons; text and calls follow in the order in
    which the engine produced them. ``store`` is told of the response when it is whole.
    """

    def __init__(
        self, document: ResponseDocument, store: Callable[[ResponseDocument, Response], None]
    ) -> None:
        self.document = document
        self.text = ""
        self.final: Response | None = None
        self._store = store
        self._number = -1
        self._output: list[Event] = []
        self._message_at: int | None = None
        self._calls: dict[str, int] = {}
        self._whole: set[str] = set()

    @property
    def begun(self) -> bool:
        """Whether text or a call has gone out."""
        return bool(self.text or self._calls)

    def start(self) -> Iterator[Event]:
        """The response's creation, and its reasoning."""
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, response=self.document.started())
        for item in self.document.reasoning_items(Response("")):
            yield from self._opened(
                {**item, "encrypted_content": ""} if "encrypted_content" in item else item
            )
            yield self._closed(len(self._output) - 1, item)

    def feed(self, event: StreamEvent) -> Iterator[Event]:
        """The events for ``event``, possibly none."""
        if isinstance(event, TextDelta):
            yield from self._say(event.delta)
        elif isinstance(event, ToolCallStarted):
            yield from self._begin(ToolCall(event.call_id, event.name))
        elif isinstance(event, ToolCallCompleted):
            yield from self._complete(event.call)
        elif isinstance(event, FinalResponse):
            self.final = event.response

    def finish(self) -> Iterator[Event]:
        """What the deltas left out, and the whole response."""
        final = self.final or Response(self.text)
        if final.message.startswith(self.text):
            yield from self._say(final.message[len(self.text) :])
        if not (self.text or final.tool_calls) and final.finish_reason == "stop":
            yield from self._open_message()
        yield from self._close_message()
        for call in final.tool_calls:
            yield from self._complete(call)
        whole = self.document.with_output(final, self._output)
        self._store(self.document, final)
        yield self._event(f"response.{whole['status']}", response=whole)

    def error(self, error: WireError) -> Event:
        """An error after the stream has begun."""
        body = error.body.get("error", error.body)
        return self._event(
            "error",
            code=body.get("code") or body.get("type"),
            message=body.get("message"),
            param=body.get("param"),
        )

    # ── text ─────────────────────────────────────────────────────────────────────────────

    def _say(self, text: str) -> Iterator[Event]:
        if not text:
            return
        yield from self._open_message()
        self.text += text
        delta = self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])
        if self.document.completion.quirks:
            delta["obfuscation"] = padding()
        yield delta

    def _open_message(self) -> Iterator[Event]:
        if self._message_at is not None:
            return
        index = self._message_at = len(self._output)
        yield from self._opened(self.document.message_item("", index, "in_progress"))
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        yield self._event("response.content_part.added", **self._place(), part=part)

    def _close_message(self) -> Iterator[Event]:
        index = self._message_at
        if index is None or self._output[index]["status"] != "in_progress":
            return
        cut = self.final is not None and self.final.finish_reason in {"length", "content_filter"}
        item = self.document.message_item(self.text, index, "incomplete" if cut else "completed")
        yield self._event("response.output_text.done", **self._place(), text=self.text, logprobs=[])
        yield self._event("response.content_part.done", **self._place(), part=item["content"][0])
        yield self._closed(index, item)

    def _place(self) -> dict[str, Any]:
        index = self._message_at or 0
        return {"item_id": self._output[index]["id"], "output_index": index, "content_index": 0}

    # ── calls ────────────────────────────────────────────────────────────────────────────

    def _begin(self, call: ToolCall) -> Iterator[Event]:
        if call.id not in self._calls:
            self._calls[call.id] = len(self._output)
            yield from self._opened(self.document.call_item(call, "in_progress"))

    def _complete(self, call: ToolCall) -> Iterator[Event]:
        yield from self._begin(call)
        if call.id in self._whole:
            return
        self._whole.add(call.id)
        index, item = self._calls[call.id], self.document.call_item(call)
        place = {"item_id": item["id"], "output_index": index}
        for piece in FRAGMENTS.findall(call.arguments_json):
            yield self._event("response.function_call_arguments.delta", **place, delta=piece)
        yield self._event(
            "response.function_call_arguments.done", **place, arguments=call.arguments_json, name=call.name
        )
        yield self._closed(index, item)

    # ── events ───────────────────────────────────────────────────────────────────────────

    def _opened(self, item: Event) -> Iterator[Event]:
        self._output.append(item)
        yield self._event("response.output_item.added", output_index=len(self._output) - 1, item=item)

    def _closed(self, index: int, item: Event) -> Event:
        self._output[index] = item
        return self._event("response.output_item.done", output_index=index, item=item)

    def _event(self, kind: str, **fields: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number, **fields}
