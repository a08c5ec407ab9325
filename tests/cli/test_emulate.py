"""``loom emulate`` as a process: it serves, tells of each request, and stops when it is asked to."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import TextIO

import pytest

from loom_py import AzureOpenAIClient
from loom_py.errors import LoomError
from loom_py.messages import Message
from tests.cli.terminal import CTRL_C, Loom


def _endpoint(stdout: TextIO) -> str:
    return next(line.split()[-1] for line in stdout if "endpoint" in line)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_and_stops_when_asked(loom: Loom, ending: signal.Signals) -> None:
    settings = ("--port", "0", "--deployment", "chat=gpt-4o", "--key", "my-key")
    with loom.running("emulate", *settings) as (process, stdout, stderr):
        endpoint = _endpoint(stdout)
        with AzureOpenAIClient(endpoint=endpoint, api_key="my-key", deployment_id="chat") as client:
            assert client.chat([Message.user("Hello?")]).message
        time.sleep(0.3)
        process.send_signal(ending)
        told = stdout.read()
        assert process.wait() == 0, stderr.read()
    assert "chat  200" in told


def test_each_request_is_a_json_line(loom: Loom, tmp_path: Path) -> None:
    file = tmp_path / "resource.yaml"
    file.write_text(
        "deployments: {chat: gpt-4o}\nkeys: [k-1234]\nfaults: {rules: [{error: 429-2026, nth: 2}]}\n"
    )
    port = _free_port()
    with loom.running("emulate", str(file), "--json", "--port", str(port)) as (process, stdout, stderr):
        client = AzureOpenAIClient(
            endpoint=f"http://127.0.0.1:{port}", api_key="k-1234", deployment_id="chat"
        )
        _ask_until_answered(client)
        with pytest.raises(LoomError):
            client.chat([Message.user("?")])
        client.close()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        told = stdout.read()
        assert process.wait() == 0, stderr.read()
    first, *lines = [json.loads(line) for line in told.splitlines()]
    assert first == {"endpoint": f"http://127.0.0.1:{port}", "deployments": ["chat"]}
    assert [(each["status"], each["fault"]) for each in lines] == [(200, None), (429, "429-2026")]
    assert lines[0]["usage"]["output"] > 0
    assert lines[0]["deployment"] == "chat"


def test_the_first_json_line_tells_the_free_port_that_was_taken(loom: Loom) -> None:
    settings = (
        "--port",
        "0",
        "--json",
        "--deployment",
        "a=gpt-4o",
        "--deployment",
        "b=gpt-4o",
        "--key",
        "k-1",
    )
    with loom.running("emulate", *settings) as (process, stdout, stderr):
        place = json.loads(stdout.readline())  # at once: nothing was asked yet
        assert place["deployments"] == ["a", "b"]
        with AzureOpenAIClient(endpoint=place["endpoint"], api_key="k-1", deployment_id="b") as client:
            assert client.chat([Message.user("Hello?")]).message
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0, stderr.read()


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_shows_a_table_that_is_drawn_anew(loom: Loom) -> None:
    with loom.on_a_terminal("emulate", "--port", "0") as terminal:
        shown = terminal.wait_for("Ctrl-C stops")
        terminal.type(CTRL_C)
        shown += terminal.wait_for("stopped.")
        assert terminal.exit_code() == 0
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
def test_wrong_settings_are_told(loom: Loom, arguments: tuple[str, ...], said: str) -> None:
    done = loom("emulate", "--port", "0", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("deployments: {a: {model: x, quota: 5}}", "deployments.a.quota must be a mapping"),
        ("deployments: {a: {}}", "deployments.a.model is missing"),
        ("deployments:\n  a: x\n  a: y", "'a' is given twice, again in line 3"),
        ("keys: ['']", "keys.0 must not be empty"),
        ("engine: 5", "engine must be text"),
        ("fault: {}", "fault: there is no such setting → Known are region, keys"),
    ],
)
def test_a_wrong_file_is_told_in_words(loom: Loom, text: str, told: str) -> None:
    (loom.folder / "resource.yaml").write_text(text, "utf-8")
    done = loom("emulate", "resource.yaml", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "_Deployment" not in done.stderr
    assert "Input" not in done.stderr


def test_a_port_in_use_is_told_with_a_way_out(loom: Loom) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = str(held.getsockname()[1])
        done = loom("emulate", "--port", port)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "--port; 0 takes a free one" in done.stderr


def _free_port() -> int:
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
