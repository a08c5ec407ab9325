"""Keys: how they are made and kept, what each may use, and who pays."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from loom_py import Agent
from loom_py.errors import ConfigError
from loom_py.serve import ApiKey, KeyFile, ServeConfig, create_app, new_key, serving

Ask = Callable[..., dict[str, Any]]


def _post(url: str, body: Any, key: str | None) -> httpx2.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx2.post(f"{url}/v1/chat/completions", json=body, headers=headers, verify=False)


# ── made and kept ────────────────────────────────────────────────────────────────────────


def test_a_key_is_random_and_only_its_hash_is_kept() -> None:
    first, second = new_key("ada"), new_key("ada", usd_per_day="2.50", requests_per_minute=5)
    assert first.secret != second.secret
    assert len(first.secret) > 40
    assert first.secret not in repr(first) + repr(first.key) + first.key.model_dump_json()
    assert second.key.usd_per_day == Decimal("2.50")


def test_a_file_of_keys_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    secret = file.add("ada", tokens_per_minute=1000)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert secret not in file.path.read_text()
    assert [(key.name, key.tokens_per_minute) for key in file.load()] == [("ada", 1000)]
    with pytest.raises(ConfigError, match="there is a key named 'ada' already"):
        file.add("ada")
    assert file.remove("ada") is True
    assert file.remove("ada") is False
    assert sorted(path.name for path in tmp_path.iterdir()) == [".keys.json.lock", "keys.json"]


def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: file.add(f"key-{number}"), range(24)))
    assert len(file.load()) == 24


def test_a_link_to_a_file_of_keys_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "keys.json"
    link.symlink_to(tmp_path / "real" / "keys.json")
    KeyFile(link).add("ada")
    KeyFile(link).add("bob")
    assert link.is_symlink()
    assert [key.name for key in KeyFile(tmp_path / "real" / "keys.json").load()] == ["ada", "bob"]


def test_a_file_that_others_may_change_is_not_trusted(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    file.add("ada")
    os.chmod(file.path, 0o662)  # noqa: PTH101
    with pytest.raises(ConfigError, match="others may change it") as caught:
        file.load()
    assert "chmod 600" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": [{}]}',
        '{"keys": [{"name": "a", "hash": "plain-secret"}]}',
        "\xff",
    ],
)
def test_a_file_that_holds_no_keys_says_so_and_not_what_it_holds(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text, "latin-1")
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        KeyFile(path).load()
    assert "plain-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "limits", [{"requests_per_minute": 0}, {"usd_per_day": "-1"}, {"tokens_per_minute": "5"}]
)
def test_limits_of_a_key_make_sense(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        new_key("ada", **limits)
    with pytest.raises(ConfigError, match="name"):
        new_key("no spaces, please")


# ── at the door ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def secret_and_url(start: Callable[..., str]) -> tuple[str, str]:
    made = new_key("ada")
    return made.secret, start(keys=(made.key,))


def test_without_a_key_nothing_but_health_is_told(secret_and_url: tuple[str, str], ask: Ask) -> None:
    secret, url = secret_and_url
    for path in ("/v1/models", "/metrics"):
        refused = httpx2.get(url + path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert httpx2.get(url + path, headers={"Authorization": f"bearer {secret}"}).status_code == 200
    assert httpx2.get(f"{url}/health").json() == {"status": "ok"}
    assert "models" in httpx2.get(f"{url}/health", headers={"Authorization": f"Bearer {secret}"}).json()
    assert httpx2.get(f"{url}/health/ready").status_code == 200
    assert _post(url, ask(), secret).status_code == 200


@pytest.mark.parametrize("wrong", ["x", "loom-", "Bearer", "ä" * 20, "x" * 5000])
def test_a_wrong_key_is_refused_and_not_repeated(
    secret_and_url: tuple[str, str], ask: Ask, wrong: str
) -> None:
    _, url = secret_and_url
    value = b"Bearer " + wrong.encode("utf-8")
    found = httpx2.post(f"{url}/v1/chat/completions", json=ask(), headers=[(b"Authorization", value)])
    assert found.status_code == 401
    if len(wrong) > 10:
        assert wrong not in found.text


def test_a_key_that_begins_right_is_still_wrong(secret_and_url: tuple[str, str], ask: Ask) -> None:
    secret, url = secret_and_url
    for wrong in (secret[:-1], secret + "x", secret.upper(), f"{secret} {secret}"):
        assert _post(url, ask(), wrong).status_code == 401


def test_openais_client_raises_its_own_error_for_a_wrong_key(
    secret_and_url: tuple[str, str], clients: Callable[..., openai.OpenAI]
) -> None:
    _, url = secret_and_url
    with pytest.raises(openai.AuthenticationError, match="the API key is not valid"):
        clients(url, "wrong").models.list()


def test_a_key_is_given_and_taken_while_the_server_runs(
    tmp_path: Path, start: Callable[..., str], ask: Ask
) -> None:
    file = KeyFile(tmp_path / "keys.json")
    ada = file.add("ada")
    url = start(keys_file=file.path)
    assert _post(url, ask(), ada).status_code == 200
    bob = file.add("bob")
    _until(lambda: _post(url, ask(), bob).status_code == 200)
    file.remove("ada")
    _until(lambda: _post(url, ask(), ada).status_code == 401)
    file.path.write_text("broken")
    time.sleep(1.1)
    assert _post(url, ask(), bob).status_code == 200  # what was known last goes on to hold


def test_a_file_that_is_put_right_is_read_again(tmp_path: Path, start: Callable[..., str], ask: Ask) -> None:
    file = KeyFile(tmp_path / "keys.json")
    file.add("ada")
    url = start(keys_file=file.path)
    bob = file.add("bob")
    file.path.chmod(0o666)
    time.sleep(1.1)
    assert _post(url, ask(), bob).status_code == 401
    file.path.chmod(0o600)  # which changes neither its size nor when it was written
    _until(lambda: _post(url, ask(), bob).status_code == 200)


def test_a_name_is_that_of_one_key(tmp_path: Path, build: Callable[[], Agent]) -> None:
    KeyFile(tmp_path / "keys.json").add("ada", requests_per_minute=1)
    config = ServeConfig(keys=(new_key("ada").key,), keys_file=tmp_path / "keys.json")
    with build() as agent, pytest.raises(ConfigError, match="two keys have the same name"):
        create_app(agent, config)


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_sessions_of_one_key_are_hidden_from_the_others(start: Callable[..., str], ask: Ask) -> None:
    ada, bob = new_key("ada"), new_key("bob")
    url = start(keys=(ada.key, bob.key))
    for made, expected in ((ada, "user: history"), (bob, "user: history")):
        headers = {"Authorization": f"Bearer {made.secret}", "X-Session-Id": "mine"}
        found = httpx2.post(f"{url}/v1/chat/completions", json=ask("history"), headers=headers).json()
        assert found["choices"][0]["message"]["content"] == expected
    gone = httpx2.delete(f"{url}/v1/sessions/mine", headers={"Authorization": f"Bearer {ada.secret}"})
    assert gone.status_code == 200
    gone = httpx2.delete(f"{url}/v1/sessions/mine", headers={"Authorization": f"Bearer {bob.secret}"})
    assert gone.status_code == 200


# ── rates and budgets ────────────────────────────────────────────────────────────────────


def test_each_key_has_its_requests_a_minute(start: Callable[..., str], ask: Ask) -> None:
    few, free = new_key("few", requests_per_minute=3), new_key("free")
    url = start(keys=(few.key, free.key))
    assert [_post(url, ask(), few.secret).status_code for _ in range(3)] == [200] * 3
    refused = _post(url, ask(), few.secret)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 61
    assert refused.json()["error"] == {
        "message": "this key may use 3 requests a minute",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert _post(url, ask(), free.secret).status_code == 200


def test_tokens_a_minute_are_what_was_really_used(start: Callable[..., str], ask: Ask) -> None:
    made = new_key("ada", tokens_per_minute=40)
    url = start(keys=(made.key,))
    # 15 tokens each, by the model's own count; the estimate before is less.
    assert [_post(url, ask("hi"), made.secret).status_code for _ in range(3)] == [200] * 3
    assert _post(url, ask("hi"), made.secret).status_code == 429


def test_a_chat_that_fails_uses_none_of_the_tokens_a_minute(start: Callable[..., str], ask: Ask) -> None:
    made = new_key("ada", tokens_per_minute=1000)
    url = start(keys=(made.key,))
    assert _post(url, ask("away", max_tokens=900), made.secret).status_code == 502
    assert _post(url, ask("slow 5", max_tokens=900), made.secret).status_code == 200


def test_who_uses_too_many_tokens_is_told_how_long_to_wait(start: Callable[..., str], ask: Ask) -> None:
    made = new_key("ada", tokens_per_minute=1000)
    url = start(keys=(made.key,))
    assert _post(url, ask(), made.secret).status_code == 200
    refused = _post(url, ask(max_tokens=2000), made.secret)  # a small one would go at once
    assert refused.status_code == 429
    assert 55 < int(refused.headers["retry-after"]) <= 61


def test_a_budget_pays_for_what_was_spent_and_no_more(start: Callable[..., str], ask: Ask) -> None:
    made = new_key("ada", usd_per_day="0.020")  # a call costs 0.004, and 0.01 at most
    url = start(keys=(made.key,))
    assert [_post(url, ask(), made.secret).status_code for _ in range(4)] == [200, 200, 200, 402]
    error = _post(url, ask(), made.secret)
    assert error.json()["error"]["type"] == "insufficient_quota"
    assert error.json()["error"]["code"] == "budget_exceeded"
    assert int(error.headers["retry-after"]) <= 86_400
    figures = httpx2.get(f"{url}/metrics", headers={"Authorization": f"Bearer {made.secret}"}).text
    assert 'loom_cost_usd_total{key="ada",model="helper"} 0.012' in figures
    assert 'loom_tokens_total{direction="input",key="ada",model="helper"} 30.0' in figures


def test_many_at_once_do_not_overspend(start: Callable[..., str], ask: Ask, agent: Agent) -> None:
    made = new_key("ada", usd_per_day="0.05")
    url = start(keys=(made.key,))
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: _post(url, ask("slow 2"), made.secret).status_code, range(20)))
    assert set(statuses) == {200, 402}
    assert statuses.count(200) * Decimal("0.004") <= Decimal("0.05")
    assert agent.costs().total == statuses.count(200) * Decimal("0.004")


def test_a_chat_that_fails_costs_the_key_nothing(start: Callable[..., str], ask: Ask) -> None:
    made = new_key("ada", usd_per_day="0.012")
    url = start(keys=(made.key,))
    for _ in range(5):
        assert _post(url, ask("away"), made.secret).status_code == 502
    assert _post(url, ask(), made.secret).status_code == 200


def test_a_ledger_remembers_what_a_key_spent(tmp_path: Path, build: Callable[[], Agent], ask: Ask) -> None:
    made = new_key("ada", usd_per_day="0.016")
    for expected in ([200, 200], [402]):  # 0.008 is spent, and a call may cost 0.01
        config = ServeConfig(port=0, keys=(made.key,), budget_ledger=tmp_path / "money.db")
        with serving(build(), config) as url:
            assert [_post(url, ask(), made.secret).status_code for _ in expected] == expected


@pytest.fixture
def redis(redis_program: str, tmp_path: Path) -> Iterator[str]:
    """A Redis of this test's own."""
    path = tmp_path / "redis.sock"
    command = [redis_program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _until(path.exists)
        yield f"unix://{path}"
        process.terminate()


def test_workers_share_rates_and_budgets_in_redis(launch: Any, redis: str, ask: Ask) -> None:
    few = new_key("few", requests_per_minute=5)
    poor = new_key("poor", usd_per_day="0.020")
    keys = [json.loads(made.key.model_dump_json()) for made in (few, poor)]
    server = launch(workers=2, keys=keys, shared_state=redis, agents_share=redis)
    statuses = [_post(server.url, ask(), few.secret).status_code for _ in range(12)]
    assert statuses.count(200) == 5
    statuses = [_post(server.url, ask(), poor.secret).status_code for _ in range(12)]
    assert statuses.count(200) == 3


# ── where it may listen ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_a_server_that_others_can_reach_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigError, match="can be reached by others, and no key is asked for") as caught:
        ServeConfig(host=host)
    assert caught.value.field == "host"
    assert ServeConfig(host=host, keys=(new_key("ada").key,)).hosts is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.8.8"])
def test_loopback_needs_none(host: str) -> None:
    assert ServeConfig(host=host).hosts is not None


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"port": 70_000}, "port"),
        ({"drain_timeout": -1}, "drain_timeout"),
        ({"max_body": 0}, "max_body"),
        ({"colour": "red"}, "colour"),
        ({"cors_origins": ("*",)}, "cors_origins"),
        ({"cors_origins": ("https://a.example/path",)}, "cors_origins"),
        ({"keys": ({"name": "a", "hash": "nonsense"},)}, "keys"),
        ({"request_timeout": float("inf")}, "request_timeout"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServeConfig(**settings)
    assert caught.value.field == field
    assert "nonsense" not in str(caught.value)


def test_only_agents_are_served() -> None:
    from loom_py import AgentBuilder, ScriptedProvider

    nothing: Any
    for nothing in ({}, [], None, {"a": "b"}):
        with pytest.raises(ConfigError):
            create_app(nothing)
    builder: Any = AgentBuilder().with_llm(ScriptedProvider(["x"]))
    with pytest.raises(ConfigError, match="must be an Agent, not AgentBuilder") as caught:
        create_app({"a": builder})
    assert "build()" in str(caught.value)


def test_a_port_that_is_taken_is_a_clear_error(url: str, agent: Agent) -> None:
    port = int(url.rpartition(":")[2])
    with (
        pytest.raises(ConfigError, match="cannot listen on 127"),
        serving(agent, ServeConfig(port=port)),
    ):
        pass


@pytest.mark.parametrize("host", ["no-such-name.invalid", "a" * 300, ".x", "a\0b", "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_a_clear_error(build: Callable[[], Agent], host: str) -> None:
    config = ServeConfig(host=host, port=0, keys=(new_key("ada").key,))
    with (
        build() as agent,
        pytest.raises(ConfigError, match="cannot listen on"),
        serving(agent, config),
    ):
        pass


def test_origins_that_are_named_may_call(start: Callable[..., str]) -> None:
    url = start(cors_origins=("https://chat.example",))
    headers = "authorization, content-type, x-session-id, x-stainless-lang"  # OpenAI's client for browsers
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    mine = httpx2.options(f"{url}/v1/chat/completions", headers={"Origin": "https://chat.example", **asked})
    assert mine.status_code == 200
    assert mine.headers["access-control-allow-origin"] == "https://chat.example"
    assert "x-stainless-lang" in mine.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in mine.headers
    other = httpx2.options(f"{url}/v1/chat/completions", headers={"Origin": "https://evil.example", **asked})
    assert "access-control-allow-origin" not in other.headers


def test_keys_in_a_settings_object_are_not_shown() -> None:
    made = new_key("ada")
    config = ServeConfig(
        keys=(made.key,), shared_state="redis://:hunter2@localhost", budget_ledger="x://u:hunter2@h"
    )
    assert "hunter2" not in repr(config)
    assert made.key.hash not in repr(config)
    assert ApiKey.model_validate(json.loads(made.key.model_dump_json())) == made.key
