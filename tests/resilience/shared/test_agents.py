"""Agents of many processes that act as one: an emulated Azure, a real Redis, and the public API alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from loom_py import Agent, AgentBuilder, AzureEmulator, ChatOptions, ScriptedProvider, TokenUsage, reply
from loom_py.clock import RealClock
from loom_py.emulator import Quota
from loom_py.errors import (
    BudgetExceededError,
    CircuitOpenError,
    DeadlineExceededError,
    LoomError,
    NoDeploymentError,
    QueueError,
    QueueFullError,
    QueueTimeoutError,
    RateLimitError,
    RetriesExhausted,
    ServiceUnavailableError,
)
from loom_py.resilience.breaker import BreakerStats
from loom_py.resilience.budget import BudgetAlert
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.events import (
    BudgetExtended,
    CallQueued,
    HedgeWon,
    SharedStateLost,
    SharedStateRestored,
)
from tests.resilience.promises.pilot import VERBS, Heard, Verb, chat, held, in_thread, settled

ONE = "azure-openai/one"
QUICK: dict[str, Any] = {"heartbeat": 0.2, "lease": 1.0, "timeout": 5}
BILLED = 200
"""Tokens of every answer, 20 of them for what was asked."""

verbs = pytest.mark.parametrize("ask", VERBS)


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    model = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(20, BILLED - 20)))
    with AzureEmulator(model, deployments=["one", "two"]) as emulator:
        yield emulator


class Fleet:
    """Agents that share one Redis. Each has a connection and a heartbeat of its own, as a process has."""

    def __init__(self, azure: AzureEmulator, server: Any) -> None:
        self.azure, self.server = azure, server
        self.agents: list[Agent] = []

    def base(self, **settings: Any) -> AgentBuilder:
        """Calls one deployment, once."""
        options: dict[str, Any] = {"max_tokens": 500, "model_name": "gpt-4o-2024-11-20", **settings}
        builder = AgentBuilder().with_azure_openai_llm(**self.azure.client_kwargs("one"), **options)
        return builder.with_retries(max_attempts=1)

    def pool(self) -> AgentBuilder:
        """Calls the first of two deployments, and the second where the first cannot be."""
        settings: Any = {"max_tokens": 500, "model_name": "gpt-4o-2024-11-20"}
        two = Deployment.azure(self.azure.endpoint, "two", self.azure.api_key, **settings)
        builder = AgentBuilder().with_azure_openai_llm(**self.azure.client_kwargs("one"), **settings)
        return builder.with_failover([two], sticky=False)

    def of(self, builder: AgentBuilder, count: int = 2, **settings: Any) -> list[Agent]:
        """So many agents. With one clock for all they would share throttling and limiter in the process."""
        shared = builder.with_shared_state(self.server.url, **{**QUICK, **settings})
        made = [shared.with_clock(RealClock()).build() for _ in range(count)]
        self.agents += made
        return made

    def asked(self, name: str = "one") -> int:
        """How many requests a deployment has received."""
        return sum(request.deployment == name for request in self.azure.requests)

    def in_redis(self) -> list[str]:
        """What calls hold in Redis now: nothing, where none is under way."""
        keys: list[str] = self.server.command("KEYS", "*")
        found = [key for key in keys if ":permits:" in key]
        accounts = [key for key in keys if ":account:" in key]
        return found + [key for key in accounts if self.server.command("HGET", key, "reserved") != "0"]

    async def emptied(self, seconds: float = 3.0) -> None:
        """Wait until calls hold nothing in Redis."""
        end = time.monotonic() + seconds
        while left := await asyncio.to_thread(self.in_redis):
            assert time.monotonic() < end, left
            await asyncio.sleep(0.02)


@pytest.fixture
async def fleet(azure: AzureEmulator, redis_server: Any) -> AsyncIterator[Fleet]:
    made = Fleet(azure, redis_server)
    yield made
    for agent in made.agents:
        await agent.aclose()


def breaker(agent: Agent, name: str = ONE) -> BreakerStats:
    """The breaker of a deployment, as Redis has it."""
    assert agent.shared_state is not None
    stats = agent.shared_state.stats(agent.health().deployments[name].key)
    assert stats is not None
    return stats


def sums(agent: Agent, unit: Any = "tokens", account: str | None = None) -> Any:
    """The sums of an agent's budget, as Redis has them."""
    assert agent.shared_state is not None
    found = agent.shared_state.balance(account or f"agent:{agent.name}:", unit)
    assert found is not None
    return found


async def outcome(ask: Verb, agent: Agent, **more: Any) -> Any:
    """The response, or what was raised instead."""
    try:
        return await ask(agent, **more)
    except LoomError as error:
        return error


