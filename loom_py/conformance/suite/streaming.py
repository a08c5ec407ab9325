"""Streams: whole or an error, in order, and let go of when they are closed."""

from __future__ import annotations

import time

from loom_py.conformance.scenario import (
    STREAMS,
    Stage,
    aclose_stream,
    close_stream,
    expect,
    expect_equal,
    scenario,
)
from loom_py.conformance.script import Answer, Call, Failure
from loom_py.conformance.suite.tools import CLOCK, WEATHER
from loom_py.errors import ContentFilterError, LoomError, StreamInterruptedError
from loom_py.events import FinalResponse, TextDelta, ToolCallCompleted, ToolCallStarted, UsageEvent
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Message, TokenUsage

TEXT = "It rains in Oslo, and it will go on raining."
BESIDE = Answer(
    "I will look.",
    calls=(Call("get_weather", '{"city": "Oslo"}', "call_a"), Call("get_time", '{"city": "Rome"}', "call_b")),
    usage=TokenUsage(30, 12),
)
PROMPTLY = 2.0
"""Seconds within which something that waits for nothing must have happened, on a busy machine too."""
PAUSED = Answer("one two", pause=1.25 * PROMPTLY)


@scenario("streaming/deltas-join", "text")
def deltas_join(stage: Stage) -> None:
    """The deltas of a stream, joined, are the message of its response."""
    with stage.provider(Answer(TEXT)) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb)
            expect_equal(outcome.whole().message, TEXT, "the message")
            expect_equal(outcome.text, TEXT, "the deltas joined")


@scenario("streaming/any-chunking", "text")
def any_chunking(stage: Stage) -> None:
    """A text cut anywhere, also inside an emoji's sequence, joins to itself."""
    text = "a👩‍👩‍👧e\u0301 b"
    with stage.provider(Answer(text, pieces=tuple(text))) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb)
            expect_equal((outcome.whole().message, outcome.text), (text, text), "message and deltas")


@scenario("streaming/empty-text", "text")
def empty_text(stage: Stage) -> None:
    """A stream without text ends with a final response whose message is empty."""
    with stage.provider(Answer("")) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb)
            expect_equal((outcome.whole().message, outcome.text), ("", ""), "message and deltas")


@scenario("streaming/one-final-response")
def one_final_response(stage: Stage) -> None:
    """A stream has exactly one final response, and it is the last event."""
    with stage.provider(Answer(TEXT)) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb)
            if outcome.error is not None:
                outcome.whole()
            finals = [place for place, event in enumerate(outcome.events) if isinstance(event, FinalResponse)]
            expect(
                finals == [len(outcome.events) - 1],
                f"one FinalResponse from {verb}, the last of {len(outcome.events)} events",
                f"it at places {finals}",
            )


@scenario("streaming/order", "tools")
def order(stage: Stage) -> None:
    """Text comes before the calls, each call starts before it is complete, usage is last but one."""
    with stage.provider(BESIDE) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb, "Hello", (WEATHER, CLOCK))
            outcome.whole()
            events = outcome.events
            kinds = [event.type for event in events]
            texts = [place for place, event in enumerate(events) if isinstance(event, TextDelta)]
            started = {e.call_id: place for place, e in enumerate(events) if isinstance(e, ToolCallStarted)}
            whole = {e.call.id: place for place, e in enumerate(events) if isinstance(e, ToolCallCompleted)}
            expect(
                max(texts, default=-1) < min(started.values(), default=-1), "the text before the calls", kinds
            )
            expect(
                started.keys() == whole.keys() and all(started[call] < whole[call] for call in whole),
                "each call started before it is completed",
                kinds,
            )
            usage = [place for place, kind in enumerate(kinds) if kind == UsageEvent.type]
            expect(
                usage and max(whole.values(), default=-1) < min(usage),
                "usage after the calls and before the final response",
                kinds,
            )


@scenario("streaming/tool-calls-are-complete", "call_ids", "tools")
def tool_calls_are_complete(stage: Stage) -> None:
    """Each call is announced once and completed once, as the final response has it."""
    with stage.provider(BESIDE) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb, "Hello", (WEATHER, CLOCK))
            calls = list(outcome.whole().tool_calls)
            started = [(e.call_id, e.name) for e in outcome.events if isinstance(e, ToolCallStarted)]
            completed = [e.call for e in outcome.events if isinstance(e, ToolCallCompleted)]
            wanted = [("call_a", "get_weather"), ("call_b", "get_time")]
            expect_equal([(call.id, call.name) for call in calls], wanted, "the response's calls")
            expect_equal(started, wanted, "the calls that started")
            expect_equal(completed, calls, "the calls that were completed")


@scenario("streaming/usage-equals-final", "usage")
def usage_equals_final(stage: Stage) -> None:
    """A stream has one usage event, and it says what the final response says."""
    with stage.provider(Answer(TEXT, usage=TokenUsage(17, 9))) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb)
            used = outcome.whole().tokens_used
            seen = [event.usage for event in outcome.events if isinstance(event, UsageEvent)]
            expect_equal(seen, [used], "the usage events")


