"""The wires between an agent's policies and Redis, each pulled by itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from loom_py import AgentBuilder, AzureEmulator, ScriptedProvider, TokenUsage, reply
from loom_py.errors import CircuitOpenError, ConnectionFailedError, DeadlineExceededError, QueueFullError
from loom_py.resilience.shared import BudgetClaim, EnterRequest, LeaveReport, SharedState, Spending
from tests.resilience.promises.pilot import VERBS, Verb, chat, settled
from tests.resilience.shared.test_agents import BILLED, ONE, Fleet, outcome, sums

ACCOUNT = "agent:flights:"
NEVER = 3600.0


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    model = ScriptedProvider(lambda _: reply("Hello!", tokens=TokenUsage(20, BILLED - 20)))
    with AzureEmulator(model, deployments=["one", "two"]) as emulator:
        yield emulator


@pytest.fixture
async def fleet(azure: AzureEmulator, redis_server: Any) -> AsyncIterator[Fleet]:
    made = Fleet(azure, redis_server)
    yield made
    for agent in made.agents:
        await agent.aclose()


def entered(state: SharedState, permit: str) -> LeaveReport:
    """A call that has reserved 100 tokens; what is to be told of it: it took 7."""
    claim = BudgetClaim(ACCOUNT, "tokens", 10_000, 100)
    answer = state.enter(EnterRequest(permit, "d", None, 0, None, None, (claim,)))
    assert answer is not None
    assert answer.is_granted
    return LeaveReport(permit, "d", "success", None, spent=(Spending(ACCOUNT, "tokens", 7, False),))


def spent(state: SharedState) -> tuple[int, int] | None:
    found = state.balance(ACCOUNT, "tokens")
    return None if found is None else (found.spent, found.reserved)


# ── what is told too late is told all the same ───────────────────────────────────────────


async def test_who_finds_redis_gone_when_telling_it_tells_it_later(own_redis: Any) -> None:
    with contextlib.closing(SharedState(own_redis.url, heartbeat=NEVER / 2, lease=NEVER, timeout=1)) as state:
        report = entered(state, "a")
        await asyncio.to_thread(own_redis.stop)
        assert state.health().connected  # nobody has asked since
        await asyncio.to_thread(state.leave, report)
        assert not state.health().connected
        await asyncio.to_thread(own_redis.start)
        await settled(lambda: spent(state) == (7, 0), 10)


async def test_a_report_that_was_cancelled_before_a_thread_took_it_is_told_later(redis_server: Any) -> None:
    with contextlib.closing(
        SharedState(redis_server.url, heartbeat=NEVER / 2, lease=NEVER, timeout=5)
    ) as state:
        reports = [entered(state, f"p{number}") for number in range(12)]
        redis_server.command("CLIENT", "PAUSE", "600", "WRITE")
        telling = [asyncio.ensure_future(state.aleave(report)) for report in reports]
        await asyncio.sleep(0.2)  # more than there are threads, so the last ones wait for one
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        await settled(lambda: spent(state) == (12 * 7, 0), 5)


def test_control_c_while_redis_is_being_told_is_no_loss(azure: AzureEmulator, redis_server: Any) -> None:
    fleet = Fleet(azure, redis_server)
    limited = fleet.base().with_budget(tokens=10_000, per="agent")
    (agent,) = fleet.of(limited, 1, lease=30.0)
    azure.delay_next(0.4)

    def interrupt() -> None:
        while not azure.requests:
            time.sleep(0.01)
        redis_server.command("CLIENT", "PAUSE", "1500", "WRITE")
        while not agent.costs().calls:
            time.sleep(0.01)
        time.sleep(0.2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        agent.chat("Hi")
    thread.join()
    asyncio.run(settled(lambda: (sums(agent).spent, sums(agent).reserved) == (BILLED, 0), 8))
    assert sums(agent).uncertain == 0
    agent.close()


async def test_a_call_that_went_alone_and_was_cancelled_is_told_later(
    azure: AzureEmulator, own_redis: Any
) -> None:
    fleet = Fleet(azure, own_redis)
    (agent,) = fleet.of(fleet.base().with_budget(tokens=10_000, per="agent"), 1, timeout=1)
    await agent.achat("Hi")
    await asyncio.to_thread(own_redis.stop)
    azure.delay_next(30)
    call = asyncio.ensure_future(agent.achat("Hi"))
    await settled(lambda: fleet.asked() == 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (status,) = agent.health().budgets
    await asyncio.to_thread(own_redis.start)
    await settled(lambda: agent.health().status == "ok", 10)
    assert sums(agent).uncertain == status.tokens.uncertain > 0
    await agent.aclose()


# ── what others have said is forgotten when it is over ───────────────────────────────────


@pytest.mark.parametrize("ask", VERBS)
async def test_a_deployment_that_answers_again_is_not_said_to_be_out(ask: Verb, fleet: Fleet) -> None:
    (agent,) = fleet.of(fleet.base().with_circuit_breakers(), 1)
    key = agent.health().deployments[ONE].key
    assert agent.shared_state is not None
    assert await agent.shared_state.acontrol(key, "open")
    assert isinstance(await outcome(ask, agent), CircuitOpenError)
    assert not agent.health().deployments[ONE].is_available
    await agent.shared_state.acontrol(key, "reset")
    assert (await ask(agent)).message == "Hello!"
    assert agent.health().deployments[ONE].is_available


# ── quotas ───────────────────────────────────────────────────────────────────────────────


async def test_the_line_for_the_quota_of_all_has_a_bound_of_its_own(fleet: Fleet) -> None:
    """Each process has room by its own count; it is the others that have used the quota up."""
    limited = fleet.base(max_tokens=50).with_rate_limit(tokens_per_minute=800, max_queue=3, queue_timeout=0.5)
    one, other = fleet.of(limited)
    fleet.azure.engine = ScriptedProvider(lambda _: reply("Hello!", tokens=TokenUsage(20, 770)))
    await one.achat("Hi")
    refused = await asyncio.gather(*(other.achat("Hi") for _ in range(8)), return_exceptions=True)
    assert [type(error) for error in refused].count(QueueFullError) == 5
    assert fleet.asked() == 1


async def test_what_was_never_sent_is_not_counted_by_anyone(redis_server: Any, azure: AzureEmulator) -> None:
    fleet = Fleet(azure, redis_server)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
    builder = AgentBuilder().with_azure_openai_llm(nowhere, "one", "key", max_tokens=500)
    builder = builder.with_retries(max_attempts=1).with_rate_limit(tokens_per_minute=800, queue_timeout=0.3)
    agents = fleet.of(builder, 3)
    for agent in agents:
        assert isinstance(await outcome(chat, agent), ConnectionFailedError)
    for agent in agents:
        await agent.aclose()


@pytest.mark.parametrize("ask", VERBS)
async def test_leave_that_comes_after_the_deadline_is_given_back(ask: Verb, fleet: Fleet) -> None:
    builder = fleet.base().with_budget(tokens=10_000, per="agent").with_timeouts(run=1.2)
    (agent,) = fleet.of(builder, 1, lease=30.0)
    await ask(agent)
    fleet.server.command("CLIENT", "PAUSE", "1800", "WRITE")
    assert isinstance(await outcome(ask, agent), DeadlineExceededError)
    await fleet.emptied()
    assert (sums(agent).spent, sums(agent).reserved) == (BILLED, 0)
    assert fleet.asked() == 1
