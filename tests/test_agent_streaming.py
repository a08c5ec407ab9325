"""What a reader of an agent's stream sees, and what happens when it goes away."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from loom_py import (
    Agent,
    AgentBuilder,
    BaseProvider,
    ChatOptions,
    FinalResponse,
    Message,
    StreamEvent,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    ToolResultEvent,
    ToolSpec,
    UsageEvent,
    tool,
)
from loom_py.errors import ServiceUnavailableError, StreamInterruptedError
from loom_py.llm.scripted import ScriptedProvider, Step, call, reply


@tool
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


def agent_of(*steps: Step) -> Agent:
    builder = AgentBuilder().with_llm(ScriptedProvider(steps)).with_tools(double)
    return builder.with_retries(max_attempts=1).build()


async def read(agent: Agent, **options: Any) -> list[StreamEvent]:
    return await asyncio.to_thread(lambda: list(agent.stream_chat("Go", **options)))


async def aread(agent: Agent, **options: Any) -> list[StreamEvent]:
    return [event async for event in agent.astream_chat("Go", **options)]


both = pytest.mark.parametrize("events_of", [read, aread])


@pytest.fixture(autouse=True)
def structlog_restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@both
async def test_events_come_in_the_order_in_which_things_happen(events_of: Callable[..., Any]) -> None:
    events = await events_of(
        agent_of(reply("One moment. ", tool_calls=[call("double", number=2)]), "It is 4.")
    )
    assert [type(event) for event in events] == [
        TextDelta,
        TextDelta,
        ToolCallStarted,
        ToolCallCompleted,
        UsageEvent,
        ToolResultEvent,
        TextDelta,
        TextDelta,
        TextDelta,
        UsageEvent,
        FinalResponse,
    ]
    assert "".join(event.delta for event in events) == "One moment. It is 4."
    assert [event.result.content for event in events if isinstance(event, ToolResultEvent)] == ["4"]


@both
async def test_only_the_last_event_has_the_response(events_of: Callable[..., Any]) -> None:
    events = await events_of(agent_of([call("double", number=2), call("double", number=3)], "4 and 6"))
    assert [event.response is not None for event in events] == [False] * (len(events) - 1) + [True]
    response = events[-1].response
    assert response.message == "4 and 6"
    assert [item.content for item in response.tool_results] == ["4", "6"]


@both
async def test_an_answer_no_model_wrote_is_shown_as_text_too(events_of: Callable[..., Any]) -> None:
    events = await events_of(agent_of(call("double", number=2), "", ""))
    assert "".join(event.delta for event in events) == "Completed 1 tool executions across 3 turns."


@both
async def test_nothing_is_asked_before_the_first_event_is_wanted(events_of: Callable[..., Any]) -> None:
    agent = agent_of("Hi")
    stream, astream = agent.stream_chat("Go"), agent.astream_chat("Go")
    assert isinstance(agent.provider, ScriptedProvider)
    assert agent.provider.requests == ()
    stream.close()
    await astream.aclose()
    assert (await events_of(agent))[-1].response.message == "Hi"


@both
async def test_an_error_mid_stream_comes_after_the_text_and_leaves_the_session(
    events_of: Callable[..., Any],
) -> None:
    cut = StreamInterruptedError("cut", partial_text="The ans")
    agent = agent_of("Hello.", cut, "Again.")
    await events_of(agent, session_id="s")
    seen: list[str] = []
    with pytest.raises(StreamInterruptedError):
        seen.extend(event.delta for event in agent.stream_chat("Go", session_id="s"))
    assert len(agent.history("s")) == 2
    assert (await events_of(agent, session_id="s"))[-1].response.message == "Again."


# ── readers that go away ─────────────────────────────────────────────────────────────────


class Endless(BaseProvider):
    """Streams words for ever and counts the streams that are open."""

    name = "endless"
    model = "endless-1"

    def __init__(self) -> None:
        self.open = 0
        self.calls = 0

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        self.open += 1
        self.calls += 1
        try:
            while True:
                yield TextDelta("word ")
        finally:
            self.open -= 1

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        self.open += 1
        self.calls += 1
        try:
            while True:
                await asyncio.sleep(0)
                yield TextDelta("word ")
        finally:
            self.open -= 1


@pytest.fixture
def endless() -> Agent:
    return AgentBuilder().with_llm(Endless()).with_circuit_breakers(failure_threshold=1).build()


def is_free(agent: Agent, session: str) -> bool:
    """Whether another thread gets its turn on the session at once."""
    got = threading.Event()

    def knock() -> None:
        events = agent.stream_chat("Knock", session_id=session)
        next(events)
        got.set()
        events.close()

    threading.Thread(target=knock, daemon=True).start()
    return got.wait(2)


def open_streams(agent: Agent) -> int:
    assert isinstance(agent.provider, Endless)
    return agent.provider.open


async def test_closing_early_hangs_up_and_frees_session_and_breaker(endless: Agent) -> None:
    stream = endless.stream_chat("Go", session_id="s")
    next(stream)
    assert open_streams(endless) == 1
    stream.close()
    assert open_streams(endless) == 0
    astream = endless.astream_chat("Go", session_id="s")
    await anext(astream)
    assert open_streams(endless) == 1
    await astream.aclose()
    assert open_streams(endless) == 0
    assert is_free(endless, "s")
    assert endless.sessions() == ()
    assert endless.circuit_breakers["endless/endless-1"].state == "closed"


async def test_leaving_the_loop_is_closing(endless: Agent) -> None:
    for event in endless.stream_chat("Go", session_id="s"):
        assert event.delta
        break
    assert open_streams(endless) == 0
    async for event in endless.astream_chat("Go", session_id="s"):
        assert event.delta
        break
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0.01)
    assert open_streams(endless) == 0
    assert is_free(endless, "s")


async def test_a_stream_nobody_holds_any_more_is_released(endless: Agent) -> None:
    stream = endless.stream_chat("Go", session_id="s")
    next(stream)
    del stream
    gc.collect()
    assert is_free(endless, "s")


async def test_cancelling_the_reader_hangs_up(endless: Agent) -> None:
    started = asyncio.Event()

    async def consume() -> None:
        async for _ in endless.astream_chat("Go", session_id="s"):
            started.set()

    task = asyncio.create_task(consume())
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert open_streams(endless) == 0
    assert is_free(endless, "s")


async def test_a_reader_that_raises_leaves_the_session_unchanged(endless: Agent) -> None:
    def read_badly() -> None:
        for _ in endless.stream_chat("Go", session_id="s"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read_badly()
    assert is_free(endless, "s")
    assert endless.sessions() == ()


async def test_the_session_is_free_and_kept_once_the_response_is_in_the_readers_hand() -> None:
    agent = agent_of("one", "two", "three")
    stream = agent.stream_chat("1", session_id="s")
    while next(stream).response is None:
        pass
    assert agent.chat("2", session_id="s").message == "two"  # the stream is still held
    stream.close()
    astream = agent.astream_chat("3", session_id="s")
    while (await anext(astream)).response is None:
        pass
    assert [message.text for message in agent.history("s")] == ["1", "one", "2", "two", "3", "three"]
    await astream.aclose()


async def test_streams_on_one_session_take_turns_and_others_do_not_wait(endless: Agent) -> None:
    first = endless.astream_chat("Go", session_id="s")
    await anext(first)
    second = endless.astream_chat("Go", session_id="s")
    waiting = asyncio.ensure_future(anext(second))
    other = endless.astream_chat("Go", session_id="t")
    await asyncio.wait_for(anext(other), 5)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await first.aclose()
    await asyncio.wait_for(waiting, 5)
    await second.aclose()
    await other.aclose()


async def test_a_stream_closed_between_model_and_tool_runs_nothing_more() -> None:
    ran: list[int] = []

    @tool
    def note(number: int) -> int:
        ran.append(number)
        return number

    steps: list[Step] = [call("note", number=1), call("note", number=2), "done"]
    agent = AgentBuilder().with_llm(ScriptedProvider(steps)).with_tools(note).build()
    for event in agent.stream_chat("Go"):
        if isinstance(event, ToolResultEvent):
            break
    assert ran == [1]


# ── context and logs ─────────────────────────────────────────────────────────────────────


async def test_a_stream_binds_nothing_in_its_reader() -> None:
    agent = agent_of(call("double", number=2), "4")
    for event in agent.stream_chat("Go", session_id="s"):
        assert structlog.contextvars.get_contextvars() == {}, event
    agent = agent_of(call("double", number=2), "4")
    async for event in agent.astream_chat("Go", session_id="s"):
        assert structlog.contextvars.get_contextvars() == {}, event
    assert structlog.contextvars.get_contextvars() == {}


async def test_a_stream_that_was_closed_early_says_so_in_the_log(endless: Agent) -> None:
    with capture_logs() as logs:
        stream = endless.stream_chat("Go", session_id="s")
        next(stream)
        stream.close()
    assert [entry["event"] for entry in logs] == ["model_call_cancelled", "chat_cancelled"]
    assert {entry["session_id"] for entry in logs} == {"s"}


@both
async def test_an_error_says_what_the_whole_stream_spent(events_of: Callable[..., Any]) -> None:
    agent = agent_of(call("double", number=2), ServiceUnavailableError("down"))
    with pytest.raises(ServiceUnavailableError) as caught:
        await events_of(agent)
    assert caught.value.tokens_used is not None
    assert caught.value.tokens_used.total > 0


# ── providers with one verb only ─────────────────────────────────────────────────────────


class OnlySync(BaseProvider):
    """Streams, blocking only."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        try:
            while True:
                yield TextDelta("word ")
        finally:
            self.closed.set()


class OnlyAsync(BaseProvider):
    """Streams, async only."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        try:
            while True:
                await asyncio.sleep(0)
                yield TextDelta("word ")
        finally:
            self.closed.set()


@pytest.mark.parametrize("kind", [OnlySync, OnlyAsync])
async def test_hanging_up_reaches_a_provider_on_the_other_side_of_a_bridge(
    kind: type[OnlySync | OnlyAsync],
) -> None:
    provider = kind()
    agent = AgentBuilder().with_llm(provider).build()
    stream = agent.stream_chat("Go", session_id="s")
    assert next(stream).delta == "word "
    stream.close()
    assert provider.closed.wait(2)
    provider.closed.clear()
    astream = agent.astream_chat("Go", session_id="s")
    assert (await anext(astream)).delta == "word "
    await astream.aclose()
    assert await asyncio.to_thread(provider.closed.wait, 2)
    assert is_free(agent, "s")
