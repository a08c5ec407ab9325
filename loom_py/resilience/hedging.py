"""Hedging: where a deployment is slow to begin, a second one is asked as well, and the first to speak wins.

Both run on one event loop, so that the one that loses can be hung up on at once; blocking callers are served
from the background loop. Only what happens before the first visible event is a race.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from loom_py.clock import Clock, Signal
from loom_py.errors import ProviderError
from loom_py.events import StreamEvent
from loom_py.resilience.attempt import Attempt
from loom_py.resilience.calls import ModelCall
from loom_py.resilience.steps import Send

__all__ = ["race"]

Open: TypeAlias = Callable[[Attempt], AsyncIterator[StreamEvent]]
"""Sends an attempt's request; its events."""

Second: TypeAlias = Callable[[Attempt], Awaitable[Attempt | None]]
"""Asks the policies for a second attempt beside this one."""

Fallen: TypeAlias = Callable[[Attempt, Exception], Awaitable[object]]
"""Tells the policies that an attempt failed while another is still under way."""


class _Runner:
    """One attempt under way: its events, as they come, in a queue; ``None`` at the end."""

    def __init__(self, attempt: Attempt, open: Open, woken: Signal) -> None:
        self.attempt = attempt
        self.events: asyncio.Queue[StreamEvent | Exception | None] = asyncio.Queue(64)
        self.has_begun = asyncio.Event()
        self.fallen: Exception | None = None
        self._is_stopped = False
        self._woken = woken
        self.task = asyncio.ensure_future(self._run(open))

    async def _run(self, open: Open) -> None:
        end: Exception | None = None
        try:
            events = open(self.attempt)
            try:
                async for event in events:
                    self._begin()
                    await self.events.put(event)
            finally:
                if (aclose := getattr(events, "aclose", None)) is not None:
                    await aclose()
        except Exception as exc:  # noqa: BLE001 - handed to whoever reads
            end = exc
        except BaseException as exc:
            if self._is_stopped:
                raise
            end = ProviderError(f"a provider raised {type(exc).__name__}: {exc}")
            end.__cause__ = exc
        if not self.has_begun.is_set():
            self.fallen = end
        self._begin()
        await self.events.put(end)

    def _begin(self) -> None:
        if not self.has_begun.is_set():
            self.has_begun.set()
            self._woken.set()

    async def stop(self) -> None:
        """Hang up."""
        self._is_stopped = True
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def race(
    send: Send, call: ModelCall, clock: Clock, open: Open, second: Second, fallen: Fallen
) -> AsyncGenerator[StreamEvent, None]:
    """The events of whichever attempt speaks first; ``send.attempt`` is that one then.

    Raises what the last of them raised if all fail.
    """
    assert send.hedge_after is not None
    woken = Signal()
    running = [_Runner(send.attempt, open, woken)]
    try:
        await clock.asleep(send.hedge_after, woken)
        if not running[0].has_begun.is_set():
            other = await second(send.attempt)
            if other is not None:
                running.append(_Runner(other, open, Signal()))
        winner = await _first(running, fallen)
        send.attempt = winner.attempt
        for loser in [runner for runner in running if runner is not winner]:
            running.remove(loser)
            await loser.stop()
            call.lost(loser.attempt, winner.attempt)
        while (event := await winner.events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event
    finally:
        for runner in running:
            await runner.stop()
            if runner.attempt is not send.attempt:
                call.lost(runner.attempt)


async def _first(running: list[_Runner], fallen: Fallen) -> _Runner:
    """The first runner that has something to show, or the last one; others that fail are let go."""
    while len(running) > 1:
        waits = {asyncio.ensure_future(runner.has_begun.wait()): runner for runner in running}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        for runner in [waits[wait] for wait in done]:
            if runner.fallen is None:
                return runner
            if len(running) > 1:
                running.remove(runner)
                await fallen(runner.attempt, runner.fallen)
    return running[0]
