"""A streamed reply of the Responses API, put together from its events.

`ResponsesAssembler` has the interface of `stream.StreamAssembler`. The reply is whole once
``response.completed`` or ``response.incomplete`` has come: these carry the whole response, which
is read as one that was not streamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from loom_py.errors import ProviderError
from loom_py.events import StreamEvent, TextDelta, ToolCallStarted
from loom_py.llm.azure.errors import error_from_body, is_error
from loom_py.llm.azure.responses import (
    calls_of,
    decode_responses,
    decode_responses_usage,
    error_in,
    failure_of,
    finish_reason_of,
    text_of,
)
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.azure.stream import Assembly
from loom_py.llm.azure.wire import model_of, string_or_empty
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["ResponsesAssembler"]


class _Item:
    """An output item while it arrives."""

    __slots__ = ("arguments", "data", "is_done", "is_started", "parts")

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.parts: dict[tuple[int, str], list[str]] = {}
        self.arguments: list[str] = []
        self.is_done = False
        self.is_started = False

    @property
    def is_call(self) -> bool:
        return self.data.get("type") == "function_call"

    def snapshot(self, status: str) -> dict[str, Any]:
        """The item as far as it has come, in the form of a whole response's output."""
        item = dict(self.data) if self.is_done else {**self.data, "status": status}
        if self.is_call and not item.get("arguments"):
            item["arguments"] = "".join(self.arguments)
        if item.get("type") == "message" and not item.get("content"):
            item["content"] = [
                {"type": kind, ("refusal" if kind == "refusal" else "text"): "".join(pieces)}
                for (_, kind), pieces in sorted(self.parts.items())
            ]
        return item


