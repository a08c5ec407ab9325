"""`BedrockAdapter`: the provider before its emulator, for the conformance suite.

``python -m loom_py.conformance loom_bedrock.conformance:adapter``
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from loom_bedrock.emulator import BedrockEmulator, BedrockException, RawAnswer
from loom_bedrock.provider import BedrockProvider
from loom_py.conformance.adapter import FEATURES, BaseAdapter
from loom_py.conformance.adapters.errors import error_of
from loom_py.conformance.script import Answer, Call, Playback, Script, SeenRequest
from loom_py.errors import ServiceUnavailableError, StreamInterruptedError
from loom_py.events import FinalResponse, StreamEvent, TextDelta, ToolCallCompleted, ToolCallStarted
from loom_py.llm.estimates import estimate_usage
from loom_py.llm.provider import BaseProvider, LLMProvider
from loom_py.llm.scripted import words
from loom_py.messages import Message, Response, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["BedrockAdapter", "adapter"]

SECRET = "conformance/secret/7d1f4e0a9c/0000000000"  # noqa: S105 - the emulator's own
MODELS = {True: "us.amazon.nova-lite-v1:0", False: "house.model-2-v1:0"}
PAGE = b"<html><body><h1>Sign in</h1></body></html>"


class BedrockAdapter(BaseAdapter):
    """Bedrock by Converse and ConverseStream.

    What does not apply: images by address (Bedrock takes bytes), arguments as text (they travel as
    values), reasoning tokens (they are not reported apart), and the scenario of tool choices, for one of
    them is "none": Converse has no such choice, and the tools are left out instead.
    """

    name = "bedrock"
    capabilities = frozenset(FEATURES) - {
        "argument_text",
        "image_urls",
        "reasoning_usage",
        "tool_choice",
    }
    secrets = (SECRET,)

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A provider before a fresh emulator whose model plays the script."""
        self._playback = Playback(script)
        with BedrockEmulator(_Model(self._playback), secret_access_key=SECRET) as bedrock:
            yield BedrockProvider(model=MODELS[script.priced], **bedrock.settings)

    def requests(self) -> Sequence[SeenRequest]:
        """What the emulator's model was asked."""
        return () if self._playback is None else self._playback.requests


adapter = BedrockAdapter


class _Model(BaseProvider):
    """The model behind the emulator: plays the script, so that the wire is Bedrock's own."""

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
            raise _stream_failure(answer)
        for place, piece in enumerate(answer.pieces):
            await asyncio.sleep(answer.pause if place else 0)
            yield TextDelta(piece)
        response = _response(answer, messages, tools)
        for call in response.tool_calls:
            yield ToolCallStarted(call.id, call.name)
            yield ToolCallCompleted(call)
        yield FinalResponse(response)


def _response(answer: Answer, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Response:
    calls = tuple(map(_tool_call, answer.calls))
    usage = answer.usage or estimate_usage(messages, tools, Message.assistant(answer.text, calls))
    return Response(answer.text, usage, tool_calls=calls, finish_reason=answer.finish_reason)


def _tool_call(call: Call) -> ToolCall:
    """The call as the emulator is to write it; some models send no text at all for no arguments."""
    return call.to_tool_call() if call.arguments else ToolCall(call.id, call.name, {}, "", "no text")


def _stream_failure(answer: Answer) -> Exception:
    assert answer.failure is not None
    if answer.failure.kind == "cut_stream":
        return StreamInterruptedError("cut off by the script")
    return _failure(answer)


def _failure(answer: Answer) -> Exception:
    """What makes the emulator answer as Bedrock would."""
    failure = answer.failure
    assert failure is not None
    if failure.kind == "malformed":
        return RawAnswer(200, PAGE)
    if failure.kind == "empty_stream":
        return RawAnswer(200, b"", {"content-type": "application/vnd.amazon.eventstream"})
    if failure.echo_secret:
        message = f"The security token included in the request is invalid: {SECRET}"
        return BedrockException("UnrecognizedClientException", message)
    return error_of(answer) or ServiceUnavailableError("the script went wrong")
