"""The chaos soak, small: what it shows of an agent, and that it would notice if it were otherwise."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from benchmarks.chaos.agent_caller import agent_caller
from benchmarks.chaos.plan import Scenario, Verb
from benchmarks.chaos.report import figures, table
from benchmarks.chaos.sdk_caller import sdk_caller
from benchmarks.chaos.soak import Ask, Books, Caller, World, run_soak
from benchmarks.chaos.virtual_time import LoopClock, VirtualTimeLoop
from loom_py.errors import LoomError

SMALL = Scenario(runs=150, runs_per_second=1.0, cuts=0.1, hangs=0.02)


# ── the soak ─────────────────────────────────────────────────────────────────────────────


def test_an_agent_in_chaos_is_right_or_fails_with_a_typed_error_and_leaks_nothing() -> None:
    soak = run_soak("loom_py", agent_caller(budget_ratio=0.5), SMALL)
    happened = sum(soak.happened.values(), Counter[str]())
    for fault in ("429", "500", "502", "503", "cut", "no answer"):
        assert happened[fault] > 0, f"{fault} never happened"
    assert soak.failures == []
    assert {each.verdict for each in soak.outcomes} <= {"right", "failed"}
    assert {each.verb for each in soak.outcomes} == {"achat", "astream_chat", "chat", "stream_chat"}
    assert sum(each.verdict == "right" for each in soak.outcomes) >= 140
    assert happened["503"] < 30  # the breaker took the region out that was away
    assert soak.real_seconds < soak.took


def test_runs_that_are_cancelled_at_any_moment_leak_nothing() -> None:
    scenario = Scenario(runs=120, runs_per_second=1.2, cuts=0, hangs=0, impatient=0.5)
    soak = run_soak("loom_py", agent_caller(budget_ratio=0.5), scenario)
    assert soak.failures == []
    assert sum(each.verdict == "given up" for each in soak.outcomes) > 5
    assert soak.books is not None
    assert soak.books.uncertain > 0  # what was cut off may have been billed


def test_the_sdk_goes_through_the_same_plan_and_is_shown_beside() -> None:
    scenario = Scenario(runs=40, runs_per_second=0.5)
    soak = run_soak("openai", sdk_caller(), scenario)
    assert soak.happened["eastus"]["503"] > 0
    assert soak.happened["westus"]["requests"] == 0
    shown = table({"openai": figures(soak)})
    assert "| right answers | " in shown
    assert "InternalServerError" in shown


# ── what it would notice ─────────────────────────────────────────────────────────────────


def asking(answer: str | Exception, **more: object) -> Ask:
    """A caller who sends nothing, and gives the answer for every run."""

    @asynccontextmanager
    async def make(world: World) -> AsyncIterator[Caller]:
        async def ask(run: int, verb: Verb) -> str:
            if isinstance(answer, Exception):
                raise answer
            return answer.format(run=run, secret=world.scenario.secret(run))

        caller = Caller(ask, LoomError)
        for name, value in more.items():
            setattr(caller, name, value)
        yield caller

    return make


RIGHT = "The code of item {run} is {secret} as you asked."
FEW = Scenario(runs=2)


def test_it_counts_right_answers_and_typed_errors_as_no_failure() -> None:
    assert run_soak("right", asking(RIGHT), FEW).failures == []
    soak = run_soak("failing", asking(LoomError("no")), FEW)
    assert [(each.verdict, each.error) for each in soak.outcomes] == [("failed", "LoomError")] * 2
    assert soak.failures == []


@pytest.mark.parametrize(
    "answer", [RIGHT + " " + RIGHT, "The code of item 1 is {secret}", ValueError("not ours")]
)
def test_it_notices_wrong_answers_and_untyped_errors(answer: str | Exception) -> None:
    assert len(run_soak("bad", asking(answer), FEW).failures) == 2


def test_it_notices_what_is_left_over() -> None:
    kept: list[object] = []

    def leave() -> dict[str, object]:
        kept.append(socket.socket())
        kept.append(asyncio.create_task(asyncio.sleep(1e9)))
        return {"permits": 1}

    soak = run_soak("leaking", asking(RIGHT, leaks=leave), FEW)
    kept[0].close()  # type: ignore[attr-defined]
    assert soak.leaks == {"permits": 1, "sockets": 1, "tasks": 1}
    assert len(soak.failures) == 3


def test_it_notices_money_that_a_budget_missed() -> None:
    def books() -> Books:
        return Books(Decimal(0), Decimal("-0.01"), Decimal(0))

    assert "billed were 0" in run_soak("poor", asking(RIGHT, books=books), FEW).failures[0]


# ── virtual time ─────────────────────────────────────────────────────────────────────────


def test_an_hour_of_everybodys_sleep_is_over_at_once_and_in_order() -> None:
    woken: list[tuple[str, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        clock = LoopClock(loop)

        async def sleep(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((name, clock.now()))

        def block(name: str, seconds: float) -> None:
            clock.sleep(seconds)
            woken.append((name, clock.now()))

        await asyncio.gather(
            sleep("task", 3600),
            sleep("early task", 10),
            loop.run_thread(lambda: block("thread", 1800)),
            loop.run_thread(lambda: block("early thread", 5)),
        )

    began = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
    assert woken == [("early thread", 5), ("early task", 10), ("thread", 1800), ("task", 3600)]
    assert time.monotonic() - began < 5


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        release = threading.Event()
        threading.Timer(0.05, release.set).start()
        timer = asyncio.create_task(asyncio.sleep(60))
        await loop.run_thread(release.wait)
        passed = loop.time()
        timer.cancel()
        return passed

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == 0.0


def test_what_a_thread_raises_arrives_where_it_was_begun() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        with pytest.raises(ZeroDivisionError):
            await loop.run_thread(lambda: 1 / 0)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
