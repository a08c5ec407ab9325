"""A streamed chat completion, put together from its chunks.

`StreamDecoder` takes the bytes of the body and gives stream events; `finish` gives the whole
response, or raises: a stream is whole or it is an error. It is whole once the model's finish
reason has come and, after it, the usage chunk or ``[DONE]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from loom_py._json import STANDARD
from loom_py.errors import (
    ContentFilterError,
    ProviderError,
    StreamInterruptedError,
    is_filtered,
)
from loom_py.events import StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.llm.azure.errors import error_from_body, filter_verdicts, is_error
from loom_py.llm.azure.repeats import Repeats
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools
from loom_py.llm.azure.sse import SSEReader
from loom_py.llm.azure.wire import (
    decode_json,
    decode_response,
    decode_usage,
    finish,
    model_of,
    string_or_empty,
)
from loom_py.llm.provider import events_of
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["Assembly", "StreamAssembler", "StreamDecoder"]


class _CallFragments:
    """A tool call while its arguments arrive."""

    __slots__ = ("arguments", "id", "name", "started")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.started = False


class Assembly:
    """What the assemblers of both surfaces share: the errors of a stream, with all that had come."""

    _text: list[str]
    _usage: TokenUsage | None

    def text_of(self, chunk: Any) -> str:
        """The text of a chunk that brings a piece of text and nothing else that is new.

        Empty for every other chunk, which is left for ``feed``.
        """
        return ""

    @property
    def has_output(self) -> bool:
        """Whether any text or tool call has come."""
        return bool(self._text)

    def done(self) -> None:
        """The end mark has come."""

    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls as they have come so far."""
        return ()

    def interrupted(self, why: str, **facts: Any) -> StreamInterruptedError:
        """The error for a stream that broke off, with all that had come."""
        return StreamInterruptedError(
            why,
            partial_text="".join(self._text),
            partial_tool_calls=self.calls(),
            tokens_used=self._usage,
            **facts,
        )

    def _error(self, error: ProviderError) -> ProviderError:
        """An error chunk's error; of a passing fault after output, an interruption."""
        error.tokens_used = self._usage
        if isinstance(error, ContentFilterError):
            error.partial_text = "".join(self._text)
            error.side = "completion" if self.has_output else error.side
            return error
        if not (self.has_output and (error.retryable or type(error) is ProviderError)):
            return error
        return self.interrupted(
            f"the stream broke off with an error: {error.message}",
            provider_code=error.provider_code,
            retry_after=error.retry_after,
        )


