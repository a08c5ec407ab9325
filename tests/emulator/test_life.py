"""Starting, stopping, the fixtures, and the command line."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from loom_py.emulator import AzureEmulator
from loom_py.emulator.script_file import parse_script
from loom_py.errors import ConfigError
from loom_py.events import StreamEvent, TextDelta
from loom_py.llm.provider import BaseProvider
from loom_py.llm.scripted import ScriptedProvider, ScriptedRequest
from loom_py.messages import Message, ToolCall

DEPLOYMENT = "gpt-4o-deployment"
PATH = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21"
BODY: Any = {"messages": [{"role": "user", "content": "Hi"}]}


def post(azure: AzureEmulator, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{azure.endpoint}{PATH}", json={**BODY, **body}, headers={"api-key": azure.api_key})


def test_it_listens_on_loopback_only_while_it_is_entered() -> None:
    azure = AzureEmulator()
    with pytest.raises(RuntimeError, match="not running"):
        _ = azure.endpoint
    with azure:
        assert azure.endpoint == f"http://127.0.0.1:{azure.port}"
        assert post(azure).status_code == 200
        port = azure.port
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        pass


async def test_it_is_an_async_context_manager_too() -> None:
    async with AzureEmulator() as azure, httpx2.AsyncClient() as http:
        headers = {"api-key": azure.api_key}
        assert (await http.post(f"{azure.endpoint}{PATH}", json=BODY, headers=headers)).status_code == 200


def test_starting_and_stopping_twice_is_harmless_and_it_can_start_again() -> None:
    azure = AzureEmulator()
    azure.stop()
    port = azure.start().port
    assert azure.start().port == port
    azure.stop()
    azure.stop()
    with azure:
        assert post(azure).status_code == 200


def test_a_taken_port_is_an_error_at_once() -> None:
    with AzureEmulator() as azure, pytest.raises(OSError):
        AzureEmulator(port=azure.port).start()


def test_it_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with AzureEmulator():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_idle_connections_do_not_delay_the_end() -> None:
    azure = AzureEmulator().start()
    with httpx2.Client(headers={"api-key": azure.api_key}) as http:
        assert http.post(f"{azure.endpoint}{PATH}", json=BODY).status_code == 200
        began = time.perf_counter()
        azure.stop()
        assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("kind", ["async", "blocking"])
def test_stopping_answers_requests_in_flight_with_503(kind: str) -> None:
    started, release = threading.Event(), threading.Event()

    async def wait_async(request: ScriptedRequest) -> str:
        started.set()
        await asyncio.sleep(30)
        return "never"

    def wait_blocking(request: ScriptedRequest) -> str:
        started.set()
        release.wait(30)
        return "never"

    azure = AzureEmulator(ScriptedProvider(wait_async if kind == "async" else wait_blocking)).start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, azure)
        assert started.wait(5)
        began = time.perf_counter()
        azure.stop()
        assert time.perf_counter() - began < 1
        assert answer.result(5).status_code == 503
    release.set()
    assert azure.requests[0].status == 503


class Endless(BaseProvider):
    """Talks until it is stopped."""

    name = "endless"

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def astream_chat(
        self, messages: Any, tools: Any = (), *, options: Any = None
    ) -> AsyncIterator[StreamEvent]:
        try:
            while True:
                yield TextDelta("and ")
                await asyncio.sleep(0.001)
        finally:
            self.closed.set()


def test_stopping_cuts_a_stream_in_flight_and_closes_the_engines() -> None:
    engine = Endless()
    azure = AzureEmulator(engine).start()
    with httpx2.Client(headers={"api-key": azure.api_key}) as http:
        request = {**BODY, "stream": True}
        with http.stream("POST", f"{azure.endpoint}{PATH}", json=request) as response:
            pieces = response.iter_raw()
            next(pieces)
            azure.stop()
            with pytest.raises(httpx2.RemoteProtocolError):
                list(pieces)
    assert engine.closed.wait(5)


def test_a_client_that_hangs_up_ends_the_engines_stream(azure: AzureEmulator) -> None:
    engine = azure.engine = Endless()
    with (
        httpx2.Client(headers={"api-key": azure.api_key}) as http,
        http.stream("POST", f"{azure.endpoint}{PATH}", json={**BODY, "stream": True}) as response,
    ):
        next(response.iter_raw())
    assert engine.closed.wait(5)


def test_the_fixtures_give_a_running_emulator(azure_emulator: AzureEmulator, azure_endpoint: str) -> None:
    assert azure_endpoint == azure_emulator.endpoint
    azure_emulator.engine = ScriptedProvider(["from the fixture"])
    assert post(azure_emulator).json()["choices"][0]["message"]["content"] == "from the fixture"


def test_client_kwargs_are_what_a_client_needs() -> None:
    with AzureEmulator(deployments=["a", "b"], api_keys=["k"]) as azure:
        assert azure.client_kwargs() == {"endpoint": azure.endpoint, "deployment_id": "a", "api_key": "k"}
        assert azure.client_kwargs("b")["deployment_id"] == "b"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"deployments": "gpt-4o"}, TypeError),
        ({"deployments": []}, ValueError),
        ({"api_keys": "key"}, TypeError),
        ({"engines": {"nope": ScriptedProvider(["x"])}}, ValueError),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        AzureEmulator(**settings)


def test_the_log_keeps_only_the_latest_requests() -> None:
    with AzureEmulator(log_size=2) as azure:
        for number in range(3):
            post(azure, user=str(number))
        assert [request.body["user"] for request in azure.requests] == ["1", "2"]


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_the_pytest_plugin_imports_nothing_heavy() -> None:
    heavy = ("starlette", "uvicorn", "openai", "pydantic", "structlog")
    loaded = run_python(
        "import sys, pytest, loom_py.emulator.pytest_plugin;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert loaded == "[]"


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_package_is_named_with_its_remedy(package: str) -> None:
    told = run_python(
        f"import sys; sys.modules[{package!r}] = None\n"
        "from loom_py.errors import MissingDependencyError\n"
        "from loom_py.emulator import AzureEmulator\n"
        "try:\n    AzureEmulator()\n"
        "except MissingDependencyError as error:\n    print(error)"
    )
    assert package in told
    assert "loom-py[emulator]" in told


# ── python -m loom_py.emulator ───────────────────────────────────────────────────────────


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The command in a process of its own, and what it announces."""
    command = [sys.executable, "-W", "error", "-m", "loom_py.emulator", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told: dict[str, str] = {}
            while "try" not in told:
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                told.setdefault(line[:13].strip(), line[13:].strip())
            yield process, told
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal_and_exits_with_0(number: signal.Signals) -> None:
    with served("--deployment", "mine=gpt-4.1", "--key", "k1") as (process, told):
        assert told["deployment"] == "mine (serves gpt-4.1)"
        assert told["api key"] == "k1"
        assert told["try"].startswith(
            f"curl -s '{told['endpoint']}/openai/deployments/mine/chat/completions?"
        )
        url = f"{told['endpoint']}/openai/deployments/mine/chat/completions?api-version=1"
        answer = httpx2.post(url, json=BODY, headers={"api-key": "k1"}).json()
        assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("gpt-4.1", "Hi")
        process.send_signal(number)
        output, errors = process.communicate(timeout=10)
        assert (process.returncode, output, errors) == (0, "stopped\n", "")


def test_the_command_plays_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    steps = ["first", {"call": "look", "arguments": {"at": "sky"}}]
    script.write_text(json.dumps({"steps": steps, "repeat": True}), "utf-8")
    with served("--engine", f"scripted:{script}", "--deployment", DEPLOYMENT) as (_, told):
        headers = {"api-key": told["api key"]}
        messages = [
            httpx2.post(f"{told['endpoint']}{PATH}", json=BODY, headers=headers).json()["choices"][0][
                "message"
            ]
            for _ in range(3)
        ]
    assert [message["content"] for message in messages] == ["first", None, "first"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"at": "sky"}'}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--host", "0.0.0.0"], "--allow-remote"),
        (["--host", "example.com"], "--allow-remote"),
        (["--deployment", "=gpt"], "NAME=MODEL"),
        (["--port", "70000"], "0 to 65535"),
        (["--engine", "scripted:/no/such/file.json"], "cannot be read"),
        (["--engine", "no-such-provider"], "no-such-provider"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(arguments: list[str], complaint: str) -> None:
    command = [sys.executable, "-m", "loom_py.emulator", "--port", "0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {1, 2}
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ({}, "list of steps"),
        ([], "list of steps"),
        (["a", 5], "step 1"),
        ([{"txt": "a"}], "step 0 has unknown keys: txt"),
        ([{"call": "f", "arguments": []}], "must be an object"),
        ([[{"name": "f"}]], "a call is"),
        ([{"text": "a", "tokens": {"in": 1}}], "tokens"),
    ],
)
def test_a_bad_script_is_refused_by_step(script: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_script(script)


def test_a_script_step_may_hold_everything() -> None:
    step = {
        "text": "Look",
        "tool_calls": [{"call": "f"}],
        "finish_reason": "length",
        "tokens": {"input": 3, "output": 4},
    }
    response = parse_script([step]).chat([Message.user("x")])
    assert (response.message, response.finish_reason, response.tokens_used.total) == ("Look", "length", 7)
    assert response.tool_calls == (ToolCall("call_1", "f"),)
