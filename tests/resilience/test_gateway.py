"""The gateway: breaker, checks and log events around one model call, whichever verb it uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pytest
import structlog
from structlog.testing import capture_logs

from loom_py.errors import (
    AuthenticationError,
    CircuitOpenError,
    ConnectionFailedError,
    ContentFilterError,
    IncompleteResponseError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.events import StreamEvent, TextDelta
from loom_py.llm.provider import BaseProvider
from loom_py.llm.scripted import ScriptedProvider, Step, reply
from loom_py.messages import Message, Response, TokenUsage, ToolSpec
from loom_py.options import ChatOptions
from loom_py.resilience.attempt import counts_as_failure
from loom_py.resilience.breaker import BreakerConfig, CircuitBreakers
from loom_py.resilience.gateway import ModelGateway

ASK = ([Message.user("Hi")], (), None, {"agent": "a"})
Verb: TypeAlias = Callable[[ModelGateway], Awaitable[Response]]


async def chat(gateway: ModelGateway) -> Response:
    return gateway.chat(*ASK)


async def achat(gateway: ModelGateway) -> Response:
    return await gateway.achat(*ASK)


async def stream(gateway: ModelGateway) -> Response:
    return _last(list(gateway.stream_chat(*ASK)))


async def astream(gateway: ModelGateway) -> Response:
    return _last([event async for event in gateway.astream_chat(*ASK)])


def _last(events: list[StreamEvent]) -> Response:
    assert events[-1].response is not None
    return events[-1].response


verbs = pytest.mark.parametrize("ask", [chat, achat, stream, astream])


@pytest.fixture(autouse=True)
def structlog_restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def breakers(threshold: int = 5, seconds: float = 30.0) -> CircuitBreakers:
    return CircuitBreakers("deployment", BreakerConfig(failure_threshold=threshold, open_seconds=seconds))


def guarded(*steps: Step, threshold: int = 5) -> ModelGateway:
    return ModelGateway.of(ScriptedProvider(steps), breakers=breakers(threshold))


async def failed(ask: Verb, gateway: ModelGateway) -> LoomError:
    with pytest.raises(LoomError) as caught:
        await ask(gateway)
    return caught.value


class Odd(BaseProvider):
    """A provider that gives or raises just what it is told to."""

    name = "odd"
    model = "odd-1"

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        if isinstance(self.thing, BaseException):
            raise self.thing
        return self.thing  # type: ignore[no-any-return]


@verbs
async def test_five_sick_answers_in_a_row_open_the_breaker_of_the_deployment(ask: Verb) -> None:
    gateway = guarded(*[ServiceUnavailableError("down")] * 5, "never asked")
    for _ in range(5):
        assert type(await failed(ask, gateway)) is ServiceUnavailableError
    refused = await failed(ask, gateway)
    assert isinstance(refused, CircuitOpenError)
    assert refused.deployment == "scripted-1"
    assert refused.retry_after == pytest.approx(30, abs=1)
    assert "scripted/scripted-1" in refused.message
    provider = gateway.policies.lanes[0].provider
    assert isinstance(provider, ScriptedProvider)
    assert provider.remaining == 1


@verbs
async def test_a_good_answer_between_keeps_it_closed(ask: Verb) -> None:
    down = ServiceUnavailableError("down")
    gateway = guarded(*[down] * 4, "fine", *[down] * 4, "fine")
    for good in [False] * 4 + [True] + [False] * 4 + [True]:
        if good:
            assert (await ask(gateway)).message == "fine"
        else:
            await failed(ask, gateway)


MISCONFIGURED = [AuthenticationError("401"), PermissionDeniedError("403"), NotFoundError("404")]
CALLERS_OWN = [
    InvalidRequestError("400"),
    ContentFilterError("filtered"),
    IncompleteResponseError("no tokens left"),
]
SICK = [
    ServiceUnavailableError("500"),
    ConnectionFailedError("refused"),
    RequestTimeoutError("408"),
    MalformedResponseError("html"),
    StreamInterruptedError("cut"),
    ProviderError("a status nobody knows"),
]


@verbs
@pytest.mark.parametrize("error", CALLERS_OWN)
async def test_the_callers_own_errors_are_not_counted(ask: Verb, error: LoomError) -> None:
    gateway = guarded(error, "fine", threshold=1)
    assert await failed(ask, gateway) is error
    assert (await ask(gateway)).message == "fine"


@verbs
async def test_throttling_pauses_the_deployment_and_opens_no_breaker(ask: Verb) -> None:
    gateway = guarded(RateLimitError("429", retry_after=20), "never asked", threshold=1)
    await failed(ask, gateway)
    again = await failed(ask, gateway)
    assert isinstance(again, RateLimitError)
    assert (again.sent, round(again.retry_after or 0)) == (False, 20)
    (lane,) = gateway.policies.lanes
    assert lane.breaker is not None
    assert lane.breaker.state == "closed"
    assert isinstance(lane.provider, ScriptedProvider)
    assert lane.provider.remaining == 1


@verbs
@pytest.mark.parametrize("error", MISCONFIGURED)
async def test_what_needs_attention_takes_the_deployment_out(ask: Verb, error: LoomError) -> None:
    gateway = guarded(error, "never asked")
    assert await failed(ask, gateway) is error
    refused = await failed(ask, gateway)
    assert isinstance(refused, CircuitOpenError)
    assert error.code in refused.message
    assert refused.retry_after == pytest.approx(300, abs=1)


@pytest.mark.parametrize("error", SICK)
def test_every_sign_of_a_sick_deployment_counts(error: LoomError) -> None:
    assert counts_as_failure(error)


@verbs
@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (RuntimeError("boom"), ProviderError),
        (ConnectionResetError("reset"), ConnectionFailedError),
        (TimeoutError("slow"), RequestTimeoutError),
    ],
)
async def test_a_providers_stray_exception_becomes_one_of_ours_and_counts(
    ask: Verb, thing: Exception, kind: type[LoomError]
) -> None:
    gateway = ModelGateway.of(Odd(thing), breakers=breakers(1))
    error = await failed(ask, gateway)
    assert type(error) is kind
    assert type(error.__cause__) is type(thing)
    assert error.deployment == "odd-1"
    assert type(thing).__name__ in error.message
    assert isinstance(await failed(ask, gateway), CircuitOpenError)


@verbs
@pytest.mark.parametrize("thing", [None, "text", {"message": "x"}, Response(None)])  # type: ignore[arg-type]
async def test_a_reply_that_is_none_is_an_error_and_never_an_answer(ask: Verb, thing: object) -> None:
    error = await failed(ask, ModelGateway.of(Odd(thing)))
    assert isinstance(error, ProviderError)
    assert "odd" in error.message


class HalfStream(BaseProvider):
    """Streams that stop before they are whole."""

    def __init__(self) -> None:
        self.closed = 0

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        try:
            yield TextDelta("half")
        finally:
            self.closed += 1

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        try:
            yield TextDelta("half")
        finally:
            self.closed += 1


@pytest.mark.parametrize("ask", [stream, astream])
async def test_a_stream_without_a_final_response_is_interrupted(ask: Verb) -> None:
    gateway = ModelGateway.of(HalfStream(), breakers=breakers(1))
    assert isinstance(await failed(ask, gateway), StreamInterruptedError)
    assert isinstance(await failed(ask, gateway), CircuitOpenError)


async def test_a_stream_that_is_closed_early_closes_the_providers_and_frees_the_probe() -> None:
    provider = HalfStream()
    guards = breakers(1, seconds=0.001)
    gateway = ModelGateway.of(provider, breakers=guards)
    for number in (1, 3):
        await failed(stream, gateway)  # opens
        await asyncio.sleep(0.005)
        if number == 1:
            events = gateway.stream_chat(*ASK)
            next(events)
            assert not guards.available("provider/unknown")
            events.close()
        else:
            aevents = gateway.astream_chat(*ASK)
            await anext(aevents)
            assert not guards.available("provider/unknown")
            await aevents.aclose()
        assert guards.available("provider/unknown")
        assert provider.closed == number + 1


async def test_a_cancelled_call_is_neutral() -> None:
    async def forever(_: object) -> str:
        await asyncio.sleep(60)
        return "never"

    guards = breakers(1)
    task = asyncio.create_task(achat(ModelGateway.of(ScriptedProvider(forever), breakers=guards)))
    await asyncio.sleep(0.01)
    with capture_logs() as logs:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert guards.stats()["scripted/scripted-1"].failures == 0
    assert [entry["event"] for entry in logs] == ["model_call_cancelled"]


# ── logs ─────────────────────────────────────────────────────────────────────────────────


@verbs
async def test_one_event_per_call_with_what_it_cost(ask: Verb) -> None:
    answer = reply(
        "Hi", tokens=TokenUsage(12, 3, cached_input=4), model="gpt-4o", metadata={"request_id": "r-1"}
    )
    with capture_logs() as logs:
        await ask(ModelGateway.of(ScriptedProvider([answer])))
    (entry,) = logs
    assert entry.pop("latency_ms") >= 0
    assert entry == {
        "event": "model_call",
        "log_level": "info",
        "agent": "a",
        "deployment": "scripted-1",
        "model": "gpt-4o",
        "input_tokens": 12,
        "output_tokens": 3,
        "cached_tokens": 4,
        "cost_usd": None,
        "finish_reason": "stop",
        "tool_calls": 0,
        "request_id": "r-1",
    }


@verbs
async def test_a_failed_call_is_logged_with_its_code_and_request_id(ask: Verb) -> None:
    error = RateLimitError("slow down", retry_after=3.0, request_id="r-2", deployment="gpt-4o")
    with capture_logs() as logs:
        await failed(ask, guarded(error))
    entry, throttled = logs
    assert (throttled["event"], throttled["seconds"]) == ("deployment_throttled", 3.0)
    assert (entry["event"], entry["log_level"]) == ("model_call_failed", "warning")
    assert (entry["error"], entry["http_status"], entry["retry_after"]) == ("rate_limit_exceeded", 429, 3.0)
    assert (entry["request_id"], entry["deployment"]) == ("r-2", "gpt-4o")
