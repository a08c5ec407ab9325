"""What users get wrong is said clearly, or does no harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tenacity import wait_fixed

from loom_py import Agent, AgentBuilder, ScriptedProvider
from loom_py.clock import VirtualClock
from loom_py.errors import BudgetExceededError, BuilderError, RateLimitError, ServiceUnavailableError
from loom_py.llm.prices import ModelPrice
from loom_py.resilience.budget import BudgetAlert
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.events import RetryScheduled
from tests.resilience.promises.pilot import VERBS, Heard, Verb

PRICE = ModelPrice("1", "1")


def scripted(*steps: Any) -> ScriptedProvider:
    return ScriptedProvider(steps, price=PRICE)


def build(provider: ScriptedProvider, heard: Heard, **retries: Any) -> Agent:
    builder = AgentBuilder().with_llm(provider).with_clock(VirtualClock(auto_advance=True))
    return builder.with_listener(heard).with_retries(**retries).build()


# ── a wait strategy ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wait", "what"),
    [
        (2, "not int"),
        ("2", "not str"),
        (wait_fixed, "the class wait_fixed"),
        (lambda: 2, "too many positional arguments"),
        (lambda state, seconds: 2, "missing a required argument: 'seconds'"),
    ],
)
def test_what_is_no_wait_strategy_is_found_when_the_agent_is_built(wait: Any, what: str) -> None:
    builder = AgentBuilder().with_llm(scripted()).with_retries(wait=wait)
    with pytest.raises(BuilderError) as caught:
        builder.build()
    (problem,) = caught.value.problems
    assert problem.field == "wait"
    assert what in problem.message


def raises(_: Any) -> float:
    raise TypeError("mine")


@pytest.mark.parametrize(
    ("wait", "what"),
    [
        (raises, "TypeError: mine"),
        (lambda _: "2", "'2'"),
        (lambda _: None, "None"),
        (lambda _: -1, "-1"),
        (lambda _: float("nan"), "nan"),
        (lambda _: True, "True"),
        (lambda _: wait_fixed(2), "wait_fixed"),
    ],
)
def test_a_wait_strategy_that_fails_costs_no_retry(
    wait: Callable[[Any], Any], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    agent = build(scripted(ServiceUnavailableError("down"), "up"), heard, wait=wait, jitter_seconds=0)
    assert agent.chat("Hi").message == "up"
    assert [event.wait_seconds for event in heard.of(RetryScheduled)] == [1.0]  # as without it
    (warning,) = [each.getMessage() for each in caplog.records if "wait_strategy_failed" in each.getMessage()]
    assert what in warning


def test_a_wait_strategy_that_works_is_kept_to() -> None:
    heard = Heard()
    down = ServiceUnavailableError("down")
    agent = build(scripted(down, down, "up"), heard, wait=lambda state: state.attempt_number * 3)
    assert agent.chat("Hi").message == "up"
    assert [event.wait_seconds for event in heard.of(RetryScheduled)] == [3.0, 6.0]


# ── what an error says ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("told", ["5", "soon", float("nan"), -3, True, [5]])
@pytest.mark.parametrize("kind", [RateLimitError, ServiceUnavailableError])
@pytest.mark.parametrize("ask", VERBS)
async def test_a_retry_after_that_is_no_time_is_not_reckoned_with(
    ask: Verb, kind: type[Any], told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    error = kind("no", retry_after=told)
    agent = build(scripted(error, "up"), Heard())
    assert (await ask(agent)).message == "up"
    assert error.retry_after is None
    (warning,) = [each.getMessage() for each in caplog.records if "retry_after_ignored" in each.getMessage()]
    assert repr(told) in warning


@pytest.mark.parametrize("told", [5, 5.0])
def test_a_retry_after_that_is_one_is_kept_to(told: float) -> None:
    heard = Heard()
    agent = build(scripted(ServiceUnavailableError("no", retry_after=told), "up"), heard, jitter_seconds=0)
    assert agent.chat("Hi").message == "up"
    assert [event.wait_seconds for event in heard.of(RetryScheduled)] == [5.0]


# ── hedging ──────────────────────────────────────────────────────────────────────────────


def test_hedging_with_one_deployment_is_a_problem_that_names_its_remedy() -> None:
    builder = AgentBuilder().with_llm(scripted()).with_hedging(after_seconds=1)
    with pytest.raises(BuilderError) as caught:
        builder.with_retries(max_attempts=0).build()
    assert len(caught.value.problems) == 2  # all at once
    (problem,) = [each for each in caught.value.problems if each.field == "hedging"]
    assert "only one" in problem.message
    assert ".with_failover" in str(problem.remedy)


def test_hedging_with_two_deployments_is_none() -> None:
    builder = AgentBuilder().with_llm(scripted()).with_hedging(after_seconds=1)
    builder.with_failover([scripted()]).build().close()
    balanced = [Deployment(scripted(), name=name) for name in "ab"]
    AgentBuilder().with_load_balancing(balanced).with_hedging(after_seconds=1).build().close()
    with pytest.raises(BuilderError, match="only one"):
        AgentBuilder().with_load_balancing(balanced[:1]).with_hedging(after_seconds=1).build()


# ── an alert of a budget ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("per", ["chat", "session", "agent", "day"])
@pytest.mark.parametrize("session", ["s", None])
def test_who_is_asked_for_more_hears_whose_budget_it_is(per: Any, session: str | None) -> None:
    alerts: list[BudgetAlert] = []
    clock = VirtualClock(epoch=1_700_000_000)
    builder = AgentBuilder().with_llm(scripted("x")).with_clock(clock)
    agent = builder.with_budget(usd="0.000001", per=per, approve=alerts.append).build()
    with pytest.raises(BudgetExceededError):
        agent.chat("Hi", session_id=session)
    (alert,) = alerts
    assert (alert.agent, alert.per, alert.refused) == (agent.name, per, True)
    if per == "day":
        assert alert.key == "2023-11-14"
    elif per == "agent":
        assert alert.key == ""
    elif per == "session" and session:
        assert alert.key == "s"
    else:
        assert len(alert.key) >= 16  # the id of the chat
