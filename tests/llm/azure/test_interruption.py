"""A call that is given up lets go of its connection at once: cancelled, left early, or by Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from loom_py import AzureOpenAIClient, Message
from loom_py.emulator import AzureEmulator
from loom_py.events import StreamEvent

TALK = [Message.user("one two three four five six seven eight nine ten")]
AT_ONCE = 1.5
"""Seconds in which a connection must be gone, on a busy machine too."""


@pytest.fixture
def slow() -> Iterator[AzureEmulator]:
    """A service that takes its time before it answers, and between the pieces of a stream."""
    with AzureEmulator(chunk_delay=0.4) as azure:
        yield azure


async def until(is_so: Callable[[], bool]) -> bool:
    end = time.monotonic() + AT_ONCE
    while not is_so() and time.monotonic() < end:  # noqa: ASYNC110 - what is awaited knows no event
        await asyncio.sleep(0.01)
    return is_so()


def wait_until(is_so: Callable[[], bool], seconds: float = AT_ONCE) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.01)
    return is_so()


def others() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def read(events: AsyncIterator[StreamEvent], seen: list[StreamEvent]) -> None:
    async for event in events:
        seen.append(event)  # noqa: PERF401 - what has come so far is looked at meanwhile


# ── cancelling ───────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_call_hangs_up_and_leaves_no_task(slow: AzureEmulator) -> None:
    slow.delay_next(30)
    async with AzureOpenAIClient(**slow.client_kwargs()) as client:
        task = asyncio.create_task(client.achat(TALK))
        assert await until(lambda: slow.connections == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await until(lambda: slow.connections == 0)
        assert others() == set()


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_cancelled_stream_hangs_up_and_leaves_no_task(slow: AzureEmulator, has_begun: bool) -> None:
    if not has_begun:
        slow.delay_next(30)
    seen: list[StreamEvent] = []
    async with AzureOpenAIClient(**slow.client_kwargs()) as client:
        task = asyncio.create_task(read(client.astream_chat(TALK), seen))
        assert await until(lambda: slow.connections == 1 and bool(seen) is has_begun)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await until(lambda: slow.connections == 0)
        assert await until(lambda: others() == set())


async def test_a_stream_that_is_closed_early_leaves_no_task(slow: AzureEmulator) -> None:
    async with AzureOpenAIClient(**slow.client_kwargs()) as client:
        stream = client.astream_chat(TALK)
        await anext(aiter(stream))
        await stream.aclose()  # type: ignore[attr-defined]
        assert await until(lambda: slow.connections == 0)
        assert await until(lambda: others() == set())


async def test_a_hundred_cancelled_calls_leave_the_pool_empty(slow: AzureEmulator) -> None:
    slow.delay_next(30, times=100)
    async with AzureOpenAIClient(**slow.client_kwargs()) as client:
        tasks = [asyncio.create_task(client.achat(TALK)) for _ in range(100)]
        await until(lambda: slow.connections >= 50)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(ended, asyncio.CancelledError)
            for ended in await asyncio.gather(*tasks, return_exceptions=True)
        )
        assert await until(lambda: slow.connections == 0)
        assert others() == set()


# ── Ctrl-C ───────────────────────────────────────────────────────────────────────────────

PROGRAM = """
import os, sys
from loom_py import AzureOpenAIClient, Message
client = AzureOpenAIClient(endpoint=sys.argv[1], deployment_id="gpt-4o-deployment", api_key=sys.argv[2])
talk = [Message.user("one two three four five six seven eight nine ten")]
def sockets():
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return sum(os.readlink(link).startswith("socket:") for link in links if os.path.lexists(link))
try:
    if sys.argv[3] == "chat":
        client.chat(talk)
    else:
        for event in client.stream_chat(talk):
            print("event", flush=True)
except KeyboardInterrupt:
    print("interrupted", sockets(), flush=True)  # the client is still open
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("verb", ["chat", "stream_chat"])
def test_ctrl_c_hangs_up_at_once(slow: AzureEmulator, verb: str) -> None:
    if verb == "chat":
        slow.delay_next(30)
    command = [sys.executable, "-W", "error", "-c", PROGRAM, slow.endpoint, slow.api_key, verb]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            if verb == "chat":
                assert wait_until(lambda: slow.connections == 1, 30)
                time.sleep(0.2)  # the request is on its way
            else:
                assert program.stdout.readline() == "event\n"
            assert slow.connections == 1
            program.send_signal(signal.SIGINT)
            assert wait_until(lambda: slow.connections == 0)
            said = "event\n"
            while said == "event\n":
                said = program.stdout.readline()
            assert said == "interrupted 0\n"
            assert program.poll() is None, "the connection is gone though the program lives on"
        finally:
            program.stdin.close()
    assert program.returncode == 0
