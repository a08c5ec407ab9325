"""A real redis-server on loopback, for each test that asks for one."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 10.0


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class RedisServer:
    """A redis-server of its own, that can be stopped and started again with what it held."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [
                self._program,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "no", *arguments),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as peer:
                peer.sendall(b"PING\r\n")
                if not peer.recv(64).startswith(b"-LOADING"):
                    return
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def command(self, *arguments: str) -> Any:
        import redis

        with contextlib.closing(redis.Redis.from_url(self.url, decode_responses=True)) as client:
            run: Callable[..., Any] = client.execute_command
            return run(*arguments)


class Peer:
    """Another Python process. It runs a script that has ``shared``, and reads and writes lines of JSON."""

    PREAMBLE = """
        import json, os, sys, time
        from loom_py.resilience.breaker import BreakerConfig
        from loom_py.resilience.shared import *

        def say(value):
            print(json.dumps(value), flush=True)

        def hear():
            return json.loads(sys.stdin.readline())

        shared = SharedState(sys.argv[1], timeout=5, **json.loads(sys.argv[2]))
    """

    def __init__(self, url: str, script: str, settings: dict[str, Any]) -> None:
        text = textwrap.dedent(self.PREAMBLE) + textwrap.dedent(script)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, url, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the other process ended without a word"
        return json.loads(line)

    def tell(self, value: Any = None) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(value) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """``kill -9``"""
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


@pytest.fixture(scope="module")
def lasting_redis(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests of a file; each test begins with it empty through `redis_server`."""
    server = RedisServer(redis_program, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(lasting_redis: RedisServer) -> RedisServer:
    """A running, empty redis-server."""
    lasting_redis.command("FLUSHALL")
    return lasting_redis


@pytest.fixture
def own_redis(redis_program: str, tmp_path: Path) -> Iterator[RedisServer]:
    """A running redis-server that the test may stop and start."""
    server = RedisServer(redis_program, tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def peers(redis_server: RedisServer) -> Iterator[Callable[..., Peer]]:
    """Starts other processes that share the state: ``peers(script, **settings)``."""
    started: list[Peer] = []

    def start(script: str, **settings: Any) -> Peer:
        started.append(Peer(redis_server.url, script, settings))
        return started[-1]

    yield start
    for peer in started:
        peer.end()
