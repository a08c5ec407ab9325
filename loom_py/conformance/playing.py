"""`PlaybackModel`: a model that acts a script out, behind whatever fake service has the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from loom_py.conformance.adapters.errors import error_of
from loom_py.conformance.script import Answer, Call, Playback
from loom_py.errors import ServiceUnavailableError, StreamInterruptedError
from loom_py.events import (
    FinalResponse,
    StreamEvent,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    UsageEvent,
)
from loom_py.llm.estimates import estimate_usage
from loom_py.llm.provider import BaseProvider
from loom_py.llm.scripted import words
from loom_py.messages import Message, Response, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["PlaybackModel"]


class PlaybackModel(BaseProvider):
    """Plays a script as a provider, so that an emulator can put it on its own wire.

    ``failure`` says what to raise for an answer that fails; ``None`` leaves it at the error of loom_py's that
    stands for it. A stream that is to be cut raises `StreamInterruptedError`.
    """

    name = "playback"
    model = "playback"

    def __init__(
        self, playback: Playback, failure: Callable[[Answer], Exception | None] = lambda _: None
    ) -> None:
        self._playback = playback
        self._failure = failure

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """The next answer, whole."""
        answer = self._playback.answer(messages, tools, options)
        await asyncio.sleep(answer.delay)
        if answer.failure is not None:
            raise self._failed(answer)
        return _response(answer, messages, tools)

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """The next answer, piece by piece."""
        answer = self._playback.answer(messages, tools, options)
        await asyncio.sleep(answer.delay)
        if answer.failure is not None:
            for piece in words(answer.failure.after_text):
                yield TextDelta(piece)
            is_cut = answer.failure.kind == "cut_stream"
            raise StreamInterruptedError("cut off by the script") if is_cut else self._failed(answer)
        for place, piece in enumerate(answer.pieces):
            await asyncio.sleep(answer.pause if place else 0)
            yield TextDelta(piece)
        response = _response(answer, messages, tools)
        for call in response.tool_calls:
            yield ToolCallStarted(call.id, call.name)
            yield ToolCallCompleted(call)
        yield UsageEvent(response.tokens_used)
        yield FinalResponse(response)

    def _failed(self, answer: Answer) -> Exception:
        own = self._failure(answer)
        return own or error_of(answer) or ServiceUnavailableError("the script went wrong")


def _response(answer: Answer, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Response:
    calls = tuple(map(_tool_call, answer.calls))
    usage = answer.usage or estimate_usage(messages, tools, Message.assistant(answer.text, calls))
    return Response(answer.text, usage, tool_calls=calls, finish_reason=answer.finish_reason)


def _tool_call(call: Call) -> ToolCall:
    """The call as it is to be written; some models send no text at all for no arguments."""
    return call.to_tool_call() if call.arguments else ToolCall(call.id, call.name, {}, "", "no text")
