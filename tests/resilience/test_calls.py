"""Model calls through an agent, in all four verbs, against an emulated Azure in virtual time."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing
from decimal import Decimal
from typing import Any, Self

import pytest

from loom_py import Agent, AgentBuilder, AzureEmulator, ChatOptions, ScriptedProvider, TokenUsage, tool
from loom_py.clock import VirtualClock
from loom_py.emulator import Ptu
from loom_py.errors import (
    AuthenticationError,
    CircuitOpenError,
    ConfigError,
    ContentFilterError,
    DeadlineExceededError,
    InvalidRequestError,
    LoomError,
    NoDeploymentError,
    ProviderError,
    RateLimitError,
    RetriesExhausted,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.events import StreamRestarted, TextDelta
from loom_py.llm.scripted import ScriptedRequest, Step, call, reply
from loom_py.messages import Response
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.events import (
    DeploymentRestored,
    DeploymentTakenOut,
    DeploymentThrottled,
    FailedOver,
    PolicyEvent,
    RetryScheduled,
    ToolWithheld,
)
from loom_py.resilience.spending import Account, Charge, Hold, Limits, MemoryLedger, Refusal
from tests.resilience.promises.pilot import (
    VERBS,
    Heard,
    Verb,
    achat,
    all_asleep,
    astream,
    chat,
    events_of,
    fly,
    held,
    settled,
)

NAME = "azure-openai/gpt-4o-deployment"
WORDS = "one two three four five six seven eight"

verbs = pytest.mark.parametrize("ask", VERBS)
either = pytest.mark.parametrize("is_async", [False, True], ids=["stream", "astream"])


@pytest.fixture
def clock() -> VirtualClock:
    """Whoever sleeps moves it on: for one call at a time."""
    return VirtualClock(auto_advance=True)


@pytest.fixture
def still() -> VirtualClock:
    """It stands still until it is advanced."""
    return VirtualClock()


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    with AzureEmulator() as emulator:
        yield emulator


def to(azure: AzureEmulator, clock: VirtualClock) -> AgentBuilder:
    return AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_clock(clock)


def scripted(clock: VirtualClock, *steps: Step) -> AgentBuilder:
    return AgentBuilder().with_llm(ScriptedProvider(steps)).with_clock(clock)


async def failure(ask: Verb, agent: Agent, **more: Any) -> LoomError:
    with pytest.raises(LoomError) as caught:
        await ask(agent, **more)
    return caught.value


# ── retries ──────────────────────────────────────────────────────────────────────────────


@verbs
async def test_what_fails_twice_and_then_works_is_an_answer(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    heard = Heard()
    async with to(azure, clock).with_listener(heard).build() as agent:
        azure.fail_next(503, times=2)
        response = await ask(agent)
        assert response.message == "Hi"
        assert response.metadata["attempts"] == 3
        assert 3 <= clock.now() <= 5  # 1 s and 2 s, each with up to 1 s of jitter
        assert [request.status for request in azure.requests] == [503, 503, 200]
        scheduled = heard.of(RetryScheduled)
        assert [(event.attempt, event.error) for event in scheduled] == [
            (1, "service_unavailable"),
            (2, "service_unavailable"),
        ]
        assert math.isclose(sum(event.wait_seconds for event in scheduled), clock.now(), abs_tol=0.01)
        assert held(agent) == []


@verbs
async def test_an_answer_at_once_says_nothing_of_attempts(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).build() as agent:
        assert "attempts" not in (await ask(agent)).metadata
        assert clock.now() == 0


@verbs
async def test_when_all_attempts_fail_the_error_holds_each_of_them(ask: Verb, clock: VirtualClock) -> None:
    async with (
        AzureEmulator(clock=clock) as azure,
        to(azure, clock).with_retries(jitter_seconds=0).build() as agent,
    ):
        azure.delay_next(0.5, times=5)
        azure.fail_next(500, times=4)
        azure.fail_next(429, headers={"retry-after": "7"})
        error = await failure(ask, agent)
        assert isinstance(error, RetriesExhausted)
        assert (error.http_status, error.retry_after, error.retryable) == (429, 7, True)
        assert error.__cause__ is error.last
        assert [type(each.error) for each in error.attempts] == [ServiceUnavailableError] * 4 + [
            RateLimitError
        ]
        assert {each.deployment for each in error.attempts} == {NAME}
        assert [each.at for each in error.attempts] == [0, 1.5, 4, 8.5, 17]
        assert [each.waited for each in error.attempts] == [0, 1, 2, 4, 8]
        assert [each.seconds for each in error.attempts] == [0.5] * 5  # the tries, not the pauses after them
        assert len(azure.requests) == 5
        assert held(agent) == []


@verbs
@pytest.mark.parametrize("most", [1, 2, 3])
async def test_attempts_are_exactly_as_many_as_configured(
    ask: Verb, most: int, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).with_retries(max_attempts=most).build() as agent:
        azure.fail_next(503, times=9)
        error = await failure(ask, agent)
        assert len(azure.requests) == most
        assert isinstance(error, RetriesExhausted if most > 1 else ServiceUnavailableError)


@verbs
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, InvalidRequestError),
        (400, "content_filter", ContentFilterError),
        (401, None, AuthenticationError),
    ],
)
async def test_what_no_repeating_mends_is_not_repeated(
    ask: Verb, status: int, code: str | None, kind: type[LoomError], azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).build() as agent:
        azure.fail_next(status, code=code)
        assert type(await failure(ask, agent)) is kind
        assert (len(azure.requests), clock.now()) == (1, 0)


@verbs
async def test_retries_stop_where_they_are_too_many_of_all_calls(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    retries: dict[str, Any] = {"budget_minimum": 2, "budget_ratio": 0, "initial_seconds": 0.001}
    async with to(azure, clock).with_retries(**retries).build() as agent:
        azure.fail_next(503, times=9)
        error = await failure(ask, agent)
        assert isinstance(error, RetriesExhausted)
        assert len(azure.requests) == 3
        assert "retries" in error.message
        assert isinstance(await failure(ask, agent), ServiceUnavailableError)
        assert len(azure.requests) == 4
        stats = agent.health().retries
        assert stats is not None
        assert (stats.calls, stats.retries, stats.left) == (2, 2, 0)


@verbs
async def test_a_providers_stray_exception_is_retried_as_what_it_means(
    ask: Verb, clock: VirtualClock
) -> None:
    async with scripted(
        clock, ConnectionResetError("reset"), TimeoutError("slow"), "There."
    ).build() as agent:
        response = await ask(agent)
        assert (response.message, response.metadata["attempts"]) == ("There.", 3)


@verbs
async def test_a_bug_of_a_provider_is_an_error_of_the_tree_and_not_repeated(
    ask: Verb, clock: VirtualClock
) -> None:
    async with scripted(clock, ZeroDivisionError("a bug"), "never asked").build() as agent:
        error = await failure(ask, agent)
        assert type(error) is ProviderError
        assert "ZeroDivisionError" in error.message
        assert isinstance(error.__cause__, ZeroDivisionError)
        assert held(agent) == []


# ── what failed attempts cost ────────────────────────────────────────────────────────────


def billed(usd: str | None) -> ServiceUnavailableError:
    cost = None if usd is None else Decimal(usd)
    return ServiceUnavailableError("broke off", tokens_used=TokenUsage(10, 5), cost_usd=cost)


@verbs
async def test_tokens_of_failed_attempts_are_part_of_what_was_used(ask: Verb, clock: VirtualClock) -> None:
    good = reply("Here.", tokens=TokenUsage(10, 7), cost_usd=Decimal("0.02"))
    async with scripted(clock, billed("0.01"), billed("0.01"), good).build() as agent:
        response = await ask(agent)
        assert response.tokens_used == TokenUsage(30, 17)
        assert response.cost_usd == Decimal("0.04")
        assert agent.costs().total == Decimal("0.04")
        assert agent.costs().calls == 3


@verbs
async def test_a_cost_that_is_not_known_of_one_attempt_is_not_known_of_all(
    ask: Verb, clock: VirtualClock
) -> None:
    good = reply("Here.", tokens=TokenUsage(10, 7), cost_usd=Decimal("0.02"))
    async with scripted(clock, billed(None), good).build() as agent:
        response = await ask(agent)
        assert (response.tokens_used, response.cost_usd) == (TokenUsage(20, 12), None)


@verbs
async def test_an_error_says_what_all_its_attempts_used(ask: Verb, clock: VirtualClock) -> None:
    async with scripted(clock, *[billed("0.01")] * 3).with_retries(max_attempts=3).build() as agent:
        error = await failure(ask, agent)
        assert (error.tokens_used, error.cost_usd) == (TokenUsage(30, 15), Decimal("0.03"))


# ── the server's word ────────────────────────────────────────────────────────────────────


@verbs
async def test_a_wait_the_server_asks_for_is_kept_to_the_millisecond(
    ask: Verb, azure: AzureEmulator, still: VirtualClock
) -> None:
    async with to(azure, still).with_retries(jitter_seconds=0).build() as agent:
        azure.fail_next(429, headers={"retry-after-ms": "1234", "retry-after": "1"})
        task = asyncio.ensure_future(ask(agent))
        await all_asleep(still, [task])
        still.advance(1.233)
        await asyncio.sleep(0.02)
        assert (len(azure.requests), still.sleeping) == (1, 1)
        still.advance(0.001)
        assert (await task).metadata["attempts"] == 2
        assert len(azure.requests) == 2


@verbs
async def test_one_429_pauses_all_calls_and_none_is_sent_before_its_time(
    ask: Verb, azure: AzureEmulator, still: VirtualClock
) -> None:
    heard = Heard()
    async with to(azure, still).with_listener(heard).build() as agent, to(azure, still).build() as other:
        azure.fail_next(429, headers={"retry-after": "20"})
        first = asyncio.ensure_future(ask(agent))
        await all_asleep(still, [first])
        tasks = [first, *(asyncio.ensure_future(ask(each)) for each in [agent, other] * 6)]
        await all_asleep(still, tasks)
        (state,) = agent.health().deployments.values()
        assert (state.reason, state.retry_in, state.throttle.in_a_row) == ("throttled", 20, 1)
        assert agent.health().status == "down"
        still.advance(19.999)
        await asyncio.sleep(0.03)
        assert len(azure.requests) == 1  # not one was sent into the pause
        assert [event.seconds for event in heard.of(DeploymentThrottled)] == [20]
        while await all_asleep(still, tasks):
            still.advance_to_next()
        assert [task.result().message for task in tasks] == ["Hi"] * 13
        assert 20 < still.now() < 21  # they did not all go at the same moment
        assert len(azure.requests) == 14
        assert agent.health().status == "ok"
        assert held(agent) == []


@verbs
@pytest.mark.parametrize(
    ("limits", "told"), [({"max_wait_seconds": 30}, "40"), ({}, "86400")], ids=["max_wait", "a day"]
)
async def test_a_wait_longer_than_a_call_may_wait_fails_at_once(
    ask: Verb, limits: dict[str, Any], told: str, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).with_retries(**limits).build() as agent:
        azure.fail_next(429, headers={"retry-after": told})
        error = await failure(ask, agent)
        assert isinstance(error, RateLimitError)
        assert error.retry_after == float(told)
        assert (len(azure.requests), clock.now()) == (1, 0)
        later = await failure(ask, agent)  # whoever comes now hears of it without asking
        assert isinstance(later, RateLimitError)
        assert (later.retry_after, later.sent) == (float(told), False)
        assert (len(azure.requests), clock.now()) == (1, 0)
        assert held(agent) == []


@verbs
async def test_a_wait_past_the_deadline_of_the_run_fails_at_once(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).with_timeouts(run=10).build() as agent:
        azure.fail_next(429, headers={"retry-after": "8"})
        azure.fail_next(429, headers={"retry-after": "8"})
        error = await failure(ask, agent)
        assert isinstance(error, RetriesExhausted)
        assert error.retry_after == 8
        assert "deadline" in error.message
        assert 8 <= clock.now() <= 10
        assert len(azure.requests) == 2


@verbs
async def test_no_backoff_goes_past_the_deadline_either(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).with_timeouts(run=6).build() as agent:
        azure.fail_next(503, times=9)
        assert isinstance(await failure(ask, agent), RetriesExhausted)
        assert clock.now() <= 6
        assert len(azure.requests) in {2, 3}


@verbs
async def test_a_run_whose_time_is_over_sends_nothing_more(ask: Verb, still: VirtualClock) -> None:
    async def slow(request: ScriptedRequest) -> Any:
        still.advance(6)
        return call("look")

    @tool
    def look() -> str:
        """Look."""
        return "seen"

    provider = ScriptedProvider([slow, "never asked"], strict=False)
    builder = AgentBuilder().with_llm(provider).with_tools(look).with_clock(still).with_timeouts(run=5)
    async with builder.build() as agent:
        error = await failure(ask, agent)
        assert isinstance(error, DeadlineExceededError)
        assert provider.remaining == 1
        assert held(agent) == []


# ── streams ──────────────────────────────────────────────────────────────────────────────


@either
@pytest.mark.parametrize("trouble", ["503", "cut before a word"])
async def test_a_stream_begins_anew_as_long_as_nothing_was_shown(
    is_async: bool, trouble: str, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).build() as agent:
        azure.fail_next(503) if trouble == "503" else azure.cut_next_stream(after_chunks=1)
        events = [event async for event in events_of(agent, is_async, WORDS)]
        assert "".join(event.delta for event in events) == WORDS
        assert not any(isinstance(event, StreamRestarted) for event in events)
        assert events[-1].response is not None
        assert events[-1].response.metadata["attempts"] == 2
        assert len(azure.requests) == 2


@either
async def test_a_stream_that_breaks_off_after_a_word_is_interrupted(
    is_async: bool, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).build() as agent:
        azure.cut_next_stream(after_chunks=4)
        deltas: list[str] = []

        async def read() -> None:
            async for event in events_of(agent, is_async, WORDS):
                deltas.append(event.delta)  # noqa: PERF401 - what was shown before the error counts

        with pytest.raises(StreamInterruptedError) as caught:
            await read()
        shown = "".join(deltas)
        assert shown
        assert WORDS.startswith(shown)
        assert caught.value.partial_text == shown
        assert (len(azure.requests), clock.now()) == (1, 0)
        assert held(agent) == []


@either
async def test_a_stream_may_begin_anew_with_a_word_on_what_to_forget(
    is_async: bool, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).with_retries(restart_streams=True).build() as agent:
        azure.cut_next_stream(after_chunks=4)
        azure.fail_next(503)
        azure.cut_next_stream(after_chunks=5)
        text, discarded = "", []
        async for event in events_of(agent, is_async, WORDS):
            if isinstance(event, StreamRestarted):
                discarded.append(event.discarded)
                assert text == event.discarded
                text = ""
            text += event.delta
            response = event.response
        assert text == WORDS
        assert response is not None
        assert (response.message, response.metadata["attempts"]) == (WORDS, 4)
        assert len(discarded) == 2
        assert len(azure.requests) == 4


# ── several deployments ──────────────────────────────────────────────────────────────────


class Region:
    """Two or three emulated resources, each with its own deployment."""

    def __init__(self, clock: VirtualClock, *names: str, **more: Any) -> None:
        self.clock = clock
        self.azures = {
            name: AzureEmulator(
                ScriptedProvider(lambda request, name=name: name),  # type: ignore[misc]
                deployments={name: "gpt-4o-2024-11-20"},
                clock=clock,
                **more.get(name, {}),
            ).start()
            for name in names
        }

    def deployment(self, name: str, **more: Any) -> Deployment:
        azure = self.azures[name]
        return Deployment.azure(azure.endpoint, name, azure.api_key, name=name, **more)

    def pool(self, **more: dict[str, Any]) -> AgentBuilder:
        members = [self.deployment(name, **more.get(name, {})) for name in self.azures]
        return AgentBuilder().with_azure_openai_llm(deployments=members).with_clock(self.clock)

    def asked(self) -> list[int]:
        return [len(azure.requests) for azure in self.azures.values()]

    def __getitem__(self, name: str) -> AzureEmulator:
        return self.azures[name]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for azure in self.azures.values():
            azure.stop()


@verbs
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_another_deployment_is_asked_at_once(ask: Verb, status: int, clock: VirtualClock) -> None:
    heard = Heard()
    async with Region(clock, "east", "west") as region, region.pool().with_listener(heard).build() as agent:
        region["east"].fail_next(status)
        response = await ask(agent)
        assert (response.message, response.metadata["attempts"], clock.now()) == ("west", 2, 0)
        (event,) = heard.of(FailedOver)
        assert (event.deployment, event.to) == ("east", "west")
        assert held(agent) == []


@pytest.mark.parametrize(
    "strategy", ["round-robin", "weighted", "least-loaded", "lowest-latency", "priority"]
)
async def test_the_call_goes_where_the_event_says(strategy: Any, clock: VirtualClock) -> None:
    heard = Heard()
    async with Region(clock, "a", "b", "c") as region:
        builder = AgentBuilder().with_load_balancing(
            [region.deployment(name) for name in "abc"], strategy=strategy
        )
        async with builder.with_clock(clock).with_listener(heard).build() as agent:
            region["a"].fail_next(503)
            failed_over = []
            for _ in range(6):
                heard.clear()
                answered = (await chat(agent)).message
                failed_over += [(event.to, answered) for event in heard.of(FailedOver)]
            ((to, answered),) = failed_over
            assert to == answered


async def test_round_robin_stays_even_when_calls_fail_over(clock: VirtualClock) -> None:
    async with Region(clock, "a", "b", "c") as region:
        builder = AgentBuilder().with_load_balancing(
            [region.deployment(name) for name in "abc"], strategy="round-robin"
        )
        async with builder.with_clock(clock).with_retries(budget_minimum=100).build() as agent:
            region["a"].fail_next(400 + 29, headers={"retry-after": "1"})
            for _ in range(31):
                await chat(agent)
                clock.advance(2)
            assert max(region.asked()) - min(region.asked()) <= 2


@verbs
async def test_a_deployment_with_a_wrong_key_is_out_once_and_comes_back(
    ask: Verb, still: VirtualClock
) -> None:
    heard = Heard()
    async with Region(still, "east", "west") as region, region.pool().with_listener(heard).build() as agent:
        region["east"].delay_next(1, times=8)
        region["east"].fail_next(401, times=8)
        answers = await fly(still, [ask(agent) for _ in range(8)])
        assert [each.message for each in answers if isinstance(each, Response)] == ["west"] * 8
        (out,) = heard.of(DeploymentTakenOut)  # eight were refused, it was told once
        assert (out.deployment, out.error, out.http_status, out.seconds) == ("east", "unauthorized", 401, 300)
        state = agent.health().deployments["east"]
        assert state.breaker is not None
        assert (state.breaker.state, agent.health().status) == ("open", "degraded")
        assert "401" in state.reason
        asked = region.asked()
        assert (await ask(agent)).message == "west"
        assert region.asked() == [asked[0], asked[1] + 1]
        assert not heard.of(DeploymentRestored)
        still.advance(300)
        assert (await ask(agent)).message == "east"
        assert [event.deployment for event in heard.of(DeploymentRestored)] == ["east"]
        assert agent.health().status == "ok"
        assert held(agent) == []


@verbs
async def test_when_none_is_left_the_error_says_why_of_each(ask: Verb, clock: VirtualClock) -> None:
    async with Region(clock, "east", "west") as region, region.pool().build() as agent:
        region["east"].fail_next(401)
        region["west"].fail_next(429, headers={"retry-after": "500"})
        assert isinstance(await failure(ask, agent), RetriesExhausted)
        error = await failure(ask, agent)
        assert isinstance(error, NoDeploymentError)
        assert set(error.reasons) == {"east", "west"}
        assert "401" in error.reasons["east"]
        assert error.reasons["west"] == "throttled"
        assert error.retry_after == 300
        assert (region.asked(), clock.now()) == ([1, 1], 0)
        assert agent.health().status == "down"
        assert agent.health().to_dict()["deployments"]["west"]["retry_in"] == 500


@verbs
async def test_if_none_is_ready_the_soonest_is_waited_for(ask: Verb, clock: VirtualClock) -> None:
    async with Region(clock, "east", "west") as region, region.pool().build() as agent:
        region["east"].fail_next(429, headers={"retry-after": "40"})
        region["west"].fail_next(429, headers={"retry-after": "6"})
        response = await ask(agent)
        assert (response.message, response.metadata["attempts"]) == ("west", 3)
        assert 6 <= clock.now() <= 8
        assert region.asked() == [1, 2]


@verbs
async def test_a_long_wait_of_one_is_no_reason_to_wait_long_for_the_other(
    ask: Verb, clock: VirtualClock
) -> None:
    async with Region(clock, "east", "west") as region, region.pool().build() as agent:
        region["east"].fail_next(429, headers={"retry-after": "6"})
        region["west"].fail_next(429, headers={"retry-after": "600"})
        response = await ask(agent)
        assert (response.message, response.metadata["attempts"]) == ("east", 3)
        assert 6 <= clock.now() <= 8


@verbs
async def test_a_retry_that_cannot_wait_is_not_announced(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    heard = Heard()
    async with to(azure, clock).with_listener(heard).build() as agent:
        azure.fail_next(429, headers={"retry-after": "86400"})
        await failure(ask, agent)
        assert not heard.of(RetryScheduled)
        stats = agent.health().retries
        assert stats is not None
        assert stats.retries == 0


@verbs
async def test_data_stays_where_it_has_to(ask: Verb, clock: VirtualClock) -> None:
    async with Region(clock, "us", "eu", "de") as region:
        tags: dict[str, dict[str, Any]] = {
            "us": {"residency": "us"},
            "eu": {"residency": "EU"},
            "de": {"residency": ["eu", "de"]},
        }
        async with region.pool(**tags).build() as agent:
            assert (await ask(agent)).message == "us"
            assert (await ask(agent, options=ChatOptions(residency="eu"))).message == "eu"
            region["eu"].fail_next(503)
            assert (await ask(agent, options=ChatOptions(residency="eu"))).message == "de"
            assert (await ask(agent, options=ChatOptions(residency="de"))).message == "de"
            region["de"].fail_next(503, times=9)
            error = await failure(ask, agent, options=ChatOptions(residency="de"))
            assert isinstance(error, RetriesExhausted)
            assert {each.deployment for each in error.attempts} == {"de"}
            assert isinstance(await failure(ask, agent, options=ChatOptions(residency="mars")), ConfigError)
            assert region["us"].requests[-1].status == 200
            assert len(region["us"].requests) == 1


@verbs
async def test_a_session_stays_where_its_prompt_is_cached(ask: Verb, clock: VirtualClock) -> None:
    async with Region(clock, "a", "b", "c") as region:
        builder = AgentBuilder().with_load_balancing(
            [region.deployment(name) for name in "abc"], strategy="round-robin"
        )
        async with builder.with_clock(clock).build() as agent:
            homes = {name: (await ask(agent, session_id=name)).message for name in ("ada", "bob", "cy")}
            assert len(set(homes.values())) == 3
            for _ in range(3):
                for name, home in homes.items():
                    assert (await ask(agent, session_id=name)).message == home
            region[homes["ada"]].fail_next(503)
            moved = (await ask(agent, session_id="ada")).message
            assert moved != homes["ada"]
            assert (await ask(agent, session_id="ada")).message == moved


@verbs
async def test_provisioned_throughput_goes_first_and_spills_over(ask: Verb, clock: VirtualClock) -> None:
    ptu = {"quotas": {"ptu": Ptu(tokens_per_minute=6000)}}
    async with Region(clock, "paygo", "ptu", ptu=ptu) as region:  # noqa: SIM117 - two sentences
        async with region.pool(ptu={"provisioned": True}).build() as agent:
            options = ChatOptions(max_tokens=7000)
            first = await ask(agent, options=options)
            assert first.message == "ptu"
            region["ptu"].engine = ScriptedProvider(lambda _: reply("ptu", tokens=TokenUsage(6000, 900)))
            assert (await ask(agent, options=options)).message == "ptu"
            spilt = await ask(agent, options=options)
            assert (spilt.message, spilt.metadata["attempts"], clock.now()) == ("paygo", 2, 0)
            assert (await ask(agent, options=options)).message == "paygo"
            assert len(region["ptu"].requests) == 3  # it was not asked again while it is full
            clock.advance(60)
            assert (await ask(agent, options=options)).message == "ptu"


# ── breakers by hand, and of tools ───────────────────────────────────────────────────────


@verbs
async def test_a_breaker_can_be_forced_open_closed_and_reset(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).with_circuit_breakers().build() as agent:
        breaker = agent.circuit_breakers[NAME]
        breaker.force_open()
        error = await failure(ask, agent)
        assert isinstance(error, CircuitOpenError)
        assert (error.retry_after, len(azure.requests)) == (None, 0)
        state = agent.health().deployments[NAME]
        assert state.breaker is not None
        assert (state.breaker.forced, state.retry_in, agent.health().status) == (True, math.inf, "down")
        assert agent.health().to_dict()["deployments"][NAME]["retry_in"] is None
        breaker.force_close()
        assert (await ask(agent)).message == "Hi"
        breaker.force_open()
        breaker.reset()
        assert (await ask(agent)).message == "Hi"
        assert agent.health().status == "ok"


@verbs
async def test_an_open_breaker_refuses_at_once_and_probes_in_its_time(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    async with to(azure, clock).with_circuit_breakers(failure_threshold=3).build() as agent:
        azure.fail_next(503, times=4)
        error = await failure(ask, agent)  # the third failure opens it, and ends the retries
        assert isinstance(error, RetriesExhausted)
        assert len(error.attempts) == 3
        assert isinstance(await failure(ask, agent), CircuitOpenError)
        assert len(azure.requests) == 3
        clock.advance(30)
        assert isinstance(await failure(ask, agent), ServiceUnavailableError)  # the probe
        refused = await failure(ask, agent)
        assert isinstance(refused, CircuitOpenError)
        assert refused.retry_after == pytest.approx(60, abs=0.01)  # doubled
        assert len(azure.requests) == 4
        clock.advance(60)
        for _ in range(3):
            assert (await ask(agent)).message == "Hi"
        assert agent.circuit_breakers[NAME].state == "closed"


@verbs
async def test_a_tool_whose_breaker_is_open_is_withheld_and_the_model_is_told(
    ask: Verb, clock: VirtualClock
) -> None:
    @tool
    def broken() -> str:
        """Breaks."""
        raise RuntimeError("boom")

    @tool
    def fine() -> str:
        """Works."""
        return "fine"

    heard = Heard()
    provider = ScriptedProvider(
        [call("broken"), call("broken"), "Sorry.", "Without it.", call("broken"), "Back."]
    )
    builder = (
        AgentBuilder().with_llm(provider).with_tools(broken, fine).with_listener(heard).with_clock(clock)
    )
    async with builder.with_circuit_breakers(failure_threshold=2).build() as agent:
        await ask(agent)
        assert agent.health().tools["broken"].state == "open"
        assert agent.health().status == "degraded"
        offered = [[spec.name for spec in request.tools] for request in provider.requests]
        assert offered == [["broken", "fine"], ["broken", "fine"], ["fine"]]
        assert "broken" in provider.requests[2].messages[-1].text
        (event,) = heard.of(ToolWithheld)
        assert (event.tool, event.retry_after) == ("broken", 30)

        await ask(agent, options=ChatOptions(tool_choice="broken"))
        assert provider.requests[3].options.tool_choice is None  # or Azure would refuse the request
        assert [spec.name for spec in provider.requests[3].tools] == ["fine"]
        assert len(heard.of(ToolWithheld)) == 1  # it is said once, not with every call

        agent.circuit_breakers["broken"].reset()
        await ask(agent, options=ChatOptions(tool_choice="broken"))
        assert provider.requests[4].options.tool_choice == "broken"
        assert "out of service" not in provider.requests[4].messages[-1].text


@verbs
async def test_a_note_on_withheld_tools_is_not_kept_in_the_session(ask: Verb, clock: VirtualClock) -> None:
    @tool
    def broken() -> str:
        """Breaks."""
        raise RuntimeError("boom")

    builder = scripted(clock, "One.", "Two.").with_tools(broken).with_circuit_breakers()
    async with builder.build() as agent:
        agent.circuit_breakers["broken"].force_open()
        await ask(agent, session_id="s")
        assert [message.text for message in agent.history("s")] == ["Hi", "One."]


# ── listeners ────────────────────────────────────────────────────────────────────────────


@verbs
async def test_a_listener_that_raises_harms_nothing(
    ask: Verb, azure: AzureEmulator, clock: VirtualClock
) -> None:
    def bad(event: PolicyEvent) -> None:
        raise ValueError("a bug in a listener")

    heard = Heard()
    async with to(azure, clock).with_listener(bad).with_listener(heard).build() as agent:
        azure.fail_next(503)
        azure.fail_next(429, headers={"retry-after": "1"})
        assert (await ask(agent)).metadata["attempts"] == 3
        assert [event.name for event in heard] == [
            "retry_scheduled",
            "deployment_throttled",
            "retry_scheduled",
        ]
        assert held(agent) == []


# ── cancelling ───────────────────────────────────────────────────────────────────────────


class SlowLedger(MemoryLedger):
    """A ledger as on a disk that hangs: it stops where it is told to, until it is let go."""

    blocks = True

    def __init__(self, stops_at: str) -> None:
        super().__init__()
        self._stops_at = stops_at
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def reserve(self, account: Account, usd: int, tokens: int, limits: Limits) -> Hold | Refusal:
        self._stop("reserve")
        return super().reserve(account, usd, tokens, limits)

    def end(self, hold: Hold, charge: Charge) -> None:
        self._stop("end")
        super().end(hold, charge)

    def _stop(self, where: str) -> None:
        if where == self._stops_at and not self.reached.is_set():
            self.reached.set()
            self.go_on.wait(10)


class Scene:
    """An agent with every policy, brought to a point of a call where it waits."""

    def __init__(self, point: str) -> None:
        self.point = point
        self.clock = VirtualClock()
        self.ledger = SlowLedger({"reserving": "reserve", "settling": "end"}.get(point, ""))
        engine = ScriptedProvider(lambda _: reply(WORDS, tokens=TokenUsage(800, 100)))
        delay = 1000 if point == "streaming" else 0
        self.azure = AzureEmulator(engine, clock=self.clock, chunk_delay=delay)

    def __enter__(self) -> Self:
        self.azure.start()
        builder = to(self.azure, self.clock).with_circuit_breakers().with_retries(restart_streams=True)
        builder = builder.with_rate_limit(tokens_per_minute=6000)
        self.agent = builder.with_budget(tokens=10**6, per="agent", ledger=self.ledger).build()
        if self.point == "queueing":
            for _ in range(6):
                self.agent.chat("Hi", options=ChatOptions(max_tokens=100))
        if self.point in {"backing off", "paused"}:
            self.azure.fail_next(503 if self.point == "backing off" else 429)
        if self.point == "sending":
            self.azure.delay_next(1000)
        self.spent = self.tokens_spent()
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.go_on.set()
        self.azure.stop()

    @property
    def is_reached(self) -> bool:
        if self.point in {"reserving", "settling"}:
            return self.ledger.reached.is_set()
        return self.clock.sleeping == 1

    def tokens_spent(self) -> int:
        return sum(int(status.tokens.spent) for status in self.agent.health().budgets)

    @property
    def is_clean(self) -> bool:
        return held(self.agent) == [] and self.clock.sleeping == 0

    def check(self) -> None:
        """Nothing is held any more, and what may have been billed is charged."""
        if self.point in {"sending", "streaming"}:
            assert self.tokens_spent() - self.spent > 4000  # nobody knows, so the worst case is
        elif self.point == "settling":
            assert self.tokens_spent() - self.spent == 900
            assert self.agent.costs().calls == 1
        else:
            assert self.tokens_spent() == self.spent
        (lane,) = self.agent.health().deployments.values()
        assert lane.breaker is not None
        assert lane.breaker.failures == (1 if self.point == "backing off" else 0)


POINTS = ["reserving", "queueing", "backing off", "paused", "sending", "settling"]


@pytest.mark.parametrize(
    ("ask", "point"),
    [*((ask, point) for point in POINTS for ask in (achat, astream)), (astream, "streaming")],
)
async def test_cancelling_a_task_gives_everything_back_at_once(ask: Verb, point: str) -> None:
    with Scene(point) as scene:
        async with scene.agent as agent:
            task = asyncio.create_task(ask(agent))
            await settled(lambda: scene.is_reached)
            task.cancel()
            began = time.monotonic()
            if point == "settling":
                scene.ledger.go_on.set()  # what is being written is written
            with pytest.raises(asyncio.CancelledError):
                await task
            scene.ledger.go_on.set()
            await settled(lambda: scene.is_clean, 2)
            assert time.monotonic() - began < 1
            scene.check()


@pytest.mark.parametrize(
    ("is_stream", "point"),
    [
        *((is_stream, point) for point in POINTS[1:-1] for is_stream in (False, True)),
        (True, "streaming"),
    ],
)
def test_control_c_gives_everything_back_at_once(is_stream: bool, point: str) -> None:
    with Scene(point) as scene, scene.agent as agent:

        def interrupt() -> None:
            asyncio.run(settled(lambda: scene.is_reached))
            time.sleep(0.05)  # a signal that comes just before a thread blocks does not wake it
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            list(agent.stream_chat("Hi")) if is_stream else agent.chat("Hi")
        thread.join()
        asyncio.run(settled(lambda: scene.is_clean, 2))
        scene.check()


@either
@pytest.mark.parametrize("after", ["a word", "a restart", "a restart elsewhere"])
async def test_closing_a_stream_gives_everything_back_at_once(is_async: bool, after: str) -> None:
    gc.disable()  # a cycle that is collected some day is not at once
    try:
        clock = VirtualClock(auto_advance=True)
        async with Region(clock, "east", "west") as region:
            region["east"].engine = ScriptedProvider(lambda _: WORDS)
            builder = region.pool() if after == "a restart elsewhere" else to_one(region, "east", clock)
            builder = builder.with_budget(tokens=10**6, per="agent").with_rate_limit(tokens_per_minute=10**6)
            async with builder.with_retries(restart_streams=True).build() as agent:
                if after != "a word":
                    region["east"].cut_next_stream(after_chunks=4)
                events = events_of(agent, is_async)
                async with aclosing(events):  # type: ignore[type-var]
                    async for event in events:
                        if isinstance(event, TextDelta if after == "a word" else StreamRestarted):
                            break
                assert held(agent) == []
                (status,) = agent.health().budgets
                assert status.tokens.spent > 4000  # nobody knows what was billed: the worst case is charged
                await settled(lambda: all(azure_is_idle(azure) for azure in region.azures.values()))
    finally:
        gc.enable()


def to_one(region: Region, name: str, clock: VirtualClock) -> AgentBuilder:
    return AgentBuilder().with_azure_openai_llm(deployments=[region.deployment(name)]).with_clock(clock)


def azure_is_idle(azure: AzureEmulator) -> bool:
    return not azure.app._running


async def test_a_cancelled_probe_leaves_its_place_to_the_next(still: VirtualClock) -> None:
    async with AzureEmulator(clock=still) as azure, to(azure, still).with_circuit_breakers().build() as agent:
        breaker = agent.circuit_breakers[NAME]
        breaker.take_out(30, "a test")
        still.advance(30)
        azure.delay_next(1000)
        task = asyncio.create_task(achat(agent))
        await all_asleep(still, [task])
        assert isinstance(await failure(achat, agent), CircuitOpenError)
        task.cancel()
        await asyncio.wait([task])
        assert held(agent) == []
        assert (await achat(agent)).message == "Hi"


async def test_who_waits_behind_a_cancelled_call_moves_up(still: VirtualClock) -> None:
    async with AzureEmulator(clock=still) as azure:  # noqa: SIM117 - two sentences
        async with to(azure, still).with_rate_limit(tokens_per_minute=5000).build() as agent:
            azure.delay_next(1000)
            sent, queued, behind = (asyncio.create_task(achat(agent)) for _ in range(3))
            await all_asleep(still, [sent, queued, behind])
            (lane,) = agent.health().deployments.values()
            assert lane.rate_limit is not None
            assert lane.rate_limit.queued == 2
            queued.cancel()
            await all_asleep(still, [sent, behind])
            still.advance(61)
            assert (await behind).message == "Hi"
            sent.cancel()
            await asyncio.wait([sent])
            assert held(agent) == []


@verbs
async def test_time_in_the_queue_is_no_time_spent_on_pauses(ask: Verb, still: VirtualClock) -> None:
    async with AzureEmulator(clock=still) as azure:
        builder = to(azure, still).with_rate_limit(tokens_per_minute=5000).with_retries(jitter_seconds=0)
        async with builder.build() as agent:
            tasks = []
            for _ in range(3):
                tasks.append(asyncio.ensure_future(ask(agent)))
                await settled(lambda: len(azure.requests) + still.sleeping >= len(tasks))
            azure.fail_next(429, headers={"retry-after": "55"})  # in the second minute, to the second call
            while await all_asleep(still, tasks):
                still.advance_to_next()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [getattr(each, "message", each) for each in answers] == ["Hi"] * 3