# ── breakers ─────────────────────────────────────────────────────────────────────────────


@verbs
async def test_failures_of_two_agents_open_the_breaker_of_both_and_a_reset_closes_it(
    ask: Verb, fleet: Fleet
) -> None:
    one, other = fleet.of(fleet.base().with_circuit_breakers())
    fleet.azure.fail_next(503, times=5)
    for agent in (one, other, one, other, one):
        assert isinstance(await outcome(ask, agent), ServiceUnavailableError)
    for agent in (one, other):
        refused = await outcome(ask, agent)
        assert isinstance(refused, CircuitOpenError)
        assert refused.deployment == "one"
        assert 25 < (refused.retry_after or 0) <= 30
        assert agent.circuit_breakers[ONE].is_available  # by itself it has not seen enough
    assert fleet.asked() == 5
    assert one.shared_state is not None
    assert one.shared_state.control(one.health().deployments[ONE].key, "reset")
    assert [(await outcome(ask, agent)).message for agent in (one, other)] == ["Hello!"] * 2
    assert fleet.in_redis() == []


async def test_a_deployment_that_cannot_be_reached_opens_the_breaker_of_all(fleet: Fleet) -> None:
    with AzureEmulator(deployments=["one"]) as gone:
        settings = gone.client_kwargs()
    builder = AgentBuilder().with_azure_openai_llm(**settings).with_retries(max_attempts=1)
    one, other = fleet.of(builder.with_circuit_breakers(failure_threshold=4))
    for agent in (one, other, one, other):
        assert isinstance(await outcome(chat, agent), ServiceUnavailableError)
    assert isinstance(await outcome(chat, one), CircuitOpenError)
    assert isinstance(await outcome(chat, other), CircuitOpenError)


@verbs
async def test_a_pool_turns_to_another_deployment_when_others_have_seen_one_fail(
    ask: Verb, fleet: Fleet
) -> None:
    *failing, newcomer = fleet.of(fleet.pool().with_circuit_breakers(failure_threshold=4), 3)
    fleet.azure.fail_next(503, times=4, deployment="one")
    for agent in (*failing, *failing):
        assert (await ask(agent)).message == "Hello!"
    assert (fleet.asked("one"), fleet.asked("two")) == (4, 4)
    assert (await ask(newcomer)).message == "Hello!"
    assert (fleet.asked("one"), fleet.asked("two")) == (4, 5)
    assert fleet.in_redis() == []


async def test_a_pool_that_others_have_forced_open_says_so_at_once(fleet: Fleet) -> None:
    one, other = fleet.of(fleet.pool())
    assert one.shared_state is not None
    for lane in one.health().deployments.values():
        assert one.shared_state.control(lane.key, "open", reason="maintenance")
    began = time.monotonic()
    refused = await outcome(chat, other)
    assert isinstance(refused, NoDeploymentError)
    assert set(refused.reasons.values()) == {"maintenance"}
    assert refused.retry_after is None
    assert time.monotonic() - began < 5
    assert len(fleet.azure.requests) == 0


async def test_one_probe_is_sent_whoever_asks_and_its_success_is_for_all(fleet: Fleet) -> None:
    settings: dict[str, Any] = {"failure_threshold": 1, "success_threshold": 1, "open_seconds": 0.3}
    agents = fleet.of(fleet.base().with_circuit_breakers(**settings), 3)
    fleet.azure.fail_next(503)
    assert isinstance(await outcome(chat, agents[0]), ServiceUnavailableError)
    await asyncio.sleep(0.4)
    fleet.azure.delay_next(0.5)
    probes = await asyncio.gather(*(outcome(chat, agent) for agent in agents for _ in range(4)))
    answers = [probe for probe in probes if not isinstance(probe, LoomError)]
    assert len(answers) == 1
    assert all(isinstance(probe, CircuitOpenError) for probe in probes if isinstance(probe, LoomError))
    assert fleet.asked() == 2
    assert breaker(agents[0]).state == "closed"
    assert [(await chat(agent)).message for agent in agents] == ["Hello!"] * 3


# ── throttling ───────────────────────────────────────────────────────────────────────────


@verbs
async def test_a_throttling_that_one_has_seen_holds_the_other_back(ask: Verb, fleet: Fleet) -> None:
    one, other = fleet.of(fleet.base())
    (patient,) = fleet.of(fleet.base().with_retries(jitter_seconds=0), 1)
    fleet.azure.fail_next(429, headers={"Retry-After": "1"})
    assert isinstance(await outcome(ask, one), RateLimitError)
    began = time.monotonic()
    refused = await outcome(ask, other)  # which does not wait, as it does not try again
    assert isinstance(refused, RateLimitError)
    assert not refused.sent
    assert fleet.asked() == 1
    assert (await ask(patient)).message == "Hello!"
    assert time.monotonic() - began > 0.6
    assert [request.status for request in fleet.azure.requests] == [429, 200]
    assert fleet.in_redis() == []


