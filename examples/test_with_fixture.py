"""Tests of an agent with the pytest fixture ``azure_emulator``; it comes with loom_py.

Run them with ``pytest examples/test_with_fixture.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loom_py import Agent, AgentBuilder, AzureEmulator, ScriptedProvider, call, tool
from loom_py.emulator import Quota
from loom_py.errors import RateLimitError, ServiceUnavailableError


@tool
def stock(product: str) -> int:
    """How many pieces of a product are in stock."""
    return {"Desk Lamp": 12}.get(product, 0)


@pytest.fixture
def agent(azure_emulator: AzureEmulator) -> Iterator[Agent]:
    """The agent under test, on the emulator; it does not try again, so that failures are seen."""
    azure = azure_emulator.endpoint, "gpt-4o-deployment", azure_emulator.api_key
    builder = AgentBuilder().with_tools(stock).with_azure_openai_llm(*azure)
    with builder.with_retries(max_attempts=1).build() as agent:
        yield agent


def test_the_agent_looks_the_stock_up(agent: Agent, azure_emulator: AzureEmulator) -> None:
    with ScriptedProvider([call("stock", product="Desk Lamp"), "There are 12."]) as model:
        azure_emulator.engine = model
        response = agent.chat("How many desk lamps?")
    assert response.message == "There are 12."
    assert response.tool_results[0].content == "12"
    assert azure_emulator.requests[-1].body["messages"][-1]["content"] == "12"


def test_an_outage_reaches_the_caller(agent: Agent, azure_emulator: AzureEmulator) -> None:
    azure_emulator.fail_next(503)
    with pytest.raises(ServiceUnavailableError) as caught:
        agent.chat("How many desk lamps?")
    assert caught.value.retryable


@pytest.mark.azure_emulator(quotas={"gpt-4o-deployment": Quota(requests_per_minute=6)})
def test_a_limit_says_how_long_to_wait(agent: Agent) -> None:
    agent.chat("One in ten seconds is fine.")
    with pytest.raises(RateLimitError) as caught:
        agent.chat("Two are not.")
    assert caught.value.retry_after == 10