class ResponsesAssembler(Assembly):
    """The state of one streamed reply: fed with events' JSON, it gives ours and at last the response."""

    def __init__(self, tools: EncodedTools = NO_TOOLS) -> None:
        self._tools = tools
        self._text: list[str] = []
        self._items: dict[int, _Item] = {}
        self._usage: TokenUsage | None = None
        self._model = ""
        self._final: dict[str, Any] | None = None
        self._failed: dict[str, Any] | None = None

    @property
    def model(self) -> str:
        """The model that answers, empty until an event has named it."""
        return self._model

    @property
    def finish_reason(self) -> str:
        """Why the model stopped, in the words of chat completions; empty until it has."""
        if self._final is not None:
            return finish_reason_of(self._final)
        return "" if self._failed is None else "failed"

    @property
    def is_whole(self) -> bool:
        """Whether the event that ends a response has come."""
        return self._final is not None or self._failed is not None

    @property
    def has_text(self) -> bool:
        """Whether any text has come."""
        return bool(self._text)

    @property
    def has_output(self) -> bool:
        """Whether any text or tool call has come."""
        return bool(self._text) or any(item.is_call for item in self._items.values())

    def feed(self, event: Any) -> Iterator[StreamEvent]:
        """Our events in one of the stream's. Raises the typed error of an error event.

        Types that are not known, or say nothing new, are passed over.
        """
        if not isinstance(event, Mapping):
            raise self.interrupted(f"an event is a JSON {type(event).__name__}, not an object")
        if self._final is not None:
            return
        response = event.get("response")
        if isinstance(response, Mapping):
            self._model = self._model or model_of(response)
            self._usage = decode_responses_usage(response.get("usage")) or self._usage
        kind = string_or_empty(event.get("type"))
        if not kind and is_error(event) and not event.get("error"):
            raise self._error(error_from_body(event))
        if kind == "error" or event.get("error"):
            said = event.get("error") or {**event, "type": None}
            if isinstance(said, Mapping) and "status" in event:
                said = {"status": event["status"], **said}
            raise self._error(failure_of({**(self._failed or {}), "error": said}))
        yield from self._event(kind, event, response)

    # ── one event ────────────────────────────────────────────────────────────────────────

    def _event(self, kind: str, event: Mapping[str, Any], response: Any) -> Iterator[StreamEvent]:
        match kind.removeprefix("response."):
            case "output_item.added":
                yield from self._item(event, is_done=False)
            case "output_item.done":
                yield from self._item(event, is_done=True)
            case "output_text.delta":
                yield from self._delta(event, "output_text")
            case "refusal.delta":
                yield from self._delta(event, "refusal")
            case "function_call_arguments.delta":
                self._at(event, "function_call").arguments.append(string_or_empty(event.get("delta")))
            case "function_call_arguments.done":
                if arguments := string_or_empty(event.get("arguments")):
                    self._at(event, "function_call").arguments = [arguments]
            case "completed" | "incomplete" as status:
                yield from self._end(response, status)
            case "failed":
                self._fail(response)

    def _item(self, event: Mapping[str, Any], *, is_done: bool) -> Iterator[StreamEvent]:
        data = event.get("item")
        if not isinstance(data, Mapping):
            return
        item = self._items.setdefault(self._index(event, data, is_new=not is_done), _Item())
        item.data = dict(data) if is_done else {**item.data, **data}
        item.is_done = is_done
        yield from self._start(item)

    def _delta(self, event: Mapping[str, Any], kind: str) -> Iterator[StreamEvent]:
        if not (delta := string_or_empty(event.get("delta"))):
            return
        position = event.get("content_index")
        part = position if isinstance(position, int) else 0
        self._at(event, "message").parts.setdefault((part, kind), []).append(delta)
        if kind == "output_text":
            self._text.append(delta)
            yield TextDelta(delta)

    def _start(self, item: _Item) -> Iterator[StreamEvent]:
        call_id, name = (string_or_empty(item.data.get(key)) for key in ("call_id", "name"))
        if item.is_call and call_id and name and not item.is_started:
            item.is_started = True
            yield ToolCallStarted(call_id, self._tools.own_name(name))

    def _end(self, response: Any, status: str) -> Iterator[StreamEvent]:
        """Takes the whole response, and gives what of it had not been streamed."""
        if not isinstance(response, Mapping):
            raise self.interrupted(f"the event response.{status} has no response")
        final: dict[str, Any] = {"status": status, **response}
        if not (isinstance(final.get("output"), list) and final["output"]):
            final["output"] = self._output(status)
        self._final = final
        started = {
            string_or_empty(item.data.get("call_id")) for item in self._items.values() if item.is_started
        }
        whole, streamed = text_of(final["output"]), "".join(self._text)
        if len(whole) > len(streamed) and whole.startswith(streamed):
            self._text.append(whole[len(streamed) :])
            yield TextDelta(self._text[-1])
        for call in calls_of(final["output"], self._tools):
            if call.id not in started:
                yield ToolCallStarted(call.id, call.name)

    def _fail(self, response: Any) -> None:
        """A failed response. One that does not say why may still be followed by an error event."""
        failed = dict(response) if isinstance(response, Mapping) else {}
        failed["output"] = failed.get("output") or self._output("incomplete")
        if error_in(failed) is not None:
            raise self._error(failure_of(failed))
        self._failed = failed

    def _at(self, event: Mapping[str, Any], kind: str) -> _Item:
        """The item an event belongs to, made if its beginning never came."""
        item = self._items.setdefault(self._index(event, {}, is_new=False), _Item())
        item.data.setdefault("type", kind)
        return item

    def _index(self, event: Mapping[str, Any], data: Mapping[str, Any], *, is_new: bool) -> int:
        """The event's output index; where a gateway leaves it out, its item's id tells."""
        index = event.get("output_index")
        if isinstance(index, int):
            return index
        item_id = string_or_empty(event.get("item_id")) or string_or_empty(data.get("id"))
        for known, item in self._items.items():
            if item_id and item.data.get("id") == item_id:
                return known
        return max(self._items, default=-1) + 1 if is_new else max(self._items, default=0)

    def _output(self, status: str) -> list[dict[str, Any]]:
        return [item.snapshot(status) for _, item in sorted(self._items.items())]

    # ── the end ──────────────────────────────────────────────────────────────────────────

    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls as they have come so far, in the order of the output."""
        return calls_of(self._output("incomplete"), self._tools)

    def complete(self) -> Response:
        """The whole response; raises what the reply turned out to be if it is no answer."""
        if self._failed is not None:
            raise self._error(failure_of(self._failed))
        if self._final is None:
            raise self.interrupted("the stream ended before the response was complete")
        streamed = "".join(self._text)
        try:
            response = decode_responses(self._final, self._tools)
        except ProviderError as error:
            failure = self._error(error)
        else:
            # what was shown is what was said
            return replace(response, message=streamed) if streamed else response
        raise failure