async def test_a_throttled_call_gives_its_tokens_back_to_all(fleet: Fleet) -> None:
    builder = fleet.base(max_tokens=6000).with_rate_limit(tokens_per_minute=10_000, queue_timeout=0.5)
    one, other = fleet.of(builder)
    fleet.azure.fail_next(429, headers={"Retry-After": "1"})
    assert isinstance(await outcome(chat, one), RateLimitError)
    await asyncio.sleep(1.1)
    assert (await chat(other)).message == "Hello!"


# ── rate limits ──────────────────────────────────────────────────────────────────────────

CALLER = """
    import asyncio
    from loom_py import AgentBuilder
    from loom_py.errors import LoomError

    told = hear()
    builder = AgentBuilder().with_azure_openai_llm(**told["azure"]).with_retries(max_attempts=1)
    for name, settings in told["policies"].items():
        builder = getattr(builder, "with_" + name)(**settings)
    url, quick = sys.argv[1], {"heartbeat": 0.2, "lease": 1.0, "timeout": 5}
    agent = builder.with_shared_state(url, **quick).build()

    async def call():
        try:
            return (await agent.achat("Hi")).message
        except LoomError as error:
            return type(error).__name__

    async def calls():
        return await asyncio.gather(*(call() for _ in range(told["calls"])))

    say("ready")
    hear()
    say(asyncio.run(calls()))
    agent.close()
"""


def callers(peers: Callable[..., Any], azure: Any, count: int, calls: int, **policies: Any) -> list[str]:
    """What so many processes got, all at once, from so many calls each."""
    settings: dict[str, Any] = {
        **azure.client_kwargs("one"),
        "max_tokens": 900,
        "model_name": "gpt-4o-2024-11-20",
    }
    started = [peers(CALLER) for _ in range(count)]
    for peer in started:
        peer.tell({"azure": settings, "policies": policies, "calls": calls})
    for peer in started:
        assert peer.hear() == "ready"
    for peer in started:
        peer.tell("go")
    return [answer for peer in started for answer in peer.hear()]


def test_processes_share_a_quota_of_tokens_without_a_single_429(
    redis_server: Any, peers: Callable[..., Any]
) -> None:
    model = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(1, 900)))
    quotas = {"one": Quota(tokens_per_minute=60_000)}
    with AzureEmulator(model, deployments=["one"], quotas=quotas) as azure:
        limit = {"tokens_per_minute": 60_000, "queue_timeout": 1.5}
        answers = callers(peers, azure, 3, 34, rate_limit=limit)
        assert {request.status for request in azure.requests} == {200}
    assert set(answers) == {"Hello!", "QueueTimeoutError"}
    assert 64 <= answers.count("Hello!") <= 66
    assert len(answers) == 102


def test_processes_share_the_pace_of_requests_and_all_get_their_turn(
    redis_server: Any, peers: Callable[..., Any]
) -> None:
    # a little more than the processes keep to, for requests of three of them do not arrive as they are sent
    quotas = {"one": Quota(requests_per_minute=1800, slice_seconds=1)}
    with AzureEmulator(deployments=["one"], quotas=quotas) as azure:
        answers = callers(peers, azure, 3, 33, rate_limit={"requests_per_minute": 1500})
        assert {request.status for request in azure.requests} == {200}
    assert answers == ["Hi"] * 99
    calls = redis_server.command("INFO", "commandstats")["cmdstat_evalsha"]["calls"]
    assert calls < 99 * 12  # whoever waits does not ask again and again for all who wait


