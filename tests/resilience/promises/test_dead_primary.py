"""A primary that is dead, a secondary that is well: nobody who calls may notice."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator

import pytest

from loom_py import AgentBuilder, AzureEmulator, ScriptedProvider
from loom_py.clock import VirtualClock
from loom_py.emulator import FaultPlan, FaultRule
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.events import CircuitChanged, FailedOver
from tests.resilience.promises.pilot import VERBS, Heard, achat, fly, held

RUNS = 1000

ADDED = 0.005
"""Seconds that failing over may add to a call."""

SAMPLES = 60


class Dead:
    """Either nobody listens at all, or whoever does is out of service."""

    def __init__(self, kind: str) -> None:
        self.azure: AzureEmulator | None = None
        if kind == "closed port":
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", 0))
                self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        else:
            self.azure = AzureEmulator(faults=FaultPlan(rules=[FaultRule(error="503")])).start()
            self.endpoint = self.azure.endpoint

    def tries(self, heard: Heard) -> int:
        """How often it was called: by its own count, where there is somebody to count."""
        tries = len(heard.of(FailedOver))
        if self.azure is not None:
            assert len(self.azure.requests) == tries
        return tries

    def stop(self) -> None:
        if self.azure is not None:
            self.azure.stop()


@pytest.fixture(params=["closed port", "503"])
def dead(request: pytest.FixtureRequest) -> Iterator[Dead]:
    found = Dead(request.param)
    yield found
    found.stop()


@pytest.fixture
def well() -> Iterator[AzureEmulator]:
    with AzureEmulator(ScriptedProvider(lambda _: "well")) as azure:
        yield azure


def pool(dead: Dead, well: AzureEmulator, clock: VirtualClock, heard: Heard) -> AgentBuilder:
    members = [
        Deployment.azure(dead.endpoint, "gpt-4o-deployment", "emulator-key", name="dead"),
        Deployment.azure(**well.client_kwargs(), name="well"),
    ]
    builder = AgentBuilder().with_azure_openai_llm(deployments=members)
    return builder.with_clock(clock).with_listener(heard)


async def test_a_thousand_runs_see_no_error_and_the_dead_one_five_calls_and_its_probes(
    dead: Dead, well: AzureEmulator
) -> None:
    clock, heard = VirtualClock(), Heard()
    usual: list[list[float]] = [[], [], [], []]  # of each verb
    failing_over: list[tuple[int, float]] = []
    async with pool(dead, well, clock, heard).build() as agent:
        for warm_up in VERBS:  # connections are made, modules are imported
            await warm_up(agent)
        agent.circuit_breakers["dead"].reset()
        before = dead.tries(heard)
        for number in range(RUNS):
            tries = len(heard.of(FailedOver))
            began = time.perf_counter()
            verb = number % len(VERBS)
            response = await VERBS[verb](agent)
            seconds = time.perf_counter() - began
            assert response.message == "well"
            if len(heard.of(FailedOver)) > tries:
                failing_over.append((verb, seconds))
            else:
                usual[verb].append(seconds)
            clock.advance(1)
        probes = sum(event.after == "half-open" for event in heard.of(CircuitChanged))
        tries = dead.tries(heard) - before
        more = statistics.median(seconds - statistics.median(usual[verb]) for verb, seconds in failing_over)
        print(
            f"\n{RUNS} runs in {clock.now():.0f} s: {tries} calls to the dead one, {probes} of them probes;"
            f" failing over takes {more * 1000:.2f} ms more ({len(failing_over)} samples)"
        )
        assert 5 <= tries <= 5 + probes
        assert 10 <= probes <= RUNS / 30
        assert agent.health().status == "degraded"
        assert held(agent) == []


def test_failing_over_adds_less_than_five_milliseconds(dead: Dead, well: AzureEmulator) -> None:
    """Taken so that it says the same on a busy machine.

    Runs that fail over take turns with runs that do not, by force of the breaker, on one thread. What is
    bounded is the CPU time of that thread, to which neither other processes nor the servers add; and nobody
    may wait meanwhile: the virtual clock stands still, and of the clock on the wall the best of each kind,
    as noise only ever adds to it, may not differ by as much as any wait would take.
    """
    clock, heard = VirtualClock(), Heard()
    with pool(dead, well, clock, heard).build() as agent:
        breaker = agent.circuit_breakers["dead"]

        def run(*, failing_over: bool) -> tuple[float, float]:
            breaker.reset() if failing_over else breaker.force_open()
            tries = len(heard.of(FailedOver))
            cpu, wall = time.thread_time(), time.perf_counter()
            response = agent.chat("Hi")
            took = time.thread_time() - cpu, time.perf_counter() - wall
            assert response.message == "well"
            assert response.metadata.get("attempts") == (2 if failing_over else None)
            assert not failing_over or len(heard.of(FailedOver)) == tries + 1
            return took

        for warm_up in (True, False) * 3:
            run(failing_over=warm_up)
        pairs = [(run(failing_over=True), run(failing_over=False)) for _ in range(SAMPLES)]
        cpu = statistics.median(over[0] - usual[0] for over, usual in pairs)
        wall = min(over[1] for over, _ in pairs) - min(usual[1] for _, usual in pairs)
        print(
            f"\nfailing over adds {cpu * 1000:.2f} ms of CPU and {wall * 1000:.2f} ms at best"
            f" ({SAMPLES} pairs)"
        )
        assert 0 < cpu < ADDED
        assert wall < 10 * ADDED
        assert clock.now() == 0
        assert held(agent) == []


async def test_calls_that_are_under_way_together_all_find_the_other(dead: Dead, well: AzureEmulator) -> None:
    clock, heard = VirtualClock(), Heard()
    async with pool(dead, well, clock, heard).build() as agent:
        answers = await fly(clock, [achat(agent) for _ in range(100)])
        assert [getattr(answer, "message", answer) for answer in answers] == ["well"] * 100
        assert clock.now() == 0  # and nobody waited
        answers = await fly(clock, [achat(agent) for _ in range(100)])
        assert [getattr(answer, "message", answer) for answer in answers] == ["well"] * 100
        assert 5 <= dead.tries(heard) <= 100
        assert held(agent) == []


async def test_it_is_gone_back_to_when_it_is_well_again(well: AzureEmulator) -> None:
    clock, heard = VirtualClock(), Heard()
    found = Dead("503")
    try:
        assert found.azure is not None
        async with pool(found, well, clock, heard).build() as agent:
            for _ in range(10):
                await achat(agent)
            found.azure.faults = None
            asked = len(found.azure.requests)
            clock.advance(30)
            for _ in range(10):
                await achat(agent)
            assert len(found.azure.requests) == asked + 10
            assert agent.health().status == "ok"
    finally:
        found.stop()
