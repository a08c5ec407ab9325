"""A stream that was left, on an event loop that is closed, keeps nobody out of its session."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator

import pytest

from loom_py import Agent, AgentBuilder, ScriptedProvider
from loom_py._concurrency import FairLock
from loom_py.events import StreamEvent
from tests.resilience.promises.pilot import held


def builder() -> AgentBuilder:
    agent = AgentBuilder().with_llm(ScriptedProvider(lambda _: "two words")).with_circuit_breakers()
    return agent.with_rate_limit(tokens_per_minute=10**6).with_budget(tokens=10**6, per="agent")


async def first_of(events: AsyncGenerator[StreamEvent, None]) -> StreamEvent:
    return await anext(events)


def abandoned(agent: Agent) -> AsyncGenerator[StreamEvent, None]:
    """A stream of which one event was read, on a loop that was closed without another word."""
    loop = asyncio.new_event_loop()
    events = agent.astream_chat("Hi", session_id="s")
    loop.run_until_complete(first_of(events))
    loop.close()
    return events


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_the_next_chat_of_the_session_goes_on(is_kept: bool, is_async: bool) -> None:
    agent = builder().with_timeouts(run=20).build()
    events: AsyncGenerator[StreamEvent, None] | None = abandoned(agent)
    if not is_kept:
        events = None
        gc.collect()
    answer = asyncio.run(agent.achat("Hi", session_id="s")) if is_async else agent.chat("Hi", session_id="s")
    assert answer.message == "two words"
    assert len(agent.history("s")) == 2
    del events
    gc.collect()
    assert held(agent) == []


def test_whoever_waits_already_goes_on() -> None:
    agent = builder().with_timeouts(run=20).build()
    loop = asyncio.new_event_loop()
    events = agent.astream_chat("Hi", session_id="s")
    loop.run_until_complete(first_of(events))
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(agent.chat("Hi", session_id="s").message)),
        threading.Thread(
            target=lambda: answers.append(asyncio.run(agent.achat("Hi", session_id="s")).message)
        ),
    ]
    for thread in threads:
        thread.start()
    threads[0].join(0.2)
    assert answers == []
    loop.close()
    for thread in threads:
        thread.join(10)
    assert answers == ["two words"] * 2
    assert len(agent.history("s")) == 4


def test_what_was_taken_away_is_not_given_back_twice() -> None:
    lock = FairLock()
    loop = asyncio.new_event_loop()
    first = lock.ahold()
    loop.run_until_complete(first.__aenter__())
    loop.close()
    with lock.hold():

        async def end() -> None:
            await first.__aexit__(None, None, None)  # it is run to its end after all
            with pytest.raises(TimeoutError):
                async with lock.ahold(0.05):
                    raise AssertionError("two hold the lock")

        asyncio.run(end())
    with lock.hold(0):
        pass


def test_a_lock_is_not_given_to_who_waited_on_a_closed_loop() -> None:
    lock = FairLock()
    loop = asyncio.new_event_loop()
    with lock.hold():
        waiter = loop.create_task(lock.ahold().__aenter__())
        loop.run_until_complete(asyncio.sleep(0.01))
        waiter._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
    with lock.hold(1):
        pass


async def test_a_wait_that_is_too_long_ends_on_time() -> None:
    lock = FairLock()
    with lock.hold():
        with pytest.raises(TimeoutError):
            async with lock.ahold(0.05):
                pass
        with pytest.raises(TimeoutError), lock.hold(0.05):
            pass
    async with lock.ahold(0.05):
        pass
