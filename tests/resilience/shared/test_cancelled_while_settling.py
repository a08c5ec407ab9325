"""What Redis is told of a call whose caller goes away while it is being paid for."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from loom_py import Agent, AgentBuilder, AzureEmulator, ScriptedProvider, TokenUsage, reply
from loom_py.clock import RealClock
from loom_py.errors import CircuitOpenError, RateLimitError, ServiceUnavailableError
from loom_py.resilience.spending import Charge, Hold, MemoryLedger
from tests.resilience.promises.pilot import achat, astream, held, settled

BILLED = 200
"""Tokens of the answer."""

ends = pytest.mark.parametrize("ask", [achat, astream])


class SlowLedger(MemoryLedger):
    """A ledger as on a disk that hangs: the first payment waits until it is let go."""

    blocks = True

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def end(self, hold: Hold, charge: Charge) -> None:
        if not self.reached.is_set():
            self.reached.set()
            self.go_on.wait(10)
        super().end(hold, charge)


class Shop:
    """Two agents that share a Redis; the payments of the first are slow."""

    def __init__(self, azure: AzureEmulator, server: Any) -> None:
        self.azure, self.server, self.ledger = azure, server, SlowLedger()
        self.slow = self.build(ledger=self.ledger)
        self.other = self.build()

    def build(self, **budget: Any) -> Agent:
        options: Any = {"max_tokens": 500, "model_name": "gpt-4o-2024-11-20"}
        builder = AgentBuilder().with_azure_openai_llm(**self.azure.client_kwargs("one"), **options)
        builder = builder.with_retries(max_attempts=1).with_rate_limit(tokens_per_minute=10_000)
        builder = builder.with_circuit_breakers(failure_threshold=1, success_threshold=1, open_seconds=0.2)
        builder = builder.with_budget(tokens=10_000, per="agent", **budget)
        shared = builder.with_shared_state(self.server.url, heartbeat=0.2, lease=8.0, timeout=5)
        return shared.with_clock(RealClock()).build()

    @property
    def sums(self) -> Any:
        assert self.other.shared_state is not None
        return self.other.shared_state.balance(f"agent:{self.other.name}:", "tokens")

    @property
    def key(self) -> str:
        (lane,) = self.other.health().deployments.values()
        return lane.key

    def state(self) -> tuple[str, int]:
        """The breaker as Redis has it, and how often it has failed."""
        assert self.other.shared_state is not None
        stats = self.other.shared_state.stats(self.key)
        assert stats is not None
        return stats.state, stats.failures

    def permits(self) -> list[str]:
        """The permits that calls hold in Redis."""
        return [key for key in self.server.command("KEYS", "*") if ":permits:" in key]

    async def cancelled(self, call: Coroutine[Any, Any, Any]) -> None:
        """Cancel the call while it is being paid for."""
        task = asyncio.ensure_future(call)
        await settled(self.ledger.reached.is_set)
        task.cancel()
        await asyncio.sleep(0.05)
        self.ledger.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def told(self, is_so: Callable[[], bool]) -> None:
        """Wait until Redis has heard, which it does well before any lease ends."""
        await settled(lambda: not self.permits() and is_so(), 5)


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    model = ScriptedProvider(lambda _: reply("Hello!", tokens=TokenUsage(20, BILLED - 20)))
    with AzureEmulator(model, deployments=["one"]) as emulator:
        yield emulator


@pytest.fixture
async def shop(azure: AzureEmulator, redis_server: Any) -> AsyncIterator[Shop]:
    made = Shop(azure, redis_server)
    yield made
    made.ledger.go_on.set()
    await made.slow.aclose()
    await made.other.aclose()


@ends
async def test_what_was_answered_is_charged_at_what_it_cost(ask: Any, shop: Shop) -> None:
    await shop.cancelled(ask(shop.slow))
    await shop.told(lambda: bool(shop.sums.spent == BILLED))
    assert (shop.sums.uncertain, shop.sums.reserved) == (0, 0)
    assert shop.state() == ("closed", 0)
    await settled(lambda: held(shop.slow) == [], 2)


@ends
async def test_a_failure_counts_for_all(ask: Any, shop: Shop) -> None:
    shop.azure.fail_next(503)
    await shop.cancelled(ask(shop.slow))
    await shop.told(lambda: shop.state() == ("open", 1))
    assert (shop.sums.spent, shop.sums.reserved) == (0, 0)
    with pytest.raises(CircuitOpenError):
        await shop.other.achat("Hi")


async def test_a_throttling_holds_all_back(shop: Shop) -> None:
    shop.azure.fail_next(429, headers={"retry-after": "20"})
    await shop.cancelled(shop.slow.achat("Hi"))
    await shop.told(lambda: bool(shop.sums.reserved == 0))
    asked = len(shop.azure.requests)
    with pytest.raises(RateLimitError, match="no calls for another"):
        await shop.other.achat("Hi")
    assert len(shop.azure.requests) == asked


async def test_a_probe_that_went_well_closes_the_breaker_of_all(shop: Shop) -> None:
    shop.azure.fail_next(503)
    with pytest.raises(ServiceUnavailableError):
        await shop.other.achat("Hi")
    await asyncio.sleep(0.3)
    await shop.cancelled(shop.slow.achat("Hi"))
    await shop.told(lambda: shop.state()[0] == "closed")
    assert (await shop.other.achat("Hi")).message == "Hello!"
    assert shop.sums.spent == 2 * BILLED


@pytest.mark.parametrize("is_stream", [False, True])
def test_control_c_tells_it_too(is_stream: bool, azure: AzureEmulator, redis_server: Any) -> None:
    shop = Shop(azure, redis_server)

    def interrupt() -> None:
        shop.ledger.reached.wait(10)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(shop.slow.stream_chat("Hi")) if is_stream else shop.slow.chat("Hi")
    thread.join()
    asyncio.run(shop.told(lambda: bool(shop.sums.spent == BILLED)))
    assert (shop.sums.uncertain, shop.sums.reserved) == (0, 0)
    for agent in (shop.slow, shop.other):
        agent.close()


@ends
async def test_who_goes_away_while_redis_is_being_told_is_counted_once(ask: Any, shop: Shop) -> None:
    shop.ledger.go_on.set()
    shop.azure.delay_next(0.3)
    task = asyncio.ensure_future(ask(shop.slow))
    await settled(lambda: len(shop.azure.requests) == 1)
    shop.server.command("CLIENT", "PAUSE", "800", "WRITE")
    await settled(lambda: shop.slow.costs().calls == 1)
    await asyncio.sleep(0.2)  # the money is settled; Redis does not answer
    assert not task.done()
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 0.6
    await settled(lambda: not shop.permits() and shop.sums.spent == BILLED, 3)
    await asyncio.sleep(0.5)
    assert (shop.sums.spent, shop.sums.uncertain, shop.sums.reserved) == (BILLED, 0, 0)
    assert shop.state() == ("closed", 0)
