"""Many tasks on one virtual clock: time passes whenever all of them wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from loom_py import VirtualClock

__all__ = ["together"]

BREATH = 0.0005
"""Real seconds to leave to the sockets while a request is on its way."""


async def together(
    clock: VirtualClock,
    work: Iterable[Coroutine[Any, Any, Any]],
    look: Callable[[], object] = lambda: None,
) -> None:
    """Run ``work`` to its end; ``look`` is called each time before the clock moves on.

    A task counts as waiting while it sleeps on the clock, or while the emulator does so for it.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        while pending := sum(not task.done() for task in tasks):
            if clock.sleeping >= pending:
                look()
                clock.advance_to_next()
            await asyncio.sleep(BREATH)
