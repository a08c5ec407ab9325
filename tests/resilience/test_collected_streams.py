"""Blocking streams that nobody reads on, left to the garbage collector, which may come at any moment."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loom_py import AgentBuilder, AzureEmulator, AzureOpenAIClient, Message, ScriptedProvider, VirtualClock
from loom_py._concurrency import FairLock
from loom_py._streams import Stream
from tests.resilience.promises.pilot import held


class CollectingClock(VirtualClock):
    """A clock that has the garbage collected when it is read by who holds one of ``locks``."""

    locks: tuple[Any, ...] = ()
    collected = 0

    def now(self) -> float:
        if any(lock.locked() for lock in self.locks):
            self.collected += 1
            gc.collect()
        return super().now()


def leave(stream: Iterator[Any]) -> None:
    """Read a little, and leave the rest in a cycle."""
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)


def in_time(work: Callable[[], Any], seconds: float = 20) -> Any:
    """What ``work`` gives; it fails rather than hangs."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    return found[0]


def settled(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


@contextmanager
def collections_at_random(most: int) -> Iterator[Callable[[], None]]:
    """Has the garbage collected after a random number of allocations, whenever it is called."""
    chance, before = random.Random(7), gc.get_threshold()

    def again() -> None:
        gc.set_threshold(chance.randint(2, most))

    gc.freeze()  # what the tests themselves hold would make every collection slow
    try:
        yield again
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def test_one_that_is_collected_inside_a_policy_holds_up_nobody_and_gives_all_back() -> None:
    clock = CollectingClock()
    builder = AgentBuilder().with_llm(ScriptedProvider(lambda _: "two words")).with_circuit_breakers()
    builder = builder.with_rate_limit(tokens_per_minute=10**6).with_budget(tokens=10**6, per="agent")
    with builder.with_clock(clock).build() as agent:
        (lane,) = agent._policies.lanes
        assert lane.breaker is not None
        assert lane.limiter is not None
        gc.disable()
        try:
            leave(agent.stream_chat("Hi"))
            clock.locks = (lane.breaker._lock, lane.limiter._lock)
            assert in_time(lambda: agent.chat("Hi").message) == "two words"
        finally:
            clock.locks = ()
            gc.enable()
        assert clock.collected
        assert settled(lambda: held(agent) == [])


def test_a_stream_that_is_dropped_hangs_up_soon() -> None:
    with (
        AzureEmulator() as azure,
        AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).build() as agent,
    ):
        stream = agent.stream_chat("Say a good deal", session_id="s")
        next(stream)
        del stream
        assert in_time(lambda: agent.chat("Hi", session_id="s").message)
        assert len(agent.history("s")) == 2
        agent.close()


def test_clients_whose_streams_are_collected_at_any_moment_go_on() -> None:
    def work() -> str:
        with AzureEmulator() as azure, AzureOpenAIClient(**azure.client_kwargs()) as client:
            with collections_at_random(400) as again:
                for _ in range(400):
                    again()
                    leave(client.stream_chat([Message.user("Hi")]))
            return client.chat([Message.user("Hi")]).message

    assert in_time(work, 60)


def test_a_lock_whose_holder_is_collected_at_any_moment_is_free_again() -> None:
    def reader(lock: FairLock) -> Iterator[int]:
        with lock.hold():
            yield 1

    def work() -> int:
        taken = 0
        with collections_at_random(60) as again:
            for _ in range(300):
                lock = FairLock()
                leave(reader(lock))
                again()
                try:
                    with lock.hold(0.01):
                        taken += 1
                except TimeoutError:
                    gc.collect()
                    with lock.hold(5):
                        taken += 1
        return taken

    assert in_time(work, 60) == 300


def test_a_stream_is_a_generator_in_all_it_does() -> None:
    ended: list[str] = []

    def source() -> Any:
        try:
            yield 1
            yield 2
        except KeyError:
            yield 3
        finally:
            ended.append("yes")

    assert list(Stream(source())) == [1, 2]
    stream = Stream(source())
    assert stream.send(None) == 1
    assert stream.throw(KeyError) == 3
    stream.close()
    stream.close()
    assert list(stream) == []
    assert ended == ["yes", "yes"]
    with pytest.raises(ValueError, match="mine"):
        Stream(source()).throw(ValueError("mine"))


def test_a_stream_that_is_dropped_in_a_forked_child_is_closed_there() -> None:
    leave(Stream(iter_once()))
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
        child = os.fork()
    if child == 0:
        closed = threading.Event()
        leave(Stream(iter_once(closed)))
        gc.collect()
        os._exit(0 if closed.wait(5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def iter_once(closed: threading.Event | None = None) -> Any:
    try:
        yield 1
    finally:
        if closed is not None:
            closed.set()
