"""Hedging: a second deployment is asked where the first is slow to begin, and the first to speak wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from loom_py import Agent, AgentBuilder, AzureEmulator, ChatOptions, ScriptedProvider
from loom_py.clock import VirtualClock
from loom_py.errors import RetriesExhausted, ServiceUnavailableError, StreamInterruptedError
from loom_py.messages import Response
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.events import HedgeStarted, HedgeWon
from tests.resilience.promises.pilot import (
    VERBS,
    Heard,
    Verb,
    achat,
    all_asleep,
    astream,
    fly,
    held,
    settled,
    stream,
)

AFTER = 3.0
"""Seconds after which the second is asked."""

verbs = pytest.mark.parametrize("ask", VERBS)


class Two:
    """A slow and a fast deployment, and an agent that calls the slow one first."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.heard = Heard()
        self.slow, self.fast = (
            AzureEmulator(
                ScriptedProvider(lambda _, name=name: f"the {name} one speaks"),  # type: ignore[misc]
                deployments={name: "gpt-4o-2024-11-20"},
                clock=self.clock,
            ).start()
            for name in ("slow", "fast")
        )

    def build(self, **fast: Any) -> Agent:
        members = [
            Deployment.azure(each.endpoint, name, each.api_key, name=name, **(fast if name == "fast" else {}))
            for name, each in (("slow", self.slow), ("fast", self.fast))
        ]
        builder = AgentBuilder().with_azure_openai_llm(deployments=members).with_clock(self.clock)
        builder = builder.with_hedging(after_seconds=AFTER).with_listener(self.heard)
        builder = builder.with_rate_limit(tokens_per_minute=100_000).with_retries(jitter_seconds=0)
        return builder.with_budget(tokens=10**6, per="agent").with_circuit_breakers().build()

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.slow.requests), len(self.fast.requests)

    @property
    def is_idle(self) -> bool:
        """Whether the servers have nothing to do any more, and nobody sleeps."""
        return not (self.slow.app._running or self.fast.app._running or self.clock.sleeping)


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    pair = Two()
    yield pair
    try:
        await settled(lambda: pair.is_idle, 2)
        assert asyncio.all_tasks() == {asyncio.current_task()}
    finally:
        pair.slow.stop()
        pair.fast.stop()


async def response(task: asyncio.Future[Response]) -> Response:
    return await asyncio.wait_for(task, 10)


def held_by(agent: Agent, name: str) -> int:
    """Calls to a deployment that are under way."""
    return agent.health().deployments[name].in_flight


@verbs
async def test_the_second_is_asked_only_after_its_time_and_the_loser_is_hung_up_on(
    ask: Verb, two: Two
) -> None:
    async with two.build() as agent:
        two.slow.delay_next(1000)
        task = asyncio.ensure_future(ask(agent))
        await all_asleep(two.clock, [task], also=1)  # the call's timer, and the slow server
        two.clock.advance(AFTER - 0.001)
        await asyncio.sleep(0.03)
        assert two.asked == (1, 0)
        two.clock.advance(0.001)
        answer = await response(task)
        assert answer.message == "the fast one speaks"
        assert "attempts" not in answer.metadata  # nothing failed
        assert (two.asked, two.clock.now()) == ((1, 1), AFTER)
        await settled(lambda: two.is_idle, 2)  # the server saw the client go
        assert held(agent) == []
        (began,) = two.heard.of(HedgeStarted)
        assert (began.deployment, began.to, began.after_seconds) == ("slow", "fast", AFTER)
        (won,) = two.heard.of(HedgeWon)
        assert (won.deployment, won.over) == ("fast", "slow")
        (status,) = agent.health().budgets
        assert status.tokens.spent > 4000  # the loser may be billed: its worst case is charged
        states = agent.health().deployments.values()
        assert [each.breaker.failures for each in states if each.breaker] == [0, 0]


@verbs
async def test_a_first_that_answers_in_time_is_the_only_one_asked(ask: Verb, two: Two) -> None:
    async with two.build() as agent:
        two.slow.delay_next(AFTER - 0.1)
        (answer,) = await fly(two.clock, [ask(agent)], also=1)
        assert isinstance(answer, Response)
        assert answer.message == "the slow one speaks"
        assert two.asked == (1, 0)
        assert not two.heard
        assert held(agent) == []


@verbs
async def test_the_first_may_still_win(ask: Verb, two: Two) -> None:
    async with two.build() as agent:
        two.slow.delay_next(5)
        two.fast.delay_next(1000)
        task = asyncio.ensure_future(ask(agent))
        await all_asleep(two.clock, [task], also=1)
        two.clock.advance(AFTER)
        await settled(lambda: two.asked == (1, 1) and two.clock.sleeping == 2)
        two.clock.advance(2)
        assert (await response(task)).message == "the slow one speaks"
        await settled(lambda: two.is_idle, 2)
        assert [(event.deployment, event.over) for event in two.heard.of(HedgeWon)] == [("slow", "fast")]
        assert held(agent) == []