@scenario("streaming/cut-stream-is-an-error", "cut_stream")
def cut_stream_is_an_error(stage: Stage) -> None:
    """A stream that breaks off raises StreamInterruptedError and has no final response."""
    with stage.provider(Answer.fails("cut_stream(after_text='It rains in')")) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb)
            outcome.failure(StreamInterruptedError)
            expect(outcome.response is None, "no final response", outcome.response)


@scenario("streaming/cut-stream-keeps-the-text", "cut_stream")
def cut_stream_keeps_the_text(stage: Stage) -> None:
    """The error of a broken stream holds the text until then, which the deltas gave too."""
    with stage.provider(Answer.fails("cut_stream(after_text='It rains in')")) as provider:
        for verb in STREAMS:
            outcome = stage.call(provider, verb)
            error = outcome.failure(StreamInterruptedError)
            expect_equal(error.partial_text, "It rains in", "partial_text")
            expect_equal(outcome.text, "It rains in", "the deltas joined")


@scenario("streaming/empty-stream-is-an-error", "empty_stream")
def empty_stream_is_an_error(stage: Stage) -> None:
    """A stream without a single event is an error, never an empty answer."""
    with stage.provider(Answer.fails("empty_stream")) as provider:
        for verb in STREAMS:
            error = stage.call(provider, verb).failure(LoomError)
            expect(error.retryable, "an error that may be retried", repr(error))


@scenario("streaming/error-in-a-stream", "stream_error")
def error_in_a_stream(stage: Stage) -> None:
    """A server error after some text raises StreamInterruptedError with that text."""
    with stage.provider(Answer.fails("stream_error(after_text='It rains')")) as provider:
        for verb in STREAMS:
            error = stage.call(provider, verb).failure(StreamInterruptedError)
            expect_equal(error.partial_text, "It rains", "partial_text")


@scenario("streaming/filtered-in-a-stream", "content_filter")
def filtered_in_a_stream(stage: Stage) -> None:
    """An answer the filter stops halfway is a ContentFilterError with the text until then."""
    failure = Failure("content_filter", after_text="Once upon a")
    with stage.provider(Answer(failure=failure)) as provider:
        for verb in STREAMS:
            error = stage.call(provider, verb).failure(ContentFilterError)
            seen = (error.side, error.partial_text)
            expect_equal(seen, ("completion", "Once upon a"), "side and partial_text")


@scenario("streaming/arrives-in-pieces", "paced_streams")
def arrives_in_pieces(stage: Stage) -> None:
    """The first delta arrives while the model still writes, not after it has ended."""
    with stage.provider(PAUSED) as provider:
        begun = time.monotonic()
        events = provider.stream_chat([Message.user("Hello")])
        first = next(event for event in events if event.delta)
        waited = time.monotonic() - begun
        close_stream(events)
        expect(waited < PROMPTLY, f"the first delta within {PROMPTLY} s", f"{first!r} after {waited:.1f} s")
        waited = stage.run(_first_delta(provider))
        expect(waited < PROMPTLY, f"the first delta of astream_chat within {PROMPTLY} s", f"{waited:.1f} s")


@scenario("streaming/closing-early", "text")
def closing_early(stage: Stage) -> None:
    """A stream closed after its first delta lets go, and the provider works on."""
    with stage.provider(Answer(TEXT)) as provider:
        for _ in range(3):
            events = provider.stream_chat([Message.user("Hello")])
            next(event for event in events if event.delta)
            close_stream(events)
            stage.run(_first_delta(provider))
        expect_equal(stage.call(provider, "chat").whole().message, TEXT, "the next reply")
        expect_equal(stage.call(provider, "astream_chat").whole().message, TEXT, "the next reply")


@scenario("streaming/closing-early-does-not-wait", "paced_streams")
def closing_early_does_not_wait(stage: Stage) -> None:
    """Closing a stream does not wait for the rest of the answer."""
    with stage.provider(Answer("one two three four", pause=0.8)) as provider:
        events = provider.stream_chat([Message.user("Hello")])
        next(event for event in events if event.delta)
        begun = time.monotonic()
        close_stream(events)
        waited = time.monotonic() - begun
        expect(waited < PROMPTLY, f"closed within {PROMPTLY} s", f"{waited:.1f} s")


@scenario("streaming/is-lazy", "requests")
def is_lazy(stage: Stage) -> None:
    """A stream that is never read makes no request."""
    with stage.provider(Answer(TEXT)) as provider:
        close_stream(provider.stream_chat([Message.user("Hello")]))
        stage.run(aclose_stream(provider.astream_chat([Message.user("Hello")])))
        expect(not stage.requests, "no request", f"{len(stage.requests)} requests")


async def _first_delta(provider: LLMProvider) -> float:
    """Seconds until the first delta; the stream is closed then."""
    begun = time.monotonic()
    events = provider.astream_chat([Message.user("Hello")])
    async for event in events:
        if event.delta:
            break
    waited = time.monotonic() - begun
    await aclose_stream(events)
    return waited
