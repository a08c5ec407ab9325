"""A provider that is right passes everything; each that is wrong in one way fails just that, by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar, TypeAlias

import pytest

from loom_py import BaseProvider, ChatOptions, LLMProvider, Message, Response, TokenUsage, ToolCall, ToolSpec
from loom_py.conformance import Answer, BaseAdapter, Playback, Scorecard, Script, SeenRequest, Status, run
from loom_py.conformance.adapters.errors import error_of
from loom_py.errors import (
    LoomError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.events import (
    FinalResponse,
    StreamEvent,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    UsageEvent,
)
from loom_py.llm.scripted import words

SECRET = "sk-reference-0123456789"
PRICE = TokenUsage(2, 8)
"""USD per million tokens."""


class Reference(BaseProvider):
    """A right provider, with a service in the same process."""

    name = "reference"
    model = "reference-1"

    def __init__(self, playback: Playback) -> None:
        self.playback = playback
        self.key = SECRET

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        wire = {f"tool_{place}": tool.name for place, tool in enumerate(tools)}
        limit = options.timeout if options else None
        answer: Answer | None = None
        try:
            async with asyncio.timeout(limit):
                answer = await self.ask(messages, tools, options, wire)
        except TimeoutError:
            if limit is None:
                raise
        if answer is None:
            raise RequestTimeoutError("too late", request_id="req-1")
        async for event in self.events(answer, wire):
            yield event

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        options: ChatOptions | None,
        wire: dict[str, str],
        /,
    ) -> Answer:
        """What the service answers."""
        to_wire = {own: name for name, own in wire.items()}
        sent = [
            replace(
                message,
                tool_calls=tuple(
                    replace(call, name=to_wire.get(call.name, call.name)) for call in message.tool_calls
                ),
            )
            for message in messages
        ]
        offered = [replace(tool, name=to_wire[tool.name]) for tool in tools]
        settings = options or ChatOptions()
        choice = to_wire.get(settings.tool_choice or "", settings.tool_choice)
        answer = self.playback.answer(sent, offered, replace(settings, tool_choice=choice))
        await asyncio.sleep(answer.delay)
        return answer

    async def events(self, answer: Answer, wire: dict[str, str]) -> AsyncIterator[StreamEvent]:
        """The stream of an answer."""
        error = error_of(answer)
        if error is not None:
            for piece in words(getattr(error, "partial_text", "")):
                yield TextDelta(piece)
            raise self.failure(error, answer)
        for place, piece in enumerate(answer.pieces):
            await self.wait(answer.pause if place else 0.0)
            yield TextDelta(piece)
        calls = tuple(self.restored(call.to_tool_call(), wire) for call in answer.calls)
        for call in calls:
            yield ToolCallStarted(call.id, call.name)
            yield ToolCallCompleted(call)
        usage = self.count(answer.usage or TokenUsage(9, 9))
        response = Response(
            answer.text,
            usage,
            self.cost(usage),
            calls,
            answer.finish_reason,
            self.model,
            {"request_id": "req-1"},
        )
        yield UsageEvent(usage)
        yield FinalResponse(response)

    async def wait(self, seconds: float) -> None:
        """Wait for the next piece."""
        await asyncio.sleep(seconds)

    def restored(self, call: ToolCall, wire: dict[str, str]) -> ToolCall:
        """The call under the tool's own name."""
        return replace(call, name=wire.get(call.name, call.name))

    def count(self, usage: TokenUsage) -> TokenUsage:
        """The tokens as they are told."""
        return usage

    def cost(self, usage: TokenUsage) -> Decimal | None:
        """What they cost."""
        if not self.playback.script.priced:
            return None
        return Decimal(PRICE.input * usage.input + PRICE.output * usage.output) / 10**6

    def failure(self, error: LoomError, answer: Answer) -> Exception:
        """The error to raise."""
        error.request_id = "req-1"
        return error


class ReferenceAdapter(BaseAdapter):
    """The adapter of them all; a subclass names another provider."""

    name = "reference"
    secrets = (SECRET,)
    kind: ClassVar[type[Reference]] = Reference

    def __init__(self) -> None:
        self.playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        self.playback = Playback(script)
        yield self.kind(self.playback)

    def requests(self) -> Sequence[SeenRequest]:
        return () if self.playback is None else self.playback.requests


# ── wrong in one way each ────────────────────────────────────────────────────────────────


class KeepsWireNames(Reference):
    def restored(self, call: ToolCall, wire: dict[str, str]) -> ToolCall:
        return call


class SwallowsCutStreams(Reference):
    async def events(self, answer: Answer, wire: dict[str, str]) -> AsyncIterator[StreamEvent]:
        said = ""
        try:
            async for event in super().events(answer, wire):
                said += event.delta
                yield event
        except StreamInterruptedError:
            yield FinalResponse(Response(said))


class DoubleCountsReasoning(Reference):
    def count(self, usage: TokenUsage) -> TokenUsage:
        return replace(usage, output=usage.output + usage.reasoning)


