from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress

import pytest

from loom_py._concurrency import FairLock, aiter_in_thread, iter_from_async, run_coroutine, run_in_thread
from loom_py.errors import RateLimitError, StreamInterruptedError
from loom_py.events import FinalResponse, StreamEvent, TextDelta, ToolCallCompleted, UsageEvent
from loom_py.llm.profiles import UNKNOWN_PROFILE
from loom_py.llm.provider import BaseProvider, LLMProvider, events_of
from loom_py.messages import Message, Response, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

HELLO = [Message.user("hello")]
TOOLS = [ToolSpec("t")]
OPTIONS = ChatOptions(seed=7)
SESSION: contextvars.ContextVar[str] = contextvars.ContextVar("session", default="none")


def answer(messages: Sequence[Message], tools: Sequence[ToolSpec], options: ChatOptions | None) -> Response:
    """A response that tells what the call was given, and in which context."""
    seed = options.seed if options else None
    text = f"{messages[-1].text} {[tool.name for tool in tools]} {seed} {SESSION.get()}"
    return Response(text, TokenUsage(3, 4), tool_calls=(ToolCall("1", "t"),))


class ByChat(BaseProvider):
    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        return answer(messages, tools, options)


class ByAChat(BaseProvider):
    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        await asyncio.sleep(0)
        return answer(messages, tools, options)


class ByStream(BaseProvider):
    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        yield from events_of(answer(messages, tools, options))


class ByAStream(BaseProvider):
    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        await asyncio.sleep(0)
        for event in events_of(answer(messages, tools, options)):
            yield event


PROVIDERS = [ByChat, ByAChat, ByStream, ByAStream]


def last(provider: LLMProvider) -> Response | None:
    return list(provider.stream_chat(HELLO, TOOLS, options=OPTIONS))[-1].response


async def alast(provider: LLMProvider) -> Response | None:
    return [event async for event in provider.astream_chat(HELLO, TOOLS, options=OPTIONS)][-1].response


# ── one verb gives the other three ───────────────────────────────────────────────────────


@pytest.mark.parametrize("make", PROVIDERS)
def test_each_verb_gives_the_blocking_ones(make: Callable[[], BaseProvider]) -> None:
    provider, expected = make(), answer(HELLO, TOOLS, OPTIONS)
    assert isinstance(provider, LLMProvider)
    assert provider.chat(HELLO, TOOLS, options=OPTIONS) == expected
    assert list(provider.stream_chat(HELLO, TOOLS, options=OPTIONS)) == list(events_of(expected))


@pytest.mark.parametrize("make", PROVIDERS)
async def test_each_verb_gives_the_async_ones(make: Callable[[], BaseProvider]) -> None:
    provider, expected = make(), answer(HELLO, TOOLS, OPTIONS)
    assert await provider.achat(HELLO, TOOLS, options=OPTIONS) == expected
    assert await alast(provider) == expected


@pytest.mark.parametrize("make", PROVIDERS)
async def test_the_blocking_verbs_work_beneath_a_running_event_loop(make: Callable[[], BaseProvider]) -> None:
    expected = answer(HELLO, TOOLS, OPTIONS)
    assert make().chat(HELLO, TOOLS, options=OPTIONS) == expected
    assert last(make()) == expected


@pytest.mark.parametrize("make", PROVIDERS)
async def test_context_variables_travel_into_every_verb(make: Callable[[], BaseProvider]) -> None:
    SESSION.set("s-1")
    provider = make()
    responses = [provider.chat(HELLO), await provider.achat(HELLO), last(provider), await alast(provider)]
    assert [response.message.split()[-1] for response in responses if response] == ["s-1"] * 4


@pytest.mark.parametrize("make", PROVIDERS)
async def test_many_calls_at_once_do_not_mix(make: Callable[[], BaseProvider]) -> None:
    provider = make()
    texts = [f"m{n}" for n in range(50)]
    responses = await asyncio.gather(*(provider.achat([Message.user(text)]) for text in texts))
    assert [response.message.split()[0] for response in responses] == texts


