"""Timeouts and deadlines hold for providers that know nothing of them, whichever verb is asked."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import Any

import pytest

from loom_py import Agent, AgentBuilder, AzureEmulator, BaseProvider, ChatOptions, Response
from loom_py.clock import VirtualClock
from loom_py.errors import DeadlineExceededError, LoomError, ProviderError, RequestTimeoutError
from loom_py.events import FinalResponse, StreamEvent, TextDelta
from loom_py.messages import TokenUsage
from loom_py.resilience import bounds
from loom_py.resilience.deployment import Deployment
from tests.resilience.promises.pilot import (
    VERBS,
    Verb,
    achat,
    astream,
    chat,
    events_of,
    held,
    settled,
    stream,
)

BOUND = 0.15
"""Seconds a call is given."""

SOON = 1.5
"""Seconds in which it is over, on a machine that is busy; a provider that is waited for takes far longer."""

LONG = 30.0

ANSWER = Response("late", tokens_used=TokenUsage(3, 4))

where: ContextVar[str] = ContextVar("where", default="nowhere")
verbs = pytest.mark.parametrize("ask", VERBS)
either = pytest.mark.parametrize("is_async", [False, True])


class Hangs:
    """What a provider does in place of an answer, and what became of it."""

    def __init__(self) -> None:
        self.is_slow = True
        self.go_on = threading.Event()
        self.threads: list[str] = []
        self.closed_in: list[str] = []
        self.ended = threading.Event()
        self.context = ""

    def block(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.context = where.get()
        if self.is_slow:
            self.go_on.wait(LONG)
            self.ended.set()

    async def wait(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.context = where.get()
        if self.is_slow:
            try:
                await asyncio.sleep(LONG)
            finally:
                self.ended.set()

    def close(self) -> None:
        self.closed_in.append(threading.current_thread().name)

    def __call__(self) -> str:
        """The name of the one thread it was called in."""
        (name,) = set(self.threads)
        return name


class Named:
    """A provider that is none of ours, apart from its verbs."""

    name, model = "foreign", "foreign-1"

    def __init__(self, hangs: Hangs) -> None:
        self.hangs = hangs


class Foreign(Named):
    """All four verbs, none of which looks at its options."""

    def chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Response:
        self.hangs.block()
        return ANSWER

    async def achat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Response:
        await self.hangs.wait()
        return ANSWER

    def stream_chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Iterator[StreamEvent]:
        try:
            self.hangs.block()
            yield TextDelta("late")
            yield FinalResponse(ANSWER)
        finally:
            self.hangs.close()

    async def astream_chat(
        self, messages: Any, tools: Any = (), *, options: Any = None
    ) -> AsyncIterator[StreamEvent]:
        try:
            await self.hangs.wait()
            yield TextDelta("late")
            yield FinalResponse(ANSWER)
        finally:
            self.hangs.close()


class OnlyChat(Named, BaseProvider):
    name, model = "foreign", "foreign-1"
    chat = Foreign.chat


class OnlyAchat(Named, BaseProvider):
    name, model = "foreign", "foreign-1"
    achat = Foreign.achat


class OnlyStream(Named, BaseProvider):
    name, model = "foreign", "foreign-1"
    stream_chat = Foreign.stream_chat


class OnlyAstream(Named, BaseProvider):
    name, model = "foreign", "foreign-1"
    astream_chat = Foreign.astream_chat


KINDS: list[type[Any]] = [Foreign, OnlyChat, OnlyAchat, OnlyStream, OnlyAstream]
kinds = pytest.mark.parametrize("kind", KINDS)


def builder_of(provider: Any, **timeouts: float) -> AgentBuilder:
    builder = AgentBuilder().with_llm(provider).with_retries(max_attempts=1).with_circuit_breakers()
    builder = builder.with_budget(tokens=10**6, per="agent").with_rate_limit(tokens_per_minute=10**6)
    return builder.with_timeouts(**timeouts) if timeouts else builder


async def answered(ask: Verb, agent: Agent) -> str:
    """The answer; on a busy machine even a quick call may not be in time, so it may be asked again."""
    for _ in range(3):
        with suppress(RequestTimeoutError, DeadlineExceededError):
            return (await ask(agent, session_id="s")).message
    return (await ask(agent, session_id="s")).message


def failures(agent: Agent) -> int:
    (lane,) = agent.health().deployments.values()
    assert lane.breaker is not None
    return lane.breaker.failures


@pytest.fixture
def hangs() -> Iterator[Hangs]:
    found = Hangs()
    yield found
    found.go_on.set()


# ── every kind of provider, every verb, every bound ──────────────────────────────────────


@kinds
@verbs
@pytest.mark.parametrize("bound", ["read", "total", "run", "an option"])
async def test_a_call_that_never_ends_ends_in_time(
    hangs: Hangs, kind: type[Any], ask: Verb, bound: str
) -> None:
    options = ChatOptions(timeout=BOUND) if bound == "an option" else None
    agent = builder_of(kind(hangs), **({} if options else {bound: BOUND})).build()
    expected: type[LoomError] = DeadlineExceededError if bound == "run" else RequestTimeoutError
    began = time.monotonic()
    with pytest.raises(expected) as caught:
        await ask(agent, session_id="s", options=options)
    assert BOUND * 0.9 < time.monotonic() - began < SOON
    if bound != "run":
        assert f"{BOUND:g} s" in str(caught.value)
        assert "foreign" in str(caught.value.hint)
    assert failures(agent) == (0 if bound == "run" else 1)  # the caller's own deadline says nothing of it
    assert held(agent) == []  # though it may still be at it
    (status,) = agent.health().budgets
    assert status.tokens.uncertain == status.tokens.spent > 0
    hangs.is_slow = False
    assert await answered(ask, agent) == "late"  # and the session is free
    assert len(agent.history("s")) == 2


@verbs
async def test_a_late_answer_is_dropped(hangs: Hangs, ask: Verb) -> None:
    agent = builder_of(OnlyChat(hangs), read=BOUND).build()
    with pytest.raises(RequestTimeoutError):
        await ask(agent, session_id="s")
    spent = agent.health().budgets[0].tokens.spent
    hangs.go_on.set()
    await settled(hangs.ended.is_set)
    await asyncio.sleep(0.05)
    assert agent.sessions() == ()
    assert agent.health().budgets[0].tokens.spent == spent
    assert agent.costs().calls == 1
    assert held(agent) == []


@kinds
@verbs
async def test_an_answer_in_time_is_what_it_is(hangs: Hangs, kind: type[Any], ask: Verb) -> None:
    hangs.is_slow = False
    agent = builder_of(kind(hangs), read=LONG, run=LONG).build()
    where.set("here")
    response = await ask(agent)
    assert (response.message, response.tokens_used) == ("late", ANSWER.tokens_used)
    assert hangs.context == ("nowhere" if ask in (chat, stream) else "here")  # as the pilot's thread is


@kinds
@pytest.mark.parametrize("is_stream", [False, True])
def test_context_variables_travel_along(hangs: Hangs, kind: type[Any], is_stream: bool) -> None:
    hangs.is_slow = False
    agent = builder_of(kind(hangs), total=LONG).build()
    token = where.set("here")
    try:
        list(agent.stream_chat("Hi")) if is_stream else agent.chat("Hi")
    finally:
        where.reset(token)
    assert hangs.context == "here"


@kinds
@verbs
@pytest.mark.parametrize("error", [TimeoutError("mine"), ValueError("mine"), RequestTimeoutError("mine")])
async def test_what_it_raises_in_time_is_what_is_raised(
    hangs: Hangs, kind: type[Any], ask: Verb, error: Exception
) -> None:
    def fail() -> None:
        raise error

    async def afail() -> None:
        raise error

    hangs.block, hangs.wait = fail, afail  # type: ignore[method-assign]
    agent = builder_of(kind(hangs), read=LONG).build()
    with pytest.raises(ProviderError, match="mine") as caught:
        await ask(agent)
    assert isinstance(caught.value, RequestTimeoutError) == (not isinstance(error, ValueError))
    assert held(agent) == []


@verbs
async def test_it_is_tried_again_elsewhere(hangs: Hangs, ask: Verb) -> None:
    other = Hangs()
    other.is_slow = False
    builder = AgentBuilder().with_llm(Foreign(hangs)).with_failover([Deployment(Foreign(other), name="fast")])
    agent = builder.with_timeouts(read=BOUND).build()
    response = await ask(agent)
    assert (response.message, response.metadata["attempts"]) == ("late", 2)
    assert other.threads


# ── threads ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_stream", [False, True])
def test_without_a_bound_there_is_no_other_thread(hangs: Hangs, is_stream: bool) -> None:
    hangs.is_slow = False
    agent = builder_of(Foreign(hangs)).build()
    list(agent.stream_chat("Hi")) if is_stream else agent.chat("Hi")
    assert hangs() == threading.current_thread().name


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_provider_that_keeps_to_its_time_is_called_as_it_is(hangs: Hangs, is_stream: bool) -> None:
    class Keeps(Foreign):
        keeps_timeouts = True

    hangs.is_slow = False
    agent = builder_of(Keeps(hangs), read=LONG, run=LONG).build()
    list(agent.stream_chat("Hi")) if is_stream else agent.chat("Hi")
    assert hangs() == threading.current_thread().name


def test_the_azure_client_is_called_as_it_is() -> None:
    with (
        AzureEmulator() as azure,
        AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).build() as agent,
    ):
        assert not bounds.needs_bound(agent.provider, ChatOptions(timeout=1, total_timeout=1))


def test_more_calls_hang_than_there_are_worker_threads(hangs: Hangs) -> None:
    builder = AgentBuilder().with_llm(OnlyChat(hangs)).with_retries(max_attempts=1)
    agent = builder.with_timeouts(read=BOUND).build()
    quick = Hangs()
    quick.is_slow = False

    async def main() -> list[Any]:
        calls = [agent.achat("Hi") for _ in range(100)]
        late = await asyncio.gather(*calls, return_exceptions=True)
        assert (await builder_of(OnlyChat(quick)).build().achat("Hi")).message == "late"
        return late

    assert {type(each) for each in asyncio.run(main())} == {RequestTimeoutError}
    assert held(agent) == []


# ── streams ──────────────────────────────────────────────────────────────────────────────


class Drips(Foreign):
    """A stream that goes on and on, a word each hundredth of a second."""

    def stream_chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Iterator[StreamEvent]:
        self.hangs.threads.append(threading.current_thread().name)
        try:
            while not self.hangs.go_on.wait(0.01):
                yield TextDelta("word ")
        finally:
            self.hangs.close()

    async def astream_chat(
        self, messages: Any, tools: Any = (), *, options: Any = None
    ) -> AsyncIterator[StreamEvent]:
        token = where.set("in the stream")
        try:
            async with asyncio.timeout(LONG):  # which must end in the task that began it
                while True:
                    await asyncio.sleep(0.01)
                    yield TextDelta("word ")
        finally:
            where.reset(token)  # as must this, in its context
            self.hangs.close()


class Stops(Foreign):
    """A stream that says one word and then nothing."""

    def stream_chat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Iterator[StreamEvent]:
        try:
            yield TextDelta("word ")
            self.hangs.block()
        finally:
            self.hangs.close()

    async def astream_chat(
        self, messages: Any, tools: Any = (), *, options: Any = None
    ) -> AsyncIterator[StreamEvent]:
        try:
            yield TextDelta("word ")
            await self.hangs.wait()
        finally:
            self.hangs.close()


class BlockingDrips(BaseProvider):
    name, model = "foreign", "foreign-1"
    stream_chat = Drips.stream_chat

    def __init__(self, hangs: Hangs) -> None:
        self.hangs = hangs


async def read_on(agent: Agent, is_async: bool) -> tuple[int, LoomError]:
    """How many events came, and what the stream ended with."""
    count = 0
    events = events_of(agent, is_async)
    async with aclosing(events):  # type: ignore[type-var]
        try:
            async for _ in events:
                count += 1
        except LoomError as error:
            return count, error
    raise AssertionError("it has come to an end")


@either
@pytest.mark.parametrize("kind", [Drips, BlockingDrips])
@pytest.mark.parametrize("bound", ["total", "run"])
async def test_a_stream_that_drips_ends_in_time(
    hangs: Hangs, kind: type[Any], bound: str, is_async: bool
) -> None:
    agent = builder_of(kind(hangs), **{bound: 0.4}).build()
    began = time.monotonic()
    count, error = await read_on(agent, is_async)
    assert 0.35 < time.monotonic() - began < SOON
    assert count > 2
    assert isinstance(error, RequestTimeoutError)  # something was shown, so that is how the attempt ended
    assert held(agent) == []
    await settled(lambda: bool(hangs.closed_in), 2)


@either
async def test_a_stream_that_says_no_more_ends_in_time(hangs: Hangs, is_async: bool) -> None:
    agent = builder_of(Stops(hangs), read=BOUND).build()
    began = time.monotonic()
    count, error = await read_on(agent, is_async)
    assert (count, type(error)) == (1, RequestTimeoutError)
    assert time.monotonic() - began < SOON
    assert held(agent) == []
    if is_async:
        assert hangs.closed_in  # a task can be cancelled
    else:
        assert hangs.closed_in == []  # a thread is left
        hangs.go_on.set()
        await settled(lambda: bool(hangs.closed_in), 2)
        assert hangs.closed_in == hangs.threads  # and closes what it made


@either
async def test_read_bounds_each_wait_and_not_the_stream(hangs: Hangs, is_async: bool) -> None:
    agent = builder_of(Drips(hangs), read=0.5).build()
    events = events_of(agent, is_async)
    began = time.monotonic()
    async with aclosing(events):  # type: ignore[type-var]
        async for _ in events:
            if time.monotonic() - began > 0.8:
                break
    assert held(agent) == []


@either
async def test_a_reader_that_takes_its_time_is_no_silence(hangs: Hangs, is_async: bool) -> None:
    hangs.is_slow = False
    agent = builder_of(Foreign(hangs), read=BOUND).build()
    words = []
    async for event in events_of(agent, is_async):
        words.append(event.delta)
        await asyncio.sleep(2 * BOUND)
    assert "".join(filter(None, words)) == "late"


@either
@pytest.mark.parametrize("kind", [Drips, BlockingDrips])
async def test_a_stream_that_is_closed_early_is_closed_where_it_was_made(
    hangs: Hangs, kind: type[Any], is_async: bool
) -> None:
    agent = builder_of(kind(hangs), total=LONG).build()
    events = events_of(agent, is_async)
    async with aclosing(events):  # type: ignore[type-var]
        await anext(events)
    assert len(hangs.closed_in) == 1  # by now
    assert hangs.threads in ([], hangs.closed_in)
    assert held(agent) == []


# ── those who go away, and those who do not ──────────────────────────────────────────────


@pytest.mark.parametrize("ask", [achat, astream])
@kinds
async def test_cancelling_does_not_wait_for_it(hangs: Hangs, kind: type[Any], ask: Verb) -> None:
    agent = builder_of(kind(hangs), read=LONG).build()
    task = asyncio.create_task(ask(agent))
    await settled(lambda: bool(hangs.threads))
    began = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < SOON
    assert held(agent) == []
    assert failures(agent) == 0
    assert agent.health().budgets[0].tokens.uncertain > 0


class Stubborn(Foreign):
    """Async code that will not be cancelled."""

    async def hold_on(self) -> None:
        end = time.monotonic() + 2
        while time.monotonic() < end and not self.hangs.go_on.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)

    async def achat(self, messages: Any, tools: Any = (), *, options: Any = None) -> Response:
        await self.hold_on()
        return ANSWER

    async def astream_chat(
        self, messages: Any, tools: Any = (), *, options: Any = None
    ) -> AsyncIterator[StreamEvent]:
        try:
            await self.hold_on()
            yield FinalResponse(ANSWER)
        finally:
            self.hangs.close()


@pytest.mark.parametrize("ask", [achat, astream])
async def test_one_that_will_not_be_cancelled_is_left_alone(hangs: Hangs, ask: Verb) -> None:
    agent = builder_of(Stubborn(hangs), read=BOUND).build()
    began = time.monotonic()
    with pytest.raises(RequestTimeoutError):
        await ask(agent)
    assert time.monotonic() - began < SOON
    assert held(agent) == []
    hangs.go_on.set()
    await settled(lambda: asyncio.all_tasks() == {asyncio.current_task()}, 3)
    assert len(hangs.closed_in) == (ask is astream)


@verbs
async def test_nobody_complains_of_what_comes_too_late(
    hangs: Hangs, ask: Verb, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(OnlyChat):
        def chat(self, *args: Any, **more: Any) -> Response:
            self.hangs.block()
            raise ValueError("too late")

    agent = builder_of(Fails(hangs), read=BOUND).build()
    with caplog.at_level(logging.WARNING, "asyncio"):
        with pytest.raises(RequestTimeoutError):
            await ask(agent)
        hangs.go_on.set()
        await settled(hangs.ended.is_set)
        await asyncio.sleep(0.05)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


# ── clocks, and two at once ──────────────────────────────────────────────────────────────


@verbs
async def test_a_call_is_bounded_in_real_time_whatever_the_clock(hangs: Hangs, ask: Verb) -> None:
    clock = VirtualClock()
    agent = builder_of(Foreign(hangs), read=BOUND, run=3600).with_clock(clock).build()
    with pytest.raises(RequestTimeoutError):
        await ask(agent)
    assert clock.now() == 0
    assert failures(agent) == 1


@verbs
@pytest.mark.parametrize("kind", [Foreign, OnlyChat])
async def test_hedging_takes_the_other_and_leaves_the_one_that_hangs(
    hangs: Hangs, kind: type[Any], ask: Verb
) -> None:
    other = Hangs()
    other.is_slow = False
    builder = AgentBuilder().with_llm(kind(hangs)).with_failover([Deployment(kind(other), name="fast")])
    agent = builder.with_hedging(after_seconds=0.05).with_timeouts(read=LONG).build()
    began = time.monotonic()
    assert (await ask(agent)).message == "late"
    assert time.monotonic() - began < SOON
    assert held(agent) == []