class AddsCachedInput(Reference):
    def count(self, usage: TokenUsage) -> TokenUsage:
        return replace(usage, input=usage.input + usage.cached_input)


class EndsTwice(Reference):
    async def events(self, answer: Answer, wire: dict[str, str]) -> AsyncIterator[StreamEvent]:
        async for event in super().events(answer, wire):
            yield event
            if event.response is not None:
                yield event


class LeaksItsKey(Reference):
    def failure(self, error: LoomError, answer: Answer) -> Exception:
        failure = answer.failure
        if failure is not None and failure.echo_secret:
            error.message = f"{error.message}: incorrect key {self.key}"
        return super().failure(error, answer)


class RepeatsItsKey(Reference):
    """Its key is even the text of its answers."""

    async def events(self, answer: Answer, wire: dict[str, str]) -> AsyncIterator[StreamEvent]:
        async for event in super().events(replace(answer, text=SECRET, pieces=()), wire):
            yield event


class ShowsItsKey(Reference):
    def __repr__(self) -> str:
        return f"ShowsItsKey({self.key!r})"


class BlocksCancellation(Reference):
    async def ask(self, *arguments: Any) -> Answer:
        asked = asyncio.ensure_future(super().ask(*arguments))
        while not asked.done():
            try:
                await asyncio.shield(asked)
            except asyncio.CancelledError:
                continue
        return asked.result()


class CallsEverythingUnavailable(Reference):
    def failure(self, error: LoomError, answer: Answer) -> Exception:
        if isinstance(error, RateLimitError):
            error = ServiceUnavailableError("busy", http_status=429)
        return super().failure(error, answer)


class ForgetsTheWait(Reference):
    def failure(self, error: LoomError, answer: Answer) -> Exception:
        error.retry_after = None
        return super().failure(error, answer)


class MixesConcurrentCalls(Reference):
    async def ask(self, *arguments: Any) -> Answer:
        self.latest: dict[str, str] = arguments[-1]
        return await super().ask(*arguments)

    def restored(self, call: ToolCall, wire: dict[str, str]) -> ToolCall:
        return super().restored(call, self.latest)


class HangsOnAnEmptyStream(Reference):
    async def events(self, answer: Answer, wire: dict[str, str]) -> AsyncIterator[StreamEvent]:
        if answer.failure is not None and answer.failure.kind == "empty_stream":
            await asyncio.Event().wait()
        async for event in super().events(answer, wire):
            yield event


class GuessesPrices(Reference):
    def cost(self, usage: TokenUsage) -> Decimal | None:
        return super().cost(usage) or Decimal(0)


class CrashesOnBrokenArguments(Reference):
    def restored(self, call: ToolCall, wire: dict[str, str]) -> ToolCall:
        return replace(super().restored(call, wire), arguments=dict(json.loads(call.arguments_json)))


class TriesAgain(Reference):
    async def ask(self, *arguments: Any) -> Answer:
        answer = await super().ask(*arguments)
        if answer.failure is not None and answer.failure.kind == "server_error":
            return await super().ask(*arguments)
        return answer


class RaisesWhatItMeets(Reference):
    def failure(self, error: LoomError, answer: Answer) -> Exception:
        if answer.failure is not None and answer.failure.kind == "unreachable":
            return ConnectionResetError("the peer hung up")
        return super().failure(error, answer)


class HasStrayContexts(Reference):
    def failure(self, error: LoomError, answer: Answer) -> Exception:
        made = super().failure(error, answer)
        made.__context__ = KeyError("retry-after")
        return made


class AnswersOneAtATime(Reference):
    def __init__(self, playback: Playback) -> None:
        super().__init__(playback)
        self.turn = asyncio.Lock()

    async def ask(self, *arguments: Any) -> Answer:
        if arguments[0][-1].text != "Hello":
            return await super().ask(*arguments)
        async with self.turn:
            return await super().ask(*arguments)


class StreamsAllAtOnce(Reference):
    async def events(self, answer: Answer, wire: dict[str, str]) -> AsyncIterator[StreamEvent]:
        for event in [event async for event in super().events(answer, wire)]:
            yield event


class StripsText(Reference):
    async def events(self, answer: Answer, wire: dict[str, str]) -> AsyncIterator[StreamEvent]:
        stripped = replace(answer, text=answer.text.strip(), pieces=())
        async for event in super().events(stripped, wire):
            yield event


class ForgetsHistory(Reference):
    async def ask(self, *arguments: Any) -> Answer:
        return await super().ask(arguments[0][-1:], *arguments[1:])


class RewritesArguments(Reference):
    async def ask(self, *arguments: Any) -> Answer:
        messages = [
            replace(message, tool_calls=[replace(call, arguments_json="") for call in message.tool_calls])
            for message in arguments[0]
        ]
        return await super().ask(messages, *arguments[1:])


class FailsWithoutAType(Reference):
    def failure(self, error: LoomError, answer: Answer) -> Exception:
        if answer.failure is not None and answer.failure.kind == "not_found":
            return ProviderError("HTTP 404", http_status=404, request_id="req-1")
        return super().failure(error, answer)


