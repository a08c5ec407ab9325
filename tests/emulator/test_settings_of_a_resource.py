"""Emulated resources described in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loom_py import AzureEmulator, AzureOpenAIClient
from loom_py.emulator import Ptu, Quota
from loom_py.emulator.settings_file import load_settings
from loom_py.errors import BuilderError, ConfigError, RateLimitError
from loom_py.messages import Message

FILE = """
region: westeurope
keys: [my-key]
chunk_delay: 0.01
deployments:
  chat: gpt-4o-2024-11-20
  small:
    model: gpt-4.1-mini
    quota: {tokens_per_minute: 3000, requests_per_minute: 6}
    engine: scripted:answers.json
  reserved: {model: gpt-4o, ptu: {tokens_per_minute: 100000}}
faults:
  seed: 7
  rules:
    - {error: 503-empty, nth: 2, deployment: chat}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "resource.yaml"
    path.write_text(FILE, "utf-8")
    (tmp_path / "answers.json").write_text('{"steps": ["From the script."], "repeat": true}', "utf-8")
    return path


def test_a_file_says_all_of_a_resource(file: Path) -> None:
    settings = load_settings(file)
    assert settings["region"] == "westeurope"
    assert settings["api_keys"] == ["my-key"]
    assert settings["deployments"] == {
        "chat": "gpt-4o-2024-11-20",
        "small": "gpt-4.1-mini",
        "reserved": "gpt-4o",
    }
    assert settings["quotas"] == {"small": Quota(3000, 6), "reserved": Ptu(100_000)}
    assert len(settings["faults"].rules) == 1


def test_the_resource_does_what_the_file_says(file: Path) -> None:
    with AzureEmulator(**load_settings(file)) as azure:
        settings = azure.client_kwargs("small")
        with AzureOpenAIClient(**settings, max_tokens=50) as client:
            assert client.chat([Message.user("?")]).message == "From the script."
            assert azure.quota_of("small").endswith("1 of 6 requests")
            with pytest.raises(RateLimitError):
                client.chat([Message.user("?")])  # six a minute are one in ten seconds
        entries = azure.requests
    assert [entry.number for entry in entries] == [1, 2]
    assert entries[0].usage is not None
    assert entries[0].usage.total > 0
    assert entries[0].seconds is not None
    assert entries[0].at > 1_700_000_000


def test_a_fault_is_noted_with_the_request(file: Path) -> None:
    with AzureEmulator(**load_settings(file)) as azure:
        client = AzureOpenAIClient(endpoint=azure.endpoint, api_key="my-key", deployment_id="chat")
        client.chat([Message.user("?")])
        with pytest.raises(Exception, match=r".+"):
            client.chat([Message.user("?")])
        client.close()
        assert [(entry.status, entry.fault) for entry in azure.requests] == [(200, ""), (503, "503-empty")]
        assert "utilised" in azure.quota_of("reserved")
        assert azure.quota_of("chat") == ""


def test_json_and_a_plan_in_a_file_of_its_own_are_fine(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"seed": 1, "rules": [{"error": "429-2026"}]}))
    path = tmp_path / "resource.json"
    path.write_text(json.dumps({"deployments": {"a": "gpt-4o"}, "faults": "plan.json"}))
    settings = load_settings(path)
    assert settings["deployments"] == {"a": "gpt-4o"}
    assert settings["faults"].seed == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold a mapping"),
        ("- a", "must hold a mapping"),
        ("a: [", "is not YAML"),
        ("regoin: x", "regoin"),
        ("deployments: {a: {}}", "deployments.a"),
        ("deployments: {a: {model: m, quota: {tokens_per_minute: 0}}}", "at least 1"),
        ("deployments: {a: {model: m, quota: {}, ptu: {tokens_per_minute: 5}}}", "quota and ptu"),
        ("faults: {rules: [{error: nope}]}", "nope"),
        ("faults: missing.json", "missing.json"),
        ("engine: 'scripted:missing.json'", "missing.json"),
        ("engine: no-such-provider", "no-such-provider"),
        ("keys: []", "keys"),
        ("chunk_delay: -1", "chunk_delay"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_what_is_wrong_is_told(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "resource.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert said in str(caught.value)


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "resource.yaml"
    path.write_text("regoin: x\nkeys: 5\nchunk_delay: fast\n", "utf-8")
    with pytest.raises(BuilderError) as caught:
        load_settings(path)
    assert {problem.field for problem in caught.value.problems} == {"regoin", "keys", "chunk_delay"}
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "nowhere.yaml")
