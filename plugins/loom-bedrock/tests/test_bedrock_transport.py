"""Sending: once, in time, at once given up, and with connections that are used again."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from loom_bedrock import BedrockProvider
from loom_bedrock.emulator import BedrockEmulator
from loom_bedrock.exchange import Exchange
from loom_py import ScriptedProvider
from loom_py.errors import RequestTimeoutError, StreamInterruptedError
from loom_py.events import FinalResponse, StreamEvent, TextDelta
from loom_py.llm.provider import BaseProvider
from loom_py.llm.scripted import reply
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

Serve = Callable[..., tuple[BedrockEmulator, BedrockProvider]]
HELLO = [Message.user("Hello")]


class Slow(BaseProvider):
    """Says a word every ``pause`` seconds."""

    name = model = "slow"

    def __init__(self, pause: float, words: int = 4) -> None:
        self.pause = pause
        self.words = words

    async def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        for _ in range(self.words):
            yield TextDelta("word ")
            await asyncio.sleep(self.pause)
        yield FinalResponse(Response("word " * self.words))


def eventually(holds: Callable[[], Any], seconds: float = 3.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


async def give_up(made: Any, after: float = 0.2) -> float:
    """Cancel it, and tell how long that took."""
    task = asyncio.ensure_future(made)
    await asyncio.sleep(after)
    assert not task.done()
    begun = time.monotonic()
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
    return time.monotonic() - begun


async def read(provider: BedrockProvider) -> None:
    async for _ in provider.astream_chat(HELLO):
        pass


def busy_threads() -> int:
    """Threads that are inside a call of ours."""
    found = 0
    for frame in sys._current_frames().values():
        walker: Any = frame
        while walker is not None:
            if walker.f_code.co_name in {"_converse", "_events"}:
                found += 1
                break
            walker = walker.f_back
    return found


@pytest.mark.parametrize("verb", ["achat", "astream_chat"])
def test_a_cancelled_call_hangs_up_and_frees_thread_and_connection(serve: Serve, verb: str) -> None:
    bedrock, provider = serve(Slow(30))
    made = provider.achat(HELLO) if verb == "achat" else read(provider)
    assert asyncio.run(give_up(made)) < 1.0
    assert eventually(lambda: bedrock.hung_up == 1)
    assert eventually(lambda: bedrock.connections == 0)
    assert eventually(lambda: busy_threads() == 0)


def test_an_async_stream_closed_between_its_events_hangs_up(serve: Serve) -> None:
    bedrock, provider = serve(Slow(0.3, words=50))

    async def first() -> None:
        events = provider.astream_chat(HELLO)
        async for event in events:
            if event.delta:
                break
        await events.aclose()  # type: ignore[attr-defined]

    asyncio.run(first())
    assert eventually(lambda: bedrock.connections == 0)
    assert eventually(lambda: busy_threads() == 0)


def test_a_stream_closed_early_hangs_up(serve: Serve) -> None:
    bedrock, provider = serve(Slow(0.3, words=50))
    events = provider.stream_chat(HELLO)
    next(event for event in events if event.delta)
    begun = time.monotonic()
    events.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 0.5
    assert eventually(lambda: bedrock.connections == 0)


def test_a_stream_that_is_forgotten_hangs_up(serve: Serve) -> None:
    bedrock, provider = serve(Slow(0.3, words=50))
    events = provider.stream_chat(HELLO)
    next(event for event in events if event.delta)
    del events
    gc.collect()
    assert eventually(lambda: bedrock.connections == 0)


def test_connections_are_used_again_after_answers_and_whole_streams(serve: Serve) -> None:
    bedrock, provider = serve(ScriptedProvider(["Hi"] * 20))
    for _ in range(5):
        provider.chat(HELLO)
        list(provider.stream_chat(HELLO))
    assert bedrock.connections == 1
    provider.close()
    assert eventually(lambda: bedrock.connections == 0)
    assert provider.chat(HELLO).message == "Hi"


# ── time ─────────────────────────────────────────────────────────────────────────────────


def timed(call: Callable[[], Any]) -> tuple[RequestTimeoutError, float]:
    begun = time.monotonic()
    with pytest.raises(RequestTimeoutError) as caught:
        call()
    return caught.value, time.monotonic() - begun


def test_a_whole_answer_must_come_in_time(serve: Serve) -> None:
    bedrock, provider = serve(Slow(30), timeout=60)
    options = ChatOptions(timeout=0.3)
    error, waited = timed(lambda: provider.chat(HELLO, options=options))
    assert 0.2 < waited < 1.5
    assert "after 0.3 s" in error.message
    assert error.sent is True
    error, waited = timed(lambda: asyncio.run(provider.achat(HELLO, options=options)))
    assert waited < 1.5
    assert eventually(lambda: bedrock.connections == 0)


def test_the_timeout_of_the_provider_holds_where_a_call_says_nothing(serve: Serve) -> None:
    _, provider = serve(Slow(30), timeout=0.2)
    assert timed(lambda: provider.chat(HELLO))[1] < 1.5


def test_each_event_of_a_stream_has_the_timeout_and_the_whole_has_the_total(serve: Serve) -> None:
    _, provider = serve(Slow(0.15, words=6))
    seen = list(provider.stream_chat(HELLO, options=ChatOptions(timeout=0.6)))
    assert seen[-1].response is not None
    begun = time.monotonic()
    with pytest.raises(StreamInterruptedError, match=r"not over after 0\.4 s"):
        list(provider.stream_chat(HELLO, options=ChatOptions(total_timeout=0.4)))
    assert 0.3 < time.monotonic() - begun < 1.5


def test_a_stream_that_falls_silent_times_out_with_its_text(serve: Serve) -> None:
    _, provider = serve(Slow(30))
    begun = time.monotonic()
    with pytest.raises(StreamInterruptedError, match="timed out") as caught:
        list(provider.stream_chat(HELLO, options=ChatOptions(timeout=0.3)))
    assert time.monotonic() - begun < 1.5
    assert caught.value.partial_text == "word "


def test_a_reader_may_take_its_time_between_events(serve: Serve) -> None:
    _, provider = serve(ScriptedProvider(["one two three"]))
    text = ""
    for event in provider.stream_chat(HELLO, options=ChatOptions(timeout=0.2)):
        text += event.delta
        time.sleep(0.15 if event.delta else 0)
    assert text == "one two three"


def test_a_drip_of_bytes_does_not_hold_a_call_beyond_its_timeout() -> None:
    stop = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
            )
            while not stop.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        provider = BedrockProvider(
            model="us.amazon.nova-lite-v1:0",
            region="us-east-1",
            endpoint_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            access_key_id="AKIAEXAMPLE",
            secret_access_key="secret-secret",
        )
        _, waited = timed(lambda: provider.chat(HELLO, options=ChatOptions(timeout=0.4)))
        assert waited < 1.5
        provider.close()
        stop.set()
        thread.join(3)


def test_a_connection_that_is_never_made_was_not_sent_to() -> None:
    listener = socket.socket()
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        full = [socket.socket() for _ in range(4)]  # a full backlog answers nobody
        for one in full:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        provider = BedrockProvider(
            model="us.amazon.nova-lite-v1:0",
            region="us-east-1",
            endpoint_url=f"http://127.0.0.1:{port}",
            access_key_id="AKIAEXAMPLE",
            secret_access_key="secret-secret",
        )
        error, waited = timed(lambda: provider.chat(HELLO, options=ChatOptions(connect_timeout=0.3)))
        assert error.sent is False
        assert waited < 2.0
        provider.close()
        for one in full:
            one.close()


# ── many at once ─────────────────────────────────────────────────────────────────────────


def test_more_streams_than_any_pool_of_threads_run_at_once(serve: Serve) -> None:
    bedrock, provider = serve(Slow(0.25, words=4))

    async def everyone() -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(*(read(provider) for _ in range(90)))

    begun = time.monotonic()
    asyncio.run(everyone())
    assert len(bedrock.calls) == 90
    assert time.monotonic() - begun < 10.0  # one after the other: 90 s; by forties: 3 s and more each


def test_one_of_many_cancelled_calls_harms_no_other(serve: Serve) -> None:
    _, provider = serve(Slow(0.1, words=4))

    async def everyone() -> list[Any]:
        calls = [asyncio.ensure_future(provider.achat(HELLO)) for _ in range(20)]
        await asyncio.sleep(0.15)
        for call in calls[::2]:
            call.cancel()
        return list(await asyncio.gather(*calls, return_exceptions=True))

    for _ in range(3):
        ended = asyncio.run(everyone())
        assert all(isinstance(one, asyncio.CancelledError) for one in ended[::2])
        assert [one.message for one in ended[1::2]] == ["word " * 4] * 10


def test_breaking_off_what_is_over_harms_nobody(serve: Serve) -> None:
    _, provider = serve(ScriptedProvider(["Hi"] * 2))
    provider.chat(HELLO)
    exchange = Exchange(connect_timeout=1.0)
    exchange.finish()
    exchange.break_off("timeout")
    exchange.break_off("cancelled")
    assert exchange.reason is None
    assert provider.chat(HELLO).message == "Hi"


def test_headers_and_fields_of_a_call_are_sent_and_signed(serve: Serve) -> None:
    bedrock, provider = serve(ScriptedProvider(["Hi"] * 2))
    options = ChatOptions(extra_headers={"x-trace": "abc"}, extra_body={"top_k": 3})
    provider.chat(HELLO, options=options)
    list(provider.stream_chat(HELLO, options=options))
    for call in bedrock.calls:
        assert call.headers["x-trace"] == "abc"
        assert "x-trace" in call.headers["authorization"]
        assert call.body["additionalModelRequestFields"] == {"top_k": 3}
        assert call.model == provider.model
    provider.close()


def _in_child(work: Callable[[], bool]) -> int:
    """Forks; the child ends with 0 where ``work`` is true."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = 0 if work() else 2
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_do_not_read_each_others_answers(serve: Serve) -> None:
    _, provider = serve(ScriptedProvider(lambda asked: reply(asked.text)))
    provider.chat(HELLO)  # a connection stands now

    def ask(child: int) -> bool:
        said = [f"{child}-{turn}" for turn in range(10)]
        return [provider.chat([Message.user(text)]).message for text in said] == said

    children = [_in_child(lambda child=child: ask(child)) for child in range(3)]  # type: ignore[misc]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert provider.chat(HELLO).message == "Hello"
