"""Settings: where they come from, what is refused, and what never shows."""

from __future__ import annotations

from typing import Any

import pytest

from loom_ollama import OllamaConfig, OllamaEmulator, OllamaProvider
from loom_ollama.config import normalised_host
from loom_py import AgentBuilder, AzureEmulator
from loom_py.errors import AuthenticationError, BuilderError, ConfigError
from loom_py.llm.scripted import ScriptedProvider, call, reply


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", "http://127.0.0.1:11434"),
        ("gpu", "http://gpu:11434"),
        ("gpu:99", "http://gpu:99"),
        ("http://gpu", "http://gpu:80"),
        ("https://ollama.com", "https://ollama.com:443"),
        ("https://proxy/llm/", "https://proxy:443/llm"),
        ("http://gpu:1/api", "http://gpu:1"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("http://[::1]:5", "http://[::1]:5"),
    ],
)
def test_a_host_is_read_as_the_official_client_does(given: str, wanted: str) -> None:
    assert normalised_host(given) == wanted


@pytest.mark.parametrize("host", ["ftp://x", "http://a b", "http://u:p@x", "http://x:99999", "http://x?a=1"])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="host"):
        OllamaProvider("llama3.2", host=host)


def test_the_environment_is_read_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "gpu:1234")
    monkeypatch.setenv("OLLAMA_API_KEY", "secret-key-of-mine-1")
    provider = OllamaProvider("llama3.2")
    assert provider.endpoint == "http://gpu:1234"
    told = provider.describe().to_dict()
    assert told["host"] == {"value": "http://gpu:1234", "source": "environment (OLLAMA_HOST)"}
    assert told["api_key"]["value"] == "secr...ne-1"
    assert OllamaProvider("llama3.2", host="own").endpoint == "http://own:11434"


def test_every_wrong_setting_is_told_at_once() -> None:
    with pytest.raises(BuilderError) as caught:
        OllamaProvider("", host="ftp://x", temperature=9, timeout=0, context_window=0)
    assert {problem.field for problem in caught.value.problems} == {
        "model",
        "host",
        "temperature",
        "timeout",
        "context_window",
    }
    with pytest.raises(ConfigError, match="model is required"):
        OllamaProvider()
    with pytest.raises(ConfigError, match="nonsense"):
        OllamaConfig.resolve({"model": "a", "nonsense": 1})


def test_a_key_never_shows() -> None:
    key = "secret-key-of-mine-1"
    with (
        OllamaEmulator(api_keys=["another"]) as server,
        OllamaProvider("llama3.2", host=server.host, api_key=key) as provider,
    ):
        server.fail_next(401, f"the key {key} is wrong")
        with pytest.raises(AuthenticationError) as caught:
            provider.chat([])
        texts = [str(caught.value), repr(provider), repr(provider.config), str(provider.describe())]
        texts += [repr(vars(caught.value)), repr(server.requests)]
    assert not [text for text in texts if key in text]
    with pytest.raises(ConfigError) as refused:
        OllamaProvider("llama3.2", api_key=f"{key}\nX: y")
    assert key not in str(refused.value)


def test_the_builder_finds_it_by_name() -> None:
    with OllamaEmulator(ScriptedProvider(["Hello!"])) as server:
        for builder in (
            AgentBuilder().with_ollama_llm("llama3.2", host=server.host),
            AgentBuilder().with_llm("ollama:llama3.2", host=server.host),
        ):
            with builder.build() as agent:
                assert agent.provider.name == "ollama"
    with pytest.raises(BuilderError, match="nonsense"):
        AgentBuilder().with_ollama_llm("llama3.2", nonsense=1).build()


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def test_it_takes_over_from_azure_in_the_middle_of_a_session() -> None:
    azure_model = ScriptedProvider([call("double", number=4), "8", "never"])
    local = ScriptedProvider([call("double", number=8), reply("16")])
    with AzureEmulator(azure_model) as azure, OllamaEmulator(local) as server:
        builder = (
            AgentBuilder()
            .with_azure_openai_llm(azure.endpoint, "gpt-4o-deployment", azure.api_key)
            .with_failover([OllamaProvider("llama3.2", host=server.host)])
            .with_retries(max_attempts=2, initial_seconds=0.01, jitter_seconds=0.0)
            .with_tools(double)
        )
        with builder.build() as agent:
            assert agent.chat("4?", session_id="s").message == "8"
            azure.fail_next(503, times=50)
            response = agent.chat("Again?", session_id="s")
        assert response.message == "16"
        sent: list[dict[str, Any]] = server.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
        "tool",
    ]
    assert sent[1]["tool_calls"][0]["function"] == {"index": 0, "name": "double", "arguments": {"number": 4}}
