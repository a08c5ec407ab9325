"""What flags change in a file, what they leave, and what they cannot change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loom_py.agent_file import check, load

Write = Callable[..., Path]

POOL = """\
kind: Agent
llm:
  provider: azure-openai
  deployments:
    - {endpoint: https://a.openai.azure.com, deployment: a}
    - {endpoint: https://b.openai.azure.com, deployment: b}
"""


def settings(path: Path, flags: dict[str, Any], **env: str) -> dict[str, Any]:
    return load(path, env=env, flags=flags).describe().to_dict()


@pytest.mark.parametrize(
    "llm",
    [
        "{provider: azure-openai, deployment: chat}",
        "{provider: azure-openai, model: chat}",
        "{provider: azure-openai, deployment_id: chat}",
        "azure-openai:chat",
        "{provider: 'azure-openai:chat'}",
    ],
)
@pytest.mark.parametrize("place", ["llm.deployment_id", "llm.deployment", "llm.model"])
def test_a_flag_replaces_the_deployment_however_either_is_spelled(write: Write, llm: str, place: str) -> None:
    path = write(f"kind: Agent\nllm: {llm}\n")
    (step,) = load(path, env={"AZURE_OPENAI_DEPLOYMENT": "from-env"}, flags={place: "other"}).steps()
    assert step.kwargs == {"deployment_id": "other"}
    found = settings(path, {place: "other"})["llm.deployment_id"]
    assert found == {"value": "other", "source": "flag"}


def test_a_flag_for_the_provider_brings_its_model(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, model: chat}\n")
    (step,) = load(path, env={}, flags={"llm.provider": "azure-openai:other"}).steps()
    assert step.kwargs == {"deployment_id": "other"}


def test_two_spellings_in_the_file_stay_a_problem(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, model: a, deployment: b}\n")
    (problem,) = check(path, env={})
    assert problem.message == "the deployment is given twice, as model and as deployment"
    path = write("kind: Agent\nllm: {provider: 'azure-openai:a', model: b}\n")
    (problem,) = check(path, env={})
    assert problem.message == "the model is given twice, here and in provider"


def test_two_flags_for_one_deployment_contradict_each_other(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai:chat\n")
    (problem,) = check(path, env={}, flags={"llm": "azure-openai:a", "llm.deployment_id": "b"})
    assert problem.hint == "Keep one: --deployment, or the name in --llm."


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("budget: [{tokens: 1, per: day}]", "budget.usd", "budget is a list here"),
        ("resilience: {failover: ['azure-openai:b']}", "resilience.failover.sticky", "failover is a list"),
        ("backend: 'sqlite:///shop.db'", "backend.name", "backend is text here"),
        ("resilience: {retries: false}", "resilience.retries.max_attempts", "retries is false here"),
    ],
)
def test_a_flag_never_drops_what_is_in_its_way(write: Write, text: str, place: str, said: str) -> None:
    path = write(f"kind: Agent\nllm: azure-openai:chat\n{text}\n")
    problem = next(each for each in check(path, env={}, flags={place: 1}) if place in each.message)
    assert said in problem.message
    above = place.rpartition(".")[0]
    assert problem.hint is not None
    assert f"--set '{above}=" in problem.hint
    assert problem.line == 3


@pytest.mark.parametrize("text", ["", "budget:", "budget: []", "budget: {per: chat}"])
def test_a_flag_makes_the_mappings_on_its_way(write: Write, text: str) -> None:
    path = write(f"kind: Agent\nllm: azure-openai:chat\n{text}\n")
    assert settings(path, {"budget.tokens": 5})["budget.tokens"] == {"value": 5, "source": "flag"}


def test_a_section_that_is_switched_on_takes_a_flag(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai:chat\nresilience: {retries: true}\n")
    place = "resilience.retries.max_attempts"
    assert settings(path, {place: 2})[place]["value"] == 2


def test_a_list_is_replaced_as_a_whole(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai:chat\nbudget: [{tokens: 1, per: day}]\n")
    steps = load(path, env={}, flags={"budget": [{"tokens": 7, "per": "day"}]}).steps()
    assert [step.kwargs["tokens"] for step in steps if "budget" in step.method] == [7]


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [("llm.endpoint", "https://c.openai.azure.com", "endpoints"), ("llm.deployment_id", "c", "names")],
)
def test_a_flag_that_a_pool_would_ignore_is_a_problem(
    write: Write, place: str, value: str, said: str
) -> None:
    (problem,) = check(write(POOL), env={}, flags={place: value})
    assert problem.message.startswith(f"llm is a pool here, whose deployments have {said} of their own")
    assert problem.field == place


def test_a_pool_takes_the_flags_for_what_its_members_share(write: Write) -> None:
    path = write(
        """\
        kind: Agent
        llm:
          provider: azure-openai
          deployment: chat
          deployments: [{endpoint: https://a.openai.azure.com}, {endpoint: https://b.openai.azure.com}]
        """
    )
    (step,) = load(path, env={}, flags={"llm.deployment_id": "other"}).steps()
    assert step.kwargs["deployment_id"] == "other"


def test_the_environment_is_no_flag_to_a_pool(write: Write) -> None:
    assert check(write(POOL), env={"AZURE_OPENAI_ENDPOINT": "https://c.openai.azure.com"}) == []
