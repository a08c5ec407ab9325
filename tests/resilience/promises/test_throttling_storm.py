"""A storm of 429s, in every shape Azure has: as many attempts as configured, and none too early."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from loom_py import AgentBuilder, AzureEmulator
from loom_py.clock import VirtualClock
from loom_py.emulator import FaultPlan, FaultRule, failure_names
from loom_py.errors import RateLimitError, RetriesExhausted
from tests.resilience.promises.pilot import VERBS, Verb, all_asleep, held

DAY = 86_400.0
TOLD: dict[str, float | None] = {
    "429-2023": 22,  # in the text, and in a header with a hyphen too many
    "429-2025": 45,
    "429-2026": 1,  # with retry-after-ms: 0
    "429-apim": 5,
    "429-requests": 1,
    "429-no-retry-after": 55,
    "429-day": DAY,
    "429-sentinels": None,
    "429-capacity": None,
    "429-ptu": 2,  # 1500 ms in one header, rounded up in the other: the longer counts
}
"""What each shape says, in seconds; ``None`` where it says nothing."""

BACKOFF = [1, 2, 4]
ATTEMPTS = 4

verbs = pytest.mark.parametrize("ask", VERBS)


class Storm:
    """Nothing but 429s of one shape, and when each request came."""

    def __init__(self, name: str) -> None:
        self.clock = VirtualClock()
        plan = FaultPlan(rules=[FaultRule(error=name)])
        self.azure = AzureEmulator(faults=plan, clock=self.clock)
        self.arrivals: list[float] = []

    def builder(self, **retries: float) -> AgentBuilder:
        builder = AgentBuilder().with_azure_openai_llm(**self.azure.client_kwargs()).with_clock(self.clock)
        settings = {"max_attempts": ATTEMPTS, "budget_minimum": 1000, **retries}
        return builder.with_retries(**settings)  # type: ignore[arg-type]

    async def watch(self, *tasks: asyncio.Future[Any]) -> None:
        """Let the time pass until all is over. It stands still while requests are under way."""
        while await all_asleep(self.clock, tasks):
            self._note()
            self.clock.advance_to_next()
        self._note()

    def _note(self) -> None:
        new = len(self.azure.requests) - len(self.arrivals)
        self.arrivals += [self.clock.now()] * new

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.arrivals)]


def test_every_shape_of_the_emulator_is_here() -> None:
    assert set(TOLD) == {name for name in failure_names() if name.startswith("429")}


@verbs
@pytest.mark.parametrize("name", TOLD)
async def test_attempts_are_as_configured_and_never_earlier_than_told(ask: Verb, name: str) -> None:
    storm = Storm(name)
    with storm.azure:
        async with storm.builder(max_wait_seconds=2 * DAY).build() as agent:
            task = asyncio.ensure_future(ask(agent))
            await storm.watch(task)
            error = task.exception()
            assert isinstance(error, RetriesExhausted)
            assert len(error.attempts) == len(storm.arrivals) == ATTEMPTS
            assert [each.at for each in error.attempts] == pytest.approx(storm.arrivals, abs=0.001)
            told = TOLD[name]
            for gap, backoff in zip(storm.gaps, BACKOFF, strict=True):
                least = backoff if told is None else told
                assert least <= gap <= least + 1.0
            assert error.retry_after == told
            assert held(agent) == []


@verbs
@pytest.mark.parametrize("name", TOLD)
async def test_no_wait_goes_past_the_deadline(ask: Verb, name: str) -> None:
    storm = Storm(name)
    with storm.azure:
        async with storm.builder(max_wait_seconds=2 * DAY).with_timeouts(run=30).build() as agent:
            task = asyncio.ensure_future(ask(agent))
            await storm.watch(task)
            error = task.exception()
            assert storm.clock.now() <= 30
            told = TOLD[name]
            if told is not None and told > 30:
                assert isinstance(error, RateLimitError)
                assert (storm.clock.now(), len(storm.arrivals)) == (0, 1)  # at once
            else:
                assert isinstance(error, RetriesExhausted)
            assert getattr(error, "retry_after", None) == told
            assert held(agent) == []


@verbs
async def test_many_calls_in_the_storm_wait_together(ask: Verb) -> None:
    storm = Storm("429-2026")
    with storm.azure:
        async with storm.builder().build() as agent:
            tasks = [asyncio.ensure_future(ask(agent)) for _ in range(5)]
            await storm.watch(*tasks)
            errors = [task.exception() for task in tasks]
            attempts = [
                each for error in errors if isinstance(error, RetriesExhausted) for each in error.attempts
            ]
            assert len(attempts) == len(storm.arrivals) == 5 * ATTEMPTS
            by_time = sorted(each.at for each in attempts)
            assert by_time[5] >= 1  # those who asked at once were told to wait a second, and all did
            for error in errors:
                assert isinstance(error, RetriesExhausted)
                times = [each.at for each in error.attempts]
                assert all(after - before >= 1 for before, after in itertools.pairwise(times))
            assert held(agent) == []