async def test_calls_that_wait_for_the_shared_quota_go_in_order_of_urgency(fleet: Fleet) -> None:
    (agent,) = fleet.of(fleet.base().with_rate_limit(requests_per_minute=600).with_circuit_breakers(), 1)
    order: list[int] = []

    async def call(number: int, priority: int) -> None:
        await agent.achat("Hi", options=ChatOptions(priority=priority))
        order.append(number)

    # Another process has taken the next turns, so that all of these wait.
    (other,) = fleet.of(fleet.base().with_rate_limit(requests_per_minute=600).with_circuit_breakers(), 1)
    taken = [asyncio.ensure_future(other.achat("Hi")) for _ in range(3)]
    await asyncio.sleep(0.05)
    calls = [asyncio.ensure_future(call(number, 9 - number // 3)) for number in range(9)]
    await asyncio.gather(*calls, *taken)
    later = [number for number in order if number not in order[:1]]
    assert later == sorted(later, key=lambda number: (9 - number // 3, number))


@verbs
async def test_a_call_that_waits_too_long_for_the_shared_quota_is_told_so(ask: Verb, fleet: Fleet) -> None:
    heard = Heard()
    builder = fleet.base().with_listener(heard)
    limited = builder.with_rate_limit(tokens_per_minute=800, queue_timeout=0.3)
    one, other = fleet.of(limited.with_budget(tokens=100_000, per="agent"))
    fleet.azure.engine = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(20, 480)))
    assert (await ask(one)).message == "Hello!"
    began = time.monotonic()
    refused = await outcome(ask, other)
    assert isinstance(refused, QueueTimeoutError)
    assert 0.25 < time.monotonic() - began < 2
    (queued,) = heard.of(CallQueued)
    assert queued.wait_seconds > 50
    assert fleet.asked() == 1
    assert held(other) == []
    assert fleet.in_redis() == []
    assert sums(one).spent == 500


async def test_a_deadline_ends_the_wait_for_the_shared_quota(fleet: Fleet) -> None:
    limited = fleet.base().with_rate_limit(tokens_per_minute=800).with_timeouts(run=0.4)
    one, other = fleet.of(limited)
    fleet.azure.engine = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(20, 480)))
    await one.achat("Hi")
    began = time.monotonic()
    assert isinstance(await outcome(chat, other), QueueTimeoutError | DeadlineExceededError)
    assert 0.3 < time.monotonic() - began < 2
    assert held(other) == fleet.in_redis() == []


async def test_only_so_many_calls_wait_for_the_shared_quota(fleet: Fleet) -> None:
    limited = fleet.base().with_rate_limit(tokens_per_minute=800, max_queue=3, queue_timeout=0.4)
    one, other = fleet.of(limited)
    fleet.azure.engine = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(20, 480)))
    await one.achat("Hi")
    refused = await asyncio.gather(*(other.achat("Hi") for _ in range(8)), return_exceptions=True)
    kinds = [type(error) for error in refused]
    assert all(isinstance(error, QueueError) for error in refused)
    assert kinds.count(QueueFullError) >= 4
    assert kinds.count(QueueTimeoutError) >= 3
    assert held(other) == fleet.in_redis() == []


@verbs
async def test_room_that_another_process_makes_is_used_within_a_second(ask: Verb, fleet: Fleet) -> None:
    one, other = fleet.of(fleet.base(max_tokens=700).with_rate_limit(tokens_per_minute=1000))
    fleet.azure.delay_next(0.5)
    slow = asyncio.ensure_future(chat(one))  # holds 700 tokens, and uses 200
    await asyncio.sleep(0.2)
    began = time.monotonic()
    assert (await ask(other)).message == "Hello!"
    assert 0.2 < time.monotonic() - began < 3
    await slow


async def test_a_pool_uses_a_deployment_whose_shared_quota_has_room(fleet: Fleet) -> None:
    one, other = fleet.of(fleet.pool().with_rate_limit(tokens_per_minute=800))
    fleet.azure.engine = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(20, 480)))
    began = time.monotonic()
    await one.achat("Hi")
    await other.achat("Hi")
    assert time.monotonic() - began < 3
    assert (fleet.asked("one"), fleet.asked("two")) == (1, 1)
    assert other.health().deployments[ONE].reason == "shared rate limit"


# ── budgets ──────────────────────────────────────────────────────────────────────────────


def test_processes_never_spend_more_than_their_budget(redis_server: Any, peers: Callable[..., Any]) -> None:
    billed: list[int] = []

    def answer(request: object) -> Any:
        billed.append(BILLED)
        return reply("Hello!", tokens=TokenUsage(20, BILLED - 20))

    with AzureEmulator(ScriptedProvider(answer), deployments=["one"]) as azure:
        money = {"tokens": 10_000, "per": "agent"}
        answers = callers(peers, azure, 4, 40, budget=money)
    assert set(answers) == {"Hello!", "BudgetExceededError"}
    key = "{loom_py}:account:tokens:agent:agent:"
    spent = int(redis_server.command("HGET", key, "spent"))
    assert spent == sum(billed) == BILLED * answers.count("Hello!")
    assert spent <= 10_000
    assert redis_server.command("HGET", key, "reserved") == "0"


@verbs
async def test_a_refusal_tells_the_sums_of_all(ask: Verb, fleet: Fleet) -> None:
    one, other = fleet.of(fleet.base().with_budget(tokens=900, per="agent"))
    await ask(one)
    await ask(one)
    refused = await outcome(ask, other)
    assert isinstance(refused, BudgetExceededError)
    assert (refused.scope, refused.unit) == ("agent", "tokens")
    assert [refused.limit, refused.spent, refused.reserved] == [900, 2 * BILLED, 0]
    assert refused.needed > 500
    assert refused.ledger is not None
    assert fleet.asked() == 2
    assert held(other) == fleet.in_redis() == []


