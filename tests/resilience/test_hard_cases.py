"""What a hostile reading of the promises came up with, and must not come up with again."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from loom_py import AgentBuilder, BaseProvider, ChatOptions, Deployment, Message, Response, ScriptedProvider
from loom_py.clock import VirtualClock
from loom_py.errors import (
    AgentClosedError,
    DeadlineExceededError,
    MalformedResponseError,
    ProviderError,
    ServiceUnavailableError,
)
from loom_py.llm.prices import ModelPrice
from loom_py.messages import ToolSpec

PRICE = ModelPrice("1", "1")


class Odd(BaseProvider):
    """Does whatever it is told to."""

    name = "odd"
    model = "odd-1"

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        if isinstance(self.thing, BaseException):
            raise self.thing
        return self.thing  # type: ignore[no-any-return]


def test_a_deadline_that_passes_while_somebody_approves_is_a_deadline() -> None:
    clock = VirtualClock()

    def approve(_: Any) -> str:
        clock.advance(4)
        return "1"

    builder = AgentBuilder().with_llm(ScriptedProvider(["x"], price=PRICE)).with_clock(clock)
    agent = builder.with_budget(usd="0.00001", approve=approve).with_timeouts(run=1).build()
    with pytest.raises(DeadlineExceededError):
        agent.chat("Hi")


@pytest.mark.parametrize("max_queue", [1000, 0])
def test_a_pool_goes_where_there_is_room_rather_than_stand_in_line(max_queue: int) -> None:
    providers = [ScriptedProvider(lambda _: "x", model=name) for name in "AB"]
    pool = [Deployment(each, name=each.model) for each in providers]
    builder = AgentBuilder().with_clock(VirtualClock(auto_advance=True))
    builder = builder.with_load_balancing(pool, strategy="priority")
    agent = builder.with_rate_limit(tokens_per_minute=10_000, queue_timeout=20, max_queue=max_queue).build()
    for _ in range(4):
        agent.chat("x" * 18_000, options=ChatOptions(max_tokens=10))
    assert [len(each.requests) for each in providers] == [2, 2]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1)])
async def test_hedging_ends_where_a_provider_raises_what_it_should_not(error: BaseException) -> None:
    builder = AgentBuilder().with_llm(Odd(error)).with_failover([Odd(error)])
    agent = builder.with_hedging(after_seconds=0.05).with_retries(max_attempts=1)
    with pytest.raises(ProviderError):
        await asyncio.wait_for(agent.build().achat("Hi"), 5)


@pytest.mark.parametrize(
    "facts",
    [
        {"tokens_used": None},
        {"tokens_used": "7"},
        {"metadata": None},
        {"cost_usd": Decimal("NaN")},
        {"cost_usd": Decimal(-1)},
        {"cost_usd": 0.1},
    ],
)
async def test_a_response_that_is_none_leaks_no_money(facts: dict[str, Any]) -> None:
    builder = AgentBuilder().with_llm(Odd(Response("x", **facts))).with_retries(max_attempts=1)
    agent = builder.with_budget(tokens=10**9, per="agent").build()
    with pytest.raises(MalformedResponseError, match=next(iter(facts))):
        await agent.achat("Hi")
    (status,) = agent.health().budgets
    assert status.tokens.reserved == 0
    assert status.tokens.uncertain > 0


def test_budgets_per_chat_and_per_session_in_one_ledger_count_a_call_once_each(tmp_path: Path) -> None:
    file = tmp_path / "spending.db"
    builder = AgentBuilder().with_llm(ScriptedProvider(lambda _: "x", price=PRICE))
    builder = builder.with_budget(usd=1, per="chat", ledger=file).with_budget(
        usd=1, per="session", ledger=file
    )
    with builder.build() as agent:
        cost = agent.chat("Hi").cost_usd
        assert [(each.usd.spent, each.calls) for each in agent.health().budgets] == [(cost, 1)] * 2


async def test_a_cancelled_call_does_not_hold_up_the_event_loop_for_a_busy_ledger(tmp_path: Path) -> None:
    file = tmp_path / "spending.db"
    provider = Odd(None)
    never = asyncio.get_running_loop().create_future()

    async def achat(*_: Any, **__: Any) -> Response:
        await never
        raise AssertionError

    provider.achat = achat  # type: ignore[method-assign]
    builder = AgentBuilder().with_llm(provider).with_budget(tokens=10**9, ledger=file)
    async with builder.build() as agent:
        call = asyncio.create_task(agent.achat("Hi"))
        await asyncio.sleep(0.2)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert time.monotonic() - began < 0.5
            other.execute("ROLLBACK")
        for _ in range(100):
            await asyncio.sleep(0.05)
            (status,) = await asyncio.to_thread(lambda: agent.health().budgets)
            if status.tokens.reserved == 0:
                break
        assert status.tokens.uncertain > 0


async def test_the_wait_for_a_session_is_part_of_the_run() -> None:
    async def slowly(*_: Any, **__: Any) -> Response:
        await asyncio.sleep(0.4)
        return Response("x")

    provider = Odd(None)
    provider.achat = slowly  # type: ignore[method-assign]
    agent = AgentBuilder().with_llm(provider).with_timeouts(run=0.6).build()
    chats = [asyncio.create_task(agent.achat("Hi", session_id="s")) for _ in range(3)]
    outcomes = await asyncio.gather(*chats, return_exceptions=True)
    assert isinstance(outcomes[0], Response)
    assert isinstance(outcomes[2], DeadlineExceededError)


@pytest.mark.parametrize("priority", ["high", 1.5, True])
def test_a_priority_is_a_whole_number(priority: Any) -> None:
    with pytest.raises(ValueError, match="priority must be a whole number"):
        ChatOptions(priority=priority)


@pytest.mark.parametrize("more", [-1, True, float("nan"), float("inf"), "abc", [], object()])
def test_nonsense_at_the_soft_threshold_approves_nothing_and_harms_nothing(more: Any) -> None:
    provider = ScriptedProvider(["x"], price=PRICE, max_tokens=100)
    agent = AgentBuilder().with_llm(provider).with_budget(tokens=150, approve=lambda _: more).build()
    assert agent.chat("Hi").message == "x"


async def test_what_waits_in_an_agent_that_is_closed_is_not_sent() -> None:
    provider = ScriptedProvider([ServiceUnavailableError("down"), "after close"])
    agent = AgentBuilder().with_llm(provider).with_retries(initial_seconds=30).build()
    chat = asyncio.create_task(agent.achat("Hi"))
    await asyncio.sleep(0.1)  # it has failed once by then, and waits
    await agent.aclose()
    with pytest.raises(AgentClosedError):
        await asyncio.wait_for(chat, 5)
    assert len(provider.requests) == 1


def test_a_wait_that_is_too_long_is_told_with_the_error() -> None:
    provider = ScriptedProvider([ServiceUnavailableError("down"), "never"])
    builder = AgentBuilder().with_llm(provider).with_clock(VirtualClock())
    agent = builder.with_retries(initial_seconds=5, jitter_seconds=0).with_timeouts(run=2).build()
    with pytest.raises(ServiceUnavailableError) as caught:
        agent.chat("Hi")
    assert caught.value.retry_after == 5
    assert "past the deadline" in str(caught.value.__notes__)
