"""``loom config``: keys in a keyring or a file, and where every setting comes from."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loom_py import AzureEmulator
from tests.cli.terminal import ENTER, Loom

SECRET = "sk-abcd0123456789wxyz"
MASKED = "sk-a...wxyz"
KEY = "emulated-key-0123456789"

Ring = Callable[[], dict[str, Any]]


def test_a_key_goes_into_the_keyring_and_comes_out_masked(loom: Loom, keyring_in: Ring) -> None:
    kept = loom("config", "set-key", "OpenAI", "--stdin", stdin=f"{SECRET}\n")
    assert kept.returncode == 0
    assert kept.stdout.startswith(f"openai  {MASKED}  kept in keyring (")
    assert keyring_in()["loom-py/openai"] == SECRET
    assert loom("config", "get-key", "openai").stdout == f"{MASKED}\n"
    assert loom("config", "get-key", "openai", "--reveal").stdout == f"{SECRET}\n"
    assert loom("config", "list-keys").stdout == "openai\n"
    assert json.loads(loom("config", "list-keys", "--json").stdout) == ["openai"]
    assert loom("config", "delete-key", "openai").returncode == 0
    assert "loom-py/openai" not in keyring_in()
    gone = loom("config", "get-key", "openai")
    assert gone.returncode == 2
    assert "there is no key 'openai'" in gone.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_the_key_is_asked_for_without_being_shown(loom: Loom, keyring_in: Ring) -> None:
    with loom.on_a_terminal("config", "set-key", "anthropic") as terminal:
        terminal.wait_for("Key for anthropic (not shown): ")
        terminal.type(SECRET, ENTER)
        terminal.wait_for(MASKED)
        assert terminal.exit_code() == 0
    assert SECRET not in terminal.text
    assert keyring_in()["loom-py/anthropic"] == SECRET


def test_a_short_key_is_masked_wholly(loom: Loom, keyring_in: Ring) -> None:
    done = loom("config", "set-key", "openai", "--stdin", stdin="short-key")
    assert done.stdout.startswith("openai  ***  kept")
    assert keyring_in()["loom-py/openai"] == "short-key"


def test_a_key_is_never_an_argument_and_never_waited_for_without_a_terminal(loom: Loom) -> None:
    assert loom("config", "set-key", "openai", SECRET).returncode == 2
    done = loom("config", "set-key", "openai", "--file")
    assert done.returncode == 2
    assert "--stdin" in done.stderr


def test_without_a_keyring_nothing_is_kept_until_a_file_is_asked_for(loom: Loom) -> None:
    refused = loom("config", "set-key", "openai", "--stdin", stdin=SECRET)
    assert refused.returncode == 2
    assert "there is no keyring on this machine" in refused.stderr
    assert "--file" in refused.stderr
    file = loom.folder.parent / "home" / ".config" / "loom-py" / "keys.json"
    assert not file.exists()
    kept = loom("config", "set-key", "openai", "--stdin", "--file", stdin=SECRET)
    assert kept.returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert loom("config", "get-key", "openai").stdout == f"{MASKED}\n"
    file.chmod(0o644)
    opened = loom("config", "get-key", "openai")
    assert opened.returncode == 2
    assert f"chmod 600 {file}" in opened.stderr
    assert SECRET not in opened.stderr + opened.stdout


def test_the_key_of_an_agent_comes_from_the_keyring_where_nothing_else_has_one(
    loom: Loom, agent: str, keyring_in: Ring
) -> None:
    del loom.environment["AZURE_OPENAI_API_KEY"]
    assert loom("run", agent, "hello").returncode == 2
    loom("config", "set-key", "azure-openai", "--stdin", stdin=KEY)
    assert loom("run", agent, "hello").stdout == "You said: hello\n"
    shown = json.loads(loom("config", "show", agent, "--json").stdout)
    assert shown["llm.api_key"] == {"value": "emul...6789", "source": "keyring"}
    wrong = loom("run", agent, "hello", more={"AZURE_OPENAI_API_KEY": "another-key-9999999999"})
    assert wrong.returncode == 3, "the environment comes before the keyring"


def test_a_bare_model_takes_its_key_from_the_keyring_too(
    loom: Loom, azure: AzureEmulator, keyring_in: Ring
) -> None:
    loom("config", "set-key", "azure-openai", "--stdin", stdin=KEY)
    arguments = ("chat", "--endpoint", azure.endpoint, "--deployment", "gpt-4o-deployment")
    assert loom(*arguments, stdin="hello").stdout == "You said: hello\n"


def test_show_tells_of_every_setting_where_it_comes_from(loom: Loom, agent: str) -> None:
    done = loom("config", "show", agent, "--deployment", "other", "--json")
    shown = {name: setting["source"] for name, setting in json.loads(done.stdout).items()}
    assert shown["llm.deployment_id"] == "flag"
    assert shown["llm.api_key"] == "environment (AZURE_OPENAI_API_KEY)"
    assert shown["llm.endpoint"] == "agent.yaml:6"
    assert shown["limits.max_turns"] == "default"
    assert KEY not in done.stdout


def test_show_without_an_agent_tells_of_the_users_own_settings(loom: Loom) -> None:
    folder = loom.folder.parent / "home" / ".config" / "loom-py"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('llm = "ollama:llama3.2"\nhistory = false\n', "utf-8")
    done = loom("config", "show", "--json", more={"OPENAI_API_KEY": SECRET})
    shown = json.loads(done.stdout)
    assert shown["llm"] == {"value": "ollama:llama3.2", "source": str(folder / "config.toml")}
    assert shown["history"]["value"] is False
    assert shown["openai.key"] == {"value": MASKED, "source": "environment (OPENAI_API_KEY)"}
    by_variable = loom("config", "show", "--json", more={"LOOM_LLM": "openai:gpt-4o"})
    assert json.loads(by_variable.stdout)["llm"]["source"] == "environment (LOOM_LLM)"
    by_flag = loom("config", "show", "--llm", "needle", "--json", more={"LOOM_LLM": "openai:gpt-4o"})
    assert json.loads(by_flag.stdout)["llm"] == {"value": "needle", "source": "flag"}


@pytest.mark.parametrize(
    ("text", "told"),
    [("llm = 1", "must be text"), ("lm = 'x'", "has no setting 'lm'"), ("llm =", "is not TOML")],
)
def test_settings_that_are_none_are_wrong_usage(loom: Loom, text: str, told: str) -> None:
    file: Path = loom.folder.parent / "home" / ".config" / "loom-py" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text, "utf-8")
    done = loom("chat", stdin="1")
    assert done.returncode == 2
    assert told in done.stderr
