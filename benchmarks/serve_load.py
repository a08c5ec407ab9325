"""Many clients that stream from one server for a while: ``python -m benchmarks.serve_load``.

The server is a process of its own with a model that speaks a few words with pauses between them. Clients
are bare sockets, so that they cost little beside it. Memory is the server's resident set: once all clients
have had their first answers, and again at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

WORDS = 20
WARM_UP = 0.25
"""The part of the time after which memory is first looked at."""


@dataclass
class Load:
    """What a run found: answers, errors by kind, seconds to the first byte, and memory in MiB."""

    clients: int
    seconds: float
    answers: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    first_byte_p50: float = 0.0
    first_byte_p99: float = 0.0
    answers_per_second: float = 0.0
    rss_idle: float = 0.0
    rss_warm: float = 0.0
    rss_end: float = 0.0
    exit_code: int | None = None


def run(*, clients: int = 200, seconds: float = 60.0, pause: float = 0.05) -> Load:
    """Start a server, let ``clients`` stream for ``seconds``, and end it with SIGTERM in the middle."""
    command = [sys.executable, "-m", "benchmarks.serve_load", "--serve", str(pause)]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            load = asyncio.run(_attack(url, server.pid, Load(clients, seconds)))
            server.send_signal(signal.SIGTERM)
            load.exit_code = server.wait(60)
        finally:
            if server.poll() is None:
                server.kill()
    return load


async def _attack(url: str, pid: int, load: Load) -> Load:
    load.rss_idle = _rss(pid)
    began = time.perf_counter()
    until = began + load.seconds
    firsts: list[float] = []
    tasks = [asyncio.create_task(_client(url, until, load, firsts)) for _ in range(load.clients)]
    await asyncio.sleep(load.seconds * WARM_UP)
    load.rss_warm = _rss(pid)
    await asyncio.gather(*tasks)
    load.rss_end = _rss(pid)
    load.answers_per_second = load.answers / (time.perf_counter() - began)
    if len(firsts) > 1:
        cuts = statistics.quantiles(firsts, n=100)
        load.first_byte_p50, load.first_byte_p99 = statistics.median(firsts), cuts[98]
    return load


async def _client(url: str, until: float, load: Load, firsts: list[float]) -> None:
    """One client: a stream after the other, over one connection while that lasts."""
    parts = urlsplit(url)
    connection = None
    while time.perf_counter() < until:
        try:
            if connection is None:
                connection = await asyncio.open_connection(parts.hostname, parts.port)
            firsts.append(await _ask(*connection))
            load.answers += 1
        except Exception as exc:
            name = f"{type(exc).__name__}: {exc}"[:100]
            load.errors[name] = load.errors.get(name, 0) + 1
            connection = None
            await asyncio.sleep(0.1)
    if connection is not None:
        connection[1].close()
        with contextlib.suppress(OSError):
            await connection[1].wait_closed()


_BODY = json.dumps(
    {"model": "words", "stream": True, "messages": [{"role": "user", "content": "Speak."}]}
).encode()
_REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    """Seconds to the first byte of a stream that came whole. Raises `ValueError` for any other."""
    began = time.perf_counter()
    writer.write(_REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    first = time.perf_counter() - began
    if not head.startswith(b"HTTP/1.1 200"):
        raise ValueError(head.partition(b"\r\n")[0].decode())
    body = await reader.readuntil(b"0\r\n\r\n")
    if body.count(b'"content":"word') != WORDS or b"[DONE]" not in body:
        raise ValueError("the stream was not whole")
    return first


def _rss(pid: int) -> float:
    """Resident memory in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# ── the server ───────────────────────────────────────────────────────────────────────────


def _serve(pause: float) -> int:
    import logging

    from loom_py import AgentBuilder, BaseProvider, ChatOptions, Message, Response, TokenUsage, ToolSpec
    from loom_py.events import FinalResponse, StreamEvent, TextDelta
    from loom_py.serve import ServeConfig, run_server

    logging.getLogger("loom_py").setLevel(logging.WARNING)

    class Words(BaseProvider):
        name = "words"
        model = "words-1"

        async def astream_chat(
            self,
            messages: Sequence[Message],
            tools: Sequence[ToolSpec] = (),
            *,
            options: ChatOptions | None = None,
        ) -> AsyncIterator[StreamEvent]:
            words = [f"word{number} " for number in range(WORDS)]
            for word in words:
                yield TextDelta(word)
                await asyncio.sleep(pause)
            yield FinalResponse(Response("".join(words), TokenUsage(10, WORDS), model=self.model))

    builder = AgentBuilder().with_llm(Words()).with_name("words")
    return run_server({"words": builder}, ServeConfig(port=0), on_ready=lambda url: print(url, flush=True))


def main() -> int:
    """Measure, or serve for who measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_load", description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two words of the model")
    parser.add_argument("--serve", type=float, metavar="PAUSE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        return _serve(arguments.serve)
    load = run(clients=arguments.clients, seconds=arguments.seconds, pause=arguments.pause)
    print(json.dumps(asdict(load), indent=1))
    return int(bool(load.errors) or load.exit_code != 0)


if __name__ == "__main__":
    sys.exit(main())
