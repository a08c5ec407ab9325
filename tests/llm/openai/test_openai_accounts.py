"""Quotas and credit of OpenAI are an account's: two keys in a pool stand in for one another."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from loom_py import Agent, AgentBuilder, Deployment, ScriptedProvider
from loom_py.emulator import OpenAIEmulator
from loom_py.errors import RateLimitError
from loom_py.llm.openai import OpenAIClient, OpenAIConfig

ONE, TWO = (f"sk-proj-{name}-0123456789abcdefghijklmnop" for name in ("one", "two"))


@pytest.fixture
def openai() -> Iterator[OpenAIEmulator]:
    with OpenAIEmulator(ScriptedProvider(["Hi"] * 9), api_keys=[ONE, TWO]) as emulator:
        yield emulator


def pool(openai: OpenAIEmulator, *keys: str) -> Agent:
    first, *others = (
        Deployment("openai:gpt-4o", api_key=key, base_url=openai.base_url, name=f"account {place}")
        for place, key in enumerate(keys, 1)
    )
    return AgentBuilder().with_load_balancing([first]).with_failover(others).with_circuit_breakers().build()


def test_a_limit_of_one_key_does_not_hold_for_the_other(openai: OpenAIEmulator) -> None:
    openai.fail_next(429, headers={"retry-after": "30"}, code="rate_limit_exceeded", message="Slow down.")
    with pool(openai, ONE, TWO) as agent:
        began = time.monotonic()
        assert agent.chat("Hello").message == "Hi"
    assert time.monotonic() - began < 10
    assert [request.status for request in openai.requests] == [429, 200]


def test_an_account_without_credit_is_taken_out_of_the_pool(openai: OpenAIEmulator) -> None:
    openai.fail_next(429, code="insufficient_quota", message="You exceeded your current quota.")
    with pool(openai, ONE, TWO) as agent:
        assert agent.chat("Hello").message == "Hi"
        assert agent.chat("Hello").message == "Hi"
        broke, other = agent.health().deployments.values()
    assert [request.status for request in openai.requests] == [429, 200, 200]
    assert (broke.is_available, other.is_available) == (False, True)
    assert broke.retry_in > 100  # someone has to pay first


def test_without_another_account_the_error_says_what_it_is(openai: OpenAIEmulator) -> None:
    openai.fail_next(429, code="insufficient_quota", message="You exceeded your current quota.")
    with pool(openai, ONE) as agent, pytest.raises(RateLimitError) as caught:
        agent.chat("Hello")
    assert (caught.value.kind, caught.value.retryable) == ("credit", False)


def test_an_account_is_told_by_its_organization_its_project_and_its_key() -> None:
    given = [
        {"api_key": ONE},
        {"api_key": TWO},
        {"api_key": ONE, "organization": "org-1"},
        {"api_key": ONE, "project": "org-1"},
    ]
    accounts = [OpenAIConfig.resolve({"model": "gpt-4o", **settings}).account for settings in given]
    assert len(set(accounts)) == len(given)
    assert OpenAIClient(model="gpt-5", api_key=ONE).account == accounts[0]
    assert all(account is not None and account not in ONE for account in accounts)
    # a digest would give a short key away to whoever tries them all
    assert OpenAIConfig.resolve({"model": "gpt-4o", "api_key": "hunter2"}).account is None


def test_two_paths_of_one_gateway_are_two_deployments_in_the_shared_state_too() -> None:
    def keys(*urls: str) -> set[str]:
        deployments = [OpenAIClient(model="gpt-4o", api_key="k" * 40, base_url=url) for url in urls]
        with AgentBuilder().with_load_balancing(deployments).build() as agent:
            return {each.key for each in agent.health().deployments.values()}

    assert len(keys("https://gw.example/a/v1", "https://gw.example/b/v1")) == 2
