"""Streamed chat completions of servers that keep to OpenAI's wire in the main."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from loom_openai_compatible.lenient import (
    call_of,
    choices_of,
    error_of,
    failure_of,
    finish_reason_of,
    id_of,
    plain_text,
    reasoning_of,
    told,
    usage_of,
)
from loom_py.events import StreamEvent
from loom_py.llm.azure.errors import error_from_body
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.azure.stream import StreamAssembler, StreamDecoder
from loom_py.llm.azure.wire import string_or_empty
from loom_py.messages import Response

__all__ = ["LenientAssembler", "LenientDecoder"]


@dataclass(slots=True)
class _Call:
    """A tool call that has begun: the id it has here and the one it came with, and what has come of it."""

    id: str
    said: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are an object already."""
        if not self.arguments or not self.arguments[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(json.loads("".join(self.arguments)), dict)
        except (ValueError, RecursionError):
            return False


class LenientAssembler(StreamAssembler):
    """`StreamAssembler` for streams without usage or end mark, with calls in any of the forms they take."""

    def __init__(self, tools: EncodedTools = NO_TOOLS) -> None:
        super().__init__(tools)
        self._reasoning: list[str] = []
        self._begun: list[_Call] = []
        self._places: dict[int | None, int] = {}

    @property
    def is_whole(self) -> bool:
        """Whether the finish reason has come: not every server tells its usage."""
        return bool(self._finish_reason)

    def done(self) -> None:
        """The end mark has come: it ends the answer of a server that gives no finish reason too."""
        if self.has_output and not self._finish_reason:
            self._finish_reason = "stop"

    def text_of(self, chunk: Any) -> str:
        """The text of a chunk that has nothing else."""
        text = super().text_of(chunk)
        return "" if text and reasoning_of(chunk["choices"][0]["delta"]) else text

    def feed(self, chunk: Any) -> Iterator[StreamEvent]:
        """The events in one chunk. Raises the typed error of an error chunk."""
        if (error := error_of(chunk)) is not None:
            raise self._error(error_from_body(error))
        failures = []
        if isinstance(chunk, Mapping):
            chunk = {**chunk, "usage": usage_of(chunk.get("usage"))}
            choices = [choice for choice in choices_of(chunk) if not choice.get("index")]
            failures = [found for choice in choices if (found := failure_of(choice)) is not None]
            chunk["choices"] = [self._plain(choice) for choice in choices]
        yield from super().feed(chunk)
        if failures:
            raise self._error(failures[0])

    def complete(self) -> Response:
        """The whole response."""
        self._finish_reason = finish_reason_of(self._finish_reason, has_calls=bool(self._calls)) or "stop"
        return told(super().complete(), "".join(self._reasoning), has_usage=self._usage is not None)

    def _plain(self, choice: Mapping[str, Any]) -> Mapping[str, Any]:
        """A choice whose delta is as OpenAI writes it."""
        delta = choice.get("delta")
        if not isinstance(delta, Mapping):  # the whole message at once, or once more at the end
            delta = choice.get("message")
            if not isinstance(delta, Mapping) or self.has_output:
                return choice
        if reasoning := reasoning_of(delta):
            self._reasoning.append(reasoning)
        delta = {**delta, "content": plain_text(delta.get("content"))}
        calls = delta.get("tool_calls")
        if isinstance(delta.get("function_call"), Mapping) and not calls:
            calls = [{"index": 0, "function": delta["function_call"]}]
        if isinstance(calls, list):
            delta["tool_calls"] = [piece for raw in calls if (piece := self._piece(raw)) is not None]
        return {**choice, "delta": delta}

    def _piece(self, raw: Any) -> dict[str, Any] | None:
        """A piece of a call, with the index of the call it belongs to and that call's id."""
        piece = call_of(raw)
        if piece is None:
            return None
        given = piece.get("index") if isinstance(piece.get("index"), int) else None
        name = string_or_empty(piece["function"].get("name"))
        arguments = string_or_empty(piece["function"].get("arguments"))
        said = string_or_empty(piece.get("id"))
        at = self._place(given, said, name)
        if at is not None and name and not said and self._is_another(at, given, name, arguments):
            at = None
        if at is None:
            at = self._places[given] = len(self._begun)
            self._begun.append(_Call(id_of(piece, {call.id for call in self._begun}), said))
        call = self._begun[at]
        call.name = call.name or name
        if arguments:
            call.arguments.append(arguments)
        return {**piece, "index": at, "id": call.id}

    def _place(self, given: int | None, said: str, name: str) -> int | None:
        """Which call a piece continues, by its index or else by its id; ``None`` where it begins one.

        A piece with a name and another id than the call at its index has begins another.
        """
        at = self._places.get(given)
        if not said:
            return at
        if given is None:
            known = next((at for at, call in enumerate(self._begun) if call.said == said), None)
            at = at if known is None else known
        is_another = at is not None and name and self._begun[at].name and self._begun[at].said != said
        return None if is_another else at

    def _is_another(self, at: int, given: int | None, name: str, arguments: str) -> bool:
        """Whether a piece with a name and no id begins another call than the one at its place.

        It does with another name. The same one again may only be said in every piece, so that call has to be
        whole, and the piece, if it has an index, an object of its own.
        """
        call = self._begun[at]
        if not call.name or name != call.name:
            return bool(call.name)
        if given is None:
            return call.is_whole or not call.arguments
        return arguments.lstrip().startswith("{") and call.is_whole


class LenientDecoder(StreamDecoder):
    """`StreamDecoder` that takes chunks one to a line as well, which are no events at all."""

    _head_line: bytes | None = b""
    """What has come of the first line; ``None`` once it is known what the body is."""
    _line: bytes | None = None
    """What has come of a line, where the body is lines of JSON."""

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        """The events in the next bytes of the body."""
        if self._head_line is not None:
            self._head_line = (self._head_line + data).lstrip()
            if self._head_line[:1] in {b"", b"{"} and b"\n" not in self._head_line:
                return  # nothing can be told of it yet
            data, self._head_line = self._head_line, None
            if data[:1] == b"{" and self._is_chunk(data.partition(b"\n")[0]):
                self._line = b""
        if self._line is None:
            yield from super().feed(data)
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            yield from self._feed_line(line)

    def finish(self) -> tuple[list[StreamEvent], Response]:
        """After the last byte: the events still due, and the whole response."""
        head, self._head_line = self._head_line, None
        late = list(super().feed(head)) if head else []
        if self._line:
            late += self._feed_line(self._line)
        events, response = super().finish()
        return late + events, response

    def _feed_line(self, line: bytes) -> Iterator[StreamEvent]:
        if line.strip():
            yield from super().feed(b"data: " + line.strip() + b"\n\n")

    def _is_chunk(self, line: bytes) -> bool:
        """Whether a line is a piece of an answer, and so not the beginning of a document."""
        try:
            chunk = self._loads(line)
        except (ValueError, RecursionError):
            return False
        return any("delta" in choice for choice in choices_of(chunk))