def test_what_is_defined_is_used_as_it_is() -> None:
    class Both(ByChat, ByAStream):
        pass

    both = Both()
    assert both.chat(HELLO).message.startswith("hello")
    assert "astream_chat" in both._own_verbs
    assert "chat" in both._own_verbs
    assert last(both) is not None


def test_a_provider_without_any_verb_is_refused_when_its_class_is_made() -> None:
    with pytest.raises(TypeError, match="Empty must define one of chat, achat, stream_chat, astream_chat"):

        class Empty(BaseProvider):
            pass


def test_a_provider_that_says_nothing_of_its_model_has_the_unknown_profile() -> None:
    assert ByChat().profile is UNKNOWN_PROFILE


def test_a_response_as_events_loses_nothing() -> None:
    response = answer(HELLO, (), None)
    events = list(events_of(response))
    assert "".join(event.delta for event in events) == response.message
    assert [event.call for event in events if isinstance(event, ToolCallCompleted)] == list(
        response.tool_calls
    )
    assert [event.usage for event in events if isinstance(event, UsageEvent)] == [response.tokens_used]
    assert events[-1] == FinalResponse(response)
    assert not any(isinstance(event, TextDelta) for event in events_of(Response("")))


# ── errors ───────────────────────────────────────────────────────────────────────────────


class FailingChat(BaseProvider):
    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        raise RateLimitError("slow down", retry_after=3.0)


class FailingAChat(BaseProvider):
    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        raise RateLimitError("slow down", retry_after=3.0)


class FailingStream(BaseProvider):
    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        yield TextDelta("a")
        raise RateLimitError("slow down", retry_after=3.0)


class FailingAStream(BaseProvider):
    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        yield TextDelta("a")
        raise RateLimitError("slow down", retry_after=3.0)


class FailingBeforeTheStream(BaseProvider):
    def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        raise RateLimitError("slow down", retry_after=3.0)


FAILING = [FailingChat, FailingAChat, FailingStream, FailingAStream, FailingBeforeTheStream]


@pytest.mark.parametrize("make", FAILING)
async def test_an_error_reaches_the_caller_of_every_verb(make: Callable[[], BaseProvider]) -> None:
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: make().achat(HELLO),
        lambda: alast(make()),
        lambda: run_in_thread(make().chat, HELLO),
        lambda: run_in_thread(last, make()),
    ]
    for call in calls:
        with pytest.raises(RateLimitError) as caught:
            await asyncio.wait_for(call(), 5)
        assert caught.value.retry_after == 3.0


@pytest.mark.parametrize("make", [FailingStream, FailingAStream])
def test_what_was_streamed_before_an_error_is_delivered(make: Callable[[], BaseProvider]) -> None:
    stream = make().stream_chat(HELLO)
    assert next(stream) == TextDelta("a")
    with pytest.raises(RateLimitError):
        next(stream)


async def test_a_stream_without_a_final_response_is_an_error_of_the_whole_call() -> None:
    class Cut(BaseProvider):
        name = "cut"

        async def astream_chat(
            self,
            messages: Sequence[Message],
            tools: Sequence[ToolSpec] = (),
            *,
            options: ChatOptions | None = None,
        ) -> AsyncIterator[StreamEvent]:
            yield TextDelta("a")

    class Empty(BaseProvider):
        def stream_chat(
            self,
            messages: Sequence[Message],
            tools: Sequence[ToolSpec] = (),
            *,
            options: ChatOptions | None = None,
        ) -> Iterator[StreamEvent]:
            return iter(())

    for provider in (Cut(), Empty()):
        with pytest.raises(StreamInterruptedError, match=provider.name):
            await provider.achat(HELLO)
        with pytest.raises(StreamInterruptedError, match=provider.name):
            await run_in_thread(provider.chat, HELLO)


# ── streams through the bridges ──────────────────────────────────────────────────────────