@verbs
@pytest.mark.parametrize("unit", ["tokens", "usd"])
async def test_what_one_is_approved_is_for_all(ask: Verb, unit: str, fleet: Fleet) -> None:
    more, alerts, heard = (1000 if unit == "tokens" else Decimal("0.02")), list[BudgetAlert](), Heard()

    def approve(alert: BudgetAlert) -> Any:
        alerts.append(alert)
        return more if alert.refused else None

    budget: dict[str, Any] = {unit: more, "per": "agent", "soft": 1}
    (asking,) = fleet.of(fleet.base().with_listener(heard).with_budget(**budget, approve=approve), 1)
    (other,) = fleet.of(fleet.base().with_budget(**budget), 1)

    async def use_up(agent: Agent) -> None:
        while not isinstance(await outcome(ask, agent), BudgetExceededError):
            pass

    await use_up(other)
    assert (await ask(asking)).message == "Hello!"
    assert len([alert for alert in alerts if alert.refused]) == 1
    (extended,) = heard.of(BudgetExtended)
    assert (extended.by, extended.limit) == (more, 2 * more)
    before = fleet.asked()
    await use_up(other)  # it alone has spent its own limit by now, and goes on all the same
    assert fleet.asked() > before
    total = sums(asking, unit)
    scale = 1 if unit == "tokens" else Decimal(10) ** 12
    assert more * scale < total.spent <= total.extra + more * scale
    assert (total.extra, total.reserved) == (more * scale, 0)


async def test_whoever_may_approve_more_is_asked_once_for_each_refusal(fleet: Fleet) -> None:
    alerts: list[BudgetAlert] = []

    def approve(alert: BudgetAlert) -> int | None:
        alerts.append(alert)
        return 1000 if alert.refused else None

    budget: dict[str, Any] = {"tokens": 1000, "per": "agent", "soft": 1, "approve": approve}
    (agent,) = fleet.of(fleet.base().with_budget(**budget), 1)
    for _ in range(12):
        assert (await chat(agent)).message == "Hello!"
    refused = [alert for alert in alerts if alert.refused]
    assert sums(agent).extra == 1000 * len(refused)
    assert len(refused) == 2  # 12 answers of 200 tokens; before the last 2200 are spent, and it may cost 534


async def test_an_approval_at_the_soft_threshold_is_for_all_too(fleet: Fleet) -> None:
    def approve(alert: BudgetAlert) -> int:
        return 1000

    budget: dict[str, Any] = {"tokens": 1000, "per": "agent", "soft": 0.5}
    (asking,) = fleet.of(fleet.base().with_budget(**budget, approve=approve), 1)
    (other,) = fleet.of(fleet.base().with_budget(**budget), 1)
    await chat(asking)
    assert sums(asking).extra == 1000
    for _ in range(4):
        await chat(other)
    assert sums(asking).spent == 5 * BILLED


@pytest.mark.parametrize("pers", [("chat", "session"), ("session", "chat"), ("agent", "agent")])
async def test_budgets_that_count_on_one_account_count_once(pers: tuple[Any, Any], fleet: Fleet) -> None:
    first, second = pers
    builder = fleet.base().with_budget(tokens=1000, per=first).with_budget(tokens=5000, per=second)
    (agent,) = fleet.of(builder.with_name("flights"), 1)
    await agent.achat("Hi")
    keys = [key for key in fleet.server.command("KEYS", "*") if ":account:" in key]
    assert {fleet.server.command("HGET", key, "spent") for key in keys} == {str(BILLED)}


async def test_budgets_in_both_units_may_be_extended_apart(fleet: Fleet) -> None:
    builder = fleet.base().with_budget(usd=5, per="agent")
    builder = builder.with_budget(tokens=1000, per="agent", soft=1, approve=lambda alert: 1000)
    one, other = fleet.of(builder)
    for agent in (one, one, other, other, other):
        assert (await chat(agent)).message == "Hello!"
    assert sums(one, "tokens").extra == 1000
    assert sums(one, "usd").extra == 0


async def test_agents_of_other_names_have_other_budgets(fleet: Fleet) -> None:
    base = fleet.base().with_budget(tokens=700, per="agent")
    one, same = fleet.of(base.with_name("flights"))
    (other,) = fleet.of(base.with_name("hotels"), 1)
    await chat(one)
    assert isinstance(await outcome(chat, same), BudgetExceededError)
    assert (await chat(other)).message == "Hello!"


# ── calls that are cancelled ─────────────────────────────────────────────────────────────


