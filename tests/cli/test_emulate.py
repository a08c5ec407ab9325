"""``loom emulate`` as a process: it serves, tells of each request, and stops when it is asked to."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loom_py import AzureOpenAIClient
from loom_py.errors import LoomError
from loom_py.messages import Message

COMMAND = [sys.executable, "-m", "loom_py.cli", "emulate"]


@contextmanager
def emulate(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return line.split()[-1]
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_stops_when_asked(ending: signal.Signals) -> None:
    with emulate("--deployment", "chat=gpt-4o", "--key", "my-key") as process:
        endpoint = _line(process, "endpoint")
        with AzureOpenAIClient(endpoint=endpoint, api_key="my-key", deployment_id="chat") as client:
            assert client.chat([Message.user("Hello?")]).message
        time.sleep(0.3)
        process.send_signal(ending)
        told, complaints = process.communicate(timeout=20)
    assert process.returncode == 0, complaints
    assert "chat  200" in told


def test_each_request_is_a_json_line(tmp_path: Path) -> None:
    file = tmp_path / "resource.yaml"
    file.write_text(
        "deployments: {chat: gpt-4o}\nkeys: [k-1234]\nfaults: {rules: [{error: 429-2026, nth: 2}]}\n"
    )
    port = _free_port()
    with emulate(str(file), "--json", "--port", str(port)) as process:
        client = AzureOpenAIClient(
            endpoint=f"http://127.0.0.1:{port}", api_key="k-1234", deployment_id="chat"
        )
        _ask_until_answered(client)
        with pytest.raises(LoomError):
            client.chat([Message.user("?")])
        client.close()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        told, complaints = process.communicate(timeout=20)
    assert process.returncode == 0, complaints
    lines = [json.loads(line) for line in told.splitlines()]
    assert [(each["status"], each["fault"]) for each in lines] == [(200, None), (429, "429-2026")]
    assert lines[0]["usage"]["output"] > 0
    assert lines[0]["deployment"] == "chat"


def test_a_terminal_shows_a_table_that_is_drawn_anew() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "--port", "0"],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
    ) as process:
        os.close(theirs)
        shown = _read_until(ours, "Ctrl-C stops")
        process.send_signal(signal.SIGINT)
        shown += _read_until(ours, "stopped.")
        assert process.wait(20) == 0
    os.close(ours)
    assert "No request yet" in shown
    assert "loom chat --endpoint" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "0.0.0.0"), "can be reached from other machines"),
        (("--deployment", "=gpt-4o"), "NAME=MODEL"),
        (("nowhere.yaml",), "cannot be read"),
        (("--engine", "no-such-provider"), "no provider 'no-such-provider'"),
        (("--faults", "nowhere.json"), "nowhere.json"),
    ],
)
def test_wrong_settings_are_told(arguments: tuple[str, ...], said: str) -> None:
    with emulate(*arguments) as process:
        told, complaints = process.communicate(timeout=30)
    assert (process.returncode, told) == (2, "")
    assert said in " ".join(complaints.split())


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _ask_until_answered(client: AzureOpenAIClient) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            client.chat([Message.user("?")])
            return
        except LoomError as error:
            if error.code != "connection_failed" or time.monotonic() > end:
                raise
            time.sleep(0.1)


def _read_until(terminal: int, word: str) -> str:
    shown, end = "", time.monotonic() + 20
    while word not in shown and time.monotonic() < end:
        try:
            shown += os.read(terminal, 65_536).decode("utf-8", "replace")
        except OSError:
            break
    assert word in shown
    return shown
