"""`AnthropicProvider` before an `AnthropicEmulator`, over a real socket, for the conformance suite.

``python -m loom_py.conformance loom_anthropic.conformance:adapter``
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from loom_anthropic.emulator import AnthropicEmulator
from loom_anthropic.provider import AnthropicProvider
from loom_py.conformance.adapter import FEATURES, BaseAdapter
from loom_py.conformance.adapters.errors import error_of
from loom_py.conformance.script import Answer, Call, Playback, Script, SeenRequest
from loom_py.emulator.wire_errors import WireError
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
from loom_py.llm.provider import BaseProvider, LLMProvider
from loom_py.llm.scripted import words
from loom_py.messages import Message, Response, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["AnthropicAdapter", "adapter"]

SECRET = "sk-ant-conformance-7d1f4e0a9c"  # noqa: S105 - the emulator's own
MODEL = "claude-haiku-4-5"
UNPRICED = "house-model-2"
PAGE = "<html><body><h1>Sign in</h1></body></html>"


class AnthropicAdapter(BaseAdapter):
    """The Messages API. It can do everything."""

    name = "anthropic"
    capabilities = frozenset(FEATURES)
    secrets = (SECRET,)

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A client of a fresh emulator whose model plays the script."""
        self._playback = Playback(script)
        with AnthropicEmulator(_Model(self._playback), api_keys=[SECRET], models=[UNPRICED]) as api:
            yield AnthropicProvider(
                api_key=SECRET, model=MODEL if script.priced else UNPRICED, base_url=api.base_url
            )

    def requests(self) -> Sequence[SeenRequest]:
        """What the emulator's model was asked."""
        return () if self._playback is None else self._playback.requests


adapter = AnthropicAdapter


class _Model(BaseProvider):
    """The model behind the emulator: plays the script, so that the wire is the API's own."""

    name = "playback"
    model = "playback"

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        answer = self._playback.answer(messages, tools, options)
        await asyncio.sleep(answer.delay)
        if answer.failure is not None:
            raise _failure(answer)
        return _response(answer, messages, tools)

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        answer = self._playback.answer(messages, tools, options)
        await asyncio.sleep(answer.delay)
        if answer.failure is not None:
            for piece in words(answer.failure.after_text):
                yield TextDelta(piece)
            cut = answer.failure.kind == "cut_stream"
            raise StreamInterruptedError("cut off by the script") if cut else _failure(answer)
        for place, piece in enumerate(answer.pieces):
            await asyncio.sleep(answer.pause if place else 0)
            yield TextDelta(piece)
        response = _response(answer, messages, tools)
        for call in response.tool_calls:
            yield ToolCallStarted(call.id, call.name)
            yield ToolCallCompleted(call)
        yield UsageEvent(response.tokens_used)
        yield FinalResponse(response)


def _response(answer: Answer, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Response:
    calls = tuple(map(_tool_call, answer.calls))
    usage = answer.usage or estimate_usage(messages, tools, Message.assistant(answer.text, calls))
    return Response(answer.text, usage, tool_calls=calls, finish_reason=answer.finish_reason)


def _tool_call(call: Call) -> ToolCall:
    """The call as the emulator is to write it; some models send no text at all for no arguments."""
    return call.to_tool_call() if call.arguments else ToolCall(call.id, call.name, {}, "", "no text")


def _failure(answer: Answer) -> Exception:
    """What makes the emulator answer as the service would."""
    failure = answer.failure
    assert failure is not None
    if failure.kind == "malformed":
        return WireError(200, PAGE, media_type="text/html")
    if failure.kind == "empty_stream":
        return WireError(200, b"", media_type="text/event-stream")
    if failure.echo_secret:
        body: dict[str, Any] = {
            "type": "error",
            "error": {"type": "authentication_error", "message": f"invalid x-api-key: {SECRET}"},
        }
        return WireError({"unauthorized": 401, "forbidden": 403}.get(failure.kind, 500), body)
    return error_of(answer) or ServiceUnavailableError("the script went wrong")