async def test_a_cancelled_probe_is_free_at_once_and_its_money_is_uncertain(fleet: Fleet) -> None:
    settings: dict[str, Any] = {"failure_threshold": 1, "success_threshold": 1, "open_seconds": 0.2}
    base = fleet.base().with_circuit_breakers(**settings).with_budget(tokens=10_000, per="agent")
    one, other = fleet.of(base)
    fleet.azure.fail_next(503)
    assert isinstance(await outcome(chat, one), ServiceUnavailableError)
    await asyncio.sleep(0.3)
    fleet.azure.delay_next(30)
    call = asyncio.ensure_future(one.achat("Hi"))
    await settled(lambda: fleet.asked() == 2)
    assert isinstance(await outcome(chat, other), CircuitOpenError)
    worst = sums(one).reserved
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await fleet.emptied(1)
    assert (await chat(other)).message == "Hello!"
    found = sums(one)
    assert (found.uncertain, found.spent, found.reserved) == (worst, worst + BILLED, 0)


@pytest.mark.parametrize("is_async", [True, False], ids=["astream", "stream"])
async def test_a_stream_that_is_closed_holds_nothing_in_redis(is_async: bool, fleet: Fleet) -> None:
    (agent,) = fleet.of(fleet.base().with_budget(tokens=10_000, per="agent"), 1)
    fleet.azure.engine = ScriptedProvider([reply("one two three four five six")])

    def read_a_word() -> None:
        events = agent.stream_chat("Hi")
        while not next(events).delta:
            pass
        events.close()

    if is_async:
        async with contextlib.aclosing(agent.astream_chat("Hi")) as stream:
            async for event in stream:
                if event.delta:
                    break
    else:
        await in_thread(read_a_word)
    await fleet.emptied(1)
    found = sums(agent)
    assert found.uncertain == found.spent > 0
    assert held(agent) == []


@pytest.mark.parametrize("point", ["answer", "quota"])
def test_control_c_frees_what_the_call_holds_in_redis(
    point: str, azure: AzureEmulator, redis_server: Any
) -> None:
    fleet = Fleet(azure, redis_server)
    limited = fleet.base().with_rate_limit(tokens_per_minute=800).with_budget(tokens=10_000, per="agent")
    one, other = fleet.of(limited)
    if point == "answer":
        azure.delay_next(30)
    else:
        azure.engine = ScriptedProvider([reply("Hello!", tokens=TokenUsage(20, 480))])
        one.chat("Hi")
    waits = len(azure.requests) if point == "quota" else 1

    def interrupt() -> None:
        while len(azure.requests) < waits:
            time.sleep(0.01)
        time.sleep(0.4)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        other.chat("Hi")
    thread.join()
    asyncio.run(fleet.emptied(1))
    assert held(other) == []
    assert (sums(one).uncertain > 0) == (point == "answer")
    for agent in (one, other):
        agent.close()