def test_a_bridged_async_stream_gives_its_first_item_before_the_last_is_made() -> None:
    go_on = threading.Event()

    async def source() -> AsyncIterator[int]:
        yield 1
        while not go_on.is_set():  # noqa: ASYNC110 - the event belongs to a thread
            await asyncio.sleep(0.001)
        yield 2

    stream = iter_from_async(source)
    assert next(stream) == 1
    go_on.set()
    assert list(stream) == [2]


async def test_a_bridged_blocking_stream_gives_its_first_item_before_the_last_is_made() -> None:
    go_on = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        assert go_on.wait(5)
        yield 2

    stream = aiter_in_thread(source)
    assert await anext(stream) == 1
    go_on.set()
    assert [item async for item in stream] == [2]


async def test_a_blocking_stream_does_not_block_the_loop() -> None:
    go_on = threading.Event()

    def source() -> Iterator[int]:
        assert go_on.wait(5)
        yield 1

    first = asyncio.ensure_future(anext(aiter_in_thread(source)))
    await asyncio.sleep(0.01)
    assert not first.done()
    go_on.set()
    assert await first == 1


def test_closing_a_bridged_async_stream_early_closes_its_source() -> None:
    closed = threading.Event()

    async def source() -> AsyncIterator[int]:
        try:
            for n in range(10**9):
                yield n
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0.01)
            closed.set()

    stream = iter_from_async(source)
    assert [next(stream), next(stream)] == [0, 1]
    stream.close()
    assert closed.is_set()


async def test_closing_a_bridged_blocking_stream_early_closes_its_source() -> None:
    closed: list[str] = []

    def source() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.append(threading.current_thread().name)

    stream = aiter_in_thread(source)
    assert await anext(stream) == 0
    await stream.aclose()  # type: ignore[attr-defined]
    assert closed
    assert closed != [threading.current_thread().name]


async def test_cancelling_a_reader_closes_the_source_once_its_step_is_over() -> None:
    started, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        token = SESSION.set("inner")
        try:
            started.set()
            assert go_on.wait(5)
            yield 1
        finally:
            SESSION.reset(token)
            closed.set()

    async def read() -> list[int]:
        return [item async for item in aiter_in_thread(source)]

    reader = asyncio.create_task(read())
    await run_in_thread(started.wait, 5)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    go_on.set()
    assert await run_in_thread(closed.wait, 5)


async def test_cancelling_a_reader_closes_a_source_that_can_be_closed_from_outside_at_once() -> None:
    started, closed = threading.Event(), threading.Event()

    class Connection:
        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            started.set()
            assert closed.wait(5)
            raise StopIteration

        def close(self) -> None:
            closed.set()

    reader = asyncio.ensure_future(anext(aiter_in_thread(Connection)))
    await run_in_thread(started.wait, 5)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert closed.is_set()


def test_a_source_runs_only_so_far_ahead_of_its_reader() -> None:
    made = 0

    async def source() -> AsyncIterator[int]:
        nonlocal made
        for n in range(1000):
            made = n + 1
            yield n

    stream = iter_from_async(source, ahead=5)
    assert next(stream) == 0
    time.sleep(0.05)
    assert made <= 8
    assert list(stream) == list(range(1, 1000))


def test_a_blocking_source_may_bind_context_around_its_items() -> None:
    def source() -> Iterator[str]:
        token = SESSION.set("inner")
        try:
            yield SESSION.get()
            yield SESSION.get()
        finally:
            SESSION.reset(token)

    async def read() -> list[str]:
        return [item async for item in aiter_in_thread(source)]

    assert asyncio.run(read()) == ["inner", "inner"]
    assert SESSION.get() == "none"


async def test_a_stop_iteration_out_of_a_thread_is_an_error_and_no_endless_wait() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(run_in_thread(next, iter(())), 5)


def test_a_blocking_call_on_the_bridge_itself_is_refused_and_not_stuck() -> None:
    async def inner() -> None: ...

    async def blocking_call() -> None:
        run_coroutine(inner())

    async def blocking_stream() -> None:
        next(iter_from_async(lambda: aiter_in_thread(lambda: iter((1,)))))

    for outer in (blocking_call, blocking_stream):
        with pytest.raises(RuntimeError, match="use the async method"):
            run_coroutine(outer())


