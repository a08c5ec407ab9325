"""`AzureOpenAIClient` before an `AzureEmulator`, over a real socket, on each of Azure's surfaces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from loom_py.conformance.adapter import FEATURES, BaseAdapter
from loom_py.conformance.adapters.errors import error_of
from loom_py.conformance.script import Answer, Call, Failure, Playback, Script, SeenRequest
from loom_py.emulator import AzureEmulator, FaultPlan, FaultRule
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
from loom_py.llm.azure import AzureOpenAIClient
from loom_py.llm.estimates import estimate_usage
from loom_py.llm.provider import BaseProvider, LLMProvider
from loom_py.llm.scripted import words
from loom_py.messages import Message, Response, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["AzureAdapter", "AzureResponsesAdapter", "AzureV1Adapter", "PlaybackModel", "dropped"]

SECRET = "conformance-key-7d1f4e0a9c"  # noqa: S105 - the emulator's own
DEPLOYMENTS = {"priced": "gpt-4o-2024-11-20", "unpriced": "house-model-2"}
REPEATED = 100
"""How many requests a failure that is the script's last strikes."""

PAGE = "<html><body><h1>Sign in</h1></body></html>"


class AzureAdapter(BaseAdapter):
    """The classic API: chat completions of a deployment. It can do everything."""

    name = "azure"
    capabilities = frozenset(FEATURES)
    secrets = (SECRET,)
    settings: ClassVar[dict[str, Any]] = {"surface": "chat"}

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A client of a fresh emulator whose model plays the script."""
        drops, rest = dropped(script)
        self._playback = Playback(rest)
        with AzureEmulator(
            PlaybackModel(self._playback), deployments=DEPLOYMENTS, api_keys=[SECRET], faults=drops
        ) as azure:
            yield AzureOpenAIClient(
                endpoint=azure.endpoint,
                api_key=SECRET,
                deployment_id="priced" if script.priced else "unpriced",
                **self.settings,
            )

    def requests(self) -> Sequence[SeenRequest]:
        """What the emulator's model was asked."""
        return () if self._playback is None else self._playback.requests


class AzureV1Adapter(AzureAdapter):
    """The v1 API: chat completions without an API version."""

    name = "azure-v1"
    settings: ClassVar[dict[str, Any]] = {"surface": "chat", "api": "v1"}


class AzureResponsesAdapter(AzureAdapter):
    """The Responses API, by v1."""

    name = "azure-responses"
    settings: ClassVar[dict[str, Any]] = {"surface": "responses", "api": "v1"}


def dropped(script: Script) -> tuple[FaultPlan | None, Script]:
    """The connections to drop, which no request gets past, and the script without them."""
    dropped = [_is_drop(answer) for answer in script.answers]
    if not any(dropped):
        return None, script
    places = [place for place, drop in enumerate(dropped, 1) if drop]
    if dropped[-1]:
        places += range(len(dropped) + 1, len(dropped) + REPEATED)
    rules = tuple(FaultRule(error="connection-drop", nth=place) for place in places)
    kept = tuple(answer for answer in script.answers if not _is_drop(answer))
    return FaultPlan(rules=rules), replace(script, answers=kept or (Answer(),))


def _is_drop(answer: Answer) -> bool:
    return answer.failure is not None and answer.failure.kind == "unreachable"


class PlaybackModel(BaseProvider):
    """The model behind the emulator: plays the script, so that the wire is Azure's own."""

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
            raise _wire_failure(answer)
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
        yield UsageEvent(response.tokens_used)
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
    return _wire_failure(answer)


def _wire_failure(answer: Answer) -> Exception:
    """What makes the emulator answer as Azure would."""
    failure = answer.failure
    assert failure is not None
    if failure.kind == "malformed":
        return WireError(200, PAGE, media_type="text/html")
    if failure.kind == "empty_stream":
        return WireError(200, b"", media_type="text/event-stream")
    if failure.echo_secret:
        return _echo(failure)
    return error_of(answer) or ServiceUnavailableError("the script went wrong")


def _echo(failure: Failure) -> WireError:
    """A refusal that repeats the key, as gateways in front of Azure do."""
    status = {"unauthorized": 401, "forbidden": 403}.get(failure.kind, 500)
    body = {"error": {"code": str(status), "message": f"Incorrect API key provided: {SECRET}."}}
    return WireError(status, body)
