"""Clients of one process, or of one event loop, share their connections and nothing else."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from loom_py import AzureOpenAIClient, Message
from loom_py.llm.azure.deadline import bound_reads
from loom_py.llm.azure.pools import AsyncPool, Pool
from loom_py.llm.azure.sockets import use_asyncio_sockets

HELLO = [Message.user("hello")]
WAYS = pytest.mark.parametrize("fast", [False, True], ids=["core", "fast"])


class Server(ThreadingHTTPServer):
    """Answers with the key and the cookies it was sent, and knows its connections."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.opened = 0
        self.open = 0
        self.most = 0
        self.pause = 0.0
        self.asked: list[str] = []
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def is_left(self) -> bool:
        """Whether every connection is closed, soon."""
        end = time.monotonic() + 5
        while self.open and time.monotonic() < end:
            time.sleep(0.01)
        return self.open == 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.opened += 1
            self.server.open += 1
            self.server.most = max(self.server.most, self.server.open)

    def finish(self) -> None:
        super().finish()
        with self.server.lock:
            self.server.open -= 1

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["api-key"] or ""
        self.server.asked.append(self.headers["x-number"] or "")
        text = json.loads(asked)["messages"][-1]["content"] if asked.startswith(b"{") else ""
        time.sleep(self.server.pause)
        said = {"key": key, "cookie": self.headers["cookie"], "text": text}
        message = {"role": "assistant", "content": json.dumps(said)}
        body = json.dumps({"model": "gpt-4o", "choices": [{"index": 0, "message": message}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("set-cookie", f"session={key}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def client_of(server: Server, key: str = "key-one", **settings: Any) -> AzureOpenAIClient:
    return AzureOpenAIClient(endpoint=server.endpoint, deployment_id="gpt-4o", api_key=key, **settings)


# ── one pool ─────────────────────────────────────────────────────────────────────────────


@WAYS
async def test_clients_of_an_event_loop_share_connections(server: Server, fast: bool) -> None:
    clients = [client_of(server, f"key-{n}", fast=fast) for n in range(20)]
    for client in clients:
        await client.achat(HELLO)
    assert server.opened == 1
    for client in clients[1:]:
        await client.aclose()
    await clients[0].achat(HELLO)
    assert (server.opened, server.open) == (1, 1)
    await clients[0].aclose()
    assert await asyncio.to_thread(server.is_left)


def test_clients_of_a_process_share_connections(server: Server) -> None:
    clients = [client_of(server, f"key-{n}") for n in range(20)]
    for client in clients:
        client.chat(HELLO)
    for client in clients[1:]:
        client.close()
        client.close()
    clients[0].chat(HELLO)
    assert (server.opened, server.open) == (1, 1)
    clients[0].close()
    assert server.is_left()


@WAYS
async def test_a_client_that_was_forgotten_holds_up_no_closing(server: Server, fast: bool) -> None:
    kept, forgotten = client_of(server, fast=fast), client_of(server, fast=fast)
    for client in (kept, forgotten):
        await client.achat(HELLO)
    del client, forgotten
    gc.collect()
    await kept.aclose()
    assert await asyncio.to_thread(server.is_left)


@WAYS
async def test_a_client_closed_opens_again_beside_others(server: Server, fast: bool) -> None:
    async with client_of(server, fast=fast) as one, client_of(server, fast=fast) as other:
        await other.achat(HELLO)
        for _ in range(3):
            await one.achat(HELLO)
            await one.aclose()
        await other.achat(HELLO)
        assert server.opened == 1


async def test_both_transports_keep_pools_of_their_own(server: Server) -> None:
    async with client_of(server, fast=False) as one, client_of(server, fast=True) as other:
        await one.achat(HELLO)
        await other.achat(HELLO)
        assert server.opened == 2


async def test_an_own_http_client_is_not_shared(server: Server) -> None:
    async with (
        httpx2.AsyncClient() as http,
        client_of(server, async_http_client=http) as own,
        client_of(server, fast=False) as other,
    ):
        await own.achat(HELLO)
        await other.achat(HELLO)
        assert server.opened == 2


@WAYS
async def test_a_connection_the_server_gave_up_is_not_used(server: Server, fast: bool) -> None:
    async with client_of(server, fast=fast) as client:
        for _ in range(3):
            await client.achat(HELLO)
        server.RequestHandlerClass.timeout = 0.05  # type: ignore[attr-defined]
        try:
            async with client_of(server, fast=fast) as other:
                await asyncio.gather(*(other.achat(HELLO) for _ in range(4)))
                await asyncio.sleep(0.2)
                assert (await other.achat(HELLO)).message
        finally:
            server.RequestHandlerClass.timeout = None  # type: ignore[attr-defined]


# ── nothing else ─────────────────────────────────────────────────────────────────────────


def _check(said: str, key: str, text: str, number: int) -> None:
    answer = json.loads(said)
    assert (answer["key"], answer["text"]) == (key, text)
    assert answer["cookie"] in ((None, f"session={key}") if number else (None,))


@WAYS
async def test_keys_and_cookies_of_two_clients_never_mix(server: Server, fast: bool) -> None:
    keys = [f"key-{n}" for n in range(8)]
    clients = {key: client_of(server, key, fast=fast) for key in keys}
    chance = random.Random(7)
    for number in range(4):
        calls = [key for key in keys for _ in range(6)]
        chance.shuffle(calls)
        asked = [f"{key} asks {number}" for key in calls]
        answers = await asyncio.gather(
            *(clients[key].achat([Message.user(text)]) for key, text in zip(calls, asked, strict=True))
        )
        for key, text, answer in zip(calls, asked, answers, strict=True):
            _check(answer.message, key, text, number)
    for client in clients.values():
        await client.aclose()


def test_keys_and_cookies_never_mix_over_threads(server: Server) -> None:
    clients = {f"key-{n}": client_of(server, f"key-{n}") for n in range(8)}

    def work(key: str) -> None:
        for number in range(12):
            text = f"{key} asks {number}"
            _check(clients[key].chat([Message.user(text)]).message, key, text, number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, clients))
    assert server.most <= 8
    for client in clients.values():
        client.close()
    assert server.is_left()


@WAYS
async def test_what_one_client_shows_is_its_own(server: Server, fast: bool) -> None:
    seen: list[str] = []
    async with (
        client_of(server, fast=fast, wire_debug=seen.append) as shown,
        client_of(server, "key-two", fast=fast) as quiet,
    ):
        await quiet.achat([Message.user("a secret")])
        await shown.achat(HELLO)
        await quiet.achat([Message.user("a secret")])
    assert "hello" in "".join(seen)
    assert "a secret" not in "".join(seen)


# ── loops and processes ──────────────────────────────────────────────────────────────────

LOOPS = """
import asyncio, gc, sys
from loom_py import AzureOpenAIClient, Message
def client():
    fast = sys.argv[2] == "fast"
    return AzureOpenAIClient(endpoint=sys.argv[1], deployment_id="gpt-4o", api_key="k", fast=fast)
kept = client()
async def calls():
    passing = client()
    await asyncio.gather(*(each.achat([Message.user("hello")]) for each in (kept, passing, client()) * 3))
for _ in range(5):
    asyncio.run(calls())
gc.collect()
async def dropped():
    await client().achat([Message.user("hello")])
    gc.collect()
    await asyncio.sleep(0.05)
    print("done")
asyncio.run(dropped())
"""

FORKED = """
import os, sys
from loom_py import AzureOpenAIClient, Message
def client():
    return AzureOpenAIClient(endpoint=sys.argv[1], deployment_id="gpt-4o", api_key="k")
kept = client()
kept.chat([Message.user("hello")])
for _ in range(3):
    child = os.fork()
    if child == 0:
        for each in (kept, client(), kept):
            each.chat([Message.user("child")])
            each.close()
        os._exit(0)
    for _ in range(5):
        kept.chat([Message.user("hello")])
    assert os.waitpid(child, 0)[1] == 0
    kept.chat([Message.user("hello")])
kept.close()
print("done")
"""


def _run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("LOOM_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("way", ["core", "fast"])
def test_event_loops_that_end_leave_no_connection_open(server: Server, way: str) -> None:
    assert _run(LOOPS, server.endpoint, way) == "done\n"
    assert server.is_left()
    assert server.opened >= 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")
def test_a_forked_child_opens_connections_of_its_own(server: Server) -> None:
    assert _run(FORKED, server.endpoint) == "done\n"
    assert server.opened == 1 + 3 * 3  # each closing in the child is that of its last client


# ── the pool itself ──────────────────────────────────────────────────────────────────────


def async_transport(most: int, keepalive: float = 5.0) -> httpx2.AsyncHTTPTransport:
    client = httpx2.AsyncClient()
    use_asyncio_sockets(client)
    transport: Any = client._transport
    transport._pool = AsyncPool(transport._pool.create_connection, most=most, keepalive=keepalive)
    return transport  # type: ignore[no-any-return]


def request_to(server: Server, number: int = 0, **seconds: float) -> httpx2.Request:
    timeout = {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0, **seconds}
    headers = {"x-number": str(number)}
    return httpx2.Request(
        "POST", server.endpoint, content=b"", headers=headers, extensions={"timeout": timeout}
    )


async def send(transport: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> None:
    answer = await transport.handle_async_request(request)
    try:
        await answer.aread()
    finally:
        await answer.aclose()


async def test_those_who_wait_longest_are_served_first(server: Server) -> None:
    server.pause = 0.01
    transport = async_transport(1)
    await asyncio.gather(*(send(transport, request_to(server, number)) for number in range(20)))
    assert server.asked == [str(number) for number in range(20)]
    assert server.opened == 1
    await transport.aclose()


async def test_a_pool_opens_no_more_than_it_may(server: Server) -> None:
    transport = async_transport(3)
    await asyncio.gather(*(send(transport, request_to(server)) for _ in range(40)))
    assert server.opened == 3
    await transport.aclose()
    assert await asyncio.to_thread(server.is_left)


async def test_waiting_for_a_connection_has_an_end(server: Server) -> None:
    server.pause = 0.3
    transport = async_transport(1)
    busy = asyncio.create_task(send(transport, request_to(server)))
    await asyncio.sleep(0.05)
    with pytest.raises(httpx2.PoolTimeout, match="in use"):
        await send(transport, request_to(server, pool=0.05))
    await busy
    await send(transport, request_to(server))
    await transport.aclose()


@pytest.mark.parametrize("seed", range(4))
async def test_no_connection_is_lost_to_cancellations(server: Server, seed: int) -> None:
    chance = random.Random(seed)
    server.pause = 0.002
    transport = async_transport(3)
    for _ in range(6):
        tasks = [asyncio.create_task(send(transport, request_to(server))) for _ in range(12)]
        for task in chance.sample(tasks, 8):
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.003)))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    connections: Any = transport._pool._connections
    assert len(connections._all) == len(connections._idle) <= 3
    async with asyncio.timeout(5):
        await asyncio.gather(*(send(transport, request_to(server)) for _ in range(9)))
    await transport.aclose()
    assert await asyncio.to_thread(server.is_left)


async def test_connections_that_rested_too_long_are_closed(server: Server) -> None:
    transport = async_transport(4, keepalive=0.05)
    server.pause = 0.02
    await asyncio.gather(*(send(transport, request_to(server)) for _ in range(4)))
    await asyncio.sleep(0.1)
    await send(transport, request_to(server))
    assert server.opened == 5
    await asyncio.sleep(0.05)
    assert server.open <= 1
    await transport.aclose()


def test_threads_share_a_pool_in_turn(server: Server) -> None:
    server.pause = 0.002
    client = httpx2.Client()
    bound_reads(client)
    transport: Any = client._transport
    transport._pool = Pool(transport._pool.create_connection, most=2, keepalive=5.0)

    def work(_: int) -> None:
        for _ in range(5):
            answer = transport.handle_request(request_to(server))
            answer.read()
            answer.close()

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(work, range(10)))
    assert server.opened == 2
    held = transport.handle_request(request_to(server)), transport.handle_request(request_to(server))
    with pytest.raises(httpx2.PoolTimeout):
        transport.handle_request(request_to(server, pool=0.05))
    _close_all(held)
    client.close()
    assert server.is_left()


def _close_all(answers: tuple[httpx2.Response, ...]) -> None:
    closing: list[Callable[[], None]] = [answer.close for answer in answers]
    for close in closing:
        close()