# ── the lock ─────────────────────────────────────────────────────────────────────────────


async def test_tasks_are_served_in_order_of_arrival() -> None:
    lock, served = FairLock(), list[int]()

    async def work(n: int) -> None:
        async with lock.ahold():
            await asyncio.sleep(0)
            served.append(n)

    async with lock.ahold():
        tasks = [asyncio.create_task(work(n)) for n in range(20)]
        await asyncio.sleep(0)
        assert served == []
    await asyncio.gather(*tasks)
    assert served == list(range(20))


def test_threads_are_served_in_order_of_arrival() -> None:
    lock, served = FairLock(), list[int]()

    def work(n: int) -> None:
        with lock.hold():
            served.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    with lock.hold():
        for count, thread in enumerate(threads, 1):
            thread.start()
            while len(lock._waiting) < count:
                time.sleep(0.001)
    for thread in threads:
        thread.join(5)
    assert served == list(range(8))


async def test_a_cancelled_waiter_is_passed_over() -> None:
    lock = FairLock()

    async def work() -> str:
        async with lock.ahold():
            return "done"

    async with lock.ahold():
        first, second = asyncio.create_task(work()), asyncio.create_task(work())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert await asyncio.wait_for(second, 5) == "done"
    assert await asyncio.wait_for(work(), 5) == "done"


async def test_a_waiter_cancelled_just_as_its_turn_comes_passes_it_on() -> None:
    lock = FairLock()

    async def work() -> str:
        async with lock.ahold():
            return "done"

    holder = lock.ahold()
    await holder.__aenter__()
    first, second = asyncio.create_task(work()), asyncio.create_task(work())
    await asyncio.sleep(0)
    await holder.__aexit__(None, None, None)  # the turn is the first's now, but it has not run yet
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    assert await asyncio.wait_for(second, 5) == "done"


async def test_an_error_inside_releases_the_lock() -> None:
    lock = FairLock()
    with pytest.raises(KeyError):
        async with lock.ahold():
            raise KeyError
    with pytest.raises(KeyError), lock.hold():
        raise KeyError
    async with asyncio.timeout(5), lock.ahold():
        pass


def test_threads_tasks_and_cancellations_together_never_break_the_exclusion() -> None:
    lock = FairLock()
    inside = worst = done = 0

    def visit() -> None:
        nonlocal inside, worst, done
        inside += 1
        worst = max(worst, inside)
        time.sleep(0.0001)
        inside -= 1
        done += 1

    async def task() -> None:
        async with lock.ahold():
            visit()

    def thread() -> None:
        for _ in range(20):
            with lock.hold():
                visit()

    async def tasks(seed: int) -> None:
        dice = random.Random(seed)
        running = [asyncio.create_task(task()) for _ in range(60)]
        for one in running:
            await asyncio.sleep(0)
            if dice.random() < 0.3:
                one.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    workers = [threading.Thread(target=thread) for _ in range(3)]
    workers += [threading.Thread(target=asyncio.run, args=(tasks(seed),)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert not any(worker.is_alive() for worker in workers)
    assert worst == 1
    assert done >= 60
    with lock.hold():
        assert not lock._waiting


# ── what a plugin need not say ───────────────────────────────────────────────────────────


def test_a_provider_that_says_nothing_has_no_place_no_bound_and_no_prices() -> None:
    class Plain(BaseProvider):
        name = "plain"

        def chat(
            self,
            messages: Sequence[Message],
            tools: Sequence[ToolSpec] = (),
            *,
            options: ChatOptions | None = None,
        ) -> Response:
            return Response("Hi")

    provider = Plain()
    assert (provider.endpoint, provider.timeout) == (None, None)
    assert provider.output_limit() is None
    assert provider.output_limit(ChatOptions(max_tokens=5)) == 5
    worst = provider.worst_cost(10, 5)
    assert (worst.usd, worst.reason) == (None, "the provider plain states no prices")
    assert worst.usage.total == 15
