"""Many calls at once, each with its own question and its own answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from loom_py.conformance.scenario import (
    Outcome,
    Stage,
    acall,
    call,
    close,
    expect,
    expect_equal,
    scenario,
)
from loom_py.conformance.script import Answer, Call, Script
from loom_py.conformance.suite.tools import PLACE
from loom_py.llm.provider import LLMProvider
from loom_py.messages import TokenUsage, ToolSpec

MANY = 50
THREADS = 8


def _script() -> Script:
    """Each prompt has its own text, tool and tokens."""
    return Script(
        by_prompt={
            f"question {number}": Answer(
                f"answer {number}",
                calls=(Call(0, f'{{"city": "city {number}"}}', f"call_{number}"),),
                usage=TokenUsage(100 + number, 1 + number),
                delay=0.01 * (number % 5),
            )
            for number in range(MANY)
        }
    )


def _tools(number: int) -> tuple[ToolSpec, ...]:
    """Odd names, all different, that would collide where they are only cleaned."""
    return (ToolSpec(f"tool {'.' * (number % 3)} {number}", "A tool.", PLACE),)


def _judge(seen: Mapping[int, Outcome]) -> None:
    for number, outcome in seen.items():
        response = outcome.whole()
        expect_equal(response.message, f"answer {number}", f"for question {number} the text")
        calls = [(one.name, one.arguments) for one in response.tool_calls]
        wanted = [(_tools(number)[0].name, {"city": f"city {number}"})]
        expect_equal(calls, wanted, f"for question {number} the calls")
        if outcome.events:
            expect_equal(outcome.text, f"answer {number}", f"for question {number} the deltas")


async def _ask_all(provider: LLMProvider, verb: str) -> dict[int, Outcome]:
    asked = (acall(provider, verb, f"question {number}", _tools(number)) for number in range(MANY))
    return dict(enumerate(await asyncio.gather(*asked)))


@scenario("concurrency/tasks", "text", "tools")
def tasks(stage: Stage) -> None:
    """Fifty calls at once, in tasks, each get their own text and their own tools."""
    with stage.provider(script=_script()) as provider:
        _judge(stage.run(_ask_all(provider, "achat")))


@scenario("concurrency/streams", "text", "tools")
def streams(stage: Stage) -> None:
    """Fifty streams at once, in tasks, each get their own deltas and their own tools."""
    with stage.provider(script=_script()) as provider:
        _judge(stage.run(_ask_all(provider, "astream_chat")))


@scenario("concurrency/usage", "tools", "usage")
def usage(stage: Stage) -> None:
    """Fifty calls at once each count their own tokens."""
    with stage.provider(script=_script()) as provider:
        seen = stage.run(_ask_all(provider, "achat"))
    for number, outcome in seen.items():
        used = outcome.whole().tokens_used
        expect_equal((used.input, used.output), (100 + number, 1 + number), f"for question {number} tokens")


@scenario("concurrency/threads", "text", "tools")
def threads(stage: Stage) -> None:
    """Fifty blocking calls and streams from eight threads do not mix."""

    def ask(number: int) -> Outcome:
        verb = "chat" if number % 2 else "stream_chat"
        return call(provider, verb, f"question {number}", _tools(number))

    with stage.provider(script=_script()) as provider, ThreadPoolExecutor(THREADS) as pool:
        _judge(dict(enumerate(pool.map(ask, range(MANY)))))


@scenario("concurrency/two-event-loops", "text")
def two_event_loops(stage: Stage) -> None:
    """A provider serves two event loops, in two threads, one after the other and at once."""

    def ask(number: int) -> Outcome:
        async def once() -> Outcome:
            try:
                return await acall(provider, "achat", f"question {number}")
            finally:
                await close(provider)  # this loop's connections, before it ends

        return asyncio.run(once())

    answers = {f"question {number}": Answer(f"answer {number}") for number in range(4)}
    with stage.provider(script=Script(by_prompt=answers)) as provider, ThreadPoolExecutor(2) as pool:
        seen = [ask(0), ask(1), *pool.map(ask, (2, 3))]
        expect_equal(
            [outcome.whole().message for outcome in seen],
            [f"answer {number}" for number in range(4)],
            "the answers",
        )


@scenario("concurrency/calls-overlap", "slow")
def calls_overlap(stage: Stage) -> None:
    """Ten slow calls take about as long as one: they do not wait for each other."""

    async def ask(provider: LLMProvider) -> list[Outcome]:
        return await asyncio.gather(*(acall(provider, "achat", "Hello") for _ in range(10)))

    with stage.provider(Answer("Here.", delay=0.5)) as provider:
        begun = time.monotonic()
        for outcome in stage.run(ask(provider)):
            outcome.whole()
        waited = time.monotonic() - begun
    expect(waited < 4.0, "ten calls of 0.5 s within 4 s", f"{waited:.1f} s")
