"""``loom serve`` and ``loom serve-key`` as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loom_py import AzureEmulator, ScriptedProvider
from loom_py.llm.scripted import reply

COMMAND = [sys.executable, "-m", "loom_py.cli"]


def _environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "LOOM_"))}
    return {**clean, "COLUMNS": "120", "NO_COLOR": "1", **more}


def loom(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        env=_environment(),
        check=False,
    )


@contextmanager
def serving(*arguments: str, cwd: Path, **more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [*COMMAND, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=cwd,
        env=_environment(**more),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            url = next((line.split()[1] for line in process.stdout if line.startswith("API")), None)
            assert url is not None, process.stderr.read()
            yield url, process
        finally:
            process.kill()


def ask(url: str, model: str, key: str = "none") -> tuple[int, Any]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello?"}]}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/chat/completions", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def azure() -> Iterator[AzureEmulator]:
    with AzureEmulator(ScriptedProvider(lambda _: reply("Served."))) as azure:
        yield azure


def _log(complaints: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in complaints.splitlines()]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_log_tells_why_a_request_failed_and_holds_no_secret(
    workers: str, tmp_path: Path, azure: AzureEmulator
) -> None:
    azure.fail_next(400, times=4)
    file = _agent(tmp_path, "shop", azure)
    with serving(file, "--workers", workers, cwd=tmp_path) as (url, process):
        status, body = ask(url, "shop")
        process.send_signal(signal.SIGTERM)
        told, log = process.communicate(timeout=30)
    assert status >= 400, body
    events = {each["event"]: each for each in _log(log)}
    assert {"serving", "model_call_failed", "request_failed", "draining", "stopped"} <= events.keys()
    assert events["model_call_failed"]["http_status"] == 400
    assert events["request_failed"]["status"] == status
    assert "Hello?" not in log
    assert azure.api_key not in log
    assert "request_failed" not in told


@pytest.mark.parametrize(("chosen", "shown"), [("console", True), ("none", False)])
def test_the_log_is_for_people_or_left_out(
    chosen: str, shown: bool, tmp_path: Path, azure: AzureEmulator
) -> None:
    with serving(_agent(tmp_path, "shop", azure), "--log", chosen, cwd=tmp_path) as (url, process):
        assert ask(url, "shop")[0] == 200
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert ("[info     ] request " in log) is shown
    assert bool(log) is shown


def _agent(folder: Path, name: str, azure: AzureEmulator) -> str:
    file = folder / f"{name}.yaml"
    file.write_text(
        f"kind: Agent\nname: {name}\nllm:\n  provider: azure-openai\n  endpoint: {azure.endpoint}\n"
        f"  deployment: gpt-4o-deployment\n  api_key: {azure.api_key}\n",
        "utf-8",
    )
    return file.name


def test_several_agents_are_served_by_their_names(tmp_path: Path, azure: AzureEmulator) -> None:
    files = [_agent(tmp_path, name, azure) for name in ("shop", "desk")]
    with serving(*files, cwd=tmp_path) as (url, process):
        with urllib.request.urlopen(f"{url}/models") as answer:
            assert {each["id"] for each in json.load(answer)["data"]} == {"shop", "desk"}
        status, body = ask(url, "desk")
        assert (status, body["choices"][0]["message"]["content"]) == (200, "Served.")
        process.send_signal(signal.SIGTERM)
        told, complaints = process.communicate(timeout=30)
    assert process.returncode == 0, told + complaints


def test_keys_are_made_asked_for_and_taken_back(tmp_path: Path, azure: AzureEmulator) -> None:
    made = loom(
        "serve-key", "add", "ada", "--requests-per-minute", "60", "--usd-per-day", "2.50", cwd=tmp_path
    )
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert key not in (tmp_path / "serve-keys.json").read_text()
    (listed,) = json.loads(loom("serve-key", "list", "--json", cwd=tmp_path).stdout)
    assert (listed["name"], listed["requests_per_minute"], listed["usd_per_day"]) == ("ada", 60, "2.50")
    assert "hash" not in listed
    assert "ada" in loom("serve-key", "list", cwd=tmp_path).stdout
    with serving(_agent(tmp_path, "shop", azure), "--keys", "serve-keys.json", cwd=tmp_path) as (url, _):
        assert ask(url, "shop", key)[0] == 200
        assert ask(url, "shop", "loom-wrong")[0] == 401
    assert loom("serve-key", "remove", "ada", cwd=tmp_path).returncode == 0
    assert json.loads(loom("serve-key", "list", "--json", cwd=tmp_path).stdout) == []
    again = loom("serve-key", "remove", "ada", cwd=tmp_path)
    assert again.returncode == 2
    assert "'ada'" in again.stderr


def test_a_bare_model_is_served_by_its_name(tmp_path: Path, azure: AzureEmulator) -> None:
    arguments = ("--endpoint", azure.endpoint, "--deployment", "gpt-4o-deployment")
    with serving(*arguments, cwd=tmp_path, AZURE_OPENAI_API_KEY=azure.api_key) as (url, _):
        assert ask(url, "gpt-4o-deployment")[0] == 200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0"), "can be reached by others, and no key is asked for"),
        (("nowhere.yaml",), "nowhere.yaml"),
        (("--cors", "example.com"), "an origin is written as"),
        (("--set", "a=b"), "none is named"),
        (("--log", "xml"), "'xml' is not one of 'auto'"),
    ],
)
def test_what_cannot_be_served_is_told(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = loom("serve", "--port", "0", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


def test_two_agents_of_one_name_are_refused(tmp_path: Path, azure: AzureEmulator) -> None:
    file = _agent(tmp_path, "shop", azure)
    (tmp_path / "other.yaml").write_text((tmp_path / file).read_text())
    done = loom("serve", "--port", "0", file, "other.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "two of the files describe an agent called 'shop'" in done.stderr


def test_a_key_s_limits_are_checked(tmp_path: Path) -> None:
    assert "amount such as 2.50" in loom("serve-key", "add", "ada", "--usd-per-day", "x", cwd=tmp_path).stderr
    assert loom("serve-key", "add", "a b", cwd=tmp_path).returncode == 2
    assert not (tmp_path / "serve-keys.json").exists()
