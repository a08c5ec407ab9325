"""The end of a server: what is under way comes to its end, and nothing new begins."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

Ask = Callable[..., dict[str, Any]]


async def _stream(client: httpx2.AsyncClient, url: str, body: Any, begun: asyncio.Semaphore) -> str:
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        text, is_first = "", True
        async for part in answer.aiter_text():
            text += part
            if is_first:
                begun.release()
                is_first = False
    return text


async def _streams_and_a_signal(server: Any, body: Any, number: int, *signals: int) -> list[Any]:
    begun = asyncio.Semaphore(0)
    async with httpx2.AsyncClient(
        verify=False, timeout=30, limits=httpx2.Limits(max_connections=None)
    ) as client:
        streams = [asyncio.create_task(_stream(client, server.url, body, begun)) for _ in range(number)]
        for _ in range(number):
            await asyncio.wait_for(begun.acquire(), 20)
        for each in signals:
            server.process.send_signal(each)
            await asyncio.sleep(0.1)
        return list(await asyncio.gather(*streams, return_exceptions=True))


def _is_whole(text: Any, words: int) -> bool:
    return isinstance(text, str) and f"word{words - 1} " in text and text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_loses_none_of_twenty_streams(launch: Any, ask: Ask, workers: int) -> None:
    server = launch(workers=workers)
    texts = await _streams_and_a_signal(server, ask("slow 30", stream=True), 20, signal.SIGTERM)
    assert [_is_whole(text, 30) for text in texts] == [True] * 20
    assert await asyncio.to_thread(server.ended) == 0


async def test_after_sigterm_nothing_new_begins(launch: Any, ask: Ask) -> None:
    server = launch(drain_delay=0.7)
    async with httpx2.AsyncClient(verify=False, base_url=server.url) as client:
        begun = asyncio.Semaphore(0)
        stream = asyncio.create_task(_stream(client, server.url, ask("slow 30", stream=True), begun))
        await asyncio.wait_for(begun.acquire(), 10)
        assert (await client.get("/health/ready")).status_code == 200
        server.terminate()
        await asyncio.sleep(0.2)
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (await client.get("/health/live")).status_code == 200
        refused = await client.post("/v1/chat/completions", json=ask())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_stopping")
        assert refused.headers["retry-after"] == "1"
        assert _is_whole(await stream, 30)
    assert await asyncio.to_thread(server.ended) == 0
    with pytest.raises(OSError, match="refused"):
        server.connect()


async def test_what_takes_longer_than_the_drain_is_told_so(launch: Any, ask: Ask) -> None:
    server = launch(drain_timeout=0.3)
    (text,) = await _streams_and_a_signal(server, ask("slow 900", stream=True), 1, signal.SIGTERM)
    assert text.split("\n\n")[-2].startswith("event: error\ndata: {")
    assert '"code":"server_stopping"' in text
    assert await asyncio.to_thread(server.ended) == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_signal_does_not_wait(launch: Any, ask: Ask, workers: int) -> None:
    server = launch(workers=workers)
    began = time.monotonic()
    body = ask("slow 900", stream=True)
    (text,) = await _streams_and_a_signal(server, body, 1, signal.SIGTERM, signal.SIGINT)
    assert "server_stopping" in str(text)
    assert await asyncio.to_thread(server.ended) == 1
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once(launch: Any, number: int) -> None:
    server = launch()
    httpx2.get(f"{server.url}/health")
    began = time.monotonic()
    server.process.send_signal(number)
    assert server.ended() == 0
    assert time.monotonic() - began < 3
    assert "Traceback" not in server.log.read_text()


# ── workers ──────────────────────────────────────────────────────────────────────────────


def test_workers_share_their_figures_and_a_dead_one_is_replaced(launch: Any, ask: Ask) -> None:
    server = launch(workers=2)

    def chat() -> None:
        found = httpx2.post(f"{server.url}/v1/chat/completions", json=ask(), verify=False)
        assert found.status_code == 200

    for _ in range(12):
        chat()
    figures = httpx2.get(f"{server.url}/metrics").text
    assert 'loom_requests_total{key="",model="helper",status="200"} 12.0' in figures
    children = _children(server.process.pid)
    assert len(children) == 2
    os.kill(children[0], signal.SIGKILL)
    end = time.monotonic() + 15
    while len(now := _children(server.process.pid)) != 2 or children[0] in now:
        assert time.monotonic() < end
        time.sleep(0.05)
    chat()


async def test_a_worker_that_does_not_end_is_killed(launch: Any, ask: Ask) -> None:
    server = launch(workers=2, drain_timeout=0.1)
    async with httpx2.AsyncClient(verify=False, timeout=30) as client:
        chat = asyncio.create_task(client.post(f"{server.url}/v1/chat/completions", json=ask("block 60")))
        await asyncio.sleep(0.5)
        server.terminate()
        assert await asyncio.to_thread(server.ended, 15) == 1
        with pytest.raises(httpx2.TransportError):
            await chat


def test_workers_that_still_start_end_with_the_signal(served_program: Path) -> None:
    said = json.dumps({"is_slow_to_build": True})
    command = [sys.executable, str(served_program), said]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        process.terminate()
        assert process.wait(10) == 0


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_workers_end_with_the_process_that_looks_after_them(launch: Any) -> None:
    server = launch(workers=2)
    children = _children(server.process.pid)
    server.process.kill()
    server.process.wait()
    end = time.monotonic() + 10
    while any(_runs(each) for each in children):
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_several_workers_keep_no_sessions_and_say_so(launch: Any, ask: Ask) -> None:
    server = launch(workers=2)
    found = httpx2.post(f"{server.url}/v1/chat/completions", json=ask(), headers={"X-Session-Id": "a"})
    assert (found.status_code, found.json()["error"]["code"]) == (400, "sessions_unavailable")


def test_workers_that_cannot_start_say_why(launch: Any) -> None:
    with pytest.raises(AssertionError, match="a worker could not start: the file of keys"):
        launch(workers=2, keys_file="/nowhere/keys.json")
