"""Lets hours of many calls pass in a moment, and looks for what they left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar, cast

from loom_py import Agent
from loom_py.clock import VirtualClock
from loom_py.events import StreamEvent
from loom_py.messages import Response
from loom_py.resilience.events import PolicyEvent

T = TypeVar("T")
E = TypeVar("E", bound=PolicyEvent)
Verb: TypeAlias = Callable[..., Coroutine[Any, Any, Response]]

PATIENCE = 20.0
"""Real seconds after which a rehearsal in which nothing moves is called stuck."""

# ── the four verbs, each as a coroutine ──────────────────────────────────────────────────


async def in_thread(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call blocking ``function`` in a thread of its own, which keeps no test run from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(cast("T", result))

    def run() -> None:
        result, error = None, None
        try:
            result = function(*args, **kwargs)
        except BaseException as exc:
            error = exc
        with suppress(RuntimeError):  # the loop has gone meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="pilot", daemon=True).start()
    return await future


async def chat(agent: Agent, message: str = "Hi", **more: Any) -> Response:
    response: Response = await in_thread(agent.chat, message, **more)
    return response


async def achat(agent: Agent, message: str = "Hi", **more: Any) -> Response:
    response: Response = await agent.achat(message, **more)
    return response


async def stream(agent: Agent, message: str = "Hi", **more: Any) -> Response:
    return last(await in_thread(lambda: list(agent.stream_chat(message, **more))))


async def astream(agent: Agent, message: str = "Hi", **more: Any) -> Response:
    return last([event async for event in agent.astream_chat(message, **more)])


VERBS: list[Verb] = [chat, achat, stream, astream]


def last(events: list[StreamEvent]) -> Response:
    """The response at the end of a stream."""
    assert events[-1].response is not None
    return events[-1].response


def events_of(agent: Agent, is_async: bool, message: str = "Hi", **more: Any) -> AsyncIterator[StreamEvent]:
    """The events of a stream, whichever verb gives them."""
    if is_async:
        return agent.astream_chat(message, **more)
    return _threaded(agent, message, more)


async def _threaded(agent: Agent, message: str, more: dict[str, Any]) -> AsyncIterator[StreamEvent]:
    events = agent.stream_chat(message, **more)
    try:
        while (event := await in_thread(next, events, None)) is not None:
            yield event
    finally:
        await in_thread(events.close)


# ── time ─────────────────────────────────────────────────────────────────────────────────


async def settled(is_so: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait, in real time, until something is so. Raises `TimeoutError` if it never is."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError("it never came to be")
        await asyncio.sleep(0.001)


async def all_asleep(clock: VirtualClock, tasks: Iterable[asyncio.Future[Any]], also: int = 0) -> bool:
    """Wait until every task that is not done sleeps on the clock, as do ``also`` others; whether any is left.

    A task that waits for an answer counts as asleep while the emulator sleeps on its behalf. Who has been
    woken by a signal is still on the clock's list for a moment, so it is asked several times over.
    """
    tasks = list(tasks)
    end = time.monotonic() + PATIENCE
    calm = 0
    while calm < 6:
        left = sum(not task.done() for task in tasks)
        if not left:
            return False
        calm = calm + 1 if clock.sleeping >= left + also else 0
        if time.monotonic() > end:
            raise TimeoutError(f"{clock.sleeping} of {left} tasks are asleep, and nothing moves")
        await asyncio.sleep(0 if calm else 0.0002)
    return True


async def fly(
    clock: VirtualClock, calls: Iterable[Awaitable[T]], *, until: float = float("inf"), also: int = 0
) -> list[T | BaseException]:
    """Run all calls at once, the time passing whenever all are asleep; what became of each.

    What is left at ``until`` (on the clock) is cancelled.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        stuck = 0
        while clock.now() < until and await all_asleep(clock, tasks, also):
            stuck = 0 if clock.advance_to_next() else stuck + 1
            if stuck:  # who slept a moment ago has been woken by a signal
                await asyncio.sleep(0.001)
            if stuck * 0.001 > PATIENCE:
                raise TimeoutError("all sleep without end")
    finally:
        for task in tasks:
            task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


# ── what is left behind ──────────────────────────────────────────────────────────────────


def held(agent: Agent) -> list[str]:
    """Everything that calls hold of an agent's policies now: nothing, where none is under way."""
    health, found = agent.health(), []
    for name, lane in health.deployments.items():
        if lane.in_flight:
            found.append(f"{name}: {lane.in_flight} in flight")
        limits = lane.rate_limit
        if limits is not None and (limits.tokens_reserved or limits.queued):
            found.append(f"{name}: {limits.tokens_reserved} tokens reserved, {limits.queued} queued")
        breaker = lane.breaker
        if (
            breaker is not None
            and breaker.state == "half-open"
            and not agent.circuit_breakers[name].is_available
        ):
            found.append(f"{name}: a probe is out")
    for status in health.budgets:
        found += [
            f"{status.per}: {sums.reserved} reserved" for sums in (status.usd, status.tokens) if sums.reserved
        ]
    return found


class Heard(list[PolicyEvent]):
    """A listener that keeps what it hears."""

    def __call__(self, event: PolicyEvent) -> None:
        self.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self if isinstance(event, kind)]