@verbs
@pytest.mark.parametrize("sick", ["slow", "fast"])
async def test_the_failure_of_one_of_the_two_does_not_matter(ask: Verb, sick: str, two: Two) -> None:
    async with two.build() as agent:
        two.slow.delay_next(5)
        two.fast.delay_next(1 if sick == "fast" else 5)
        two.slow.fail_next(503) if sick == "slow" else two.fast.fail_next(503)
        task = asyncio.ensure_future(ask(agent))
        await all_asleep(two.clock, [task], also=1)
        two.clock.advance(AFTER)
        await settled(lambda: two.asked == (1, 1) and two.clock.sleeping == 2)
        two.clock.advance(1 if sick == "fast" else 2)
        await settled(lambda: held_by(agent, sick) == 0)
        two.clock.advance(1 if sick == "fast" else 3)
        well = "fast" if sick == "slow" else "slow"
        assert (await response(task)).message == f"the {well} one speaks"
        assert two.asked == (1, 1)
        failures = {
            name: each.breaker.failures for name, each in agent.health().deployments.items() if each.breaker
        }
        assert failures == ({"slow": 1, "fast": 0} if sick == "slow" else {"slow": 0, "fast": 1})
        assert held(agent) == []


@verbs
async def test_where_both_fail_the_call_fails_with_both(ask: Verb, two: Two) -> None:
    async with two.build() as agent:
        for each in (two.slow, two.fast):
            each.delay_next(5)
            each.fail_next(503, times=9)
        (error,) = await fly(two.clock, [ask(agent)], also=0)
        assert isinstance(error, RetriesExhausted)
        assert {each.deployment for each in error.attempts} == {"slow", "fast"}
        assert {type(each.error) for each in error.attempts} == {ServiceUnavailableError}
        assert sum(two.asked) == len(error.attempts)
        assert two.asked[0] >= 1
        assert two.asked[1] >= 1
        await settled(lambda: two.is_idle, 2)
        assert held(agent) == []


@verbs
async def test_a_failure_before_the_time_is_a_matter_of_retries(ask: Verb, two: Two) -> None:
    async with two.build() as agent:
        two.slow.fail_next(503)
        answer = await asyncio.wait_for(ask(agent), 10)
        assert answer.message == "the fast one speaks"
        assert answer.metadata["attempts"] == 2
        assert two.clock.now() == 0
        assert not two.heard.of(HedgeStarted)
        assert held(agent) == []


@verbs
@pytest.mark.parametrize("why", ["open", "throttled", "full"])
async def test_no_second_is_asked_where_none_is_free(ask: Verb, why: str, two: Two) -> None:
    async with two.build(tokens_per_minute=1000 if why == "full" else None) as agent:
        if why == "open":
            agent.circuit_breakers["fast"].force_open()
        elif why == "throttled":
            two.slow.fail_next(503)
            two.fast.fail_next(429, headers={"retry-after": "50"})
            await fly(two.clock, [ask(agent)])
        else:
            two.slow.fail_next(503)
            assert (await asyncio.wait_for(ask(agent), 10)).message == "the fast one speaks"
            assert agent.health().deployments["fast"].reason == "rate limit"
        before, began = two.asked[1], two.clock.now()
        two.slow.delay_next(10)
        two.heard.clear()
        task = asyncio.ensure_future(ask(agent))
        await settled(lambda: two.clock.sleeping >= 2)
        two.clock.advance(AFTER)
        await asyncio.sleep(0.03)
        two.clock.advance(10 - AFTER)
        assert (await response(task)).message == "the slow one speaks"
        assert two.asked[1] == before
        assert not two.heard.of(HedgeStarted)
        assert two.clock.now() - began == 10
        assert held(agent) == []


@pytest.mark.parametrize("ask", [achat, astream])
async def test_cancelling_hangs_up_on_both(ask: Verb, two: Two) -> None:
    async with two.build() as agent:
        two.slow.delay_next(1000)
        two.fast.delay_next(1000)
        task = asyncio.ensure_future(ask(agent))
        await all_asleep(two.clock, [task], also=1)
        two.clock.advance(AFTER)
        await settled(lambda: two.asked == (1, 1) and two.clock.sleeping == 2)
        assert sum(each.in_flight for each in agent.health().deployments.values()) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled(lambda: two.is_idle, 2)
        assert held(agent) == []
        assert not two.heard.of(HedgeWon)


@pytest.mark.parametrize("is_async", [False, True], ids=["stream", "astream"])
async def test_once_it_has_spoken_a_stream_is_not_hedged(is_async: bool, two: Two) -> None:
    async with two.build() as agent:
        two.slow.cut_next_stream(after_chunks=4)
        with pytest.raises(StreamInterruptedError):
            await (astream if is_async else stream)(agent)
        assert two.asked == (1, 0)
        assert held(agent) == []


@verbs
async def test_many_hedged_calls_leave_nothing_behind(ask: Verb, two: Two) -> None:
    async with two.build() as agent:
        two.slow.delay_next(1000, times=20)
        options = ChatOptions(max_tokens=100)
        tasks = [asyncio.ensure_future(ask(agent, options=options)) for _ in range(20)]
        await settled(lambda: two.clock.sleeping == 40)
        two.clock.advance(AFTER)
        answers = await asyncio.wait_for(asyncio.gather(*tasks), 20)
        assert {answer.message for answer in answers} == {"the fast one speaks"}
        assert two.asked == (20, 20)
        await settled(lambda: two.is_idle, 3)
        assert held(agent) == []
