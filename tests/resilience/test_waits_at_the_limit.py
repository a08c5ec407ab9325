"""Waits that are just as long as they may be, and deadlines that are the caller's own."""

from __future__ import annotations

import asyncio

import pytest

from loom_py import AgentBuilder, AzureEmulator, ScriptedProvider, VirtualClock, call, tool
from loom_py.emulator import FaultPlan, FaultRule
from loom_py.errors import DeadlineExceededError, RateLimitError


@tool
async def slow() -> str:
    """Take a minute."""
    await asyncio.sleep(60)
    return "done"


def throttled(seconds: float, times: int = 1) -> FaultPlan:
    return FaultPlan(rules=[FaultRule(error="429-2025", retry_after=seconds, times=times)])


def test_a_wait_of_a_whole_minute_is_kept_to_by_default() -> None:
    """The window of a quota is 60 s: so long Azure asks to wait at the most, day quotas apart."""
    clock = VirtualClock(auto_advance=True)
    with (
        AzureEmulator(faults=throttled(60), clock=clock) as azure,
        AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_clock(clock).build() as agent,
    ):
        assert agent.chat("Hello!").metadata["attempts"] == 2
    assert clock.now() == pytest.approx(60)


def test_others_wait_out_a_whole_minute_too() -> None:
    clock = VirtualClock(auto_advance=True)
    with AzureEmulator(faults=throttled(60), clock=clock) as azure:
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_clock(clock)
        with builder.with_retries(max_attempts=1).build() as hasty, builder.build() as patient:
            with pytest.raises(RateLimitError):
                hasty.chat("Hello!")
            assert patient.chat("Hello!").message
    assert clock.now() == pytest.approx(60)


def test_a_wait_that_is_longer_than_may_be_is_not_begun() -> None:
    clock = VirtualClock(auto_advance=True)
    with (
        AzureEmulator(faults=throttled(61), clock=clock) as azure,
        AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_clock(clock).build() as agent,
        pytest.raises(RateLimitError),
    ):
        agent.chat("Hello!")
    assert clock.now() == 0


@pytest.mark.parametrize(("run", "opens"), [({"run": 0.3}, False), ({"run": 5, "read": 0.3}, True)])
def test_a_deployment_is_not_blamed_for_the_callers_deadline(run: dict[str, float], opens: bool) -> None:
    with (
        AzureEmulator(faults=FaultPlan(rules=[FaultRule(hang=True, times=1)])) as azure,
        AgentBuilder()
        .with_azure_openai_llm(**azure.client_kwargs())
        .with_circuit_breakers(failure_threshold=1)
        .with_retries(max_attempts=1)
        .with_timeouts(**run)
        .build() as agent,
    ):
        with pytest.raises(Exception, match="time"):
            agent.chat("Hello!")
        (deployment,) = agent.health().deployments.values()
        assert deployment.breaker is not None
        assert (deployment.breaker.state == "open") is opens


def test_a_tool_is_not_blamed_for_the_callers_deadline() -> None:
    with (
        AzureEmulator(ScriptedProvider([call("slow")])) as azure,
        AgentBuilder()
        .with_azure_openai_llm(**azure.client_kwargs())
        .with_tools(slow)
        .with_circuit_breakers(failure_threshold=1)
        .with_timeouts(run=0.3)
        .build() as agent,
    ):
        with pytest.raises(DeadlineExceededError):
            agent.chat("Hello!")
        assert agent.health().tools["slow"].state == "closed"
