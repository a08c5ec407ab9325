"""Chat completions of servers that keep to OpenAI's wire in the main: written plainly, read leniently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from loom_openai_compatible.config import OpenAICompatibleConfig
from loom_openai_compatible.lenient import call_of, error_of, finish_reason_of, reasoning_of, usage_of
from loom_py.events import StreamEvent
from loom_py.llm.azure.errors import error_from_body
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.azure.stream import StreamAssembler
from loom_py.llm.azure.surfaces import CHAT
from loom_py.llm.azure.wire import decode_response, encode_request, string_or_empty
from loom_py.llm.profiles import ModelProfile
from loom_py.messages import Message, Response
from loom_py.options import ChatOptions

__all__ = ["LENIENT_CHAT", "LenientAssembler", "decode_leniently"]


def _encode(
    messages: Sequence[Message],
    tools: EncodedTools,
    options: ChatOptions,
    *,
    config: OpenAICompatibleConfig,
    profile: ModelProfile,
    stream: bool,
    carry_reasoning: bool,
) -> dict[str, Any]:
    body = encode_request(messages, tools, options, deployment=config.model, profile=profile, stream=stream)
    if not config.usage_in_streams:
        body.pop("stream_options", None)
    for message in body["messages"]:
        if message["content"] is None:  # some chat templates cannot write it
            message["content"] = ""
    return body


def decode_leniently(data: Any, tools: EncodedTools = NO_TOOLS) -> Response:
    """The reply in a whole answer, as `decode_response` reads it once it has OpenAI's form."""
    if (error := error_of(data)) is not None:
        raise error_from_body(error)
    if not isinstance(data, Mapping):
        return decode_response(data, tools)
    choices = data.get("choices")
    first = (
        next((one for one in choices if isinstance(one, Mapping)), None)
        if isinstance(choices, list)
        else None
    )
    message = first.get("message") if first is not None else None
    if first is None or not isinstance(message, Mapping):
        return decode_response({**data, "usage": usage_of(data.get("usage"))}, tools)
    calls = _calls(message)
    reason = finish_reason_of(first.get("finish_reason"), has_calls=bool(calls)) or "stop"
    choice = {**first, "finish_reason": reason, "message": {**message, "tool_calls": calls}}
    usage = usage_of(data.get("usage"))
    response = decode_response({**data, "choices": [choice], "usage": usage}, tools)
    return _told(response, reasoning_of(message), has_usage=isinstance(usage, Mapping))


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The calls of a message; one in the older ``function_call`` among them."""
    calls = message.get("tool_calls")
    found = list(calls) if isinstance(calls, list) else []
    if not found and isinstance(message.get("function_call"), Mapping):
        found = [{"function": message["function_call"]}]
    return [call for raw in found if (call := call_of(raw, makes_id=True)) is not None]


def _told(response: Response, reasoning: str, *, has_usage: bool) -> Response:
    """``response`` with what OpenAI has no place for."""
    more: dict[str, Any] = {"reasoning_content": reasoning} if reasoning else {}
    if not has_usage:
        more["usage_reported"] = False
    return replace(response, metadata={**response.metadata, **more}) if more else response


class LenientAssembler(StreamAssembler):
    """`StreamAssembler` for streams without usage or end mark, with calls in any of the forms they take."""

    def __init__(self, tools: EncodedTools = NO_TOOLS) -> None:
        super().__init__(tools)
        self._reasoning: list[str] = []
        self._ids: dict[int, str] = {}
        self._named: set[int] = set()
        self._places: dict[int, int] = {}
        self._count = 0

    @property
    def is_whole(self) -> bool:
        """Whether the finish reason has come: not every server tells its usage."""
        return bool(self._finish_reason)

    def text_of(self, chunk: Any) -> str:
        """The text of a chunk that has nothing else."""
        text = super().text_of(chunk)
        return "" if text and reasoning_of(chunk["choices"][0]["delta"]) else text

    def feed(self, chunk: Any) -> Iterator[StreamEvent]:
        """The events in one chunk. Raises the typed error of an error chunk."""
        if (error := error_of(chunk)) is not None:
            raise self._error(error_from_body(error))
        if isinstance(chunk, Mapping) and isinstance(chunk.get("choices"), list):
            choices = [self._plain(choice) for choice in chunk["choices"]]
            chunk = {**chunk, "choices": choices, "usage": usage_of(chunk.get("usage"))}
        yield from super().feed(chunk)

    def complete(self) -> Response:
        """The whole response."""
        self._finish_reason = finish_reason_of(self._finish_reason, has_calls=bool(self._calls)) or "stop"
        return _told(super().complete(), "".join(self._reasoning), has_usage=self._usage is not None)

    def _plain(self, choice: Any) -> Any:
        """A choice whose delta is as OpenAI writes it."""
        delta = choice.get("delta") if isinstance(choice, Mapping) else None
        if not isinstance(delta, Mapping):
            return choice
        if reasoning := reasoning_of(delta):
            self._reasoning.append(reasoning)
        calls = delta.get("tool_calls")
        if isinstance(delta.get("function_call"), Mapping) and not calls:
            calls = [{"index": 0, "function": delta["function_call"]}]
        if not isinstance(calls, list):
            return choice
        pieces = [piece for raw in calls if (piece := self._piece(raw)) is not None]
        return {**choice, "delta": {**delta, "tool_calls": pieces}}

    def _piece(self, raw: Any) -> dict[str, Any] | None:
        """A piece of a call, with the index it belongs to and, at its beginning, an id.

        A name begins a call; where the server's own index has one already, with another id or none at all,
        it is yet another.
        """
        piece = call_of(raw, makes_id=False)
        if piece is None:
            return None
        said, name = piece.get("index"), piece["function"].get("name")
        given = said if isinstance(said, int) else -1
        own_id = string_or_empty(piece.get("id"))
        at = self._places.get(given)
        if at is None or (name and at in self._named and self._begins(at, given, own_id)):
            at = self._places[given] = self._count
            self._count += 1
            piece = call_of(piece, makes_id=True) or piece
            self._ids[at] = piece["id"]
        if name:
            self._named.add(at)
        return {**piece, "index": at, "id": self._ids[at]}

    def _begins(self, at: int, given: int, own_id: str) -> bool:
        """Whether a piece with a name, at the place of a call that is known, begins another call."""
        return own_id != self._ids[at] if own_id else given < 0


LENIENT_CHAT = replace(CHAT, encode=_encode, decode=decode_leniently, assembler=LenientAssembler)
"""Chat completions of such a server."""
