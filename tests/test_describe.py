"""Every resolved setting, where it came from, and no secret."""

from __future__ import annotations

import os
from typing import Any

import httpx2
import pytest

from loom_py import Agent, AgentBuilder, AzureOpenAIClient, ChatOptions, KeyVaultSecret, Message, tool
from loom_py.description import masked
from loom_py.llm.scripted import ScriptedProvider

ENDPOINT = "https://contoso.openai.azure.com"
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AZURE_OPENAI_", "OPENAI_")):
            monkeypatch.delenv(name)


def described(**settings: Any) -> dict[str, dict[str, Any]]:
    given = {"endpoint": ENDPOINT, "deployment_id": "gpt-4o", **settings}
    return AzureOpenAIClient(**given).describe().to_dict()


def test_each_setting_says_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", ENDPOINT)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    settings = AzureOpenAIClient(deployment_id="gpt-4o", timeout=30).describe().to_dict()
    assert settings["endpoint"] == {"value": ENDPOINT, "source": "environment (AZURE_OPENAI_ENDPOINT)"}
    assert settings["api_key"]["source"] == "environment (AZURE_OPENAI_API_KEY)"
    assert settings["deployment_id"] == {"value": "gpt-4o", "source": "argument"}
    assert settings["timeout"] == {"value": 30.0, "source": "argument"}
    assert settings["max_tokens"] == {"value": 4096, "source": "default"}
    assert settings["model"] == {"value": "gpt-4o", "source": "deployment"}


def test_a_model_is_named_or_unknown() -> None:
    assert described(api_key=KEY, deployment_id="prod")["model"]["value"] == "unknown"
    named = described(api_key=KEY, deployment_id="prod", model_name="gpt-4.1")["model"]
    assert named == {"value": "gpt-4.1", "source": "model_name"}


def test_the_endpoint_that_chooses_v1_is_named_as_the_reason() -> None:
    settings = described(api_key=KEY, endpoint=f"{ENDPOINT}/openai/v1")
    assert settings["api"] == {"value": "v1", "source": "endpoint"}
    assert described(api_key=KEY, api="v1")["api"] == {"value": "v1", "source": "argument"}
    assert described(api_key=KEY)["api"] == {"value": "auto", "source": "default"}


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": KEY},
        {"entra_token": KEY},
        {"api_key": lambda: KEY},
        {"token_provider": lambda: KEY},
        {"api_key": "short"},
    ],
)
def test_no_secret_is_shown(settings: dict[str, Any]) -> None:
    client = AzureOpenAIClient(
        endpoint=ENDPOINT,
        deployment_id="gpt-4o",
        http_client=httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(500))),
        **settings,
    )
    agent = Agent(client)
    with pytest.raises(Exception, match="500"):
        agent.chat("Hi")
    for text in (
        str(agent.describe()),
        repr(agent.describe()),
        repr(client),
        repr(agent.describe().to_dict()),
    ):
        assert KEY not in text
        assert "short" not in text


def test_a_key_that_comes_from_elsewhere_is_named_once() -> None:
    secret = KeyVaultSecret("contoso-kv", "openai-key", client=object())
    rows = AzureOpenAIClient(endpoint=ENDPOINT, deployment_id="gpt-4o", api_key=secret).describe()
    (row,) = [row for row in rows if row.name == "api_key"]
    assert "contoso-kv" in row.value
    assert row.source == "argument"

    def rotating_key() -> str:
        return KEY

    assert described(api_key=rotating_key)["api_key"]["value"] == "rotating_key"


def test_a_masked_secret_shows_its_ends_only_where_it_is_long() -> None:
    assert masked(KEY) == "0123...cdef"
    assert masked("a-short-key") == "***"


def test_what_was_learned_is_described() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        if b"temperature" in request.content:
            error = {"code": "unsupported_value", "param": "temperature", "message": "Unsupported value"}
            return httpx2.Response(400, json={"error": error})
        choice = {"message": {"content": "Hi"}, "finish_reason": "stop"}
        return httpx2.Response(200, json={"choices": [choice]})

    client = AzureOpenAIClient(
        endpoint=ENDPOINT,
        deployment_id="prod",
        api_key=KEY,
        http_client=httpx2.Client(transport=httpx2.MockTransport(refuse)),
    )
    assert "learned" not in client.describe().to_dict()
    client.chat([Message.user("Hi")], options=ChatOptions(temperature=0.5))
    learned = client.describe().to_dict()["learned"]
    assert "temperature" in learned["value"]
    assert learned["source"] == "answers of Azure"


def test_an_agent_describes_itself_its_limits_and_its_provider() -> None:
    @tool
    def look() -> str:
        """Looks."""
        return "x"

    agent = (
        AgentBuilder()
        .with_azure_openai_llm(ENDPOINT, "gpt-4o", KEY)
        .with_tools(look)
        .with_name("helper")
        .with_output(int)
        .with_limits(max_turns=3)
        .build()
    )
    settings = agent.describe().to_dict()
    assert settings["name"]["value"] == "helper"
    assert settings["tools"]["value"] == "look"
    assert settings["output"]["value"] == "int"
    assert settings["limits.max_turns"] == {"value": 3, "source": "argument"}
    assert settings["limits.max_tool_executions"] == {"value": 50, "source": "default"}
    assert settings["llm.deployment_id"] == {"value": "gpt-4o", "source": "argument"}


def test_a_provider_that_cannot_describe_itself_is_no_obstacle() -> None:
    settings = Agent(ScriptedProvider(["x"])).describe().to_dict()
    assert settings["provider"]["value"] == "scripted"
    assert settings["backends"]["value"] == "none"


def test_a_description_prints_as_a_table() -> None:
    lines = str(Agent(ScriptedProvider(["x"])).describe()).splitlines()
    width = max(len(line.split("  ")[0]) for line in lines)
    assert all(line[width : width + 2] == "  " for line in lines)
