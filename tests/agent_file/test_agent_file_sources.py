"""Which of several sources wins: flag, environment, file, keyring, default; and that `describe` says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from loom_py import AgentBuilder
from loom_py.agent_file import AgentFile, check, load
from loom_py.errors import ConfigError

Write = Callable[..., Path]

KEYS = {kind: f"{kind}-0123456789abcdef" for kind in ("flag", "environment", "file", "keyring")}


class Kept:
    """A keyring that notes what it is asked for."""

    def __init__(self, **keys: str) -> None:
        self.keys = {name.replace("_", "-"): key for name, key in keys.items()}
        self.asked: list[str] = []

    def get(self, name: str, /) -> str | None:
        self.asked.append(name)
        return self.keys.get(name)


def llm(agent: AgentFile) -> Mapping[str, Any]:
    return next(step.kwargs for step in agent.steps() if "llm" in step.method or "azure" in step.method)


def source(agent: AgentFile, name: str) -> tuple[Any, str]:
    setting = agent.describe().to_dict()[name]
    return setting["value"], setting["source"]


@pytest.mark.parametrize(
    ("sources", "winner", "told"),
    [
        (("flag", "environment", "file", "keyring"), "flag", "flag"),
        (("environment", "file", "keyring"), "environment", "environment (AZURE_OPENAI_API_KEY)"),
        (("file", "keyring"), "file", "agent.yaml:2"),
        (("keyring",), "keyring", "keyring"),
    ],
)
def test_a_key_comes_from_the_first_that_has_one(
    write: Write, sources: tuple[str, ...], winner: str, told: str
) -> None:
    given = f", api_key: {KEYS['file']}" if "file" in sources else ""
    path = write(f"kind: Agent\nllm: {{provider: azure-openai{given}}}\n")
    kept = Kept(azure_openai=KEYS["keyring"])
    agent = load(
        path,
        keys=kept,
        env={"AZURE_OPENAI_API_KEY": KEYS["environment"]} if "environment" in sources else {},
        flags={"llm.api_key": KEYS["flag"]} if "flag" in sources else {},
    )
    assert llm(agent)["api_key"] == KEYS[winner]
    assert source(agent, "llm.api_key") == (f"{KEYS[winner][:4]}...cdef", told)
    assert kept.asked == (["azure-openai"] if winner == "keyring" else [])


def test_what_nobody_gives_has_its_default(write: Write) -> None:
    agent = load(write("kind: Agent\nllm: azure-openai\n"), env={})
    assert source(agent, "llm.max_tokens") == (4096, "default")
    assert source(agent, "limits.max_turns") == (25, "default")
    assert source(agent, "resilience.retries.max_attempts") == (5, "default")
    assert source(agent, "name") == ("agent", "default")


def test_the_providers_own_variables_come_before_the_file(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, endpoint: 'https://file.openai.azure.com'}\n")
    agent = load(path, env={"AZURE_OPENAI_ENDPOINT": "https://env.openai.azure.com"})
    assert source(agent, "llm.endpoint") == (
        "https://env.openai.azure.com",
        "environment (AZURE_OPENAI_ENDPOINT)",
    )


def test_a_reference_counts_as_written_in_the_file(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, api_key: '${MINE}'}\n")
    agent = load(path, env={"MINE": KEYS["file"]})
    assert source(agent, "llm.api_key") == ("file...cdef", "agent.yaml:2 (${MINE})")


def test_a_file_that_names_its_kind_of_credential_keeps_it(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, credential: default}\n")
    agent = load(path, env={"AZURE_OPENAI_API_KEY": KEYS["environment"]}, keys=Kept(azure_openai="x" * 20))
    assert llm(agent) == {"credential": "default"}


def test_a_static_token_is_a_credential_too(write: Write) -> None:
    agent = load(write("kind: Agent\nllm: azure-openai\n"), env={"AZURE_OPENAI_AD_TOKEN": "t" * 20})
    assert [(step.method, step.kwargs) for step in agent.steps()] == [
        ("with_azure_openai_entra_auth", {"credential": "t" * 20})
    ]


def test_the_environment_does_not_make_one_of_several_deployments(write: Write) -> None:
    path = write(
        """\
        kind: Agent
        llm: {provider: azure-openai, endpoint: https://a.openai.azure.com, deployment: a}
        resilience:
          failover: [{endpoint: https://b.openai.azure.com, deployment: b}, {deployment: c}]
        """
    )
    env = {"AZURE_OPENAI_ENDPOINT": "https://env.openai.azure.com", "AZURE_OPENAI_API_KEY": "k" * 20}
    failover = next(step for step in load(path, env=env).steps() if step.method == "with_failover")
    assert [dict(each.settings) for each in failover.kwargs["deployments"]] == [
        {"endpoint": "https://b.openai.azure.com", "deployment_id": "b", "api_key": "k" * 20},
        {"endpoint": "https://env.openai.azure.com", "deployment_id": "c", "api_key": "k" * 20},
    ]


def test_a_pool_asks_the_keyring_for_each_provider(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai:a\nresilience: {failover: [{provider: 'openai:gpt-4o'}]}\n")
    kept = Kept(azure_openai="a" * 20, openai="o" * 20)
    made = {step.method: step for step in load(path, env={}, keys=kept).steps()}
    assert made["with_azure_openai_llm"].kwargs["api_key"] == "a" * 20
    (member,) = made["with_failover"].kwargs["deployments"]
    assert (member.provider, member.settings["api_key"]) == ("openai", "o" * 20)


def test_a_keyring_that_fails_is_a_problem_and_no_crash(write: Write) -> None:
    class Locked:
        def get(self, name: str, /) -> str | None:
            raise ConfigError(f"the keyring is locked for {name}", hint="Unlock it.")

    (problem,) = check(write("kind: Agent\nllm: azure-openai\n"), env={}, keys=Locked())
    assert (problem.message, problem.hint) == ("the keyring is locked for azure-openai", "Unlock it.")


def test_flags_reach_every_place_and_may_be_text(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai:gpt-4o\nlimits: {max_turns: 3}\n")
    agent = load(
        path,
        env={},
        flags={"name": "other", "llm.model": "gpt-5", "llm.temperature": "0.5", "limits.max_turns": "7"},
    )
    assert agent.name == "other"
    assert llm(agent) == {"deployment_id": "gpt-5", "temperature": 0.5}
    assert source(agent, "limits.max_turns") == (7, "flag")
    assert source(agent, "llm.provider") == ("azure-openai", "agent.yaml:2")


def test_a_flag_may_replace_the_model_as_a_whole(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, endpoint: nonsense}\n")
    agent = load(path, env={}, flags={"llm": "openai:gpt-4o"})
    assert [(step.args, step.kwargs) for step in agent.steps()] == [(("openai",), {"model": "gpt-4o"})]


def test_a_wrong_flag_is_told_as_one(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai\n")
    (problem,) = check(path, env={}, flags={"llm.temperature": "hot"})
    assert problem.message == "temperature must be a number, not 'hot' (from flag)"
    (problem,) = check(path, env={}, flags={"llm.temprature": 1})
    assert problem.hint == "Did you mean 'temperature'?"


def test_a_wrong_variable_of_the_environment_is_told_as_one(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, endpoint: 'https://x.openai.azure.com'}\n")
    (problem,) = check(path, env={"AZURE_OPENAI_ENDPOINT": "http://x.example"})
    assert problem.message.endswith("(from environment (AZURE_OPENAI_ENDPOINT))")
    assert (problem.line, problem.column) == (2, 41)


def test_no_secret_is_in_the_description(write: Write) -> None:
    path = write(
        """\
        kind: Agent
        llm: {provider: ollama, model: m, api_key: "${SECRET}", headers: {Authorization: Bearer hidden-1}}
        backend: {url: "sqlite:///${SECRET}.db", name: shop}
        system_prompt: use ${SECRET}
        resilience:
          failover: [{endpoint: https://b.openai.azure.com, deployment: b, api_key: hidden-2}]
          shared_state: {url: "redis://:hidden-3@host/0"}
        """
    )
    pytest.importorskip("loom_ollama")
    pytest.importorskip("redis")
    text = str(load(path, env={"SECRET": KEYS["file"]}).describe())
    assert KEYS["file"] not in text
    assert "hidden" not in text
    assert "agent.yaml:2 (${SECRET})" in text


def test_from_yaml_passes_everything_on(write: Write) -> None:
    path = write("kind: Agent\nllm: azure-openai\n")
    builder = AgentBuilder.from_yaml(
        path,
        keys=Kept(azure_openai="k" * 20),
        env={"AZURE_OPENAI_ENDPOINT": "https://env.openai.azure.com"},
        flags={"llm.deployment_id": "flagged"},
    )
    with builder.build() as agent:
        settings = agent.describe().to_dict()
    text = str(settings)
    assert "https://env.openai.azure.com" in text
    assert "flagged" in text