class StreamAssembler(Assembly):
    """The state of one streamed reply: fed with chunks, it gives events and at last the response."""

    def __init__(self, tools: EncodedTools = NO_TOOLS) -> None:
        self._tools = tools
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, _CallFragments] = {}
        self._usage: TokenUsage | None = None
        self._model = ""
        self._finish_reason = ""
        self._verdicts: dict[str, Any] = {}
        self._last_verdicts: Any = None
        self._prompt_verdicts: Any = None
        self._offsets: Any = None
        self._service_tier = ""

    @property
    def model(self) -> str:
        """The model that answers, empty until a chunk has named it."""
        return self._model

    @property
    def finish_reason(self) -> str:
        """The model's finish reason, empty until it has come."""
        return self._finish_reason

    @property
    def is_whole(self) -> bool:
        """Whether finish reason and usage have both come."""
        return bool(self._finish_reason) and self._usage is not None

    @property
    def has_text(self) -> bool:
        """Whether any text has come."""
        return bool(self._text)

    @property
    def has_output(self) -> bool:
        """Whether any text or tool call has come."""
        return bool(self._text or self._calls)

    def text_of(self, chunk: Any) -> str:
        try:
            (choice,) = chunk["choices"]
            delta = choice["delta"]
            text = delta["content"]
        except (TypeError, KeyError, ValueError, AttributeError):
            return ""
        if type(text) is not str or not self._model:
            return ""
        chunk_says, choice_says = chunk.get, choice.get
        if (
            chunk_says("error")
            or chunk_says("usage")
            or chunk_says("prompt_filter_results")
            or choice_says("index")
            or choice_says("finish_reason")
            or delta.get("refusal")
            or delta.get("tool_calls")
            or (chunk_says("service_tier") or self._service_tier) != self._service_tier
            or (choice_says("content_filter_results") or self._last_verdicts) != self._last_verdicts
        ):
            return ""
        return text

    def take(self, text: str) -> TextDelta:
        """The event of the next piece of the text."""
        self._text.append(text)
        return TextDelta(text)

    def feed(self, chunk: Any) -> Iterator[StreamEvent]:
        """The events in one chunk. Raises the typed error of an error chunk."""
        if not isinstance(chunk, Mapping):
            raise self.interrupted(f"a chunk is a JSON {type(chunk).__name__}, not an object")
        if is_error(chunk):
            raise self._error(error_from_body(chunk))
        self._model = self._model or string_or_empty(chunk.get("model"))
        self._usage = decode_usage(chunk.get("usage")) or self._usage
        self._service_tier = string_or_empty(chunk.get("service_tier")) or self._service_tier
        self._prompt_verdicts = chunk.get("prompt_filter_results") or self._prompt_verdicts
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Mapping) and (choice.get("index") or 0) == 0:
                yield from self._choice(choice)

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[StreamEvent]:
        delta = choice.get("delta")
        if isinstance(delta, Mapping):
            if text := string_or_empty(delta.get("content")):
                self._text.append(text)
                yield TextDelta(text)
            if refusal := string_or_empty(delta.get("refusal")):
                self._refusal.append(refusal)
            fragments = delta.get("tool_calls")
            for fragment in fragments if isinstance(fragments, list) else ():
                if isinstance(fragment, Mapping):
                    yield from self._fragment(fragment)
        if found := choice.get("content_filter_results"):
            self._last_verdicts = found
        verdicts = filter_verdicts(found)
        for category, verdict in verdicts.items():
            if not is_filtered(self._verdicts.get(category)):
                self._verdicts[category] = verdict
                if is_filtered(verdict):
                    self._offsets = choice.get("content_filter_offsets") or self._offsets
        self._finish_reason = self._finish_reason or string_or_empty(choice.get("finish_reason"))

    def _fragment(self, fragment: Mapping[str, Any]) -> Iterator[StreamEvent]:
        call = self._calls.setdefault(self._index(fragment), _CallFragments())
        call.id = call.id or string_or_empty(fragment.get("id"))
        function = fragment.get("function")
        if isinstance(function, Mapping):
            call.name = call.name or string_or_empty(function.get("name"))
            if arguments := string_or_empty(function.get("arguments")):
                call.arguments.append(arguments)
        if call.id and call.name and not call.started:
            call.started = True
            yield ToolCallStarted(call.id, self._tools.own_name(call.name))

    def _index(self, fragment: Mapping[str, Any]) -> int:
        """The fragment's index; where a gateway leaves it out, a new id begins a new call."""
        index = fragment.get("index")
        if isinstance(index, int):
            return index
        last = max(self._calls, default=0)
        new = last in self._calls and string_or_empty(fragment.get("id")) not in {"", self._calls[last].id}
        return last + 1 if new else last

    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls as they have come so far, in index order."""
        return tuple(
            ToolCall.parse(
                call.id or f"call_{index}", self._tools.own_name(call.name), "".join(call.arguments)
            )
            for index, call in sorted(self._calls.items())
        )

    def complete(self) -> Response:
        """The whole response; raises what the reply turned out to be if it is no answer."""
        response = Response(
            message="".join(self._text),
            tokens_used=self._usage or TokenUsage(),
            tool_calls=self.calls(),
            finish_reason=self._finish_reason,
            model=self._model,
            metadata=self._metadata(),
        )
        try:
            response = finish(response, self._verdicts)
        except ContentFilterError as error:
            error.offsets = self._filtered_offsets()
            raise
        return response

    def _filtered_offsets(self) -> dict[str, Any]:
        """Where in the text the verdict that blocked holds, where the filter said."""
        return dict(self._offsets) if isinstance(self._offsets, Mapping) else {}

    def _metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {"service_tier": self._service_tier} if self._service_tier else {}
        if self._refusal:
            metadata["refusal"] = "".join(self._refusal)
        verdicts = {"prompt": self._prompt_verdicts, "completion": self._verdicts}
        if kept := {side: found for side, found in verdicts.items() if found}:
            metadata["content_filter"] = kept
        return metadata


class StreamDecoder:
    """The bytes of a streamed answer as events, whatever the server really sent.

    ``assembler`` puts the chunks together, as `StreamAssembler` does. A plain JSON answer to a stream
    request is taken for what it is, by ``decode``: a whole reply, or an error.
    """

    def __init__(
        self,
        tools: EncodedTools = NO_TOOLS,
        assembler: Any = None,
        decode: Callable[[Any, EncodedTools], Response] = decode_response,
        loads: Callable[[bytes], Any] = STANDARD.loads,
    ) -> None:
        self._tools = tools
        self._decode = decode
        self._loads = loads
        self._reader = SSEReader()
        self._repeats = Repeats()
        self._head: bytes | None = b""
        self._document: list[bytes] | None = None
        self._done = False
        self.payloads = 0
        """How many events of the stream have come: what counts as progress."""
        self._answer: Any = None
        self.assembler: StreamAssembler = assembler or StreamAssembler(tools)

    @property
    def model(self) -> str:
        """The model that answers, as far as it has named itself."""
        return self.assembler.model or model_of(self._answer)

    @property
    def is_whole(self) -> bool:
        """Whether everything an answer needs has come."""
        return self._done or self.assembler.is_whole

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        """The events in the next bytes of the body."""
        if self._head is not None:
            self._head += data
            start = self._head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
            if not start:
                return
            data, self._head = self._head, None
            if start in {b"{", b"<", b"["}:
                self._document = []
        if self._document is not None:
            self._document.append(data)
            return
        for payload in self._reader.feed(data):
            self.payloads += 1
            if payload[:1] != b"{" and payload.strip() == b"[DONE]":
                self._end()
                continue
            assembler, repeats = self.assembler, self._repeats
            if (text := repeats.text(payload)) is not None:
                yield assembler.take(text)
                continue
            chunk = self._chunk(payload)
            if text := assembler.text_of(chunk):
                repeats.learn(payload, text, self._text_in)
                yield assembler.take(text)
            else:
                repeats.forget()
                yield from assembler.feed(chunk)

    def _end(self) -> None:
        self._done = True
        self.assembler.done()

    def _text_in(self, payload: bytes) -> str:
        """The text of a chunk that was made up; none where it is no JSON."""
        try:
            return self.assembler.text_of(self._loads(payload))
        except (ValueError, RecursionError):
            return ""

    def _chunk(self, payload: bytes) -> Any:
        try:
            return self._loads(payload)
        except (ValueError, RecursionError):
            shown = payload[:80].decode("utf-8", "replace")
            raise self.assembler.interrupted(f"a chunk of the stream is not JSON: {shown!r}") from None

    def finish(self) -> tuple[list[StreamEvent], Response]:
        """After the last byte: the events still due, and the whole response."""
        if self._document is not None:
            self._answer = decode_json(b"".join(self._document), None, self._loads)
            response = self._decode(self._answer, self._tools)
            return list(events_of(response))[:-2], response
        events = self._last_payload(self._reader.rest())
        if not (self._done or self.assembler.has_output or self.assembler.finish_reason):
            raise self.assembler.interrupted("the stream ended without any output")
        if not self.assembler.finish_reason:
            raise self.assembler.interrupted("the stream ended without a finish reason")
        if not self.is_whole:
            raise self.assembler.interrupted("the stream ended before its usage and its end mark")
        response = self.assembler.complete()
        if response.message and not self.assembler.has_text:  # a refusal, which is the answer then
            events.append(TextDelta(response.message))
        events += [ToolCallCompleted(call) for call in response.tool_calls]
        return events, response

    def _last_payload(self, rest: bytes) -> list[StreamEvent]:
        """An event whose closing empty line never came: taken if it is whole in itself."""
        if rest.strip() == b"[DONE]":
            self._end()
            return []
        try:
            chunk = self._loads(rest)
        except (ValueError, RecursionError):
            return []
        return list(self.assembler.feed(chunk))
