"""Servers of the tests: in a thread where the API is looked at, in a process where its life is."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest

from loom_py import Agent
from loom_py.serve import ServeConfig, serving

PROGRAM = Path(__file__).with_name("served.py")


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("served", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


served = _module()


@pytest.fixture
def agent() -> Iterator[Agent]:
    """The agent of ``served.py``."""
    with served.builder().build() as built:
        yield built


@pytest.fixture
def build() -> Callable[[], Agent]:
    """Makes another of these agents; who serves it closes it."""
    return lambda: served.builder().build()


Start = Callable[..., str]


@pytest.fixture
def start(agent: Agent) -> Iterator[Start]:
    """Serves the agent in a thread, with these settings; its URL."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(agent, ServeConfig(port=0, **settings)))


@pytest.fixture
def url(start: Start) -> str:
    """A server with no settings."""
    return start()


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with client_of(url) as found:
        yield found


def client_of(url: str, key: str = "unused") -> openai.OpenAI:
    http = httpx2.Client(verify=False)  # no TLS here, and no time to load certificates
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http)


@pytest.fixture
def clients() -> Iterator[Callable[..., openai.OpenAI]]:
    """Makes clients of OpenAI's."""
    with ExitStack() as stack:
        yield lambda url, key="unused": stack.enter_context(client_of(url, key))


@pytest.fixture
def http(url: str) -> Iterator[httpx2.Client]:
    """A plain HTTP client."""
    with httpx2.Client(base_url=url, verify=False) as found:
        yield found


@dataclass
class Process:
    """A server in a process of its own."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def connect(self, timeout: float = 10.0) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(self.address, timeout)

    def say(self, data: bytes, timeout: float = 10.0) -> bytes:
        """All that it answers until it hangs up, or for as long as it is asked to."""
        with self.connect(timeout) as line:
            line.sendall(data)
            return all_of(line)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def ended(self, timeout: float = 20.0) -> int:
        return self.process.wait(timeout)


def all_of(line: socket.socket) -> bytes:
    """Everything until the other side hangs up."""
    parts = []
    try:
        while part := line.recv(65536):
            parts.append(part)
    except (TimeoutError, ConnectionResetError):
        pass
    return b"".join(parts)


Launch = Callable[..., Process]


@contextmanager
def launching(folder: Path) -> Iterator[Launch]:
    found: list[Process] = []

    def run(*, workers: int = 1, agents_share: str | None = None, **config: Any) -> Process:
        said = {"workers": workers, "config": config, "agents_share": agents_share}
        log = folder / f"server-{len(found)}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), json.dumps(said)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        server = Process(line, process, log)
        found.append(server)
        assert line.startswith("http"), log.read_text()
        return server

    yield run
    for server in found:
        if server.process.poll() is None:
            server.terminate()
            server.terminate()
            try:
                server.process.wait(10)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts ``served.py`` with these settings."""
    with launching(tmp_path) as run:
        yield run


@pytest.fixture(scope="module")
def launch_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """`launch` for a server that all tests of a module talk to."""
    with launching(tmp_path_factory.mktemp("served")) as run:
        yield run


@pytest.fixture
def served_program() -> Path:
    """``served.py``, for who starts it otherwise."""
    return PROGRAM


def body(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "helper", "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def ask() -> Callable[..., dict[str, Any]]:
    """The body of a request that says one thing."""
    return body