async def test_nothing_is_left_in_redis_after_200_calls_of_all_kinds(fleet: Fleet) -> None:
    base = fleet.base().with_retries(max_attempts=2, initial_seconds=0.01, jitter_seconds=0.01)
    base = base.with_circuit_breakers(failure_threshold=50, failure_rate=None, open_seconds=0.1)
    base = base.with_budget(tokens=60_000, per="agent").with_rate_limit(tokens_per_minute=500_000)
    agents = fleet.of(base, 2)

    async def call(number: int) -> Any:
        agent, ask = agents[number % 2], VERBS[number // 2 % 4]
        if number % 5 == 0:
            fleet.azure.fail_next(503)
        if number % 7 == 0:
            fleet.azure.delay_next(0.2)
        if number % 4 != 3:
            return await outcome(ask, agent)
        # after a moment the caller goes away: before, during or after the request
        task = asyncio.ensure_future(agent.achat("Hi"))
        await asyncio.sleep(number % 11 / 100)
        task.cancel()
        return await asyncio.gather(task, return_exceptions=True)

    for start in range(0, 200, 20):
        await asyncio.gather(*(call(number) for number in range(start, start + 20)))
    await fleet.emptied()
    assert [held(agent) for agent in agents] == [[], []]
    found = sums(agents[0])
    assert found.reserved == 0
    assert found.spent <= 60_000
    assert found.spent - found.uncertain >= BILLED * 20
    assert breaker(agents[0]).state == "closed"


# ── a process that dies ──────────────────────────────────────────────────────────────────


async def test_what_a_killed_process_held_is_free_after_the_lease(
    fleet: Fleet, peers: Callable[..., Any]
) -> None:
    breakers: dict[str, Any] = {"failure_threshold": 1, "success_threshold": 1, "open_seconds": 0.2}
    limit: dict[str, Any] = {"tokens_per_minute": 2000}
    money: dict[str, Any] = {"tokens": 3500, "per": "agent"}
    base = fleet.base(max_tokens=900).with_circuit_breakers(**breakers)
    (agent,) = fleet.of(base.with_rate_limit(**limit).with_budget(**money), 1)
    peer = peers(CALLER)
    settings: dict[str, Any] = {
        **fleet.azure.client_kwargs("one"),
        "max_tokens": 900,
        "model_name": "gpt-4o-2024-11-20",
    }
    policies = {"circuit_breakers": breakers, "rate_limit": limit, "budget": money}
    peer.tell({"azure": settings, "policies": policies, "calls": 1})
    assert await in_thread(peer.hear) == "ready"
    fleet.azure.fail_next(503)
    assert isinstance(await outcome(chat, agent), ServiceUnavailableError)
    await asyncio.sleep(0.3)
    fleet.azure.delay_next(60)
    peer.tell("go")
    await settled(lambda: fleet.asked() == 2)
    assert isinstance(await outcome(chat, agent), CircuitOpenError)  # the probe is the peer's
    worst = sums(agent).reserved
    assert worst > 900
    peer.kill()
    began = time.monotonic()
    answer: Any = None
    while answer is None or isinstance(answer, CircuitOpenError):
        answer = await outcome(chat, agent)
    assert answer.message == "Hello!"  # the quota has no room for three calls, and the first one counts
    assert time.monotonic() - began < 2.5
    found = sums(agent)
    assert (found.spent, found.uncertain, found.reserved) == (worst + BILLED, worst, 0)
    assert fleet.in_redis() == []


# ── Redis away ───────────────────────────────────────────────────────────────────────────


async def eventually(is_so: Callable[[], object], seconds: float = 8.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.02)


@verbs
async def test_calls_go_on_with_a_share_while_redis_is_away_and_whole_again_after(
    ask: Verb, azure: AzureEmulator, own_redis: Any
) -> None:
    fleet, heard = Fleet(azure, own_redis), Heard()
    limited = fleet.base().with_listener(heard).with_rate_limit(tokens_per_minute=100_000)
    one, other = fleet.of(limited.with_budget(tokens=4000, per="agent"), timeout=2)
    for agent in (one, other):
        await ask(agent)
    await settled(lambda: [agent.health().shared.processes for agent in fleet.agents] == [2, 2])  # type: ignore[union-attr]
    own_redis.stop()
    answers = []
    while not isinstance(answer := await outcome(ask, one), BudgetExceededError):
        answers.append(answer.message)
    assert answer.limit == 2000  # half of it, as there are two
    assert 5 <= len(answers) <= 8
    assert held(one) == []
    lost = heard.of(SharedStateLost)
    assert 1 <= len(lost) <= 2  # the other agent may have noticed by now, too
    assert {event.share for event in lost} == {0.5}
    limits = one.health().deployments[ONE].rate_limit
    assert limits is not None
    assert limits.tokens_limit == 50_000
    assert one.health().status == "degraded"
    assert heard.of(SharedStateRestored) == []
    await in_thread(own_redis.start)
    await eventually(lambda: one.health().status == "ok")
    assert heard.of(SharedStateRestored)
    assert sums(one).spent == BILLED * (2 + len(answers))
    assert (await ask(one)).message == "Hello!"
    limits = one.health().deployments[ONE].rate_limit
    assert limits is not None
    assert limits.tokens_limit == 100_000
    assert one.health().status == "ok"
    assert fleet.in_redis() == []
    for agent in (one, other):
        await agent.aclose()


async def test_a_call_under_way_when_redis_goes_is_paid_for_when_it_is_back(
    azure: AzureEmulator, own_redis: Any
) -> None:
    fleet = Fleet(azure, own_redis)
    (agent,) = fleet.of(fleet.base().with_budget(tokens=4000, per="agent"), 1, timeout=2)
    await agent.achat("Hi")
    azure.delay_next(0.5)
    call = asyncio.ensure_future(agent.achat("Hi"))
    await settled(lambda: fleet.asked() == 2)
    await in_thread(own_redis.stop)
    assert (await call).message == "Hello!"
    await in_thread(own_redis.start)
    await eventually(lambda: agent.health().status == "ok")
    await fleet.emptied()
    assert (sums(agent).spent, sums(agent).uncertain) == (2 * BILLED, 0)
    await agent.aclose()


async def test_who_waits_for_the_shared_quota_goes_alone_when_redis_goes(
    azure: AzureEmulator, own_redis: Any
) -> None:
    fleet = Fleet(azure, own_redis)
    one, other = fleet.of(fleet.base().with_rate_limit(tokens_per_minute=1600), timeout=2)
    azure.engine = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(20, 1480)))
    await one.achat("Hi")
    waiting = asyncio.ensure_future(other.achat("Hi"))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await in_thread(own_redis.stop)
    assert (await asyncio.wait_for(waiting, 4)).message == "Hello!"
    for agent in (one, other):
        await agent.aclose()


