"""A soak: every run begun in its time, its answer checked, and what is left over afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

from benchmarks.chaos.plan import Scenario, Verb
from benchmarks.chaos.regions import Bill, Region, two_regions
from benchmarks.chaos.virtual_time import LoopClock, VirtualTimeLoop
from loom_py._concurrency import bridge_loop

__all__ = ["Ask", "Books", "Caller", "Outcome", "Soak", "World", "run_soak"]

AFTERWARDS = 150.0
"""Seconds of quiet after the last run: no breaker stays open, nor an idle connection, for so long."""


@dataclass(frozen=True, slots=True)
class World:
    """Where a soak happens."""

    scenario: Scenario
    regions: tuple[Region, ...]
    loop: VirtualTimeLoop
    clock: LoopClock


@dataclass(frozen=True, slots=True)
class Books:
    """USD: ``costs`` of replies whose usage is known; what the budget holds for ``spent``, of which
    ``uncertain`` is the most that calls without an end can have cost."""

    costs: Decimal
    spent: Decimal
    uncertain: Decimal


@dataclass(slots=True)
class Caller:
    """Someone who asks. ``typed`` is the root of the errors they promise.

    When the last run is over ``leaks`` tells what they have not given back. After a while ``stuck`` tells
    what still does not work, and ``books`` what they think was spent, in USD, if they keep books.
    """

    ask: Callable[[int, Verb], Awaitable[str]]
    typed: type[Exception]
    leaks: Callable[[], dict[str, object]] = dict
    stuck: Callable[[], dict[str, object]] = dict
    books: Callable[[], Books | None] = lambda: None
    notes: Counter[str] = field(default_factory=Counter)


Ask: TypeAlias = Callable[[World], AbstractAsyncContextManager[Caller]]
"""What makes a caller in a world, and closes it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run: right, wrong, failed, untyped or given up, after so many virtual seconds."""

    run: int
    verb: Verb
    seconds: float
    verdict: str
    error: str = ""
    told: str = ""


@dataclass(slots=True)
class Soak:
    """All that is known when a soak is over. Times are virtual, but for ``real_seconds``."""

    name: str
    scenario: Scenario
    outcomes: list[Outcome]
    happened: dict[str, Counter[str]]
    bill: Bill
    books: Books | None
    leaks: dict[str, object]
    notes: Counter[str]
    took: float
    real_seconds: float

    @property
    def failures(self) -> list[str]:
        """What must never be: wrong answers, errors of no type, leaks, money the budget missed."""
        found = [f"run {each.run} ({each.verb}) {each.verdict}: {each.told}" for each in self._bad()]
        if self.books is not None and self.books.spent < self.bill.total:
            found.append(f"the budget knows of {self.books.spent} USD, billed were {self.bill.total}")
        return found + [f"leaked: {what}: {left}" for what, left in self.leaks.items()]

    def _bad(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.verdict in {"wrong", "untyped"}]


def run_soak(name: str, make: Ask, scenario: Scenario) -> Soak:
    """One soak from beginning to end, on a loop of its own. The machine's chance is seeded as the plan's."""
    random.seed(scenario.seed)  # the jitter of both sides
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_soak(name, make, scenario))


async def _soak(name: str, make: Ask, scenario: Scenario) -> Soak:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    clock, bill, began = LoopClock(loop), Bill(), time.perf_counter()
    bridge_loop()  # the process's one, for async tools of blocking verbs: it stays, and is no leak
    async with two_regions(scenario, clock, bill) as regions:
        before = _Open.now()
        async with make(World(scenario, regions, loop, clock)) as caller:
            outcomes = [each async for each in _all_runs(scenario, caller)]
            took = loop.time()
            await asyncio.sleep(1)
            leaks = caller.leaks()
            await asyncio.sleep(AFTERWARDS)
            leaks |= caller.stuck() | _connections(regions)
            books = caller.books()
        await asyncio.sleep(1)
        leaks |= _Open.now().beyond(before)
        leaks |= {
            f"{region.name} connections": region.connections for region in regions if region.connections
        }
        happened = {region.name: region.happened for region in regions}
    real = time.perf_counter() - began
    return Soak(name, scenario, outcomes, happened, bill, books, leaks, caller.notes, took, real)


def _connections(regions: tuple[Region, ...]) -> dict[str, object]:
    """What is open although nothing is under way, and idle connections have long been closed."""
    return {f"{each.name} connections": each.connections for each in regions if each.connections}


async def _all_runs(scenario: Scenario, caller: Caller) -> AsyncIterator[Outcome]:
    """Begin every run in its time; their outcomes, in order."""
    loop = asyncio.get_running_loop()
    tasks = []
    for run in range(scenario.runs):
        await asyncio.sleep(scenario.starts_at(run) - loop.time())
        tasks.append(asyncio.create_task(_run(scenario, caller, run)))
    for task in tasks:
        yield await task


async def _run(scenario: Scenario, caller: Caller, run: int) -> Outcome:
    loop = asyncio.get_running_loop()
    verb, began = scenario.verb(run), loop.time()
    try:
        async with asyncio.timeout(scenario.patience(run)) as patience:
            text = await caller.ask(run, verb)
    except Exception as error:
        if patience.expired():
            return Outcome(run, verb, loop.time() - began, "given up", "given up")
        verdict = "failed" if isinstance(error, caller.typed) else "untyped"
        kind = type(error).__name__
        return Outcome(run, verb, loop.time() - began, verdict, kind, f"{kind}: {error}")
    right = text == f"The code of item {run} is {scenario.secret(run)} as you asked."
    return Outcome(run, verb, loop.time() - began, "right" if right else "wrong", told=text)


@dataclass(frozen=True, slots=True)
class _Open:
    """What this process holds: its sockets, and the tasks of this loop."""

    sockets: int
    tasks: int

    @classmethod
    def now(cls) -> _Open:
        sockets = 0
        for entry in Path("/proc/self/fd").iterdir():
            try:
                sockets += str(entry.readlink()).startswith("socket:")
            except OSError:  # the descriptor of the listing itself
                continue
        return cls(sockets, len(asyncio.all_tasks()))

    def beyond(self, before: _Open) -> dict[str, object]:
        """What there is more of now."""
        more = {"sockets": self.sockets - before.sockets, "tasks": self.tasks - before.tasks}
        return {what: count for what, count in more.items() if count > 0}