WRONG: dict[type[Reference], set[str]] = {
    KeepsWireNames: {"tools/odd-names", "concurrency/tasks", "concurrency/streams", "concurrency/threads"},
    SwallowsCutStreams: {
        "streaming/cut-stream-is-an-error",
        "streaming/cut-stream-keeps-the-text",
        "streaming/empty-stream-is-an-error",
        "streaming/error-in-a-stream",
    },
    DoubleCountsReasoning: {"usage/reasoning-is-part-of-output", "usage/reasoning-costs-once"},
    AddsCachedInput: {"usage/cached-is-part-of-input", "usage/cached-costs-no-more"},
    EndsTwice: {"streaming/one-final-response"},
    LeaksItsKey: {"errors/no-secret"},
    ShowsItsKey: {"lifecycle/repr-has-no-secret"},
    BlocksCancellation: {
        "cancellation/call-ends-at-once",
        "cancellation/stream-ends-at-once",
        "cancellation/timeout-scope",
        "errors/deadline",
    },
    CallsEverythingUnavailable: {"errors/rate-limited", "errors/retry-after"},
    ForgetsTheWait: {"errors/retry-after"},
    MixesConcurrentCalls: {"concurrency/tasks", "concurrency/streams", "concurrency/threads"},
    HangsOnAnEmptyStream: {"streaming/empty-stream-is-an-error"},
    GuessesPrices: {"usage/unknown-price-is-none"},
    CrashesOnBrokenArguments: {"tools/broken-arguments", "tools/arguments-not-an-object", "json/tool-calls"},
    TriesAgain: {"errors/one-request", "errors/provider-works-on"},
    RaisesWhatItMeets: {"errors/unreachable", "errors/cause-chain", "errors/of-the-tree"},
    HasStrayContexts: {"errors/cause-chain"},
    AnswersOneAtATime: {"concurrency/calls-overlap"},
    StreamsAllAtOnce: {"streaming/cut-stream-keeps-the-text", "streaming/arrives-in-pieces"},
    StripsText: {"chat/white-space-is-kept", "chat/long-text"},
    ForgetsHistory: {
        "chat/system-prompt",
        "chat/history",
        "chat/reply-goes-back",
        "tools/arguments-byte-for-byte",
        "tools/odd-names-in-a-history",
        "tools/result-round-trip",
        "tools/several-results",
    },
    RewritesArguments: {"tools/arguments-byte-for-byte"},
    FailsWithoutAType: {"errors/not-found"},
}
"""Each wrong provider, and the scenarios it fails: those and no others."""


Scorecards: TypeAlias = dict[type[Reference], Scorecard]


def adapter_of(provider: type[Reference]) -> type[ReferenceAdapter]:
    return type(f"{provider.__name__}Adapter", (ReferenceAdapter,), {"kind": provider})


def scorecard_of(provider: type[Reference]) -> Scorecard:
    hangs = provider is HangsOnAnEmptyStream
    return run(adapter_of(provider), jobs=8, timeout=3.0 if hangs else 15.0)


@pytest.fixture(scope="module")
def scorecards() -> Scorecards:
    """All of them tried at once: most of their time is spent waiting."""
    providers: list[type[Reference]] = [Reference, *WRONG]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(providers, pool.map(scorecard_of, providers), strict=True))


def test_a_right_provider_passes_every_scenario(scorecards: Scorecards) -> None:
    scorecard = scorecards[Reference]
    assert {result.id: result.detail for result in scorecard if result.status is not Status.PASSED} == {}
    assert len(scorecard) >= 100


@pytest.mark.parametrize("provider", WRONG, ids=lambda provider: provider.__name__)
def test_a_wrong_provider_fails_the_scenarios_of_what_is_wrong(
    provider: type[Reference], scorecards: Scorecards
) -> None:
    scorecard = scorecards[provider]
    told = {result.id: result.detail for result in scorecard if result.status is not Status.PASSED}
    assert set(scorecard.failed) == WRONG[provider], told
    assert scorecard.errors == ()


def test_what_was_expected_and_what_was_seen_is_told(scorecards: Scorecards) -> None:
    result = scorecards[DoubleCountsReasoning]["usage/reasoning-is-part-of-output"]
    assert (result.expected, result.seen) == ("output and reasoning (700, 640)", "(1340, 640)")


def test_no_report_holds_the_key_that_leaked(scorecards: Scorecards) -> None:
    for scorecard in (scorecards[LeaksItsKey], scorecards[ShowsItsKey], scorecard_of(RepeatsItsKey)):
        assert scorecard.failed
        assert SECRET not in scorecard.to_json()
        assert SECRET not in scorecard.to_junit()


def test_a_provider_that_hangs_fails_in_its_time(scorecards: Scorecards) -> None:
    result = scorecards[HangsOnAnEmptyStream]["streaming/empty-stream-is-an-error"]
    assert (result.status, result.expected, result.seen) == (Status.FAILED, "an end within 3 s", "it hangs")
    assert result.seconds < 6