async def test_the_event_loop_goes_on_while_redis_hangs(azure: AzureEmulator, own_redis: Any) -> None:
    fleet = Fleet(azure, own_redis)
    base = fleet.base().with_budget(tokens=100_000, per="agent").with_circuit_breakers()
    (agent,) = fleet.of(base, 1, timeout=0.5)
    await agent.achat("Hi")
    gaps: list[float] = []

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.005)
            now = time.monotonic()
            gaps.append(now - last)
            last = now

    ticking = asyncio.ensure_future(tick())
    os.kill(own_redis._process.pid, signal.SIGSTOP)
    try:
        answers = await asyncio.gather(*(agent.achat("Hi") for _ in range(8)))
        cancelled = asyncio.ensure_future(agent.achat("Hi"))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.sleep(1.2)  # it is looked for meanwhile
    finally:
        os.kill(own_redis._process.pid, signal.SIGCONT)
    ticking.cancel()
    assert [answer.message for answer in answers] == ["Hello!"] * 8
    assert max(gaps) < 0.45
    assert sorted(gaps)[len(gaps) * 99 // 100] < 0.2
    await eventually(lambda: agent.health().status == "ok")
    await fleet.emptied()
    await agent.aclose()


# ── with the other policies ──────────────────────────────────────────────────────────────


@verbs
async def test_the_attempt_that_loses_a_race_gives_its_permit_back(ask: Verb, fleet: Fleet) -> None:
    heard = Heard()
    pool = fleet.pool().with_hedging(after_seconds=0.2).with_listener(heard)
    (agent,) = fleet.of(pool.with_budget(tokens=10_000, per="agent"), 1)
    fleet.azure.delay_next(30, deployment="one")
    assert (await ask(agent)).message == "Hello!"
    assert len(heard.of(HedgeWon)) == 1
    await fleet.emptied(2)
    found = sums(agent)
    assert found.spent == found.uncertain + BILLED
    assert found.uncertain > 500
    assert held(agent) == []


async def test_no_second_attempt_is_made_where_the_shared_quota_has_no_room(fleet: Fleet) -> None:
    limit: dict[str, Any] = {"tokens_per_minute": 800}
    (other,) = fleet.of(fleet.pool().with_hedging(after_seconds=0.1).with_rate_limit(**limit), 1)
    settings: Any = {**fleet.azure.client_kwargs("two"), "max_tokens": 500}
    (one,) = fleet.of(AgentBuilder().with_azure_openai_llm(**settings).with_rate_limit(**limit), 1)
    fleet.azure.engine = ScriptedProvider(lambda request: reply("Hello!", tokens=TokenUsage(20, 480)))
    await one.achat("Hi")  # which uses up the second deployment
    fleet.azure.delay_next(0.6, deployment="one")
    calls = fleet.asked("two")
    lane = other.health().deployments["azure-openai/two"]
    assert lane.is_available
    await asyncio.wait_for(other.achat("Hi"), 10)
    assert fleet.asked("two") == calls
    assert held(other) == fleet.in_redis() == []
    assert other.health().deployments["azure-openai/two"].reason in ("", "shared rate limit")


async def test_every_failed_try_counts_for_all_until_there_are_no_more(fleet: Fleet) -> None:
    retried = fleet.base().with_retries(max_attempts=3, initial_seconds=0.01, jitter_seconds=0)
    one, other = fleet.of(retried.with_circuit_breakers(failure_threshold=4))
    fleet.azure.fail_next(503, times=4)
    exhausted = await outcome(chat, one)
    assert isinstance(exhausted, RetriesExhausted)
    assert len(exhausted.attempts) == 3
    assert breaker(other).failures == 3
    assert isinstance(await outcome(chat, other), ServiceUnavailableError)
    assert breaker(one).state == "open"
    assert fleet.asked() == 4
    assert fleet.in_redis() == []


@verbs
async def test_a_call_costs_two_round_trips(ask: Verb, fleet: Fleet) -> None:
    base = fleet.base().with_circuit_breakers().with_rate_limit(tokens_per_minute=1_000_000)
    (agent,) = fleet.of(base.with_budget(usd=5, per="day"), 1, heartbeat=100, lease=1000)
    await ask(agent)
    await asyncio.sleep(0.1)
    fleet.server.command("CONFIG", "RESETSTAT")
    for _ in range(10):
        await ask(agent)
    stats = fleet.server.command("INFO", "commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 20
